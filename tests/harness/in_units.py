"""Random networks in units from 1e-12 to 1e12, and what their optimum must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from pyomo_relu import ReLUNetBlock
from pyomo_relu.network import Network
from pyomo_relu.network.rescaling import join_entries, with_factors
from tests.harness.random_networks import CONTINUOUS, STEPS, random_network

#: Where the units differ from 1.
PLACES = ("inputs", "outputs", "inside", "everywhere")


@dataclass
class InUnits:
    """A network of ordinary numbers, and the same one in other units.

    Attributes
    ----------
    plain, network : Network
        ``network`` reads ``plain``'s inputs times ``inputs``, and returns its outputs times
        ``outputs``.
    inputs, outputs : arrays
        The units.
    lower, upper : (n_inputs,) arrays
        The box of ``plain``.
    seed : int
        It was drawn from.
    """

    plain: Network
    network: Network
    inputs: np.ndarray
    outputs: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    seed: int

    def spread(self, samples: int = 500) -> np.ndarray:
        """How far each output of ``plain`` moves over random points."""
        rng = np.random.default_rng(self.seed)
        x = rng.uniform(self.lower, self.upper, (samples, len(self.lower)))
        return np.ptp(self.plain.evaluate(x), axis=0)

    def model(self, formulation: Any = "bigm", plain: bool = False, **options: Any):
        """A model with the inputs ``x`` and the block ``net``; no objective."""
        network = self.plain if plain else self.network
        by = np.ones_like(self.inputs) if plain else self.inputs
        m = pyo.ConcreteModel()
        m.x = pyo.Var(range(len(by)))
        for i in m.x:
            m.x[i].setlb(float(self.lower[i] * by[i]))
            m.x[i].setub(float(self.upper[i] * by[i]))
        m.net = ReLUNetBlock(
            network=network, inputs=m.x, formulation=formulation, **options
        )
        return m

    def set_objective(self, m, output: int, sense: str, plain: bool = False) -> float:
        """Minimize or maximize an output; what the objective is multiplied by.

        A large output is taken as it is; a small one is divided by its unit, for the
        objective is the user's, and a solver's tolerances on it are absolute.
        """
        unit = 1.0 if plain else float(self.outputs[output])
        factor = 1.0 / min(1.0, unit)
        m.goal = pyo.Objective(
            expr=factor * m.net.outputs[output],
            sense=pyo.minimize if sense == "min" else pyo.maximize,
        )
        return factor * unit


def in_units(
    seed: int,
    places: Sequence[str] = PLACES,
    n_inputs: int | None = None,
    exponents: tuple[float, float] = (-12.0, 12.0),
    steps: bool = True,
) -> InUnits:
    """A random network whose inputs, outputs or inner values have random units.

    Parameters
    ----------
    seed : int
    places : sequence of str
        Of :data:`PLACES`; one is drawn.
    n_inputs : int, optional
        1 to 12 if left out.
    exponents : (float, float)
        Of the least and of the largest unit of inputs and outputs, to base 10; those
        inside a network are between -12 and 12.
    steps : bool
        Whether activations may have steps.
    """
    rng = np.random.default_rng([seed, 7])
    n = int(rng.integers(1, 13)) if n_inputs is None else n_inputs
    plain = random_network(
        rng,
        n_inputs=n,
        widths=tuple(rng.integers(2, 5, int(rng.integers(1, 3))).tolist()),
        n_outputs=int(rng.integers(1, 3)),
        activations=[str(rng.choice(CONTINUOUS + (STEPS if steps else ())))],
        residual=bool(rng.random() < 0.2),
        max_pool=bool(rng.random() < 0.2),
        density=float(rng.choice([1.0, 0.7])),
        input_layers=int(rng.integers(1, 3)),
        output_activation=str(rng.choice(["relu", "hard_tanh"]))
        if rng.random() < 0.15
        else None,
    )
    place = str(rng.choice(list(places)))
    # A unit for each entry, or one for all: both happen.
    one = bool(rng.random() < 0.5)
    labels = join_entries(plain, fix=False)
    count = 1 + max(int(label.max(initial=0)) for label in labels)
    outer = np.zeros(count, dtype=bool)
    for i in (*plain.inputs, *plain.outputs):
        outer[labels[i]] = True
    inner_unit, outer_unit = rng.uniform(-12.0, 12.0, count), rng.uniform(*exponents, count)
    if one:
        inner_unit[:], outer_unit[:] = inner_unit[0], outer_unit[0]
    drawn = 10.0 ** np.where(outer, outer_unit, inner_unit)
    asked = np.zeros(count, dtype=bool)
    ends = {"inputs": plain.inputs, "outputs": plain.outputs}
    for i, label in enumerate(labels):
        mine = [what for what, nodes in ends.items() if i in nodes]
        asked[label] |= place == "everywhere" or mine == [place]
    if place == "inside":
        asked = ~outer
    factors = [np.where(asked, drawn, 1.0)[label] for label in labels]
    low = np.where(rng.random(n) < 0.5, -1.0, rng.uniform(0.0, 2.0, n))
    high = low + rng.uniform(0.2, 2.0, n)
    return InUnits(
        plain,
        with_factors(plain, factors),
        np.concatenate([factors[i] for i in plain.inputs]),
        np.concatenate([factors[i] for i in plain.outputs]),
        low,
        high,
        seed,
    )
