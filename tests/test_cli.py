"""``python -m pyomo_relu describe``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pyomo_relu
from pyomo_relu.cli import main
from pyomo_relu.cli.verify import onnx_reference
from pyomo_relu.network import NetworkBuilder, activations
from tests.paths import shared_data


@pytest.fixture
def saved(tmp_path):
    b = NetworkBuilder()
    x = b.input("x", (2,))
    # over [-1, 1]^2: in [-2, 2], in [0.5, 4.5] (stable), in [-3, -1] (stable)
    h = b.affine("h", [(x, [[1.0, -1.0], [1.0, 1.0], [1.0, 0.0]])], [0.0, 2.5, -2.0])
    r = b.piecewise("relu", h, activations.relu())
    net = b.build(
        [b.affine("y", [(r, [[1.0, 2.0, 3.0]])])],
        input_names=["bypass", "ratio"],
        output_names=["H2"],
    )
    path = tmp_path / "net.npz"
    net.save(path)
    return str(path)


def test_describe(saved, capsys):
    assert main(["describe", saved]) == 0
    text = capsys.readouterr().out
    assert "<Network: 2 inputs, 1 outputs, 3 layers, 3 neurons>" in text
    assert "inputs      2 (bypass, ratio)" in text and "outputs     1 (H2)" in text
    assert "weights     8 non-zero" in text
    assert "on the box" not in text


def test_stable_neurons_on_a_box(saved, capsys, tmp_path):
    assert main(["describe", saved, "--box", "-1", "1", "--bounds", "interval"]) == 0
    text = capsys.readouterr().out
    table = text.split("on the box", 1)[1].splitlines()
    row = next(line for line in table if line.startswith("relu"))
    assert row.split()[1:4] == ["3", "2", "1"]
    assert "by interval" in text
    box = tmp_path / "box.txt"
    box.write_text("# bypass, ratio\n0.5, 1\n\n-1 0\n")
    assert main(["describe", saved, "--box-file", str(box)]) == 0
    text = capsys.readouterr().out
    assert "all " in text and "H2: [" in text
    assert next(li for li in text.splitlines() if li.startswith("all")).split()[2] == "3"


def test_errors_are_one_line(saved, capsys, tmp_path):
    box = tmp_path / "box.txt"
    box.write_text("0 1\n")
    bad = tmp_path / "bad.txt"
    bad.write_text("0 one\n0 1\n")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe0 1\n")
    nan = tmp_path / "nan.txt"
    nan.write_text("0 nan\n0 1\n")
    for arguments, message in [
        (["describe", saved, "--box-file", str(binary)], "not a text file"),
        (["describe", saved, "--box-file", str(nan)], "line 1"),
        (["describe", saved, "--max-memory", "1e-9"], "max_memory="),
        (["describe", saved, "--max-memory", "0"], "max_memory"),
        (["describe", str(tmp_path / "absent.onnx")], "absent.onnx"),
        (["describe", saved, "--bounds", "interval"], "--box"),
        (["describe", saved, "--box", "0", "1", "--bounds", "nothing"], "nothing"),
        (["describe", saved, "--box", "1", "0"], "inverted"),
        (["describe", saved, "--box-file", str(box)], "bounds of 1 inputs"),
        (["describe", saved, "--box-file", str(bad)], "line 1"),
    ]:
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_unsupported_operators_are_listed(capsys):
    pytest.importorskip("onnx")
    path = shared_data("omlt_models/gemm.onnx")
    assert main(["describe", str(path)]) == 1
    assert "LogSoftmax" in capsys.readouterr().err
    assert main(["describe", str(path), "--logits"]) == 0
    assert "150" in capsys.readouterr().out


def test_module_entry(saved):
    command = [sys.executable, "-m", "pyomo_relu", "describe", saved]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "3 neurons" in done.stdout


def test_version():
    done = subprocess.run(
        [sys.executable, "-m", "pyomo_relu", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith(f"pyomo_relu {pyomo_relu.__version__} (Pyomo ")
    assert "highspy" in done.stdout and done.stdout.count("\n") == 1


def test_a_file_that_onnxruntime_does_not_know(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "n.onnx"
    path.write_bytes(b"no model")
    assert onnx_reference(str(path)) is None
    assert "onnxruntime can't run" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["describe"]])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and "usage" in capsys.readouterr().err
