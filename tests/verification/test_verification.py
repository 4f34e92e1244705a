"""Verification: verdicts that are known, by exact regions or from the competition."""

import csv

import numpy as np
import pytest

from pyomo_relu.analysis import linear_regions
from pyomo_relu.cli import main
from pyomo_relu.cli.verify import CODES
from pyomo_relu.verification import (
    VnnlibError,
    output_bounds,
    parse_vnnlib,
    read_vnnlib,
    verify,
)
from tests.harness.random_networks import he_network
from tests.paths import shared_data


def competition(name):
    file = shared_data("verification/verdicts.csv")
    with open(file) as rows:
        return [r for r in csv.DictReader(rows) if r["set"] == name]


@pytest.mark.parametrize(
    "methods",
    [
        ("attack", "bounds", "splitting", "mip"),
        ("attack", "mip"),
        ("splitting",),
        ("relu_global",),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_output_limits_against_exact_regions(seed, methods):
    net = he_network(seed, [2, 8, 8, 1])
    low, high = np.array([-1.0, -0.5]), np.array([0.7, 1.0])
    best = linear_regions(net, low, high).optimum([1.0], "max").value
    span = max(1.0, abs(best))
    above = verify(
        net, (low, high), output_bounds([-1e3], [best + 1e-3 * span]), methods=methods
    )
    assert above.status == "robust"
    below = verify(
        net, (low, high), output_bounds([-1e3], [best - 1e-3 * span]), methods=methods
    )
    assert below.status == "counterexample"
    x = below.counterexample
    assert (low <= x).all() and (x <= high).all()
    assert net.evaluate(x)[0] > best - 1e-3 * span
    assert below.outputs == pytest.approx(net.evaluate(x))


@pytest.mark.parametrize(
    ("methods", "widths", "climbed"),
    [
        ("bounds", (2, 8, 8, 1), "bounds"),
        ("splitting", (2, 8, 8, 1), "splitting"),
        (("bounds", "splitting"), (40, 8, 8, 1), "bounds"),  # too many inputs to split
        (("splitting",), (40, 8, 8, 1), "none"),
        (("attack", "relu_global"), (40, 8, 8, 1), "attack"),
    ],
)
def test_the_method_is_what_was_tried_last(methods, widths, climbed):
    net = he_network(3, widths)
    n = widths[0]
    values = net.evaluate(np.random.default_rng(0).uniform(-1, 1, (2000, n)))[:, 0]
    # No random point reaches this, and linear bounds don't exclude it.
    limit = float(values.max() + 0.3 * np.ptp(values))
    found = verify(
        net, (-np.ones(n), np.ones(n)), output_bounds([-1e3], [limit]), methods=methods
    )
    assert found.method == climbed


def test_without_time_nothing_was_tried():
    net = he_network(0, [2, 8, 1])
    found = verify(net, ([-1, -1], [1, 1]), output_bounds([-1], [1]), time_limit=0.0)
    assert found.status == "undecided" and found.method == "none"


def test_no_method_is_refused():
    net = he_network(0, [2, 8, 1])
    with pytest.raises(ValueError, match="names no method; choose from"):
        verify(net, ([-1, -1], [1, 1]), output_bounds([-1], [1]), methods=())


def test_a_wrong_reference_makes_no_counterexample():
    net = he_network(0, [2, 8, 1])
    found = verify(
        net,
        ([-1, -1], [1, 1]),
        output_bounds([-1e3], [-1e3]),
        methods=("attack",),
        reference=lambda x: net.evaluate(x) + 1.0,
    )
    assert found.status == "undecided" and found.counterexample is None


@pytest.mark.parametrize("row", range(5))
def test_competition_test_set(row, capsys):
    pytest.importorskip("onnx")
    r = competition("test")[row]
    folder = shared_data("verification/test")
    code = main(["verify", str(folder / r["onnx"]), str(folder / r["vnnlib"])])
    answer = capsys.readouterr().out.split("\n")[0]
    assert answer == r["verdict"] and code == CODES[answer]


@pytest.mark.parametrize("name, step", [("cartpole", 10), ("acasxu", 27)])
def test_verdicts_of_the_competition(name, step):
    pytest.importorskip("onnx")
    from pyomo_relu import read_network
    from pyomo_relu.cli.verify import decide

    folder = shared_data(f"verification/{name}")
    for r in competition(name)[::step]:
        prop = read_vnnlib(folder / r["vnnlib"])
        net = read_network(str(folder / r["onnx"]))
        answer, _, _ = decide(net, prop)
        assert answer == r["verdict"], r["vnnlib"]


def test_vnnlib_in_one_piece():
    prop = parse_vnnlib(
        """; two disjuncts
        (declare-const X_0 Real)
        (declare-const Y_0 Real)
        (declare-const Y_1 Real)
        (assert (>= X_0 -1.5))
        (assert (<= X_0 2.0e0))
        (assert (or (and (>= Y_0 Y_1)) (and (<= Y_1 3.0))))
        """
    )
    assert (prop.n_inputs, prop.n_outputs) == (1, 2)
    case = prop.cases[0]
    assert case.lower == [-1.5] and case.upper == [2.0]
    unsafe = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 5.0, 1.0)]
    found = [case.property.violated(np.zeros(1), np.array(y[:2])) for y in unsafe]
    assert found == [True, True, False]


