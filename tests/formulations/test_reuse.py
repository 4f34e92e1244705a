"""One formulation object for many writes: none of them sees another."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pyomo.environ as pyo
import pytest

from pyomo_relu import ReLUNetBlock
from pyomo_relu.formulations import FORMULATIONS, Formulation
from tests.formulations.test_swap import ALL, X, best, lp_text
from tests.harness.formulations import boxed_model
from tests.harness.random_networks import he_network


def prepared(formulation: Formulation, seed: int, low: float = -1.0):
    """A model whose block was only prepared with the object, which is then gone."""
    m = boxed_model(he_network(seed, [2, 5, 4, 2]), low, 1.0, None, bounds="interval")
    m.net.prepare(formulation)


@pytest.mark.parametrize("name", ALL)
def test_an_object_is_as_new_after_any_number_of_writes(name):
    """Prepared and dropped, or written, in random order: the rows are a new object's."""
    rng = np.random.default_rng(sum(map(ord, name)))
    held = FORMULATIONS[name](**ALL[name])
    before = pickle.dumps(vars(held))
    for _ in range(3):
        for seed in rng.integers(0, 100, rng.integers(1, 8)).tolist():
            prepared(held, seed, -float(rng.uniform(0.5, 2.0)))
        assert pickle.dumps(vars(held)) == before
        gc.collect()
        seed = int(rng.integers(0, 100))
        m = boxed_model(he_network(seed, [2, 5, 4, 2]), formulation=held, bounds="interval")
        fresh = boxed_model(
            he_network(seed, [2, 5, 4, 2]),
            formulation=name,
            bounds="interval",
            **ALL[name],
        )
        assert lp_text(m) == lp_text(fresh)
    assert pickle.dumps(vars(held)) == before


def test_state_of_a_users_own_object_is_not_shared():
    class Counting(FORMULATIONS["bigm"]):  # type: ignore[misc]
        def __init__(self):
            super().__init__()
            self.seen: list[str] = []

        def write_piecewise(self, layer):
            self.seen.append(layer.node.name)
            super().write_piecewise(layer)

    held = Counting()
    m = boxed_model(he_network(0, [2, 5, 4, 2]), formulation=held)
    m.net.reformulate(held)
    assert held.seen == []
    (own,) = set(m.net.formulations.values())
    assert own.seen == ["relu_1", "relu_2"]


def test_one_object_in_several_blocks_and_layers():
    held = FORMULATIONS["cuts"]()
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(2), bounds=(-1, 1))
    nets = [he_network(k, [2, 5, 4, 2]) for k in range(2)]
    m.net = ReLUNetBlock(
        range(2),
        network=dict(enumerate(nets)),
        inputs=lambda m, k: m.x,
        formulation={"relu_1": held, "...": held},
    )
    m.obj = pyo.Objective(
        expr=m.net[0].outputs[0] + m.net[1].outputs[0], sense=pyo.maximize
    )
    found = best(m)
    pyo.TransformationFactory("relu.bigm").apply_to(m)
    assert best(m) == pytest.approx(found, abs=1e-6)


def test_a_choice_made_on_the_spot_is_each_layers_own():
    """What a function returns for one layer may be gone before the next is asked."""
    net = he_network(1, [2] + [4] * 8 + [1])
    m = boxed_model(net, bounds="interval")
    partition = FORMULATIONS["partition"]
    for choose in (
        lambda layer: ("partition", {"parts": 1 + int(layer.split("_")[1]) % 3}),
        lambda layer: partition(parts=1 + int(layer.split("_")[1]) % 3),
    ):
        m.net.reformulate(choose)
        for name, block in m.net.layer.items():
            if block.component("split") is not None:
                wanted = 1 + int(name.split("_")[1]) % 3
                assert max(q for _, q in block.split) + 1 == wanted, name


def test_the_point_of_a_pattern_is_each_writes_own():
    held = FORMULATIONS["fixed_pattern"](at=X)
    first = boxed_model(he_network(3, [2, 5, 4, 2]), formulation=held)
    second = boxed_model(he_network(3, [2, 5, 4, 2]), formulation=held)
    assert lp_text(first) == lp_text(second)
