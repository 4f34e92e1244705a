"""`import pyomo_relu` is quick and brings in no framework."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

FRAMEWORKS = [
    "tensorflow", "keras", "torch", "jax", "onnx", "onnxruntime", "sklearn", "pandas",
    "matplotlib", "highspy", "pyscipopt", "tqdm", "loky", "distributed", "scipy",
]  # fmt: skip


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
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


#: What only some models and scripts need: it is imported when it is first asked for.
NEEDED_LATER = [
    "adversarial", "analysis", "bounds.alpha_crown", "bounds.boxes", "bounds.ladder",
    "bounds.lp", "bounds.mip", "bounds.plane_regions", "cli", "differentiable",
    "heuristics", "presolve.model_bounds", "presolve.reading", "readers", "sides",
    "solvers.boxes_first", "solvers.global_search.strategy", "solvers.scip.search", "steps",
    "training", "verification",
]  # fmt: skip


def test_import_brings_in_what_every_model_needs_only():
    code = "import sys, json, pyomo_relu; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(python(code)))
    assert "pyomo_relu.block" in loaded
    known = {"pyomo_relu", *(".".join(["pyomo_relu", name]) for name in NEEDED_LATER)}
    for name in known:
        assert importlib.util.find_spec(name) is not None, name  # a renamed one is seen
    early = [n for n in NEEDED_LATER if f"pyomo_relu.{n}" in loaded]
    assert not early


def test_names_that_come_later_are_listed():
    code = """
import pyomo_relu, pyomo_relu.bounds
for package in (pyomo_relu, pyomo_relu.bounds):
    assert set(package.__all__) <= set(dir(package)), package
    for name in package.__all__:
        getattr(package, name)
    try:
        package.no_such_name
    except AttributeError as error:
        print(error)
"""
    assert "module 'pyomo_relu.bounds' has no attribute 'no_such_name'" in python(code)


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
