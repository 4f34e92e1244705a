"""The networks of the study of penalties: functions, shapes, seeds, weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from plate import FUNCTIONS

#: Weights of each penalty in its sweep. The mean squared error is of outputs with a
#: standard deviation of 1; Tsay's of outputs between 0 and 1, hence his smaller weights
#: (1e-4 to 1e-2).
STRENGTHS: dict[str, Sequence[float]] = {
    "plain": (0.0,),
    "gap": (1e-3, 1e-2),
    "gap, CROWN": (1e-3, 1e-2),
    "gap + width": (3e-4, 3e-3),
    "gap + width, longer": (1e-3, 3e-3),
    "width": (3e-4, 3e-3),
    "width, CROWN": (3e-4, 3e-3),
    "unstable": (3e-3, 3e-2),
    "unstable, CROWN": (3e-3, 3e-2),
    "stability": (1e-4, 1e-3),
    "L1": (1e-5, 1e-4),
    "L2": (1e-5, 1e-4),
    "gap, held": (1e-3, 1e-2),
}

#: Networks of the usual study: function, depth, width, seeds, penalties (none for all).
FEW = ("plain", "gap", "width", "unstable, CROWN")
LARGE = ("plain", "gap", "gap, CROWN", "gap + width", "gap + width, longer")
USUAL: tuple[tuple[str, int, int, int, tuple[str, ...]], ...] = (
    ("peaks", 5, 25, 1, LARGE),
    ("peaks", 2, 25, 1, ()),
    ("himmelblau", 2, 25, 1, FEW),
    ("ackley", 2, 25, 1, FEW),
    ("peaks", 2, 25, 3, FEW),
)
#: Other depths and widths, which the usual study has with the plain training and the gap only.
SHAPES = (("peaks", 2, 10), ("peaks", 1, 25), ("peaks", 3, 25), ("peaks", 4, 25))
SHAPED = ("plain", "gap")

#: What else the full study has.
FULL_STRENGTHS = (0.1, 10.0)  # times the weights above
SEEDS, DEPTHS, WIDTHS = 3, (1, 2, 3, 4, 5), (10, 25, 50)


def cases() -> Iterator[tuple[str, int, int, int, str, float, bool]]:
    """Function, depth, width, seed, penalty, weight, and whether only the full study has it."""
    shapes = ((*shape, 1, SHAPED) for shape in SHAPES)
    usual = dict.fromkeys(
        (function, depth, width, draw, name, weight, False)
        for function, depth, width, draws, chosen in (*USUAL, *shapes)
        for draw in range(draws)
        for name in chosen or STRENGTHS
        for weight in STRENGTHS[name]
    )
    yield from usual
    for width, depth, draw, function in itertools.product(
        WIDTHS, DEPTHS, range(SEEDS), FUNCTIONS
    ):
        for name, weights in STRENGTHS.items():
            more = [float(f"{w * f:.3g}") for w in weights if w for f in FULL_STRENGTHS]
            for weight in dict.fromkeys([*weights, *more]):
                case = function, depth, width, draw, name, weight
                if (*case, False) not in usual:
                    yield (*case, True)
