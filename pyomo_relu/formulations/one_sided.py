r"""One-sided: no binary for a neuron of which the model needs one side only.

Where a model only wants an output :math:`y` small, in rows such as :math:`y \le t` and in an
objective to be minimized, the *epigraph* :math:`y \ge f(x)` is enough: at any point of the model
:math:`y` can be lowered to the network's value. Through the network this tells for each neuron
from which side it must be held (:mod:`~pyomo_relu.formulations.unit_sides`). A convex
neuron that must not be too small is at least each of its pieces, without a binary; for a ReLU

.. math:: y \ge 0,\qquad y \ge x

and likewise a maximum, and a concave neuron that must not be too large. All others are
written by another formulation, which ``form=`` names. The epigraph of a network whose
weights after the first layer are nonnegative, of an input-convex network and of a maximum
of affine functions is a linear program; of other networks about half of the neurons of the
last hidden layer need no binary.

The LP relaxation is as tight as that of ``form``, and so is the optimum; at the
solution an output may be left on its side of the network's value, where nothing pushes it
onto it.

Source: see :mod:`~pyomo_relu.formulations.unit_sides`.

Examples
--------
>>> from pyomo_relu.block.example import show, two_neurons
>>> m = two_neurons("one_sided", side="epigraph")
>>> show(m)
pre.affine[0]: x[0] - x[1] - pre.out[0] == 0
pre.affine[1]: 2 x[0] + x[1] - pre.out[1] == 1
relu.one_side[0,1]: pre.out[0] - relu.out[0] <= 0
relu.one_side[1,1]: pre.out[1] - relu.out[1] <= 0
sum.affine[0]: relu.out[0] + relu.out[1] - outputs[0] == 0
>>> print(m.net.statistics().reason)
2 of 2 unstable units need no binary, for of the outputs the epigraph is enough
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pyomo.common.config import ConfigValue

from pyomo_relu.bounds import Bounds
from pyomo_relu.bounds.well_scaled import WellScaled
from pyomo_relu.formulations.base import (
    Formulation,
    Wiring,
    declared_options,
    make_formulation,
    register_formulation,
)
from pyomo_relu.formulations.stretches import SIDES, sides_of
from pyomo_relu.formulations.unit_sides import UnitSides
from pyomo_relu.formulations.units import MaxLayer, PiecewiseLayer, unit_pieces
from pyomo_relu.formulations.values import Row, RowCollector, at_most, combined, row_at_most
from pyomo_relu.network import Max, Network, Node, PiecewiseLinear, Smooth


@register_formulation
class OneSided(Formulation):
    """Units of which the model needs one side only, without binaries."""

    name = "one_sided"
    CONFIG = declared_options(
        form=ConfigValue(
            "bigm",
            description="the formulation of the units that need a binary, by its name or "
            "as (name, options)",
        ),
        side=ConfigValue(
            "model",
            description="which side of an output's graph the model needs: 'model' for what "
            "rows and objective of the model need now, 'epigraph' (outputs at least the "
            "network's) where an output is only wanted small, 'hypograph' where it is only "
            "wanted large, 'both', or a mapping from names or positions of outputs to these",
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inner = make_formulation(self.config.form)
        writes_units = type(self.inner).write_piecewise is not Formulation.write_piecewise
        if not writes_units or not self.inner.says_all or isinstance(self.inner, OneSided):
            raise ValueError(
                f"formulation 'one_sided': form={self.config.form!r} doesn't write single "
                "units exactly; choose one that does, such as 'bigm', 'hull' or 'partition'."
            )
        # Of a layer is wanted what the other formulation wants.
        self.needs_preactivation = self.inner.needs_preactivation
        self.needs_rows = self.inner.needs_rows
        self._sides: tuple[str, ...] = ()
        self._places: dict[str, int] = {}
        self._held: UnitSides | None = None

    def for_one_write(self) -> Formulation:
        new = super().for_one_write()
        assert isinstance(new, OneSided)
        new.inner = self.inner.for_one_write()
        return new

    def for_node(self, node: Node) -> Formulation:
        """This one, and of smooth units the other formulation."""
        return self.inner.for_node(node) if isinstance(node, Smooth) else self

    def replacement(self, bounds: Bounds, wiring: Wiring) -> None:
        if self.config.side == "model":
            self._sides = tuple(wiring.sides())
        else:
            self._sides = sides_of(self.config.side, bounds.network, self.name)

    def begin(self, written: WellScaled) -> None:
        self.inner.begin(written)
        network = written.network
        self._places = {node.name: i for i, node in enumerate(network.nodes)}
        self._held = UnitSides(written.bounds, self._sides)
        saved, unstable = count_saved(written.bounds, self._held)
        self.says_all, self.units_on_one_side = not saved, saved
        why = self._why(saved, unstable, network)
        self.reason = f"{self.reason}: {why}" if self.reason else why

    def _why(self, saved: int, unstable: int, network: Network) -> str:
        """Why so many units need no binary, or none does."""
        kinds = [s for s in SIDES[1:] if s in self._sides]
        if kinds:
            which = "the outputs"
            if "both" in self._sides or len(kinds) > 1:
                names = network.output_names or range(network.n_outputs)
                few = [str(n) for n, s in zip(names, self._sides) if s != "both"]
                which = f"output {', '.join(few[:3])}{', ...' if len(few) > 3 else ''}"
            enough = f"for of {which} the {' or the '.join(kinds)} is enough"
            if saved:
                return f"{saved} of {unstable} unstable units need no binary, {enough}"
            return f"each unstable unit needs a binary, though {enough[4:]}"
        if self.config.side == "model":
            return (
                "every unit is written exactly: rows and objective need both sides of each "
                "output, or nothing uses one yet; call reformulate() when the model is "
                "complete"
            )
        return "every unit is written exactly, for both sides of each output are asked for"

    # ------------------------------------------------------------------------ writing
    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        assert self._held is not None  # begin comes first
        i, rows = self._places[layer.node.name], RowCollector()
        others = []
        for u in layer.units:
            pieces = layer.pieces(u)
            sign = self._held.pieces_suffice(i, u, pieces)
            if not sign:
                others.append(u)
                continue
            pre = layer.rows[u] if u in layer.rows else layer.pre_row(u)
            post = layer.post[u]
            for p, g in enumerate(pieces):
                if g.slope != 0.0:
                    row = pre.scaled(sign * g.slope, sign * g.intercept)
                    rows.add("one_side", (u, p), row_at_most(row, [-sign], [post], 0.0))
                    continue
                # An inner variable has that bound in any case; an output is also the user's.
                bound = None if layer.is_output else post.lb if sign > 0 else post.ub
                if bound is None or sign * bound < sign * g.intercept:
                    relation = at_most([-sign], [post], -sign * g.intercept)
                    rows.add("one_side", (u, p), relation)
        rows.add_to(layer.block)
        if others:
            self.inner.write_piecewise(_part_of(layer, others))

    def write_max(self, layer: MaxLayer) -> None:
        assert self._held is not None  # begin comes first
        i, rows = self._places[layer.node.name], RowCollector()
        others = {}
        for j, group in layer.arguments.items():
            if not self._held.arguments_suffice(i, j):
                others[j] = group
                continue
            y = layer.post_row(j)
            for k in group:
                above: list[tuple[float, Row]] = [(1.0, y), (-1.0, layer.argument_row(k))]
                rows.nonnegative("one_side", (j, k), combined(above))
        rows.add_to(layer.block)
        if others:
            inner = {k for group in others.values() for k in group}
            self.inner.write_max(
                replace(
                    layer,
                    units=list(others),
                    arguments=others,
                    post={j: layer.post[j] for j in others},
                    rows={k: row for k, row in layer.rows.items() if k in inner},
                )
            )

    def transform(self, blocks: list) -> None:
        self._held, self._places = None, {}
        self.inner.transform(blocks)

    def finish(self, block: Any) -> None:
        self.inner.finish(block)  # which may solve relaxations with other objectives
        if self.units_on_one_side and self.config.side == "model":
            self.sides_from_model = self._sides

    def set_values(self, block: Any, node: Any, pre: Any, post: Any, pieces: Any) -> None:
        self.inner.set_values(block, node, pre, post, pieces)


def _part_of(layer: PiecewiseLayer, units: Sequence[int]) -> PiecewiseLayer:
    """Some units of a layer."""
    kept: dict[str, Any] = {
        name: {u: found[u] for u in units if u in found}
        for name in ("pre", "post", "rows", "lower", "upper")
        for found in [getattr(layer, name)]
    }
    return replace(layer, units=list(units), **kept)


def count_saved(bounds: Bounds, held: UnitSides) -> tuple[int, int]:
    """How many units of a network need no binary, of how many that aren't stable.

    Units on which no output depends count for nothing.
    """
    saved, unstable = 0, 0
    for i, node in enumerate(bounds.network.nodes):
        if not isinstance(node, (PiecewiseLinear, Max)):
            continue
        low, high = bounds.lower[node.source], bounds.upper[node.source]
        for u in np.flatnonzero(held.below[i] | held.above[i]).tolist():
            if isinstance(node, Max):
                several = len(node.contenders(u, low, high)) > 1
                saved += several and held.arguments_suffice(i, u)
            else:
                pieces = unit_pieces(node, u, float(low[u]), float(high[u]))
                several = len(pieces) > 1
                saved += several and bool(held.pieces_suffice(i, u, pieces))
            unstable += several
    return saved, unstable
