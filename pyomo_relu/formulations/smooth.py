r"""Smooth units exactly, as nonlinear expressions for Ipopt, SCIP, BARON and their like.

Full space: each unit has a variable for its argument and one for its value,

.. math:: z = W h + b,\qquad y = \phi(z),

with the bounds that were proved for them. Reduced space: no inner variables at all, each
output equals one nested expression of the inputs. Full space suits solvers that branch and
relax term by term; reduced space has a tiny model, and derivatives that cost more.

Piecewise-linear units and maxima in the same network are written by another formulation,
which ``pieces=`` names; the model is then a nonlinear one with binaries.

Source: Schweidtmann and Mitsos, "Deterministic global optimization with artificial neural
networks embedded", J. Optim. Theory Appl. 180 (2019), for the reduced space.

Examples
--------
>>> import pyomo.environ as pyo
>>> from pyomo_relu import NetworkBuilder, ReLUNetBlock
>>> b = NetworkBuilder()
>>> h = b.affine("dense", [(b.input("x", (1,)), [[2.0]])], [0.5])
>>> network = b.build([b.affine("out", [(b.smooth("unit", h, "softplus"), [[3.0]])])])
>>> m = pyo.ConcreteModel()
>>> m.x = pyo.Var(bounds=(-1, 1))
>>> m.net = ReLUNetBlock(network=network, inputs=[m.x], formulation="smooth")
>>> print(m.net.layer["unit"].smooth[0].expr)
net.layer[unit].out[0]  ==  log(1.0 + exp(net.layer[dense].out[0]))
>>> m.net.reformulate("smooth", reduced=True)
>>> print(m.net.layer["network"].output[0].expr)
net.outputs[0]  ==  (3.0*log(1.0 + exp((2.0*x + 0.5))))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pyomo.common.config import ConfigValue
from pyomo.environ import Constraint, Expression

from pyomo_relu.base.index_set import index_set
from pyomo_relu.bounds import Bounds
from pyomo_relu.formulations.base import (
    Formulation,
    Wiring,
    declared_options,
    make_formulation,
    register_formulation,
)
from pyomo_relu.formulations.smooth_expressions import smooth_expression
from pyomo_relu.formulations.units import SmoothLayer
from pyomo_relu.formulations.values import Entry, Values, affine_rows
from pyomo_relu.formulations.whole import WholeFormulation, WholeNetwork
from pyomo_relu.network import Affine, Input, Node, Smooth


@register_formulation
class SmoothUnits(Formulation):
    """Smooth units as nonlinear expressions.

    Parameters
    ----------
    reduced : bool
        Write outputs as nested expressions of the inputs, without inner variables; for
        networks of affine and smooth layers only.
    pieces : str or (str, dict)
        The formulation of piecewise-linear units and maxima, with its options.
    """

    name = "smooth"
    CONFIG = declared_options(
        reduced=ConfigValue(
            default=False, domain=bool, doc="Nested expressions, no inner variables."
        ),
        pieces=ConfigValue(
            default="bigm", doc="The formulation of piecewise-linear units and maxima."
        ),
    )

    def for_node(self, node: Node) -> Formulation:
        """This one for smooth units, that of ``pieces`` for the others."""
        if isinstance(node, Smooth):
            return self
        if self.config.reduced:
            raise ValueError(
                f"layer '{node.name}' has pieces, and reduced=True writes nested "
                "expressions only; leave reduced= out, and pieces= names the formulation "
                "of this layer."
            )
        if not hasattr(self, "_inner"):
            self._inner = make_formulation(self.config.pieces)
        return self._inner.for_node(node)

    def replacement(
        self, bounds: Bounds, wiring: Wiring
    ) -> tuple[Bounds, Formulation] | None:
        """The whole network, where it is written in the inputs' space."""
        return (bounds, NestedExpressions(self.name)) if self.config.reduced else None

    def write_smooth(self, layer: SmoothLayer) -> None:
        """Write ``post == phi(pre)`` for every unit of the layer."""
        node = layer.node
        layer.block.smooth = Constraint(index_set(layer.units))
        for u in layer.units:
            value = smooth_expression(
                node.name, node.function, node.parameter, layer.pre[u]
            )
            layer.block.smooth[u] = layer.post[u] == value


class NestedExpressions(WholeFormulation):
    """Each output as an expression of the inputs; values of units are named expressions."""

    @property
    def contents(self) -> str:
        return "nested expressions"

    def write_network(self, whole: WholeNetwork) -> None:
        """Write ``outputs == network(inputs)``."""
        network, bounds, block = whole.bounds.network, whole.bounds, whole.block
        sizes = [n for n in network.nodes if not isinstance(n, Input)]
        keys = [(n.name, u) for n in sizes for u in range(n.size)]
        block.value = Expression(index_set(keys))
        start = dict(network.input_slices())
        found: list[Values] = []
        for i, node in enumerate(network.nodes):
            if isinstance(node, Input):
                entries = list(whole.inputs[start[i]])
            else:
                entries = self._entries(node, found)
                for u, entry in enumerate(entries):
                    if not isinstance(entry, float):
                        block.value[node.name, u] = entry
                        entries[u] = block.value[node.name, u]
            found.append(Values(entries, bounds.lower[i], bounds.upper[i]))
        block.output = Constraint(index_set(list(range(network.n_outputs))))
        flat = [e for i in network.outputs for e in found[i].entries]
        for k, entry in enumerate(flat):
            block.output[k] = whole.outputs[k] == entry

    @staticmethod
    def _entries(node: Node, found: Sequence[Values]) -> list[Entry]:
        """The values of a node's entries: expressions, and numbers where they are constant."""
        if isinstance(node, Affine):
            sources = [found[s] for s in node.sources]
            rows = affine_rows(node, sources, np.arange(node.size))
            return [
                float(row.constant) if row.is_constant else row.expression() for row in rows
            ]
        assert isinstance(node, Smooth)
        return [
            float(node(np.array(x)))
            if isinstance(x, float)
            else smooth_expression(node.name, node.function, node.parameter, x)
            for x in found[node.source].entries
        ]

    def set_network_values(self, block: Any, x: np.ndarray, y: np.ndarray) -> None:
        """There are no variables."""
