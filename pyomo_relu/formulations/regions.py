r"""Regions: a network of one or two free inputs by its exact linear pieces.

Over an interval of its only free input :math:`x` a network is affine on each of finitely
many intervals, its linear regions. Each output is then

.. math:: y_j = a_{jp} x + c_{jp} \quad\text{for}\quad t_{j,p} \le x \le t_{j,p+1}

with few pieces, however many neurons the network has: neurons that switch where another
one does, or that no longer matter, make none. Neighbours of one slope are joined. What is
written is this curve, as one unit of a network with these breakpoints, by the
formulation ``form``: ``bigm`` writes it with ordered binaries (the incremental model),
``hull`` with a copy of the input for each piece (multiple choice), ``logarithmic`` with
:math:`\lceil \log_2 P \rceil` binaries for :math:`P` pieces, ``sos1`` with special ordered
sets. All of them have the convex hull of the curve as their relaxation, which a network
written neuron by neuron has not.

A network of two free inputs is affine on polygons, and one with steps on intervals or
polygons that end at the steps. These are written with weights of their vertices
(:mod:`~pyomo_relu.formulations.vertex_weights`), with :math:`\lceil \log_2 K \rceil` binaries for
:math:`K` polygons or, with ``form="hull"``, one for each. Polygons with the same map are
merged where their union is convex.

With ``side="hypograph"`` or ``"epigraph"`` only one side of the curve is written, for models
that want an output large, or small, at any time: binaries then count its concave (convex)
stretches, and a concave curve of which only the hypograph is needed has none
(:mod:`~pyomo_relu.formulations.stretches`). ``side="model"`` finds out what the rows and the
objective of the model need. A point of such a model may leave its output on that side of the
curve; ``block.error()`` says by how much. Of polygons and steps both sides are always written.

Inputs that are numbers, or fixed by equal bounds, are
folded in before anything is counted.

Source: the wells of Grimstad and Andersson, arXiv 1907.03140, are such networks: 40
neurons, 4 to 14 pieces; Vielma, Ahmed, Nemhauser, Operations Research 58(2), 2010, for the
ways to write the curve.

Examples
--------
>>> from pyomo_relu.block.example import hat, show
>>> show(hat("regions"), "curve")
argument[0]: position.out[0] - step[0,0] - step[0,1] - step[0,2] == -2
value[0]: step[0,1] - step[0,2] - outputs[0] == 0
order[0,0,full]: 2 beyond[0,0] - step[0,0] <= 0
order[0,0,start]: step[0,1] - beyond[0,0] <= 0
order[0,1,full]: beyond[0,1] - step[0,1] <= 0
order[0,1,start]: step[0,2] - 2 beyond[0,1] <= 0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pyomo.common.config import ConfigValue, PositiveInt

from pyomo_relu.bounds import Bounds
from pyomo_relu.formulations.base import (
    Formulation,
    Wiring,
    declared_options,
    make_formulation,
    register_formulation,
)
from pyomo_relu.formulations.stretches import (
    WrittenLines,
    WrittenStretches,
    borders,
    sides_of,
    stretches,
)
from pyomo_relu.formulations.vertex_weights import WrittenCells, cells_of_regions
from pyomo_relu.network import Input, Network, NetworkBuilder

if TYPE_CHECKING:
    from pyomo_relu.bounds.plane_regions import LinearRegions

#: The curve may differ from the network by this share of its largest absolute value, at
#: the ends and the middle of each region; it is refused where it differs by more.
EXACT = 1e-9


@register_formulation
class Regions(Formulation):
    """The exact curve of a network of one free input, for any solver."""

    name = "regions"
    CONFIG = declared_options(
        form=ConfigValue(
            None,
            description="the formulation that writes the curve, by its name: 'bigm' if left "
            "out; 'logarithmic' or 'hull' for polygons",
        ),
        side=ConfigValue(
            "both",
            description="which side of the curve the model needs: 'both', 'hypograph' "
            "(outputs at most the curve) where an output is only wanted large, 'epigraph' "
            "where it is only wanted small, a mapping from names or positions of outputs "
            "to these, or 'model' for what rows and objective of the model need now",
        ),
        most=ConfigValue(
            1000, PositiveInt, "how many linear regions the network may have over its box"
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.config.form == self.name:
            raise ValueError("formulation 'regions' can't be its own form.")
        make_formulation(self.config.form or "bigm")  # an unknown name is refused here

    def replacement(self, bounds: Bounds, wiring: Wiring) -> tuple[Bounds, Formulation]:
        from pyomo_relu.bounds import compute_bounds

        network, (low, high) = bounds.network, bounds.input_box
        sides = self._sides(network, wiring)
        regions = self._regions(bounds, wiring)
        continuous = all(getattr(n, "is_continuous", True) for n in network.nodes)
        if len(regions.free) < 2 and continuous:
            curve = curve_network(regions)
            if len(regions.free) and any(side != "both" for side in sides):
                written = self._one_sided(regions, sides)
                if self.config.side == "model":
                    written.sides_from_model = sides
                return bounds, written
            form = make_formulation(self.config.form or "bigm")
            return compute_bounds(curve, low, high, "interval"), form
        if self.config.form not in (None, "logarithmic", "hull"):
            raise ValueError(
                f"formulation 'regions': form='{self.config.form}' writes curves of one "
                "free input without steps; others are written by 'logarithmic' or 'hull'."
            )
        cells = cells_of_regions(regions)
        return bounds, WrittenCells(self.name, cells, self.config.form == "hull")

    def _sides(self, network: Network, wiring: Wiring) -> tuple[str, ...]:
        """The side of each output that is written."""
        if self.config.side == "model":
            return tuple(wiring.sides())
        return sides_of(self.config.side, network)

    def _regions(self, bounds: Bounds, wiring: Wiring) -> LinearRegions:
        """The linear regions, or an error that says why there are none."""
        from pyomo_relu.bounds.plane_regions import TooManyRegionsError, linear_regions

        low, high = bounds.input_box
        free = np.flatnonzero(low < high)
        if len(free) > 2:
            names = [f"{i} ('{wiring.inputs[i]}')" for i in free[:3]]
            raise ValueError(
                f"formulation 'regions' takes a network of one or two free inputs, but "
                f"{len(free)} are free here: {', '.join(names)}"
                f"{', ...' if len(free) > 3 else ''}. Give the others as numbers, or "
                "choose another formulation, for example 'bigm'."
            )
        most = self.config.most
        try:
            return linear_regions(bounds.network, low, high, max_regions=most)
        except TooManyRegionsError:
            raise ValueError(
                f"formulation 'regions': the network has more than {most} "
                "linear regions over its box; raise the option most=, or choose another "
                "formulation, for example 'bigm'."
            ) from None

    def _one_sided(self, regions: LinearRegions, sides: tuple[str, ...]) -> Formulation:
        """What writes one side of the curve of an output or more."""
        from pyomo_relu.bounds.curves import Curves, pieces_of_outputs

        low, high = (float(b[regions.free[0]]) for b in (regions.lower, regions.upper))
        curves = Curves(low, high, *pieces_of_outputs(regions))
        if len(borders(curves, sides)) == 2:
            return WrittenLines(self.name, curves, int(regions.free[0]), sides)
        if self.config.form not in (None, "logarithmic", "hull"):
            raise ValueError(
                f"formulation 'regions': form='{self.config.form}' writes both sides of a "
                "curve; one side of one that is neither concave nor convex is written by "
                "'logarithmic' or 'hull'."
            )
        cells = stretches(curves, sides, regions.free)
        return WrittenStretches(self.name, cells, self.config.form == "hull", sides)


def curve_network(regions: LinearRegions) -> Network:
    """The network as one piecewise-linear unit of its free input for each output.

    Parameters
    ----------
    regions : LinearRegions
        Of a network without steps over a box with at most one free input.

    Returns
    -------
    Network
        With the inputs of the given one, of which only the free one is read, and its
        outputs over the box.

    Raises
    ------
    ValueError
        If rounding has moved the curve too far.
    """
    from pyomo_relu.bounds.curves import pieces_of_outputs

    network, lower, upper = regions.network, regions.lower, regions.upper
    breakpoints, slopes, intercepts = pieces_of_outputs(regions)
    found = _built(network, regions.free, breakpoints, slopes, intercepts)
    _check(network, found, lower, upper, regions.free, breakpoints)
    return found


def _built(
    network: Network,
    free: np.ndarray,
    breakpoints: list[np.ndarray],
    slopes: list[np.ndarray],
    intercepts: list[np.ndarray],
) -> Network:
    """The network of the curves; those with fewer pieces repeat the last one."""
    n, most = network.n_outputs, max(map(len, slopes))
    t, a, c = np.zeros((n, most - 1)), np.zeros((n, most)), np.zeros((n, most))
    for j in range(n):
        k = len(slopes[j])
        after = breakpoints[j][-1] if k > 1 else 0.0
        t[j, : k - 1], t[j, k - 1 :] = breakpoints[j], after + np.arange(1, most - k + 1)
        a[j, :k], a[j, k:] = slopes[j], slopes[j][-1]
        c[j, :k], c[j, k:] = intercepts[j], intercepts[j][-1]
    b = NetworkBuilder()
    terms = []
    for i, at in network.input_slices():
        node = network.nodes[i]
        assert isinstance(node, Input)
        handle = b.input(node.name, node.shape)
        inside = free[(free >= at.start) & (free < at.stop)] - at.start
        if len(inside):
            weights = np.zeros((n, node.size))
            weights[:, inside[0]] = 1.0
            terms.append((handle, weights))
    if not terms:
        terms = [(0, np.zeros((n, network.nodes[network.inputs[0]].size)))]
    curve = b.piecewise("curve", b.affine("position", terms), ("curve", t, a, c))
    return b.build(
        [curve], input_names=network.input_names, output_names=network.output_names
    )


def _check(
    network: Network,
    found: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    free: np.ndarray,
    breakpoints: list[np.ndarray],
) -> None:
    """Refuse a curve that isn't the network's: it would be a wrong answer in silence."""
    if not len(free):
        return
    a, b = float(lower[free[0]]), float(upper[free[0]])
    inner = np.unique(np.concatenate([[a, b], *breakpoints]))
    at = np.concatenate([inner, (inner[1:] + inner[:-1]) / 2, np.linspace(a, b, 101)])
    points = np.tile(lower, (len(at), 1))
    points[:, free[0]] = at
    true = network.evaluate(points)
    off = np.abs(found.evaluate(points) - true).max(axis=0)
    size = np.maximum(np.abs(true).max(axis=0), 1e-300)
    if (off > EXACT * size).any():
        j = int(np.argmax(off / size))
        raise ValueError(
            f"formulation 'regions': rounding has moved the curve of output {j} by "
            f"{off[j]:.1e}; choose another formulation, for example 'bigm'."
        )
