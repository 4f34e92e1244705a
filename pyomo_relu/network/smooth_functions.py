r"""The smooth activations by name: value, derivative, and how they bend.

Each function is a few *parts*, on each of which it is convex, concave or straight; they
meet at inflection points and kinks. With the derivative on each part this is all that lines
below and above need (:mod:`pyomo_relu.bounds.smooth_lines`).

=================== ============================================================
``sigmoid``         :math:`\sigma(x) = 1 / (1 + e^{-x})`
``tanh``            the hyperbolic tangent
``softplus``        :math:`\log(1 + e^x)`
``silu``            :math:`x\,\sigma(x)`, also called swish
``gelu``            :math:`x\,\Phi(x)`, the distribution function of the normal law
``gelu_tanh``       :math:`x\,\sigma(2 \sqrt{2 / \pi}\,(x + 0.044715 x^3))`
``mish``            :math:`x \tanh \log(1 + e^x)`
``elu``             :math:`x` for :math:`x \ge 0`, else :math:`\alpha (e^x - 1)`
``softsign``        :math:`x / (1 + |x|)`
``arctan``          the arc tangent
``erf``             the error function
``exp``             :math:`e^x`
``hard_swish``      :math:`x \min(\max(x + 3, 0), 6) / 6`
``square``          :math:`x^2`, of which products of two tensors are made
``bounded_square``  :math:`x^2` for :math:`|x| \le \alpha`, beyond its tangents
=================== ============================================================

Others are these with an affine map before and behind: SELU and CELU are ELU, swish and
softplus with a factor ``beta`` are scaled, ``log_sigmoid(x) = -softplus(-x)``.

Rounding: the elementary functions of NumPy and SciPy are trusted to 4 units in the last
place (NumPy states this for its vector code), and no value here has more than four of them
in a row, so that it is right within :data:`ULPS` of them and a few more of 1 where the
function cancels (``absolute``). The tests measure it against 40 digits: below 5.

Source: the inflection points of SiLU, GELU and Mish were computed with 40 digits (mpmath).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pyomo_relu.base.rounding import EPS

#: How many units in the last place a computed value or derivative may be off.
ULPS = 16.0

#: Added to an error where a value is too small for a relative one (denormal numbers).
TINY = 1e-300

#: The largest argument of ``exp``; float64 ends at 709.78.
LARGEST_EXPONENT = 700.0

#: The largest argument of ``square``, far below where float64 overflows, 1.3e154.
LARGEST_ROOT = 1e150

#: A function of an array of arguments and of the parameter ``alpha``.
Formula = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Part:
    """An interval on which a function bends one way.

    Attributes
    ----------
    left, right : float
        Its ends; infinite for the first and the last one.
    bend : int
        1 where the function is convex, -1 where it is concave, 0 where it is straight.
    derivative : callable
        That of the function on the part, at kinks the one from inside.
    """

    left: float
    right: float
    bend: int
    derivative: Formula


@dataclass(frozen=True)
class SmoothFunction:
    """A smooth activation.

    Attributes
    ----------
    name : str
    value, derivative : callable
        Of an array of arguments and the parameter; at a kink the derivative from the right.
    parts : tuple of Part
        From left to right.
    least, greatest : float
        No value is less or greater, for any parameter; infinite where nothing is known.
    turn : float or None
        Where the function turns from decreasing to increasing; None if it increases.
    absolute : float
        How many :data:`ULPS` of 1 a value may be off besides those of its own size.
    has_parameter : bool
        Whether the parameter ``alpha`` means anything.
    domain : (float, float)
        Arguments outside of it are refused: float64 can't hold their values.
    at_slope : callable or None
        Where the function has a given derivative, as far as it is known in closed form; for
        a function of one part.
    left_of_center : callable or None
        For S-shaped functions, whose derivative rises up to 0 and is even: the argument at or
        left of 0 where the derivative is nearly the given one, minus infinity for slopes that
        aren't positive and 0 for those that are too steep. None for other functions.
    """

    name: str
    value: Formula
    derivative: Formula
    parts: tuple[Part, ...]
    least: float = -math.inf
    greatest: float = math.inf
    turn: float | None = None
    absolute: float = 0.0
    has_parameter: bool = False
    domain: tuple[float, float] = (-math.inf, math.inf)
    at_slope: Formula | None = None
    left_of_center: Callable[[np.ndarray], np.ndarray] | None = None

    def error(self, y: np.ndarray) -> np.ndarray:
        """How far computed values ``y`` may be from the true ones, array of their shape."""
        return ULPS * EPS * (abs(y) + self.absolute) + TINY

    def derivative_error(self, d: np.ndarray) -> np.ndarray:
        """How far computed derivatives ``d`` may be from the true ones."""
        return ULPS * EPS * (abs(d) + 1.0)

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where two parts meet."""
        return tuple(part.right for part in self.parts[:-1])


