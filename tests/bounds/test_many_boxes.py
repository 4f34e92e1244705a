"""Many boxes of one network at once: what each gets alone, and nothing of its neighbours."""

import numpy as np
import pytest

from pyomo_relu.bounds import RUNGS, bounds_over_boxes, compute_bounds, many_boxes
from pyomo_relu.bounds.bounds import Bounds
from tests.bounds.soundness import assert_contains_samples, random_case
from tests.harness.random_networks import he_network

METHODS = [
    None,
    "interval",
    "improved_interval",
    "crown",
    ("crown", {"rules": ["zero", "parallel"]}),
    ("boxes", {"count": 40}),
    ["interval", "crown", ("boxes", {"count": 9, "rules": ["adaptive", "one"]})],
]


def random_boxes(rng, n_inputs, count):
    """Boxes of different places and widths, some of them flat, one a point."""
    low = rng.normal(size=(count, n_inputs))
    high = low + rng.choice([1.0, 0.3, 1e-3, 0.0], size=(count, n_inputs))
    high[0] = low[0]
    return low, high


def assert_equal(a: Bounds, b: Bounds) -> None:
    """But for rounding: 1e-12 of what the node's entries can be."""
    assert a.method == b.method and a.details == b.details and a.scope == b.scope
    for x, y in zip((*a.lower, *a.upper), (*b.lower, *b.upper)):
        assert x.shape == y.shape
        size = np.abs(x).max(initial=1e-300)
        assert (np.abs(x - y) <= 1e-12 * size).all()


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_as_one_by_one_and_sound(method):
    for seed in range(4 if "boxes" in str(method) else 12):
        network, _, _ = random_case(seed, magnitudes=("plain",))
        rng = np.random.default_rng(seed)
        low, high = random_boxes(rng, network.n_inputs, 7)
        found = bounds_over_boxes(network, low, high, method)
        for k, bounds in enumerate(found):
            assert np.array_equal(bounds.input_box, (low[k], high[k]))
            assert_equal(compute_bounds(network, low[k], high[k], method), bounds)
            assert_contains_samples(bounds, rng, 50)


def test_extreme_weights_are_sound_together():
    for seed in range(30):
        network, _, _ = random_case(seed)
        rng = np.random.default_rng(seed)
        for bounds in bounds_over_boxes(network, *random_boxes(rng, network.n_inputs, 5)):
            assert_contains_samples(bounds, rng, 60)


def test_neighbours_do_not_matter():
    """A wide box among narrow ones makes none of these tighter, or the result would depend
    on which other blocks a model has."""
    network = he_network(1, [2, 12, 12, 1])
    low, high = np.full((4, 2), 0.4), np.full((4, 2), 0.5)
    low[3], high[3] = -2.0, 2.0
    for method in ("crown", ("boxes", {"count": 60})):
        alone = bounds_over_boxes(network, low[:2], high[:2], method)
        among = bounds_over_boxes(network, low, high, method)
        assert_equal(alone[0], among[0])
        assert among[3].statistics()["stable"] < alone[0].statistics()["stable"]


def test_more_boxes_than_a_batch_holds(monkeypatch):
    network = he_network(2, [2, 9, 9, 1])
    low, high = random_boxes(np.random.default_rng(0), 2, 11)
    methods = ("interval", "crown", ("boxes", {"count": 30}))
    whole = [bounds_over_boxes(network, low, high, m) for m in methods]
    monkeypatch.setattr(many_boxes, "SETTINGS", many_boxes.ManySettings(numbers=20))
    from pyomo_relu.bounds import box_covers, boxes

    few = box_covers.CoverSettings(numbers=2000, chunk=64)
    monkeypatch.setattr(box_covers, "SETTINGS", few)
    monkeypatch.setattr(boxes, "SETTINGS", few)
    for method, bounds in zip(methods, whole):
        for a, b in zip(bounds, bounds_over_boxes(network, low, high, method)):
            assert_equal(a, b)


def test_what_is_done_box_by_box(monkeypatch):
    """Programs, rungs of the user's, limits and executors; a single box, too."""
    network = he_network(0, [2, 5, 1])
    low, high = random_boxes(np.random.default_rng(0), 2, 3)
    calls = []
    real = many_boxes.compute_bounds
    monkeypatch.setattr(
        many_boxes, "compute_bounds", lambda *a: calls.append(a) or real(*a)
    )
    for method in ("lp", ("boxes", {"time_limit": 600, "count": 4}), ["crown", "lp"]):
        found = bounds_over_boxes(network, low, high, method)
        assert len(calls) == 3 and len(found) == 3
        calls.clear()
    bounds_over_boxes(network, low[:1], high[:1])
    assert len(calls) == 1
    calls.clear()
    bounds_over_boxes(network, low, high, ["crown", ("boxes", {"time_limit": None})])
    assert not calls
    monkeypatch.setitem(RUNGS, "crown", lambda *a, **k: RUNGS["interval"](*a))
    assert bounds_over_boxes(network, low, high, "crown")[0].method == "interval"
    assert len(calls) == 3


def test_wrong_methods_and_boxes_are_refused():
    network = he_network(0, [2, 5, 1])
    low, high = np.zeros((3, 2)), np.ones((3, 2))
    for method, error in (
        ("nothing", "no bounds 'nothing'"),
        (("crown", {"depth": 1}), "no option 'depth'"),
        (("crown", {"rules": ["steep"]}), "no slope rule 'steep'"),
        (("boxes", {"count": 0}), "count must be at least 1"),
    ):
        with pytest.raises(ValueError, match=error):
            bounds_over_boxes(network, low, high, method)
    low[1, 1] = 2.0
    with pytest.raises(ValueError, match="input 1 has inverted bounds"):
        bounds_over_boxes(network, low, high)
    assert bounds_over_boxes(network, low[:0], high[:0]) == []


def test_an_interrupt_keeps_what_is_proved(monkeypatch):
    network = he_network(0, [2, 5, 1])
    low, high = random_boxes(np.random.default_rng(0), 2, 3)

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    rung = many_boxes.BATCHES["boxes"][0]
    monkeypatch.setitem(many_boxes.BATCHES, "boxes", (rung, interrupted))
    found = bounds_over_boxes(network, low, high, ["crown", "boxes", "interval"])
    assert [b.method for b in found] == ["crown"] * 3
    assert all(b.details == {"interrupted": True, "keyboard": True} for b in found)
    with pytest.raises(KeyboardInterrupt):
        bounds_over_boxes(network, low, high, "boxes")
