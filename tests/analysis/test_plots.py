"""Pictures of regions: what is drawn, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pyomo_relu.analysis import linear_regions, plot_regions
from tests.harness.random_networks import he_network, random_network

plt = pytest.importorskip("matplotlib.pyplot", reason="Matplotlib is not installed")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def test_plane(tmp_path):
    regions = linear_regions(he_network(0, [2, 8, 8, 2]), -1.0, [1.0, 2.0])
    ax = plot_regions(regions, 1, optimum="max")
    triangles, borders = ax.collections[:2]
    assert len(borders.get_paths()) == regions.n_regions
    x, y = regions.optimum(1, "max").point
    marked = ax.lines[0].get_xydata()[0]
    assert list(marked) == [x, y]
    assert ax.get_ylim() == (-1.0, 2.0)
    values = triangles.get_array()
    assert values.max() == pytest.approx(regions.optimum(1, "max").value)
    assert ax.get_title() == f"output 1: {regions.n_regions} linear regions"
    ax.figure.savefig(tmp_path / "plane.png")
    assert (tmp_path / "plane.png").stat().st_size > 10_000


def test_line():
    network = random_network(
        np.random.default_rng(0), n_inputs=1, widths=(6,), activations=["pwl_jump"]
    )
    regions = linear_regions(network, -2.0, 2.0)
    ax = plot_regions(regions, optimum="min")
    assert len(ax.collections[0].get_segments()) == regions.n_regions
    low, high = ax.get_ylim()
    values = regions.output_values()
    assert low < values.min() and values.max() < high


def test_into_given_axes():
    regions = linear_regions(he_network(0, [2, 4, 1]), -1.0, 1.0)
    figure, ax = plt.subplots()
    assert plot_regions(regions, ax=ax, edges=None, colorbar=False) is ax
    assert len(figure.axes) == 1
    assert len(ax.collections) == 1


def test_errors():
    network = he_network(0, [2, 4, 1])
    with pytest.raises(ValueError, match="no output 1; the network has 1"):
        plot_regions(linear_regions(network, -1.0, 1.0), 1)
    with pytest.raises(ValueError, match="single point"):
        plot_regions(linear_regions(network, 1.0, 1.0))


def test_matplotlib_is_only_imported_to_draw():
    code = "import sys, pyomo_relu.analysis as a; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_matplotlib(monkeypatch):
    regions = linear_regions(he_network(0, [2, 4, 1]), -1.0, 1.0)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'pyomo_relu\[plot\]'"):
        plot_regions(regions)
