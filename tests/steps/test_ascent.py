"""`Ascent` on a concave function: the value rises, and every ending has its name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pyomo_relu.base.deadline import Deadline, TimeUp
from pyomo_relu.steps.ascent import Ascent


@dataclass
class Fit:
    value: float


class Peak(Ascent[np.ndarray, Fit]):
    """Minus the squared distance from a peak; steps have the gradient's direction."""

    def __init__(self, peak=(3.0, -1.0), sign: float = 1.0, seconds: float = np.inf):
        self.peak, self.sign, self.seconds = np.array(peak), sign, seconds
        self.trained = 0

    def direction(self, point, fit):
        gradient = 2.0 * (self.peak - point)
        size = np.linalg.norm(gradient)
        return None if size < 1e-9 else self.sign * gradient / size

    def moved(self, point, direction, step):
        return point + step * direction

    def train(self, point, fit, deadline):
        self.trained += 1
        if self.trained > self.seconds:
            raise TimeUp
        return Fit(-float(((point - self.peak) ** 2).sum()))

    def entry(self, point, fit):
        return {"value": fit.value}


def climb(peak: Peak, start=(0.0, 0.0), iterations: int = 30, **options):
    point = np.array(start)
    fit = Fit(-float(((point - peak.peak) ** 2).sum()))
    options = {"step": 0.5, "deadline": Deadline(), **options}
    return peak.run(point, fit, iterations=iterations, **options)


def test_it_climbs():
    point, fit, history, status = climb(Peak())
    values = [h["value"] for h in history]
    assert (np.diff(values) > 1e-7).all() and values[-1] == fit.value > -1e-3
    assert np.abs(point - [3.0, -1.0]).max() < 0.03
    assert all(h["seconds"] >= 0 for h in history) and status in ("no ascent", "iterations")


def test_a_step_too_long_is_halved_and_grows_again():
    peak = Peak((1.0, 0.0))
    point, _, history, _ = climb(peak, iterations=1, step=8.0)
    assert point == pytest.approx([1.0, 0.0])  # 8, 4, 2: no rise; 1: the peak
    assert peak.trained == 4 and len(history) == 2


@pytest.mark.parametrize(
    ("peak", "options", "status", "entries"),
    [
        (Peak(), {"start": (3.0, -1.0)}, "gradient 0", 1),
        (Peak(sign=-1.0), {}, "no ascent", 1),
        (Peak(), {"iterations": 2}, "iterations", 3),
        (Peak(), {"iterations": 0}, "iterations", 1),
        (Peak(), {"callback": lambda entry: entry["value"] > -9.0}, "callback", 2),
        (Peak(), {"deadline": Deadline(0.0)}, "time limit", 1),
        (Peak(seconds=2), {}, "time limit", 3),
    ],
)
def test_endings(peak, options, status, entries):
    *_, history, found = climb(peak, **options)
    assert (found, len(history)) == (status, entries)