# ------------------------------------------------------------------------- formulas
def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function, small values with all their digits."""
    e = np.exp(-abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def sigmoid_slope(x: np.ndarray) -> np.ndarray:
    """The derivative of the logistic function, small values with all their digits."""
    e = np.exp(-abs(x))
    return np.asarray(e / (1.0 + e) ** 2)


def softplus(x: np.ndarray) -> np.ndarray:
    """``log(1 + exp(x))`` without overflow."""
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-abs(x))))


def _tanh_slope(x: np.ndarray, _: float) -> np.ndarray:
    return 4.0 * sigmoid_slope(2.0 * x)


def _silu(x: np.ndarray, _: float) -> np.ndarray:
    return x * sigmoid(x)


def _silu_slope(x: np.ndarray, _: float) -> np.ndarray:
    return sigmoid(x) * (1.0 + x * sigmoid(-x))


def _normal_distribution(x: np.ndarray) -> np.ndarray:
    from scipy.special import erfc

    return np.asarray(0.5 * erfc(-x * math.sqrt(0.5)))


def _normal_density(x: np.ndarray) -> np.ndarray:
    # Beyond 40 the density is 0, and the square may overflow.
    x = np.clip(x, -40.0, 40.0)
    return np.asarray(np.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi)))


def _gelu(x: np.ndarray, _: float) -> np.ndarray:
    return x * _normal_distribution(x)


def _gelu_slope(x: np.ndarray, _: float) -> np.ndarray:
    return _normal_distribution(x) + x * _normal_density(x)


#: GELU by tanh (Hendrycks and Gimpel): ``x sigmoid(GELU_RATE * (x + GELU_CUBE * x ** 3))``.
GELU_RATE = 2.0 * math.sqrt(2.0 / math.pi)
GELU_CUBE = 0.044715


def _gelu_argument(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The argument of the sigmoid in GELU by tanh, and its derivative."""
    x = np.clip(x, -1e3, 1e3)  # the sigmoid is 0 or 1 there, and the cube could overflow
    square = GELU_CUBE * x * x
    return GELU_RATE * x * (1.0 + square), GELU_RATE * (1.0 + 3.0 * square)


def _gelu_tanh(x: np.ndarray, _: float) -> np.ndarray:
    return x * sigmoid(_gelu_argument(x)[0])


def _gelu_tanh_slope(x: np.ndarray, _: float) -> np.ndarray:
    inner, rate = _gelu_argument(x)
    return sigmoid(inner) * (1.0 + np.clip(x, -1e3, 1e3) * rate * sigmoid(-inner))


def _mish(x: np.ndarray, _: float) -> np.ndarray:
    return x * np.tanh(softplus(x))


def _mish_slope(x: np.ndarray, _: float) -> np.ndarray:
    inner = softplus(x)
    return np.tanh(inner) + x * sigmoid(x) * _tanh_slope(inner, 1.0)


def _elu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _elu_slope(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x >= 0, 1.0, alpha * np.exp(np.minimum(x, 0.0)))


