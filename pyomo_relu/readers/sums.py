"""Sums of products after Einstein, of one tensor and constants."""

from __future__ import annotations

import string
from collections.abc import Sequence
from math import prod

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.network.limits import need, need_weights
from pyomo_relu.readers.affine_graph import AffineGraph
from pyomo_relu.readers.values import Tensor, Value


def einsum(graph: AffineGraph, name: str, equation: str, values: Sequence[Value]) -> Tensor:
    """What ``einsum(equation, *values)`` of NumPy, PyTorch, Keras and ONNX gives.

    Parameters
    ----------
    equation : str
        For example ``"bij,jk->bik"``; ``...`` and a missing result as NumPy has them.
    values : sequence of Tensor or array
        One of them is a tensor.

    Raises
    ------
    ValueError
        For two tensors, an equation that doesn't fit the shapes, and a sum over the
        batch axis.
    """
    tensors = [k for k, v in enumerate(values) if isinstance(v, Tensor)]
    if len(tensors) != 1:
        raise ValueError(
            f"layer '{name}' multiplies {len(tensors)} tensors that depend on the input; "
            "that is not piecewise linear."
        )
    terms, result = _letters(name, equation, [v.shape for v in values])
    x, axes = values[tensors[0]], terms[tensors[0]]
    assert isinstance(x, Tensor)
    constants = [
        (np.asarray(v, dtype=float), term)
        for v, term in zip(values, terms)
        if not isinstance(v, Tensor)
    ]
    batch = _batch(name, x, axes, [term for _, term in constants], result)
    kept = "".join(dict.fromkeys(axes))
    # A letter twice in one term is the diagonal of two axes.
    index = np.einsum(f"{axes}->{kept}", x.index)
    factor = _factor(name, constants, kept, result)
    w, shape = _weights(name, x.size, (index, kept), factor, result)
    return graph.affine(name, [(x, w)], 0.0, shape, batch)


def contracted(
    graph: AffineGraph,
    name: str,
    a: Value,
    b: Value,
    axes: tuple[Sequence[int], Sequence[int]],
) -> Tensor:
    """Products of ``a`` and ``b`` summed over axes of each, as ``tensordot`` does."""
    letters = iter(string.ascii_letters)
    left, right = (["" for _ in v.shape] for v in (a, b))
    for i, j in zip(*axes):
        left[i] = right[j] = next(letters)
    for term in (left, right):
        term[:] = [c or next(letters) for c in term]
    result = "".join(c for c in left + right if (c in left) != (c in right))
    return einsum(graph, name, f"{''.join(left)},{''.join(right)}->{result}", [a, b])


def _batch(
    name: str, x: Tensor, axes: str, others: Sequence[str], result: str
) -> int | None:
    """Where the batch axis of the tensor is in the result."""
    if x.batch is None:
        return None
    letter = axes[x.batch]
    shared = axes.count(letter) > 1 or any(letter in term for term in others)
    if letter not in result or shared:
        raise ValueError(f"layer '{name}' sums over the batch axis, or combines it.")
    return result.index(letter)


def _weights(
    name: str,
    columns: int,
    index: tuple[np.ndarray, str],
    factor: tuple[np.ndarray, str],
    result: str,
) -> tuple[sp.csr_array, tuple[int, ...]]:
    """The matrix from the ``columns`` entries of a tensor, and the shape of what it makes.

    ``index`` are the positions of the entries, ``factor`` is what they are multiplied by,
    each with the letters of its axes.
    """
    lengths = _lengths(name, [index, factor])
    inner = [c for c in dict.fromkeys(index[1] + factor[1]) if c not in result]
    order = result + "".join(inner)
    whole = [lengths[c] for c in order]
    need(f"the weights of layer '{name}'", passing=40.0 * prod(whole))
    need_weights(f"the weights of layer '{name}'", prod(whole))
    shape = tuple(lengths[c] for c in result)
    rows = np.arange(prod(shape)).reshape(shape + (1,) * len(inner))
    parts = [rows, _aligned(*index, order), _aligned(*factor, order)]
    r, c, v = (np.broadcast_to(p, whole).reshape(-1) for p in parts)
    kept = v != 0
    w = sp.csr_array((v[kept], (r[kept], c[kept])), shape=(prod(shape), columns))
    return w, shape


def _letters(
    name: str, equation: str, shapes: Sequence[tuple[int, ...]]
) -> tuple[list[str], str]:
    """The letters of the axes of each operand and of the result, without ``...``."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    wrong = (
        f"layer '{name}': the equation '{equation}' doesn't fit the shapes {list(shapes)}."
    )
    if len(terms) != len(shapes):
        raise ValueError(wrong)
    free = [c for c in string.ascii_letters if c not in equation]
    found, longest = [], 0
    for term, shape in zip(terms, shapes):
        before, dots, after = term.partition("...")
        extra = len(shape) - len(before) - len(after)
        if not 0 <= extra <= (len(free) if dots else 0):
            raise ValueError(wrong)
        longest = max(longest, extra)
        found.append((before, extra if dots else 0, after))
    dotted = "".join(free[:longest])
    spelled = [b + dotted[longest - n :] + a for b, n, a in found]
    known = "".join(spelled)
    # Without a result: what occurs once, in the order of the alphabet.
    named = "".join(b + a for b, _, a in found)
    once = "".join(sorted(c for c in named if named.count(c) == 1))
    result = right.replace("...", dotted) if arrow else dotted + once
    if len(set(result)) < len(result) or set(result) - set(known):
        raise ValueError(wrong)
    return spelled, result


def _factor(
    name: str, constants: Sequence[tuple[np.ndarray, str]], kept: str, result: str
) -> tuple[np.ndarray, str]:
    """The product of all constants, summed over what only they have, and its letters."""
    _lengths(name, constants)
    letters = "".join(dict.fromkeys("".join(term for _, term in constants)))
    wanted = "".join(c for c in letters if c in kept or c in result)
    if not constants:
        return np.ones(()), ""
    equation = ",".join(term for _, term in constants) + f"->{wanted}"
    return np.einsum(equation, *[v for v, _ in constants]), wanted


def _lengths(name: str, terms: Sequence[tuple[np.ndarray, str]]) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for value, term in terms:
        for letter, n in zip(term, value.shape):
            held = lengths.setdefault(letter, n)
            if n != held and 1 not in (n, held):
                raise ValueError(f"layer '{name}': an axis has the lengths {held} and {n}.")
            lengths[letter] = max(n, held)
    return lengths


def _aligned(value: np.ndarray, letters: str, order: str) -> np.ndarray:
    """``value`` with its axes where ``order`` has them, others of length 1."""
    present = [c for c in order if c in letters]
    moved = value.transpose([letters.index(c) for c in present])
    shape = [value.shape[letters.index(c)] if c in letters else 1 for c in order]
    return moved.reshape(shape)
