"""VNN-LIB files: what they mean, and the line of what is wrong with them."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest

from pyomo_relu.network.limits import TooLargeError
from pyomo_relu.verification import VnnlibError, parse_vnnlib, read_vnnlib
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
    # of the four products two contradict themselves
    assert len(p.cases) == 1 and len(p.cases[0].property.unsafe) == 2
    assert parse_vnnlib(HEAD + "(assert (>= X_0 7)) (assert (<= Y_0 0))").cases == ()
    assert parse_vnnlib(HEAD + "(assert (or false (<= 1 0)))").cases == ()


def random_formula(rng, depth):
    """Text of a formula, and a function of the values of the variables."""
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.1:
            word = ["true", "false"][int(rng.integers(2))]
            return word, lambda v: word == "true"
        (left, f), (right, g) = random_term(rng, 2), random_term(rng, 1)
        sign = ["<=", ">=", "="][int(rng.integers(3))]
        compare = {"<=": np.less_equal, ">=": np.greater_equal, "=": np.equal}[sign]
        return f"({sign} {left} {right})", lambda v: bool(compare(f(v), g(v)))
    kind = ["and", "or"][int(rng.integers(2))]
    parts = [random_formula(rng, depth - 1) for _ in range(rng.integers(0, 4))]
    combine = all if kind == "and" else any
    text = " ".join([kind, *(t for t, _ in parts)])
    return f"({text})", lambda v: combine(f(v) for _, f in parts)


def random_term(rng, depth):
    """Text of a linear term with whole numbers, and a function of the variables."""
    if depth == 0 or rng.random() < 0.3:
        if rng.random() < 0.3:
            number = int(rng.integers(-3, 4))
            return str(number), lambda v: number
        name = ["X_0", "X_1", "Y_0", "Y_1"][int(rng.integers(4))]
        return name, lambda v: v[name]
    if rng.random() < 0.3:
        factor, (text, f) = int(rng.integers(-3, 4)), random_term(rng, depth - 1)
        both = [f"{factor}", text]
        rng.shuffle(both)
        return f"(* {both[0]} {both[1]})", lambda v: factor * f(v)
    head = ["+", "-"][int(rng.integers(2))]
    parts = [random_term(rng, depth - 1) for _ in range(rng.integers(1, 4))]
    text = " ".join([head, *(t for t, _ in parts)])
    if head == "+":
        return f"({text})", lambda v: sum(f(v) for _, f in parts)
    if len(parts) == 1:
        return f"({text})", lambda v: -parts[0][1](v)
    return f"({text})", lambda v: parts[0][1](v) - sum(f(v) for _, f in parts[1:])


def check_random_formula(seed):
    """A file of random assertions holds where its cases say so; -1 if it is too long."""
    rng = np.random.default_rng(seed)
    formulas = [random_formula(rng, 3) for _ in range(rng.integers(1, 4))]
    text = HEAD + "\n".join(f"(assert {t})" for t, _ in formulas)
    p = parse_vnnlib(text)
    x0, x1, y0, y1 = (np.arange(-2, 4) for _ in range(4))
    for point in np.stack(np.meshgrid(x0, x1, y0, y1), -1).reshape(-1, 4)[::7]:
        v = dict(zip(("X_0", "X_1", "Y_0", "Y_1"), map(int, point)))
        truth = -1 <= v["X_0"] <= 1 and 0 <= v["X_1"] <= 2
        truth = truth and all(f(v) for _, f in formulas)
        x, y = point[:2].astype(float), point[2:].astype(float)
        parsed = any(
            (c.lower <= x).all() and (x <= c.upper).all() and c.property.violated(x, y)
            for c in p.cases
        )
        assert parsed == truth, (seed, v, text)


@pytest.mark.parametrize("seed", range(60))
def test_random_formulas(seed):
    check_random_formula(seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(60, 3060, 100))
def test_more_random_formulas(start):
    for seed in range(start, start + 100):
        check_random_formula(seed)


def test_an_and_of_ors_inside_an_or():
    p = parse_vnnlib(
        HEAD
        + """(assert (or (<= Y_0 -9) (and (or (<= Y_0 1) (<= Y_1 1)) (<= X_0 0)
             (or (>= Y_0 (+ Y_1 1)) (and (>= Y_1 2) (<= Y_1 3))))))"""
    )
    plain, left = p.cases
    assert plain.upper[0] == 1.5 and left.upper[0] == 0.0
    # Y_1 <= 1 with Y_1 >= 2 is no set
    assert [u.limit.tolist() for u in left.property.unsafe] == [
        [1.0, -1.0],
        [1.0, -2.0, 3.0],
        [1.0, -1.0],
    ]


def test_ors_over_one_variable_do_not_multiply():
    ors = "".join(
        f"(or (<= Y_0 {k}) (>= Y_0 {k + 0.5}))(or (<= X_0 {k / 40}) (>= X_0 {k / 40}))"
        for k in range(30)
    )
    p = parse_vnnlib(HEAD + f"(assert (and {ors}))")
    # Y_0 is in 31 pieces, X_0 in 31 intervals or at one of the points between them
    assert 31 * 31 <= sum(len(c.property.unsafe) for c in p.cases) <= 31 * 61


def test_too_many_disjuncts_name_the_keyword():
    ors = "".join(f"(or (<= Y_0 {k}) (<= Y_1 {k}))" for k in range(20))
    apart = "".join(f"(assert (or (<= Y_0 {k}) (<= Y_1 {k})))" for k in range(20))
    for text in (f"(assert (and {ors}))", apart):
        with pytest.raises(VnnlibError, match="line 8: .*more than 5000 .*max_disjuncts="):
            parse_vnnlib(HEAD + text, max_disjuncts=5000)
    four = "(or (<= Y_0 1) (<= Y_0 2) (<= Y_1 1) (<= Y_1 2))"
    with pytest.raises(VnnlibError, match="more than 15 "):
        parse_vnnlib(HEAD + f"(assert (and {four} {four}))", max_disjuncts=15)
    assert parse_vnnlib(HEAD + f"(assert (and {four} {four}))", max_disjuncts=16).cases
    alternatives = " ".join(f"(<= Y_0 {k})" for k in range(101))
    with pytest.raises(VnnlibError, match="more than 100 "):
        parse_vnnlib(HEAD + f"(assert (or {alternatives}))", max_disjuncts=100)
    assert parse_vnnlib(HEAD + f"(assert (or {alternatives}))", max_disjuncts=101).cases
    with pytest.raises(ValueError, match="max_disjuncts=0"):
        parse_vnnlib(HEAD, max_disjuncts=0)


DEEP = 5_000


@pytest.mark.parametrize(
    "formula",
    [
        "(and " * DEEP + "(>= Y_0 0)" + ")" * DEEP,
        "(or " * DEEP + "(>= Y_0 0)" + ")" * DEEP,
        "(or (and " * DEEP + "(>= Y_0 0)" + "))" * DEEP,
        "(and (<= Y_1 1) (or " * DEEP + "(>= Y_0 0)" + "))" * DEEP,
        "(or (<= Y_1 1) (and " * DEEP + "(>= Y_0 0)" + "))" * DEEP,
        "(and (or (<= Y_1 1))" * DEEP + "(>= Y_0 0)" + ")" * DEEP,
        "(>= " + "(+ Y_1 " * DEEP + "Y_0" + ")" * DEEP + " 0)",
        "(>= " + "(+ " * DEEP + "Y_0" + " Y_1)" * DEEP + " 0)",
        "(>= " + "(- " * DEEP + "Y_0" + ")" * DEEP + " 0)",
        "(>= " + "(* 1 " * DEEP + "Y_0" + ")" * DEEP + " 0)",
        "(>= 0 " + "(/ (- " * DEEP + "Y_0" + ") 1)" * DEEP + ")",
    ],
)
def test_nesting_of_any_depth(formula):
    p = parse_vnnlib(HEAD + f"(assert {formula})")
    assert p.cases[0].property.violated(np.array([0.0, 1.0]), np.array([0.5, 0.0])) in (
        True,
        False,
    )
    with pytest.raises(VnnlibError, match="never closed"):
        parse_vnnlib(HEAD + f"(assert {formula[:-1]})")


def test_nesting_where_no_formula_is():
    deep = "(" * DEEP + ")" * DEEP
    parse_vnnlib(HEAD + f"(set-info :source {deep})")
    for text, word in [
        (deep, "name"),
        (f"(declare-const {deep} Real)", "write"),
        (f"(assert {deep})", "operator"),
        (f"(assert (<= {deep} 0))", "operator"),
        (f"(check {deep})", "'check'"),
    ]:
        with pytest.raises(VnnlibError, match=word):
            parse_vnnlib(HEAD + text)


def test_long_sums_are_added_up():
    n = 3000
    text = "".join(f"(declare-const X_{i} Real)" for i in range(n))
    text += "".join(f"(assert (and (>= X_{i} -1) (<= X_{i} {i})))" for i in range(n))
    total = "X_0"
    for i in range(1, n):
        total = f"(+ (* {i} X_{i}) {total})" if i % 2 else f"(+ {total} (* {i} X_{i}))"
    p = parse_vnnlib(text + f"(declare-const Y_0 Real)(assert (<= Y_0 {total}))")
    (u,) = p.cases[0].property.unsafe
    assert u.inputs[0].tolist() == [-1.0] + [-float(i) for i in range(1, n)]
    assert p.cases[0].upper.tolist() == list(range(n))


def test_disjuncts_share_a_box_and_take_memory_for_their_own():
    n = 500
    text = "".join(f"(declare-const X_{i} Real)" for i in range(n))
    text += "(declare-const Y_0 Real)"
    text += "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(n))
    sets = " ".join(f"(= Y_0 {k})" for k in range(2000))
    (case,) = parse_vnnlib(text + f"(assert (or {sets}))", max_memory=2e6).cases
    assert len(case.property.unsafe) == 2000
    mixed = " ".join(f"(<= (+ Y_0 X_0) {k})" for k in range(2000))
    with pytest.raises(TooLargeError, match="max_memory="):
        parse_vnnlib(text + f"(assert (or {mixed}))", max_memory=2e6)


def test_files_that_are_no_text_or_do_not_unpack(tmp_path):
    path = tmp_path / "p.vnnlib"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    assert read_vnnlib(path).n_inputs == 2
    path.write_bytes(HEAD.encode() + b"\xff")
    with pytest.raises(VnnlibError, match="p.vnnlib.*not a text file"):
        read_vnnlib(path)
    packed = tmp_path / "p.vnnlib.gz"
    whole = gzip.compress(HEAD.encode())
    packed.write_bytes(whole)
    assert read_vnnlib(packed).n_inputs == 2
    for damaged in (whole[:-9], whole[:20], HEAD.encode(), whole[:12] + b"\xff" * 20):
        packed.write_bytes(damaged)
        with pytest.raises(VnnlibError, match="damaged"):
            read_vnnlib(packed)
    packed.write_bytes(gzip.compress(b" " * 10**8))
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="p.vnnlib.gz.*max_memory="):
        read_vnnlib(packed, max_memory=1e8)
    assert tracemalloc.get_traced_memory()[1] < 3e7
    tracemalloc.stop()
    with pytest.raises(FileNotFoundError):
        read_vnnlib(tmp_path / "absent.vnnlib")


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
        ("(assert (<= Y_0 1e999))", 8, "finite"),
        ("(assert (<= (* 1e300 1e300 Y_0) 0))", 8, "too large"),
        ("(assert (<= Y_0 1_000))", 8, "1_000"),
        ("(assert (<= Y_0 \u0663))", 8, "\u0663"),
        ("(declare-const X_02 Real)", 8, "X_02"),
        (f"(declare-const X_{'9' * 5000} Real)", 8, "neither"),
        ("(assert Y_0)", 8, "no formula"),
        ("(assert (and (+ Y_0 1)))", 8, "formula should"),
        ("(assert (<= (and) 1))", 8, "number should"),
        ("(assert ((<= Y_0 0)))", 8, "operator"),
        ("(assert (<= (+) 0))", 8, "a term is"),
        ("(assert)", 8, "one formula"),
        ('(assert (<= Y_0 "))', 8, "never closed"),
        ("(set-info |a)", 8, "never closed"),
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