def _elu_left_slope(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.asarray(alpha * np.exp(np.minimum(x, 0.0)))


def _softsign(x: np.ndarray, _: float) -> np.ndarray:
    return np.asarray(x / (1.0 + abs(x)))


def _softsign_slope(x: np.ndarray, _: float) -> np.ndarray:
    return np.asarray((1.0 / (1.0 + abs(x))) ** 2)


def _arctan_slope(x: np.ndarray, _: float) -> np.ndarray:
    x = np.clip(x, -1e150, 1e150)
    return np.asarray(1.0 / (1.0 + x * x))


def _erf(x: np.ndarray, _: float) -> np.ndarray:
    from scipy.special import erf

    return np.asarray(erf(x))


def _erf_slope(x: np.ndarray, _: float) -> np.ndarray:
    x = np.clip(x, -30.0, 30.0)
    return np.asarray(np.exp(-x * x) * (2.0 / math.sqrt(math.pi)))


def _exp(x: np.ndarray, _: float) -> np.ndarray:
    return np.asarray(np.exp(x))


def _square(x: np.ndarray, _: float) -> np.ndarray:
    return np.asarray(x * x)


def _square_slope(x: np.ndarray, _: float) -> np.ndarray:
    return np.asarray(2.0 * x)


def _bounded_square(x: np.ndarray, alpha: float) -> np.ndarray:
    # The same as the square of what is within, and the tangent beyond.
    inside = np.clip(x, -alpha, alpha)
    return np.asarray(inside * (2.0 * x - inside))


def _bounded_square_slope(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.asarray(2.0 * np.clip(x, -alpha, alpha))


def _half(slope: np.ndarray, _: float) -> np.ndarray:
    return np.asarray(0.5 * slope)


def _half_or_end(slope: np.ndarray, alpha: float) -> np.ndarray:
    """Steeper slopes than the tangents' are nowhere: the next is infinitely far away."""
    return np.where(abs(slope) < 2.0 * alpha, 0.5 * slope, np.copysign(np.inf, slope))


# Where derivatives of S-shaped functions are, left of 0: solved for the argument.
def _share(slope: np.ndarray) -> np.ndarray:
    """A slope within 0 and 1, no negative zero."""
    return np.clip(slope, 0.0, 1.0) + 0.0


def _tanh_place(slope: np.ndarray) -> np.ndarray:
    s = _share(slope)
    return np.asarray(0.5 * np.log(s) - np.log1p(np.sqrt(1.0 - s)))


def _sigmoid_place(slope: np.ndarray) -> np.ndarray:
    return 2.0 * _tanh_place(4.0 * slope)


def _softsign_place(slope: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 - 1.0 / np.sqrt(_share(slope)))


def _arctan_place(slope: np.ndarray) -> np.ndarray:
    return np.asarray(-np.sqrt(1.0 / _share(slope) - 1.0))


def _erf_place(slope: np.ndarray) -> np.ndarray:
    return np.asarray(-np.sqrt(-np.log(_share(slope * (0.5 * math.sqrt(math.pi))))))


def _hard_swish(x: np.ndarray, _: float) -> np.ndarray:
    return np.asarray(x * (np.clip(x + 3.0, 0.0, 6.0) / 6.0))


def _hard_swish_middle(x: np.ndarray, _: float) -> np.ndarray:
    return np.asarray((2.0 * x + 3.0) / 6.0)


def _hard_swish_slope(x: np.ndarray, _: float) -> np.ndarray:
    middle = (2.0 * np.clip(x, -3.0, 3.0) + 3.0) / 6.0
    return np.where(x >= 3.0, 1.0, np.where(x < -3.0, 0.0, middle))


def _constant(value: float) -> Formula:
    return lambda x, _: np.full(np.shape(x), value)


# ------------------------------------------------------------------------ functions
def _parts(derivative: Formula, bends: str, *ends: float) -> tuple[Part, ...]:
    """Parts that bend as the signs say, and meet at the given points."""
    meaning = {"+": 1, "-": -1}
    edges = (-math.inf, *ends, math.inf)
    return tuple(
        Part(left, right, meaning[bend], derivative)
        for left, right, bend in zip(edges, edges[1:], bends)
    )


_SILU_BEND = 2.399357280515467667832739697282
_GELU_TANH_BEND = 1.418504008790828355548033545600
_MISH_BENDS = (-2.256376396360793120005748543950, 1.490571179485428459294418908198)


def _unary(function: Callable[[np.ndarray], np.ndarray]) -> Formula:
    return lambda x, _: function(x)


_SQUARE = SmoothFunction(
    "square",
    _square,
    _square_slope,
    _parts(_square_slope, "+"),
    0.0,
    turn=0.0,
    domain=(-LARGEST_ROOT, LARGEST_ROOT),
    at_slope=_half,
)

#: For arguments that are never beyond ``alpha``: the range over an interval that is too wide
#: grows as the interval does, not as its square, and so from step to step of a long horizon.
_BOUNDED_SQUARE = SmoothFunction(
    "bounded_square",
    _bounded_square,
    _bounded_square_slope,
    _parts(_bounded_square_slope, "+"),
    0.0,
    turn=0.0,
    has_parameter=True,
    at_slope=_half_or_end,
)


def _known() -> list[SmoothFunction]:
    logistic, slope = _unary(sigmoid), _unary(sigmoid_slope)
    arctan = _unary(np.arctan)
    straight = _constant(1.0), _constant(0.0)
    elu = (
        Part(-math.inf, 0.0, 1, _elu_left_slope),
        Part(0.0, math.inf, 0, straight[0]),
    )
    hard_swish = (
        Part(-math.inf, -3.0, 0, straight[1]),
        Part(-3.0, 3.0, 1, _hard_swish_middle),
        Part(3.0, math.inf, 0, straight[0]),
    )

    def waved(name: str, value: Formula, d: Formula, turn: float, *ends: float):  # type: ignore[no-untyped-def]
        """A function that falls to a minimum, and approaches 0 and ``x`` far away."""
        parts = _parts(d, "-+-", *ends)
        return SmoothFunction(name, value, d, parts, turn=turn, absolute=1.0)

    def shaped_like_s(name: str, value: Formula, d: Formula, place, least, most):  # type: ignore[no-untyped-def]
        parts = _parts(d, "+-", 0.0)
        return SmoothFunction(name, value, d, parts, least, most, left_of_center=place)

    inf = math.inf
    exponential = SmoothFunction(
        "exp", _exp, _exp, _parts(_exp, "+"), 0.0, domain=(-inf, LARGEST_EXPONENT)
    )
    return [
        shaped_like_s("sigmoid", logistic, slope, _sigmoid_place, 0.0, 1.0),
        shaped_like_s("tanh", _unary(np.tanh), _tanh_slope, _tanh_place, -1.0, 1.0),
        shaped_like_s("softsign", _softsign, _softsign_slope, _softsign_place, -1.0, 1.0),
        shaped_like_s("arctan", arctan, _arctan_slope, _arctan_place, -inf, inf),
        shaped_like_s("erf", _erf, _erf_slope, _erf_place, -1.0, 1.0),
        SmoothFunction("softplus", _unary(softplus), logistic, _parts(logistic, "+"), 0.0),
        exponential,
        _SQUARE,
        _BOUNDED_SQUARE,
        waved("silu", _silu, _silu_slope, -1.2784645427610738, -_SILU_BEND, _SILU_BEND),
        waved("gelu", _gelu, _gelu_slope, -0.7517915246935645, -(2.0**0.5), 2.0**0.5),
        waved(
            "gelu_tanh",
            _gelu_tanh,
            _gelu_tanh_slope,
            -0.7524614220710163,
            -_GELU_TANH_BEND,
            _GELU_TANH_BEND,
        ),
        waved("mish", _mish, _mish_slope, -1.1924312145154952, *_MISH_BENDS),
        SmoothFunction("elu", _elu, _elu_slope, elu, has_parameter=True),
        SmoothFunction(
            "hard_swish",
            _hard_swish,
            _hard_swish_slope,
            hard_swish,
            turn=-1.5,
            absolute=1.0,
        ),
    ]


#: All smooth functions by their names.
SMOOTH_FUNCTIONS: dict[str, SmoothFunction] = {f.name: f for f in _known()}


def smooth_function(name: str) -> SmoothFunction:
    """The smooth function of this name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in SMOOTH_FUNCTIONS:
        raise ValueError(
            f"there is no smooth function '{name}'; choose from {sorted(SMOOTH_FUNCTIONS)}."
        )
    return SMOOTH_FUNCTIONS[name]


def check_parameter(function: SmoothFunction, parameter: float) -> float:
    """The parameter as a float, or a ValueError if it is none that the function can have."""
    value = float(parameter)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"alpha={parameter} of '{function.name}' must be positive.")
    if not function.has_parameter and value != 1.0:
        raise ValueError(
            f"'{function.name}' has no parameter; alpha={parameter} was given."
        )
    return value
