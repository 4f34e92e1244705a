r"""A piecewise-linear network in place of one with smooth units, with a proved error.

The error of output :math:`k` is at most :math:`\sum_i |G_{ki}| e_i` for unit errors
:math:`e_i`, and unit :math:`i` needs about :math:`w_i / \sqrt{e_i}` pieces
(:mod:`~pyomo_relu.bounds.difference.curves`). The least number of pieces for a given bound
:math:`\sum_i g_i e_i \le 1` with :math:`g_i = \max_k |G_{ki}| / a_k`, where :math:`a_k` is the
accuracy of output :math:`k`, has

.. math:: e_i \propto (w_i / g_i)^{2/3} .

Bounds of :math:`G` over the whole box give the first shares. The error that is then proved is
smaller, since the units' errors aren't all largest at one point; so all shares are scaled
until the proved error is just below the accuracy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pyomo_relu.bounds.bounds import Bounds
from pyomo_relu.bounds.difference.curves import curves_of_units, expected_pieces
from pyomo_relu.bounds.difference.network import ApproximateNetwork, Proof
from pyomo_relu.bounds.difference.proof import Differences, differing
from pyomo_relu.bounds.difference.refine import over_box, proof
from pyomo_relu.bounds.difference.units import UnitErrors, unit_errors
from pyomo_relu.bounds.ladder import compute_bounds
from pyomo_relu.network import Network, Node, PiecewiseLinear, Smooth


@dataclass(frozen=True)
class ApproximationSettings:
    """How the accuracy is shared out.

    Attributes
    ----------
    rounds : int
        So often are the shares scaled by what was proved.
    aim : float
        The proved error that a scaling aims at, as a share of the accuracy.
    good : float
        A proved error of at least this share of the accuracy is good enough.
    boxes : int
        Boxes of a proof that shares are scaled by; the last proof has more.
    most_pieces : float
        A unit with more pieces than this is refused.
    rung : str
        How the true network is bounded over the box.
    few_inputs, few_rung : int, str
        How it is bounded where it has so few inputs. Narrower intervals need fewer pieces:
        with boxes 3 to 14 % fewer on eight networks of 2 to 10 inputs, for up to 0.3 CPU
        seconds more; with 784 inputs they gain nothing and take 5 seconds (busy).
    """

    rounds: int = 6
    aim: float = 0.95
    good: float = 0.85
    boxes: int = 1000
    most_pieces: float = 5000.0
    rung: str = "alpha_crown"
    few_inputs: int = 10
    few_rung: str = "boxes"


SETTINGS = ApproximationSettings()


def read_accuracy(accuracy: ArrayLike, network: Network) -> np.ndarray:
    """The (n_outputs,) accuracy of each output, from one number or one for each.

    Raises
    ------
    ValueError
        If a number isn't positive and finite, or there are too few or many.
    """
    try:
        given = np.asarray(accuracy, dtype=float)
        found = np.array(np.broadcast_to(given, (network.n_outputs,)))
    except (TypeError, ValueError):
        raise ValueError(
            f"accuracy={accuracy!r} must be a positive number, or one for each of the "
            f"{network.n_outputs} outputs."
        ) from None
    if not (np.isfinite(found) & (found > 0.0)).all():
        raise ValueError(f"accuracy={accuracy!r} must be positive and finite.")
    return found


def refuse_steps(network: Network) -> None:
    """Raise a ValueError if a step stands behind a smooth unit: no error of its argument,
    however small, gives a small error."""
    depends = differing(network)
    for i, node in enumerate(network.nodes):
        if isinstance(node, PiecewiseLinear) and depends[i] and node.jumps.any():
            raise ValueError(
                f"layer '{node.name}' computes '{node.function}', a step, behind smooth "
                "units: accuracy= can't bound what an error in front of a step does; give "
                "formulation='smooth', or read the network without the step."
            )


def approximate(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    accuracy: ArrayLike,
) -> ApproximateNetwork:
    """A piecewise-linear network within ``accuracy`` of a network over a box.

    Parameters
    ----------
    network : Network
        Without steps behind smooth units.
    lower, upper : (n_inputs,) arrays
    accuracy : float or (n_outputs,) array
        In the units of the outputs.

    Returns
    -------
    ApproximateNetwork
        Its proved errors are at most the accuracy.

    Raises
    ------
    ValueError
        If the accuracy is none, or can't be had with curves of at most
        ``SETTINGS.most_pieces`` pieces.
    """
    begin = time.perf_counter()
    wanted = read_accuracy(accuracy, network)
    refuse_steps(network)
    few = network.n_inputs <= SETTINGS.few_inputs
    rung = SETTINGS.few_rung if few else SETTINGS.rung
    bounds = compute_bounds(network, lower, upper, rung)
    shares = _Shares(network, bounds, wanted)
    best = None
    for _ in range(SETTINGS.rounds):
        trial = shares.trial()
        found = proof(trial, bounds, SETTINGS.boxes)
        ratio = float((found.errors / wanted).max())
        if ratio <= 1.0 and (best is None or shares.pieces < best[3]):
            best = trial, found, ratio, shares.pieces
        done = SETTINGS.good <= ratio <= 1.0 or shares.single
        if best is not None and done:
            break
        shares.scale(SETTINGS.aim / max(ratio, 1e-3))
    if best is None:
        raise ValueError(
            f"accuracy={accuracy!r} can't be proved: rounding of layers alone may exceed it; "
            "give a larger one."
        )
    differences, found, _, pieces = best
    last = proof(differences, bounds)
    both = Proof(
        np.maximum(found.low, last.low),
        np.minimum(found.high, last.high),
        found.boxes + last.boxes,
    )
    return ApproximateNetwork(
        differences.curves.nodes,
        network,
        bounds,
        wanted,
        both,
        pieces,
        time.perf_counter() - begin,
    )


class _Shares:
    """How far each smooth unit may be off."""

    def __init__(self, network: Network, bounds: Bounds, wanted: np.ndarray) -> None:
        self.network, self.bounds, self.pieces = network, bounds, 0
        self.single = False
        nodes = network.nodes
        self.smooth = {i: n for i, n in enumerate(nodes) if isinstance(n, Smooth)}
        self.intervals = {
            i: (bounds.lower[n.source], bounds.upper[n.source])
            for i, n in self.smooth.items()
        }
        weights = {
            i: expected_pieces(n, *self.intervals[i]) for i, n in self.smooth.items()
        }
        # Curves of some three pieces give the sensitivities a first time.
        rough = self._trial(
            {i: np.maximum((w / 3.0) ** 2, 1e-9) for i, w in weights.items()}
        )
        gains = over_box(rough, bounds).sensitivity
        share = {}
        total = 0.0
        for i in self.smooth:
            gain = (gains[i][0] / wanted[:, None]).max(axis=0)
            # Not as small as a float can be: a network may not depend on any of the units.
            floor = 1e-9 * max(float(gain.max(initial=0.0)), 1e-100)
            weight = np.maximum(weights[i], 1e-6 * max(float(weights[i].max()), 1e-12))
            share[i] = (weight / np.maximum(gain, floor)) ** (2.0 / 3.0)
            total += float((gain * share[i]).sum())
        self.share = {i: s / max(total, 1e-300) for i, s in share.items()}
        self._most = {i: np.maximum(4.0 * weights[i] ** 2, 1e-12) for i in self.smooth}

    def scale(self, factor: float) -> None:
        """Let every unit be off by so many times as much."""
        self.share = {i: s * factor for i, s in self.share.items()}

    def trial(self) -> Differences:
        """The network with curves of the present shares."""
        errors = {i: np.minimum(s, self._most[i]) for i, s in self.share.items()}
        found = self._trial(errors)
        nodes, count, units = found.curves.nodes, 0, 0
        for i in self.smooth:
            curves = nodes[i]
            assert isinstance(curves, PiecewiseLinear)
            low, high = (side[:, None] for side in self.intervals[i])
            t = curves.breakpoints
            count += int(((low < t) & (t < high)).sum()) + curves.size
            units += curves.size
        self.pieces, self.single = count, count == units
        return found

    def _trial(self, errors: dict[int, np.ndarray]) -> Differences:
        nodes: list[Node] = list(self.network.nodes)
        units: dict[int, UnitErrors] = {}
        for i, error in errors.items():
            node = self.smooth[i]
            low, high = self.intervals[i]
            needed = expected_pieces(node, low, high) / np.sqrt(error)
            if (needed > SETTINGS.most_pieces).any():
                raise ValueError(
                    f"layer '{node.name}' would need curves of {needed.max():.0f} pieces for "
                    "this accuracy; give a larger one, or formulation='smooth'."
                )
            curves = curves_of_units(node, low, high, error)
            units[i] = unit_errors(node, curves, low, high)
            nodes[i] = curves
        return Differences(self.network, self.network.with_nodes(nodes), units)
