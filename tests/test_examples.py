"""The examples find what they say, and save a picture; the README's lines run."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.paths import ROOT


def load(name: str):
    """Import an example without putting its folder on the path."""
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def assert_picture(path: Path) -> None:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(data) > 20_000


def check_reformer(found: dict[str, float]) -> None:
    assert abs(found["H2"] - 0.33255) < 0.01
    assert abs(found["bypass"] - 0.1) < 1e-6
    assert found["N2"] <= 0.34 + 1e-6
    assert -1e-7 <= found["H2"] - found["grid"] < 1e-4
    assert found["error"] < 1e-6
    assert found["keras_error"] < 1e-5


def test_reformer_with_the_trained_network(tmp_path):
    pytest.importorskip("keras")
    pytest.importorskip("matplotlib")
    check_reformer(load("reformer_design").main(["--load", "--output", str(tmp_path)]))
    assert_picture(tmp_path / "reformer_design.png")


@pytest.mark.slow
def test_reformer_trains(tmp_path):
    pytest.importorskip("keras")
    pytest.importorskip("matplotlib")
    check_reformer(load("reformer_design").main(["--output", str(tmp_path)]))


def test_reformer_data():
    pytest.importorskip("matplotlib")
    x, y, names = load("reformer_design").read_data()
    assert x.shape == (2800, 2)
    assert y.shape == (2800, 13)
    assert names.index("H2") == 9
    assert names.index("N2") == 11
    assert names[:2] == ["Steam Flow", "Reformer Duty"]


def test_peaks(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    found = load("peaks").main(["--width", "12", "--output", str(tmp_path)])
    assert found["error"] < 1e-6
    assert abs(found["lowest"] - found["vertex"]) < 1e-5
    assert found["lowest"] <= found["grid"] + 1e-6
    assert found["lowest"] <= found["local"] + 1e-6
    assert_picture(tmp_path / "peaks.png")


def test_storage_plant(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    found = load("storage_plant").main(["--gap", "0.02", "--output", str(tmp_path)])
    assert found["error"] < 1e-6
    assert found["cost"] < 0.9 * found["without_tank"]
    assert abs(found["simulated"] - found["cost"]) < 0.03 * found["cost"]
    assert_picture(tmp_path / "storage_plant.png")


def test_reactor_dae(tmp_path):
    pytest.importorskip("matplotlib")
    found = load("reactor_dae").main(["--elements", "10", "--output", str(tmp_path)])
    assert found["error"] < 1e-6
    assert 21.0 < found["planned"] < 24.0
    assert abs(found["simulated"] - found["planned"]) < 0.6
    assert_picture(tmp_path / "reactor_dae.png")


def test_gdp_choice(tmp_path):
    pytest.importorskip("matplotlib")
    found = load("gdp_choice").main(["--points", "3", "--output", str(tmp_path)])
    assert found["grades"] == ["synthesis gas", "hydrogen-rich gas", "fuel gas"]
    assert found["better_by_grid"] < 1e-6
    assert found["error"] < 1e-6
    assert_picture(tmp_path / "gdp_choice.png")


def test_the_saved_reformer_is_the_keras_model():
    pytest.importorskip("keras")
    from pyomo_relu import read_network

    data = ROOT / "examples" / "data"
    saved = read_network(data / "reformer_4x10.npz")
    x = [[0.1, 0.8], [0.35, 1.07], [0.8, 1.2]]
    again = read_network(data / "reformer_4x10.keras").evaluate(x)
    assert abs(saved.evaluate(x) - again).max() < 1e-9
    assert saved.output_names[9] == "H2"


def test_bounds_decide(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    found = load("bounds_decide").main(["--width", "7", "--output", str(tmp_path)])
    values = [f["value"] for f in found.values()]
    assert max(values) - min(values) < 1e-4
    relaxation = {name: f["relaxation"] for name, f in found.items()}
    assert relaxation["interval"] <= relaxation["crown"] + 1e-7
    assert relaxation["alpha_crown"] <= relaxation["lp, 3 rounds of cuts"] + 1e-7
    assert max(relaxation.values()) <= min(values) + 1e-6
    assert_picture(tmp_path / "bounds_decide.png")


def test_smooth_reactor(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    example = load("smooth_reactor")
    found = example.main(["--width", "4", "--accuracy", "1e-2", "--output", str(tmp_path)])
    for p, exact, curves in zip(example.PROBABILITIES, found["exact"], found["curves"]):
        assert exact["probability"] >= p - 1e-6 and curves["probability"] >= p
        assert exact["yield"] == pytest.approx(exact["promised"], abs=1e-8)
        assert curves["promised"] <= curves["yield"] + 1e-6
        assert curves["yield"] <= exact["yield"] * (1.0 + 1e-4)
    assert_picture(tmp_path / "smooth_reactor.png")


def test_binarized_design(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    found = load("binarized_design").main(
        ["--experiments", "16", "--seconds", "60", "--output", str(tmp_path)]
    )
    assert found["wrong"] <= 3
    assert found["score"] >= 0
    assert 1.0 < found["production"] < 5.5
    assert_picture(tmp_path / "binarized_design.png")


def test_plant_global(tmp_path):
    pytest.importorskip("matplotlib")
    found = load("plant_global").main(
        ["--units", "1", "--limit", "10", "--output", str(tmp_path)]
    )
    for f in found.values():
        assert f["profit"] <= f["proved"] + 1e-6
    assert found["relu_highs"]["profit"] <= found["relu_global"]["proved"] + 1e-6
    assert found["relu_global"]["profit"] <= found["relu_highs"]["proved"] + 1e-6
    assert found["relu_global"]["error"] < 1e-5
    assert_picture(tmp_path / "plant_global.png")


def test_oil_production(tmp_path):
    pytest.importorskip("matplotlib")
    example = load("oil_production")
    found = example.main(["--seconds", "0.5", "--limit", "0", "--output", str(tmp_path)])
    assert found["oil"] == pytest.approx(example.BEST, abs=2e-6)
    assert found["searched"] <= example.BEST + 1e-6
    assert found["error"] < 1e-8
    assert found["violation"] < 1e-8
    assert_picture(tmp_path / "oil_production.png")


def test_oil_production_draws_a_shut_well(tmp_path):
    pytest.importorskip("matplotlib")
    example = load("oil_production")
    m = example.production(formulation="auto")
    example.load(m, np.array(example.BEST_PRESSURES), np.array(example.BEST_ROUTES))
    for r in example.RISERS:
        m.open[0, r].value = 0
    example.draw(m, tmp_path / "shut.png")
    assert_picture(tmp_path / "shut.png")


def test_train_digits(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    found = load("train_digits").main(
        ["--images", "1", "--seconds", "2", "--output", str(tmp_path)]
    )
    assert found["pairs"] > 0.3  # a tenth by chance
    assert found["classes"] > 0.15
    assert_picture(tmp_path / "train_digits.png")


def test_every_example_is_tested():
    here = Path(__file__).resolve().parent
    tests = "".join(
        path.read_text(encoding="utf8") for path in sorted(here.rglob("test_*.py"))
    )
    for script in sorted((ROOT / "examples").glob("*.py")):
        assert (
            f'"{script.stem}"' in tests
            or f"/{script.name}" in tests
            or (f'"{script.name}"' in tests)
        ), f"no test runs {script.name}"


def readme_blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_readme_lines(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (code,) = readme_blocks("python")
    assert len(code.strip().splitlines()) <= 11
    exec(compile(code, "README.md", "exec"), {})
    hydrogen, bypass, ratio, error = map(float, capsys.readouterr().out.split())
    assert abs(hydrogen - 0.33255) < 0.01
    assert abs(bypass - 0.1) < 1e-6
    assert 0.8 < ratio < 1.2
    assert error < 1e-6


def test_readme_commands():
    """The continuous integration runs the second command, whatever it says."""
    first, second = (block.strip() for block in readme_blocks("bash"))
    assert first.endswith("examples/reformer_design.py")
    assert second.startswith("python3 -m venv .venv && .venv/bin/pip install")
    assert "[test]" in second
    assert "pytest" in second
    assert "\n" not in first + second


def test_readme_names_nothing_that_is_missing():
    from pyomo_relu.bounds import RUNGS
    from pyomo_relu.formulations import FORMULATIONS

    rows = (ROOT / "README.md").read_text(encoding="utf8").splitlines()
    for title, known in (("formulations", FORMULATIONS), ("bounds", RUNGS)):
        (row,) = [r for r in rows if r.startswith(f"| {title} |")]
        assert set(re.findall(r"`(\w+)`", row)) <= set(known), title


@pytest.mark.slow
def test_whole_study(monkeypatch, tmp_path, capsys):
    """A page of cells, without a main(): it runs from top to bottom."""
    pytest.importorskip("keras")
    plt = pytest.importorskip("matplotlib.pyplot")
    script = ROOT / "examples" / "whole_study.py"
    monkeypatch.setattr(sys, "argv", [script.name, "--output", str(tmp_path)])
    found = runpy.run_path(str(script), run_name="__main__")
    plt.close("all")
    first, last = found["rounds"][0], found["rounds"][-1]
    assert found["m"].reactor.error() < 1e-6
    gaps = [abs(r["promised"] - r["true"]) for r in (first, last)]
    assert gaps[1] < 0.5 * gaps[0]  # network and simulator have come together
    assert first["true"] < last["true"] <= found["BEST"] + 0.5
    assert last["waste"] <= found["PERMIT"] + 1e-6
    assert abs(last["true waste"] - found["PERMIT"]) < 0.5
    for number in range(1, 5):
        assert_picture(tmp_path / f"whole_study_{number}.png")


@pytest.mark.slow
def test_features_by_layer(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    found = load("features_by_layer").main(["--units", "1", "--output", str(tmp_path)])
    assert list(found) == [f"layer_{k}" for k in range(1, 5)]
    for row in found.values():
        # The box holds every digit, and the penalty only takes away.
        assert row["any"][0] >= row["digits"][0] - 1e-6
        assert row["any"][0] >= row["smooth"][0] - 1e-6
    assert_picture(tmp_path / "features_by_layer.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["adversarial_digit", "feature_visualization", "verify_controller"]
)
def test_applications(name, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    assert load(name).main(["--output", str(tmp_path)])
    assert_picture(tmp_path / f"{name}.png")


def test_prices_proved(tmp_path):
    for library in ("sklearn", "matplotlib", "pyscipopt"):
        pytest.importorskip(library)
    found = load("prices_proved").main(["--output", str(tmp_path)])
    assert found["error"] < 1e-6
    assert found["profit"] <= found["bound"] + 1e-6 <= found["profit"] * (1 + 2e-4) + 2e-6
    # A grid can't be better than what is proved, and is hardly worse.
    assert found["profit"] * 0.99 <= found["grid"] <= found["bound"] + 1e-6
    assert_picture(tmp_path / "prices_proved.png")
