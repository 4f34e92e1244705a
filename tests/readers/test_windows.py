"""Window matrices against naive loops, one to three spatial axes."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest

from pyomo_relu.readers import windows
from pyomo_relu.readers.windows import Window

CASES = [
    # spatial, kernel, strides, begin, end, dilations
    ((7,), (3,), (1,), (0,), (0,), (1,)),
    ((8,), (3,), (2,), (2,), (0,), (2,)),
    ((5, 6), (2, 3), (1, 2), (0, 1), (1, 1), (1, 1)),
    ((7, 6), (3, 2), (2, 1), (2, 0), (1, 2), (2, 3)),
    ((4, 3, 5), (2, 3, 1), (1, 2, 2), (1, 1, 0), (0, 1, 0), (1, 1, 1)),
]


def naive_convolution(x, kernel, strides, begin, end, dilations, groups):
    channels = x.shape[0]
    x = np.pad(x, [(0, 0), *zip(begin, end)])
    out = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(x.shape[1:], kernel.shape[2:], strides, dilations)
    ]
    y = np.zeros((kernel.shape[0], *out))
    per_in, per_out = channels // groups, kernel.shape[0] // groups
    for f in range(kernel.shape[0]):
        first = (f // per_out) * per_in
        for o in itertools.product(*map(range, out)):
            for c in range(per_in):
                for t in itertools.product(*map(range, kernel.shape[2:])):
                    cell = tuple(
                        a * s + b * d for a, s, b, d in zip(o, strides, t, dilations)
                    )
                    y[(f, *o)] += kernel[(f, c, *t)] * x[(first + c, *cell)]
    return y


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolution_matches_naive_loop(case, groups):
    spatial, k, strides, begin, end, dilations = case
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, *spatial))
    kernel = rng.normal(size=(6, 4 // groups, *k))
    window = Window(k, strides, dilations, begin, end)
    matrix, shape = windows.convolution_matrix(kernel, x.shape, window, groups)
    expected = naive_convolution(x, kernel, strides, begin, end, dilations, groups)
    assert shape == expected.shape
    assert matrix.shape == (expected.size, x.size)
    assert matrix.has_sorted_indices and matrix.has_canonical_format
    np.testing.assert_allclose((matrix @ x.ravel()).reshape(shape), expected, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_transposed_convolution_matches_naive_scatter(case, groups):
    spatial, k, strides, begin, end, dilations = case
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, *spatial))
    kernel = rng.normal(size=(4, 3, *k))
    extra = tuple(s - 1 for s in strides)
    window = Window(k, strides, dilations, begin, end)
    matrix, shape = windows.transposed_convolution_matrix(
        kernel, x.shape, window, groups, extra
    )
    full = [
        (n - 1) * s + d * (m - 1) + 1 + e
        for n, m, s, d, e in zip(spatial, k, strides, dilations, extra)
    ]
    y = np.zeros((3 * groups, *full))
    for c in range(4):
        g = c // (4 // groups)
        for o in itertools.product(*map(range, spatial)):
            for f in range(3):
                for t in itertools.product(*map(range, k)):
                    cell = tuple(
                        a * s + b * d for a, s, b, d in zip(o, strides, t, dilations)
                    )
                    y[(g * 3 + f, *cell)] += kernel[(c, f, *t)] * x[(c, *o)]
    cut = tuple(slice(b, n - e) for b, e, n in zip(begin, end, full))
    expected = y[(slice(None), *cut)]
    assert shape == expected.shape
    np.testing.assert_allclose((matrix @ x.ravel()).reshape(shape), expected, atol=1e-12)


def naive_windows(shape, k, strides, begin, end, dilations, ceil_mode):
    """For each window the cells of the input, and the number of cells with padding."""
    out = []
    for n, m, s, b, e, d in zip(shape[1:], k, strides, begin, end, dilations):
        starts = []
        o = -b
        while True:
            last = o + d * (m - 1)
            if last >= n + e and not (ceil_mode and o < n):
                break
            if last - s >= n + e - 1 and starts:
                break
            starts.append(o)
            o += s
        out.append(starts)
    for c in range(shape[0]):
        for o in itertools.product(*out):
            inside, counted = [], 0
            for t in itertools.product(*map(range, k)):
                cell = tuple(a + b * d for a, b, d in zip(o, t, dilations))
                counted += all(i < n + e for i, n, e in zip(cell, shape[1:], end))
                if all(0 <= i < n for i, n in zip(cell, shape[1:])):
                    inside.append((c, *cell))
            yield inside, counted
    return


POOLS = [
    ((7,), (3,), (2,), (0,), (0,), (1,)),
    ((6,), (2,), (2,), (1,), (1,), (1,)),
    ((9,), (3,), (2,), (1,), (1,), (2,)),
    ((6, 7), (3, 2), (2, 3), (1, 0), (1, 1), (1, 1)),
    ((5, 4, 6), (2, 2, 3), (2, 1, 2), (0, 1, 1), (1, 0, 1), (1, 1, 1)),
]


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("case", POOLS, ids=str)
def test_pooling_matches_naive_loop(case, ceil_mode):
    spatial, *rest = case
    shape = (3, *spatial)
    rng = np.random.default_rng(3)
    x = rng.normal(size=shape)
    expected = list(naive_windows(shape, *rest, ceil_mode))
    k, strides, begin, end, dilations = rest
    window = Window(k, strides, dilations, begin, end, ceil_mode)
    groups, out = windows.pooling_groups(shape, window)
    assert len(groups) == len(expected) == np.prod(out)
    for group, (cells, _) in zip(groups, expected):
        assert sorted(group) == sorted(np.ravel_multi_index(c, shape) for c in cells)
    for include in (False, True):
        matrix, out_again = windows.average_matrix(shape, window, count_include_pad=include)
        assert out_again == out
        mean = [
            sum(x[c] for c in cells) / (counted if include else len(cells))
            for cells, counted in expected
        ]
        np.testing.assert_allclose(matrix @ x.ravel(), mean, atol=1e-12)


@pytest.mark.parametrize("length", range(1, 9))
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_pads_give_ceil_length(length, stride):
    for kernel, dilation in [(1, 1), (2, 1), (3, 1), (3, 2)]:
        for lower in (False, True):
            b, e = windows.same_pads(length, kernel, stride, dilation, lower=lower)
            assert abs(b - e) <= 1 and (b >= e if lower else b <= e)
            n = windows.output_length(length, kernel, stride, dilation, b, e)
            assert n == -(-length // stride)


def test_errors_say_what_does_not_fit():
    kernel, plain = np.ones((2, 3, 3)), Window(3)
    with pytest.raises(ValueError, match="doesn't fit an input with 2 channels"):
        windows.convolution_matrix(kernel, (2, 5), plain)
    with pytest.raises(ValueError, match="doesn't fit into an input"):
        windows.convolution_matrix(kernel, (3, 2), plain)
    with pytest.raises(ValueError, match="doesn't fit an input"):
        windows.convolution_matrix(kernel, (3, 5, 5), plain)
    with pytest.raises(ValueError, match="strides has 2 entries"):
        windows.convolution_matrix(kernel, (3, 5), Window(3, strides=(1, 1)))
    with pytest.raises(ValueError, match="at least 1"):
        windows.convolution_matrix(kernel, (3, 5), Window(3, strides=0))
    with pytest.raises(ValueError, match="wholly in the padding"):
        windows.pooling_groups((1, 4), Window(2, 2, begin=2))
    with pytest.raises(ValueError, match="channel axis"):
        windows.pooling_groups((4,), Window(2))


def test_large_convolution_is_built_without_densifying():
    tracemalloc.start()
    matrix, shape = windows.convolution_matrix(
        np.ones((32, 32, 3, 3)), (32, 26, 26), Window(3)
    )
    assert shape == (32, 24, 24)
    assert matrix.nnz == 32 * 32 * 9 * 24 * 24
    assert matrix.indices.dtype == np.int32
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1e9  # bytes; dense it would have 3.2e9
