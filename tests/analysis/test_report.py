"""Stability, big-M and root gaps, and the report that shows them."""

from __future__ import annotations

import numpy as np
import pytest

from pyomo_relu.analysis import (
    compare_bounds,
    layer_bounds,
    linear_regions,
    report,
    root_gap,
)
from pyomo_relu.bounds import compute_bounds
from pyomo_relu.cli import main
from tests.harness.checks import solver_or_skip
from tests.harness.random_networks import he_network


def test_tighter_rungs_have_more_stable_neurons_and_smaller_constants():
    network = he_network(0, (3, 15, 15, 15, 1))
    rungs = compare_bounds(network, -0.2, 0.3, ["interval", "crown", "lp"])
    assert [r.method for r in rungs] == ["interval", "crown", "lp"]
    shares = [r.share for r in rungs]
    assert shares == sorted(shares) and 0 <= shares[0] < shares[-1] < 1
    widths = [[layer.width for layer in r.layers] for r in rungs]
    assert (np.diff(widths, axis=0) <= 1e-9).all()
    # Big-M constants grow with depth, more slowly with better bounds.
    assert rungs[0].growth > rungs[1].growth >= rungs[2].growth > 0.5
    assert rungs[0].growth > 1.5


def test_layer_bounds_are_those_of_the_neurons():
    network = he_network(1, (2, 6, 1))
    bounds = compute_bounds(network, -1.0, 1.0, "interval")
    (layer,) = layer_bounds(bounds)
    i = next(k for k, n in enumerate(network.nodes) if n.kind == "piecewise")
    source = network.nodes[i].source
    big_m = np.maximum(-bounds.lower[source], bounds.upper[source])[~bounds.stable(i)]
    assert layer.big_m == pytest.approx((big_m.min(), np.median(big_m), big_m.max()))
    assert layer.stable == bounds.stable(i).sum()


@pytest.mark.parametrize("sense", ["min", "max"])
def test_root_gap_against_the_exact_optimum(sense):
    solver_or_skip()
    network = he_network(2, (2, 10, 10, 2))
    exact = linear_regions(network, -1.0, 1.0).optimum(1, sense).value
    gaps = []
    for rung in ("interval", "lp"):
        found = root_gap(network, compute_bounds(network, -1.0, 1.0, rung), 1, sense)
        assert found.best == pytest.approx(exact, abs=1e-5) and found.solved
        assert (
            (found.root <= exact + 1e-6) if sense == "min" else (found.root >= exact - 1e-6)
        )
        gaps.append(found.gap)
    assert gaps[0] > gaps[1] > 0


def test_report_in_the_plane_and_its_files(tmp_path):
    pytest.importorskip("matplotlib")
    network = he_network(3, (2, 8, 8, 1))
    found = report(network, (-1.0, 1.0))
    text = str(found)
    assert f"in the box: {linear_regions(network, -1.0, 1.0).n_regions}" in text
    for word in ("interval", "crown", "lp", "big-M by layer", "relu_2", "root gap"):
        assert word in text
    paths = found.save(tmp_path / "out")
    assert [p.name for p in paths] == [
        "report.txt",
        "stability.png",
        "big_m.png",
        "regions.png",
    ]
    assert all(p.stat().st_size > 100 for p in paths)


def test_report_in_more_dimensions_counts_and_draws_a_plane():
    network = he_network(4, (4, 5, 4, 2))
    found = report(network, (-1.0, 1.0), rungs=["interval"], output=1, sense="max")
    assert found.count is not None and found.count.complete
    assert found.regions is not None and not found.whole
    assert found.regions.n_regions <= found.count.count <= found.max_regions
    assert "on a plane through its centre" in str(found)
    assert "max output 1" in str(found)


def test_report_without_search_and_regions():
    found = report(he_network(5, (30, 20, 1)), (0, 1), optimize=False, regions=False)
    assert not found.gaps and found.regions is None and "root" not in str(found)


def test_errors():
    network = he_network(0, (2, 3, 1))
    with pytest.raises(ValueError, match="no output 1"):
        report(network, (-1, 1), output=1)
    with pytest.raises(ValueError, match="no bounds 'crwn'"):
        report(network, (-1, 1), rungs=["crwn"])
    with pytest.raises(ValueError, match="'min' or 'max'"):
        root_gap(network, compute_bounds(network, -1, 1), 0, "least")


def test_command_line(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    he_network(6, (2, 5, 1)).save(tmp_path / "net.npz")
    arguments = ["report", str(tmp_path / "net.npz"), "--box", "-1", "1"]
    assert (
        main([*arguments, "--output", str(tmp_path / "out"), "--bounds", "interval"]) == 0
    )
    printed = capsys.readouterr().out
    assert "linear regions: at most" in printed and "saved" in printed
    assert (tmp_path / "out" / "regions.png").exists()
    assert main([*arguments, "--unit", "7"]) == 1
    assert "no output 7" in capsys.readouterr().err
