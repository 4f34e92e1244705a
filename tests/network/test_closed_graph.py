"""What a network with steps can be at a point."""

from __future__ import annotations

import numpy as np

from pyomo_relu import NetworkBuilder, activations
from pyomo_relu.network.closed_graph import closed_outputs


def stairs():
    """Two steps of the input at 0 and 0.5, their sum through one more step at 1.5."""
    b = NetworkBuilder()
    x = b.input("x", (1,))
    first = b.affine("first", [(x, [[1.0], [1.0]])], [0.0, -0.5])
    ones = b.piecewise("ones", first, activations.step())
    total = b.affine("total", [(ones, [[1.0, 1.0]])], [-1.5])
    last = b.piecewise("last", total, activations.step())
    return b.build([b.affine("out", [(last, [[1.0]]), (ones, [[2.0, 4.0]])])])


def test_away_from_steps_there_is_one_value():
    net = stairs()
    for x in (-1.0, 0.2, 2.0):
        found = closed_outputs(net, np.array([x]), 1e-6)
        assert found.tolist() == net.evaluate([[x]]).tolist()


def test_at_a_step_both_values_count_and_later_layers_follow():
    found = closed_outputs(stairs(), np.array([0.5 - 1e-8]), 1e-6)
    assert found[:, 0].tolist() == [2.0, 7.0]
    found = closed_outputs(stairs(), np.array([0.0]), 1e-6)
    assert found[:, 0].tolist() == [2.0, 0.0]


def test_steps_at_once_are_combined_up_to_a_number():
    b = NetworkBuilder()
    x = b.input("x", (1,))
    pre = b.affine("pre", [(x, [[1.0], [-1.0], [2.0]])])
    y = b.piecewise("step", pre, activations.step())
    net = b.build([b.affine("out", [(y, [[1.0, 2.0, 4.0]])])])
    found = closed_outputs(net, np.zeros(1), 1e-6)
    assert found[0] == 7.0 and sorted(found[:, 0]) == list(range(8))
    assert len(closed_outputs(net, np.zeros(1), 1e-6, most=5)) == 5


def test_slopes_hold_on_the_other_side_of_a_jump():
    b = NetworkBuilder()
    x = b.input("x", (1,))
    pieces = activations.relu(threshold=0.4)  # 0 below 0.4, else x
    net = b.build([b.piecewise("relu", b.affine("pre", [(x, [[1.0]])]), pieces)])
    found = closed_outputs(net, np.array([0.4 - 1e-9]), 1e-6)
    assert found[:, 0].tolist() == [0.0, 0.4 - 1e-9]


def test_other_units_have_the_same_steps():
    """A pre-activation far from its step in its own units isn't at it in small ones."""
    for unit in (1.0, 1e-9, 1e9):
        b = NetworkBuilder()
        x = b.input("x", (1,))
        pre = b.affine("pre", [(x, [[1.0]])], [-0.3 * unit])
        net = b.build([b.piecewise("step", pre, activations.step())])
        assert len(closed_outputs(net, np.array([0.31 * unit]), 1e-6)) == 1
        found = closed_outputs(net, np.array([(0.3 + 1e-8) * unit]), 1e-6)
        assert sorted(found[:, 0].tolist()) == [0.0, 1.0]
