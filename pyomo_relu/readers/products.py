r"""Products of two tensors that depend on the input, written with squares.

A network has no product of two variables, but the smooth function ``square``:

.. math::
    x\,y = \tfrac14 \Bigl(a \hat x + \frac{\hat y}{a}\Bigr)^2
    - \tfrac14 \Bigl(a \hat x - \frac{\hat y}{a}\Bigr)^2 + \bar y\,x + \bar x\,y
    - \bar x\,\bar y, \qquad \hat x = x - \bar x,\quad \hat y = y - \bar y.

It is exact for any scale :math:`a > 0` and any :math:`\bar x, \bar y`. With chords above and
tangents below, the gap of a square grows with the square of its argument's width
:math:`a w_x + w_y / a`, which is least where :math:`a^2 = w_y / w_x`: both factors are then
equally wide. The middles of the two ranges are taken off, so that interval arithmetic is
exact where one factor is centred, and little cancels. A range that is unknown counts as
[-1, 1]. Where both are known, squares go on as their tangents beyond the range of their
arguments (``bounded_square``), so that bounds that are too wide don't grow as squares do.
Where both factors are lines of one tensor, one square is enough:

.. math:: (k x + o)(c x + d) = k c\, x^2 + (k d + o c)\, x + o d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyomo_relu.base.lazy import sparse as sp
from pyomo_relu.readers.affine_graph import broadcast_shape, selection
from pyomo_relu.readers.smooth_products import scaled_root
from pyomo_relu.readers.values import Tensor
from pyomo_relu.readers.whole_ranges import UNKNOWN, middle_and_radius

if TYPE_CHECKING:
    from pyomo_relu.readers.tensors import TensorGraph

#: The largest scale, and one over the smallest: beyond, one factor would drown in rounding.
STEEPEST_SCALE = 1e4

#: A known range is taken this much wider than it was computed.
BEYOND_ROUNDING = 1.0 + 1e-9

#: The largest exponent that is written out.
LARGEST_POWER = 6


def square(graph: TensorGraph, name: str, x: Tensor) -> Tensor:
    """``x ** 2``, entry by entry."""
    return graph.smooth(name, x, "square")


def power(graph: TensorGraph, name: str, x: Tensor, exponent: object) -> Tensor:
    """``x ** exponent``, entry by entry, by squares and products.

    Parameters
    ----------
    exponent : number or array
        One whole number from 0 to :data:`LARGEST_POWER` for all entries.

    Raises
    ------
    ValueError
        For another exponent, with the remedy.
    """
    values = np.unique(np.asarray(exponent, dtype=float))
    n = float(values[0]) if len(values) == 1 else -1.0
    if n != int(n) or not 0 <= n <= LARGEST_POWER:
        raise ValueError(
            f"layer '{name}' raises to the power of {exponent}; only one whole exponent "
            f"from 0 to {LARGEST_POWER} is read. Other powers of a positive x are "
            "exp(n log x): train on log x as an input, or on the power itself."
        )
    if n == 0:
        return graph.scale(name, x, 0.0, 1.0)
    if n == 1:
        return x
    if n == 2:
        return square(graph, name, x)
    half = power(graph, f"{name}_{int(n) // 2}", x, int(n) // 2)
    if n % 2 == 0:
        return square(graph, name, half)
    return graph.multiply(name, x, square(graph, f"{name}_even", half))


def gated_linear(graph: TensorGraph, name: str, x: Tensor, axis: int = -1) -> Tensor:
    """GLU: one half of ``x`` along an axis times the sigmoid of the other half."""
    n = x.shape[axis] if -len(x.shape) <= axis < len(x.shape) else 1
    if n % 2 or axis % len(x.shape) == x.batch:
        raise ValueError(
            f"layer '{name}' halves {x.shape} along the axis {axis}, which needs an even "
            "number of entries."
        )
    halves = np.split(x.index, 2, axis=axis)
    value, gate = (
        graph.rearrange(f"{name}_{what}", [x], half, batch=x.batch)
        for what, half in zip(("value", "gate"), halves)
    )
    return graph.multiply(name, value, graph.smooth(f"{name}_sigmoid", gate, "sigmoid"))


def product(graph: TensorGraph, name: str, a: Tensor, b: Tensor) -> Tensor:
    """``a * b`` of two tensors that depend on the input, broadcast together."""
    one = _of_one_root(graph, name, a, b)
    if one is not None:
        return one
    shape = broadcast_shape(name, a.shape, b.shape)
    batch = graph.common_batch(name, [a, b], shape)
    places = [np.broadcast_to(t.index, shape).reshape(-1) for t in (a, b)]
    (x, rx), (y, ry) = (
        tuple(v[place] for v in middle_and_radius(graph.ranges.of(t.handle)))
        for t, place in zip((a, b), places)
    )
    scale = np.clip(np.sqrt(ry / rx), 1.0 / STEEPEST_SCALE, STEEPEST_SCALE)
    n = len(places[0])
    twice = np.tile(scale, 2)
    signs = np.repeat([1.0, -1.0], n)
    sums = graph.affine(
        f"{name}_sums",
        [
            (a, selection(np.tile(places[0], 2), a.size, twice)),
            (b, selection(np.tile(places[1], 2), b.size, signs / twice)),
        ],
        -(twice * np.tile(x, 2) + signs * np.tile(y, 2) / twice),
        (2, *shape),
        None if batch is None else batch + 1,
    )
    squares = _squares(graph, f"{name}_squares", sums)
    quarter = sp.hstack([sp.eye_array(n), -sp.eye_array(n)], format="csr") * 0.25
    terms = [(squares, sp.csr_array(quarter))]
    for t, place, factor in ((a, places[0], y), (b, places[1], x)):
        if factor.any():
            terms.append((t, selection(place, t.size, factor)))
    return graph.affine(name, terms, -x * y, shape, batch)


def _squares(graph: TensorGraph, name: str, x: Tensor) -> Tensor:
    """Squares, with tangents beyond the range of all entries, where that is known."""
    low, high = graph.ranges.of(x.handle)
    most = max(float(-low.min()), float(high.max()))
    if not 0.0 < most < UNKNOWN:
        return square(graph, name, x)
    return graph.smooth(name, x, "bounded_square", most * BEYOND_ROUNDING)


def _of_one_root(graph: TensorGraph, name: str, a: Tensor, b: Tensor) -> Tensor | None:
    """The product of two lines of one tensor, by one square; None if they are not such."""
    if a.shape != b.shape:
        return None
    (root, k, o), (other, c, d) = (scaled_root(graph.builder, t.handle) for t in (a, b))
    if root != other:
        return None
    x = Tensor(root, a.shape, a.batch)
    squared = square(graph, f"{name}_square", x)
    if k * d + o * c:
        return graph.add(name, [squared, x, np.array(o * d)], [k * c, k * d + o * c, 1.0])
    return (
        squared
        if (k * c, o * d) == (1.0, 0.0)
        else graph.scale(name, squared, k * c, o * d)
    )
