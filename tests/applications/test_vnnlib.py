"""VNN-LIB files: what they mean, and the line of what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.applications import VnnlibError, parse_vnnlib, read_vnnlib
from tests.paths import shared_data

HEAD = """; two inputs, two outputs
(declare-const X_0 Real)
(declare-fun X_1 () Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (>= X_0 -1)) (assert (<= X_0 1.5e0))
(assert (and (>= X_1 0) (<= X_1 2)))
"""


def test_bounds_and_rows():
    p = parse_vnnlib(HEAD + "(assert (<= (+ (* 2 Y_0) (- Y_1) 1) (- 3 X_0)))")
    assert (p.n_inputs, p.n_outputs, len(p.cases)) == (2, 2, 1)
    case = p.cases[0]
    assert case.lower.tolist() == [-1, 0] and case.upper.tolist() == [1.5, 2]
    (u,) = case.property.unsafe
    # 2 Y_0 - Y_1 + 1 <= 3 - X_0
    assert u.outputs.tolist() == [[2, -1]] and u.inputs.tolist() == [[1, 0]]
    assert u.limit.tolist() == [2]


def test_disjunctions_over_inputs_and_outputs():
    p = parse_vnnlib(
        HEAD
        + """(assert (or (and (<= X_0 0) (>= Y_0 1)) (and (>= X_0 0) (<= Y_0 Y_1))
             (and (<= X_0 0) (= Y_1 4))))"""
    )
    assert len(p.cases) == 2
    left, right = p.cases
    assert left.upper.tolist() == [0, 2] and right.lower.tolist() == [0, 0]
    assert [len(u.limit) for u in left.property.unsafe] == [1, 2]
    # brute force: the file's formula against the parsed one
    rng = np.random.default_rng(0)
    for x, y in zip(rng.uniform(-2, 3, (300, 2)), rng.uniform(-3, 5, (300, 2)).round(0)):
        inside = -1 <= x[0] <= 1.5 and 0 <= x[1] <= 2
        truth = inside and (
            (x[0] <= 0 and y[0] >= 1)
            or (x[0] >= 0 and y[0] <= y[1])
            or (x[0] <= 0 and y[1] == 4)
        )
        parsed = any(
            (c.lower <= x).all() and (x <= c.upper).all() and c.property.violated(x, y)
            for c in p.cases
        )
        assert parsed == truth


def test_products_of_disjunctions_and_contradictions():
    p = parse_vnnlib(
        HEAD + "(assert (or (<= Y_0 0) (<= Y_1 0))) (assert (or (>= Y_0 3) (>= Y_1 3)))"
    )
    assert len(p.cases) == 1 and len(p.cases[0].property.unsafe) == 4
    assert parse_vnnlib(HEAD + "(assert (>= X_0 7)) (assert (<= Y_0 0))").cases == ()
    assert parse_vnnlib(HEAD + "(assert (or false (<= 1 0)))").cases == ()


def test_scaled_bound_is_rounded_outwards_and_kept():
    p = parse_vnnlib(HEAD + "(assert (<= (* 3 X_0) 1)) (assert (<= Y_0 0))")
    case = p.cases[0]
    assert 3 * case.upper[0] >= 1 and case.upper[0] < 0.334
    assert case.property.unsafe[0].inputs.tolist() == [[3, 0], [0, 0]]


@pytest.mark.parametrize(
    "text, line, word",
    [
        ("(assert (< Y_0 0))", 8, "strict"),
        ("(assert (<= Y_0 Z_0))", 8, "Z_0"),
        ("(assert (<= Y_7 0))", 8, "not declared"),
        ("(assert (<= Y_0 0)", 8, "never closed"),
        ("(assert (<= Y_0 0)))", 8, "closes nothing"),
        ("\n\n(assert (not (<= Y_0 0)))", 10, "'not'"),
        ("(assert (<= (* Y_0 Y_1) 0))", 8, "not linear"),
        ("(assert (<= (/ Y_0 0) 0))", 8, "'/'"),
        ("(assert (<= (sin Y_0) 0))", 8, "'sin'"),
        ("(assert (<= Y_0))", 8, "two terms"),
        ("(declare-const X_0 Real)", 8, "twice"),
        ("(declare-const X_2 Int)", 8, "Int"),
        ("(declare-const foo Real)", 8, "foo"),
        ("(define-fun f () Real 1)", 8, "define-fun"),
        ("(assert (<= Y_0 nan))", 8, "finite"),
        ("Y_0", 8, "outside"),
        ("()", 8, "name"),
    ],
)
def test_malformed(text, line, word):
    with pytest.raises(VnnlibError, match=word) as error:
        parse_vnnlib(HEAD + text)
    assert f"line {line}:" in str(error.value)


def test_missing_bounds_and_gaps():
    with pytest.raises(VnnlibError, match="X_0 has no upper bound"):
        parse_vnnlib("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 0))")
    with pytest.raises(VnnlibError, match="X_0 is not"):
        parse_vnnlib("(declare-const X_1 Real)(declare-const Y_0 Real)")
    with pytest.raises(VnnlibError, match="no output"):
        parse_vnnlib("(declare-const X_0 Real)")


def test_real_files():
    p = read_vnnlib(shared_data("verification/mnistfc/prop_0_0.03.vnnlib"))
    assert (p.n_inputs, p.n_outputs, len(p.cases)) == (784, 10, 1)
    sets = p.cases[0].property.unsafe
    assert len(sets) == 9 and all(u.outputs[0, 8] == 1 for u in sets)
