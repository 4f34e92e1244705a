"""`import pyomo_relu` is quick and brings in no framework."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

FRAMEWORKS = [
    "tensorflow", "keras", "torch", "jax", "onnx", "onnxruntime", "sklearn", "pandas",
    "matplotlib", "highspy", "tqdm", "loky", "distributed", "scipy",
]  # fmt: skip


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_framework_at_import():
    # Pyomo itself may look for some; what counts is what the package adds.
    code = """
import sys, json
import pyomo.environ
before = set(sys.modules)
import pyomo_relu
tops = {name.split(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(tops)))
"""
    added = set(json.loads(python(code)))
    assert "pyomo_relu" in added
    assert not added & set(FRAMEWORKS)


@pytest.mark.parametrize(
    ("suffix", "module", "extra"),
    [(".keras", "keras", "keras"), (".onnx", "onnx", "onnx")],
)
def test_a_missing_framework_is_named(tmp_path, suffix, module, extra):
    path = tmp_path / f"network{suffix}"
    path.write_bytes(b"PK\x03\x04 not opened before the framework is found")
    code = f"""
import sys
sys.modules[{module!r}] = None
import pyomo_relu
try:
    pyomo_relu.read_network(sys.argv[1])
except ImportError as error:
    print(error)
"""
    assert f"pip install 'pyomo_relu[{extra}]'" in python(code, str(path))


def test_public_names_exist():
    import pyomo_relu

    assert sorted(pyomo_relu.__all__) == list(pyomo_relu.__all__)
    for name in pyomo_relu.__all__:
        assert getattr(pyomo_relu, name) is not None