@pytest.mark.parametrize(
    "text, message",
    [
        ("(declare-const X_0 Real", "line 1"),
        ("(declare-const X_0 Real)\n(assert (>= Z 1))", "line 2"),
        (
            "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(assert (>= X_0 1))",
            "X_0 has no upper bound",
        ),
        ("(assert (>= (* X_0 X_0) 1))", "line 1"),
        (")", "line 1"),
    ],
)
def test_malformed_files_name_the_line(text, message):
    with pytest.raises(VnnlibError, match=message):
        parse_vnnlib(text + "\n")


def test_sizes_that_do_not_fit_are_said(tmp_path, capsys):
    he_network(0, [2, 4, 1]).save(tmp_path / "n.npz")
    (tmp_path / "p.vnnlib").write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)\n"
        "(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= Y_0 0))"
    )
    code = main(["verify", str(tmp_path / "n.npz"), str(tmp_path / "p.vnnlib")])
    assert code == 1 and "1 inputs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "cases, answer",
    [
        (["robust", "robust"], "unsat"),
        (["robust", "counterexample"], "sat"),
        (["late", "counterexample"], "sat"),
        (["late", "robust"], "timeout"),
        (["gave up", "late"], "unknown"),
        (["late", "gave up"], "unknown"),
    ],
)
def test_answer_of_several_cases(cases, answer, monkeypatch):
    """A counterexample decides; what more time would not decide is no timeout."""
    import pyomo_relu.verification as applications
    from pyomo_relu.cli.verify import decide
    from pyomo_relu.verification import Case, Property, Verification, VnnlibProperty

    results = iter(cases)

    def verify(*args, **options):
        kind = next(results)
        if kind in ("robust", "counterexample"):
            return Verification(kind, np.zeros(1), np.zeros(1))
        return Verification("undecided", details={"out_of_time": kind == "late"})

    monkeypatch.setattr(applications, "verify", verify)
    case = Case(np.zeros(1), np.ones(1), Property())
    prop = VnnlibProperty(1, 1, (case,) * len(cases))
    found, x, _ = decide(None, prop)
    assert found == answer and (x is not None) == (answer == "sat")


@pytest.mark.parametrize(
    "boxes, limit, answer",
    [
        # y = |x| on two intervals
        ([(-3, -2), (1, 2)], 0.5, "unsat"),
        ([(-3, -2), (0.25, 2)], 0.5, "sat"),
        ([(0.25, 2), (-3, -2)], 0.5, "sat"),
    ],
)
def test_disjunction_of_boxes_and_exit_codes(tmp_path, capsys, boxes, limit, answer):
    from pyomo_relu import NetworkBuilder, activations

    b = NetworkBuilder()
    x = b.input("x", (1,))
    r = b.piecewise("r", b.affine("h", [(x, [[1.0], [-1.0]])]), activations.relu())
    b.build([b.affine("y", [(r, [[1.0, 1.0]])])]).save(tmp_path / "n.npz")
    parts = " ".join(
        f"(and (>= X_0 {low}) (<= X_0 {high}) (<= Y_0 {limit}))" for low, high in boxes
    )
    (tmp_path / "p.vnnlib").write_text(
        f"(declare-const X_0 Real)(declare-const Y_0 Real)(assert (or {parts}))"
    )
    files = [str(tmp_path / "n.npz"), str(tmp_path / "p.vnnlib")]
    code = main(["verify", *files])
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == answer and code == {"sat": 10, "unsat": 20}[answer]
    if answer == "sat":
        value = float(lines[1].strip("()").split()[1])
        assert 0.25 <= value <= 0.5
    assert main(["verify", *files, "--timeout", "0"]) == 30
    assert capsys.readouterr().out.split("\n")[0] == "timeout"
