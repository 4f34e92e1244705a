r"""Branch and bound on the sides of neurons with optimized linear bounds: many inputs.

For chains of affine layers and ReLU. A subproblem fixes the sides of some neurons. Its
bound is a backward pass with a slope :math:`\alpha` for each undecided neuron and a
multiplier :math:`\beta \ge 0` for each fixed one: with :math:`z \ge 0` known, :math:`f`
is at least the minimum of :math:`f - \beta z` for any such multiplier. Both are ascended
with closed gradients, from the parent's values, for all subproblems of a round at once.
Whatever their values are, the bound holds; its rounding is taken off.

The neuron to split is the one whose children have the best bounds, of a few with a large
share in the parent's relaxation.

Source: Wang et al., NeurIPS 2021, arXiv 2103.06624 (beta-CROWN); De Palma et al.,
arXiv 2104.06718 (filtered smart branching); Bunel et al., JMLR 21, 2020.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pyomo_relu.bounds.progress import progress
from pyomo_relu.network import Affine, Input, Network, PiecewiseLinear

EPS = np.finfo(float).eps

#: Subproblems split in a round, steps of ascent for each, candidates to split on.
BATCH, STEPS, CANDIDATES = 64, 12, 3

#: A bound in single precision that needs no further ascent.
SURELY = 1e-4

#: First step lengths of slopes and multipliers, and the factor after each step.
ALPHA_RATE, BETA_RATE, DECAY = 0.15, 0.08, 0.93


@dataclass
class NeuronResult:
    """What a search over the sides of neurons found.

    Attributes
    ----------
    proved : bool
        Whether the row is positive over the whole box.
    witness : (n_inputs,) array or None
        A point that the caller's check has confirmed.
    lower : float
        A lower bound of the row.
    nodes : int
        Subproblems that were bounded.
    """

    proved: bool = False
    witness: np.ndarray | None = None
    lower: float = -np.inf
    nodes: int = 0


@dataclass
class _Step:
    """An affine layer, and the columns of the ReLU that it reads (None: the inputs)."""

    weight: np.ndarray
    bias: np.ndarray
    noise: np.ndarray
    source: slice | None


class ReluChain:
    """A chain of affine layers and ReLU over a box, as arrays.

    Parameters
    ----------
    network : Network
    lows, highs : sequences of (size,) arrays
        Valid bounds of every node.

    Raises
    ------
    ValueError
        If the network is something else; see :meth:`fits`.
    """

    def __init__(self, network: Network, lows, highs) -> None:
        if not self.fits(network):
            raise ValueError("the network is no chain of affine layers and ReLU.")
        self.network = network
        self.steps: list[_Step] = []
        columns: dict[int, slice] = {}
        low, high = [], []
        size, count = np.zeros(0), 0
        source: slice | None = None
        for i, node in enumerate(network.nodes):
            size_here = np.maximum(abs(lows[i]), abs(highs[i]))
            if isinstance(node, Input):
                self.low, self.high = lows[i], highs[i]
            elif isinstance(node, Affine):
                w = node.weights[0]
                w = np.asarray(w.todense() if hasattr(w, "todense") else w)
                noise = abs(w) @ size + abs(node.bias) + size_here
                self.steps.append(_Step(w, node.bias, noise, source))
            else:
                assert isinstance(node, PiecewiseLinear)
                columns[i] = slice(count, count + node.size)
                count += node.size
                low.append(lows[node.source])
                high.append(highs[node.source])
            source, size = columns.get(i), size_here
        self.count = count
        self.z_low, self.z_high = np.concatenate(low), np.concatenate(high)
        self.z_size = np.maximum(abs(self.z_low), abs(self.z_high))
        widest = max(max(s.weight.shape) for s in self.steps)
        self.gamma = 4.0 * (widest + 16.0) * EPS
        self.center = 0.5 * (self.low + self.high)
        self.radius = np.maximum(self.high - self.center, self.center - self.low)
        self.dtype: np.dtype = np.dtype(float)
        self.fast = self._shorter()

    def _shorter(self) -> ReluChain:
        """A copy in single precision, in which slopes and multipliers are sought."""
        other = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(other, name, value.astype(np.float32))
        other.steps = [
            replace(s, weight=s.weight.astype(np.float32), bias=s.bias.astype(np.float32))
            for s in self.steps
        ]
        other.dtype = np.dtype(np.float32)
        return other

    @staticmethod
    def fits(network: Network) -> bool:
        """Whether a network is one input, then affine layers and ReLU in a row."""
        nodes = network.nodes
        return (
            isinstance(nodes[0], Input)
            and len(network.outputs) == 1
            and network.outputs[0] == len(nodes) - 1
            and isinstance(nodes[-1], Affine)
            and any(isinstance(n, PiecewiseLinear) for n in nodes)
            and all(
                tuple(n.sources) == (i,)
                and (
                    isinstance(n, Affine)
                    or (
                        isinstance(n, PiecewiseLinear)
                        and n.is_relu
                        and isinstance(nodes[i], Affine)
                    )
                )
                for i, n in enumerate(nodes[1:])
            )
        )

    def sides(self, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of pre-activations (N, count) with sides (N, count) fixed."""
        low = np.where(fixed > 0, np.maximum(self.z_low, 0.0), self.z_low)
        high = np.where(fixed < 0, np.minimum(self.z_high, 0.0), self.z_high)
        return low, high

    def backward(self, row: int, fixed, alpha, beta, rigorous: bool = True):
        """Lower bounds (N,) of an output, and what the ascent needs.

        Parameters
        ----------
        row : int
            Of the last layer.
        fixed : (N, count) int8 array
            1 active, -1 inactive, 0 open.
        alpha, beta : (N, count) arrays

        Returns
        -------
        value : (N,) array
        slopes : (N, n_inputs) array
            Of the linear function of the inputs.
        posts : (N, count) array
            Coefficients of the activations.
        upper, const : (N, count) arrays
            The chord above each open neuron.
        """
        low, high = self.sides(fixed)
        open_ = (low < 0) & (high > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            upper = np.where(open_, high / (high - low), (low >= 0).astype(self.dtype))
        const = np.where(open_, -low * upper, 0.0)
        lower = np.where(open_, alpha, upper)
        posts = np.zeros(fixed.shape, self.dtype)
        value = np.zeros(len(fixed), self.dtype)
        error = np.zeros(len(fixed), self.dtype)
        a = np.zeros((len(fixed), self.steps[-1].weight.shape[0]), self.dtype)
        a[:, row] = 1.0
        for step in reversed(self.steps):
            value += a @ step.bias
            if rigorous:
                error += abs(a) @ step.noise
            a = a @ step.weight
            s = step.source
            if s is not None:
                posts[:, s] = a
                down = np.minimum(a, 0.0)
                value += (down * const[:, s]).sum(axis=1)
                a = np.maximum(a, 0.0) * lower[:, s] + down * upper[:, s]
                taken = fixed[:, s] * beta[:, s]
                a = a - taken
                if rigorous:  # the difference may cancel
                    error += abs(taken) @ self.z_size[s]
        value = value + a @ self.center - abs(a) @ self.radius
        if rigorous:
            error += abs(a) @ (abs(self.center) + self.radius)
            value = value - self.gamma * (error + abs(value))
        return value, a, posts, upper, const

    def forward(self, slopes, posts, alpha, fixed, upper, const):
        """The box's corner that attains a bound, and pre-activations along its lines."""
        x = np.where(slopes > 0, self.low, self.high)
        z = np.zeros(fixed.shape, self.dtype)
        low, high = self.sides(fixed)
        lower = np.where((low < 0) & (high > 0), alpha, upper)
        here = x
        for step, after in zip(self.steps, self.steps[1:]):
            here = here @ step.weight.T + step.bias
            s = after.source
            if s is not None:
                z[:, s] = here
                below = lower[:, s] * here
                above = upper[:, s] * here + const[:, s]
                here = np.where(posts[:, s] >= 0, below, above)
        return x, z

    def ascend(self, row: int, fixed, alpha, beta, steps: int):
        """Raise the bounds; best values (N,), their slopes and multipliers, corners.

        The search is in single precision, the bounds of what it found are not.
        """
        fast, corners = self.fast, []
        alpha, beta = alpha.astype(np.float32), beta.astype(np.float32)
        best = np.full(len(fixed), -np.inf)
        kept = [alpha, beta]
        moments = [np.zeros(fixed.shape, np.float32) for _ in range(4)]
        for k in range(1, steps + 1):
            found = fast.backward(row, fixed, alpha, beta, rigorous=False)
            value, slopes, posts, upper, const = found
            better = value > best
            best = np.where(better, value, best)
            kept = [
                np.where(better[:, None], new, old) for new, old in zip((alpha, beta), kept)
            ]
            if k == steps or (best > SURELY).all():
                break
            x, z = fast.forward(slopes, posts, alpha, fixed, upper, const)
            gradients = np.maximum(posts, 0.0) * z, -fixed * z
            rates = ALPHA_RATE, BETA_RATE
            moved = []
            for j, (g, rate, old) in enumerate(zip(gradients, rates, (alpha, beta))):
                m, v = moments[2 * j], moments[2 * j + 1]
                m *= 0.9
                m += 0.1 * g
                v *= 0.99
                v += 0.01 * g * g
                size = np.sqrt(v / (1.0 - 0.99**k)) + 1e-30
                moved.append(old + rate * DECAY**k * m / (1.0 - 0.9**k) / size)
            alpha = np.clip(moved[0], 0.0, 1.0)
            beta = np.maximum(moved[1], 0.0) * (fixed != 0)
        alpha, beta = (a.astype(float) for a in kept)
        value, slopes, posts, *_ = self.backward(row, fixed, alpha, beta)
        corners.append(np.where(slopes > 0, self.low, self.high))
        return value, alpha, beta, corners, posts

    def choose(self, row: int, fixed, alpha, beta, posts) -> np.ndarray:
        """The neuron to split for each subproblem, (N,)."""
        low, high = self.sides(fixed)
        open_ = (low < 0) & (high > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(open_, high / (high - low), 0.0)
        bias = np.zeros(self.count)
        for step, after in zip(self.steps, self.steps[1:]):
            if after.source is not None:
                bias[after.source] = step.bias
        loss = np.minimum(posts, 0.0) * (-low * ratio)
        first = bias * posts * (ratio - 1.0)
        score = np.where(open_, abs(np.maximum(first, bias * posts * ratio) + loss), -1.0)
        by_loss = np.where(open_, -loss, -1.0)
        k = min(CANDIDATES, self.count)
        ranked = np.hstack(
            [np.argsort(-score, axis=1)[:, :k], np.argsort(-by_loss, axis=1)[:, :k]]
        )
        n, m = ranked.shape
        at = np.repeat(np.arange(n), m)
        neuron = ranked.ravel()
        alpha, beta = alpha.astype(np.float32)[at], beta.astype(np.float32)[at]
        worst = np.full(n * m, np.inf)
        total = np.zeros(n * m)
        for side in (1, -1):
            trial = fixed[at]
            trial[np.arange(len(at)), neuron] = side
            value = self.fast.backward(row, trial, alpha, beta, rigorous=False)[0]
            worst = np.minimum(worst, value)
            total += np.minimum(value, 0.0)
        gain = worst + 0.5 * total
        gain[~open_[at, neuron]] = -np.inf
        best = gain.reshape(n, m).argmax(axis=1)
        return ranked[np.arange(n), best]


def split_neurons(
    chain: ReluChain,
    row: int,
    confirm: Callable[[np.ndarray], bool],
    deadline: float = np.inf,
    batch: int = BATCH,
) -> NeuronResult:
    """Prove that an output of a chain is positive over the box, or find a point.

    Parameters
    ----------
    chain : ReluChain
    row : int
        Of the outputs.
    confirm : callable
        Whether a point (n_inputs,) is a counterexample.
    deadline : float
        Of ``time.perf_counter()``.
    batch : int
        Subproblems split in a round.
    """
    result, n = NeuronResult(), chain.count
    fixed = np.zeros((1, n), dtype=np.int8)
    start = (chain.z_high > -chain.z_low).astype(float)[None]
    beta = np.zeros((1, n))
    value, alpha, beta, corners, posts = chain.ascend(row, fixed, start, beta, 60)
    result.nodes, result.lower = 1, float(value[0])
    stack = [_packed(value, fixed, alpha, beta, posts)]
    with progress(0, "splitting neurons", "node") as bar:
        while stack:
            result.lower = max(result.lower, min(float(p[0].min()) for p in stack))
            value, fixed, alpha, beta, posts = _take(stack, batch)
            result.witness = _offer(chain, row, corners, confirm)
            if result.witness is not None or time.perf_counter() > deadline:
                return result
            neuron = chain.choose(row, fixed, alpha, beta, posts)
            low, high = chain.sides(fixed)
            at = np.arange(len(fixed))
            stuck = ~((low[at, neuron] < 0) & (high[at, neuron] > 0))
            for k in np.flatnonzero(stuck):
                bound, x = _decided(chain, row, fixed[k])
                if bound <= 0:
                    result.witness = x if confirm(x) else None
                    return result
            go = ~stuck
            at = np.arange(go.sum())
            value, fixed, alpha, beta, neuron = (
                a[go] for a in (value, fixed, alpha, beta, neuron)
            )
            corners = []
            if not len(at):
                continue
            fixed, alpha, beta, parent, neuron = (
                np.concatenate([a, a]) for a in (fixed, alpha, beta, value, neuron)
            )
            both = np.arange(len(fixed))
            fixed[both, neuron] = np.where(both < len(at), 1, -1)
            found = chain.ascend(row, fixed, alpha, beta, STEPS)
            value, alpha, beta, corners, posts = found
            value = np.maximum(value, parent)
            result.nodes += len(value)
            bar.update(len(value))
            left = ~(value > 0)
            if left.any():
                parts = (value, fixed, alpha, beta, posts)
                stack.append(_packed(*(a[left] for a in parts)))
    result.proved, result.lower = True, np.inf
    return result


def _decided(chain: ReluChain, row: int, fixed: np.ndarray):
    """The bound of a subproblem without open neurons, by a linear program; its point.

    The program's multipliers are the best ones, and as rigorous as any. It may violate
    the sides at a price, so that there are multipliers where no point has these sides.
    """
    from scipy.optimize import linprog

    low, high = chain.sides(fixed[None])
    side = np.where(low[0] >= 0, 1.0, -1.0)
    here, const = np.eye(len(chain.low)), np.zeros(len(chain.low))
    rows, limits = [], []
    for step, after in zip(chain.steps, [*chain.steps[1:], None]):
        here, const = step.weight @ here, step.weight @ const + step.bias
        if after is not None and after.source is not None:
            s = side[after.source]
            rows.append(-s[:, None] * here)
            limits.append(s * const)
            here, const = here * (s > 0)[:, None], const * (s > 0)
    a = np.hstack([np.vstack(rows), -np.ones((chain.count, 1))])
    price = 1e4 * (1.0 + abs(here[row]).sum())
    box = [*zip(chain.low, chain.high), (0, None)]
    found = linprog([*here[row], price], A_ub=a, b_ub=np.concatenate(limits), bounds=box)
    if found.status != 0:
        return -np.inf, chain.center
    full = side.astype(np.int8)[None]
    # Sides that the bounds know need no multiplier, but may have one.
    beta = np.maximum(-found.ineqlin.marginals, 0.0)[None]
    value, *_ = chain.backward(row, full, np.zeros(beta.shape), beta)
    return float(value[0]), np.clip(found.x[:-1], chain.low, chain.high)


def _packed(value, fixed, *arrays: np.ndarray) -> tuple:
    """What is kept of subproblems; slopes and multipliers may be any, so shorter ones."""
    return value, fixed, *(a.astype(np.float32) for a in arrays)


def _take(stack: list, n: int) -> tuple:
    """Remove up to ``n`` subproblems, the last pushed first, the least bounds of them."""
    taken = []
    while stack and n > 0:
        part = stack.pop()
        if len(part[0]) > n:
            order = np.argsort(-part[0], kind="stable")
            part = tuple(a[order] for a in part)
            stack.append(tuple(a[:-n] for a in part))
            part = tuple(a[-n:] for a in part)
        n -= len(part[0])
        taken.append(part)
    value, fixed, *rest = (np.concatenate(a) for a in zip(*taken))
    return value, fixed, *(a.astype(float) for a in rest)


def _offer(chain: ReluChain, row: int, corners, confirm) -> np.ndarray | None:
    if not corners:
        return None
    points = np.vstack(corners)
    values = chain.network.evaluate(points)[:, row]
    best = int(values.argmin())
    return points[best] if values[best] <= 0 and confirm(points[best]) else None
