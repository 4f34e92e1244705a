"""Nothing imports upwards, and no files import each other in a circle."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def rooms() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rooms", ROOT / ".ci" / "rooms.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_arrow_points_up(rooms):
    assert not rooms.arrows_up()


def test_no_circles_of_files(rooms):
    assert not rooms.circles()


def test_every_room_stands_on_a_floor(rooms):
    own = {p.name.removesuffix(".py") for p in rooms.ROOT.iterdir() if p.name != "py.typed"}
    own.discard("__pycache__")
    assert own == {name for floor in rooms.FLOORS for name in floor}


@pytest.mark.parametrize(
    "line",
    [
        "from pyomo_relu.solvers.highs import ReluHighs",
        "import pyomo_relu.cli",
        "def f():\n    from ..heuristics import start",
        "from .. import training",
    ],
)
def test_an_arrow_up_is_found(rooms, tmp_path, line):
    root = tmp_path / "pyomo_relu"
    for path in rooms.ROOT.rglob("*.py"):
        copy = root / path.relative_to(rooms.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text("utf8"), "utf8")
    file = root / "bounds" / "interval.py"
    file.write_text(file.read_text("utf8") + f"\n{line}\n", "utf8")
    new = set(rooms.arrows_up(root)) - set(rooms.arrows_up())
    assert len(new) == 1 and new.pop().startswith("pyomo_relu.bounds.interval imports")


def test_a_circle_is_found(rooms, tmp_path):
    root = tmp_path / "pyomo_relu"
    (root / "network").mkdir(parents=True)
    (root / "network" / "a.py").write_text("from pyomo_relu.network import b\n")
    (root / "network" / "b.py").write_text(
        "def f():\n    from pyomo_relu.network.a import x\n"
    )
    (root / "network" / "c.py").write_text("from pyomo_relu.network import a\n")
    assert rooms.circles(root) == [["pyomo_relu.network.a", "pyomo_relu.network.b"]]


def test_only_one_file_touches_highspy(rooms):
    pattern = re.compile(
        r"^\s*(import|from) highspy|import_module\(.highspy|LazyModule\(.highspy", re.M
    )
    found = {
        path.relative_to(rooms.ROOT).as_posix()
        for path in rooms.ROOT.rglob("*.py")
        if pattern.search(path.read_text("utf8"))
    }
    assert found <= {"programs/highs.py", "base/lazy.py"}


def test_few_files_touch_pyscipopt(rooms):
    """One writes programs, and those of SCIP's callbacks, which are its classes."""
    pattern = re.compile(r"^\s*(import|from) pyscipopt|LazyModule\(.pyscipopt", re.M)
    found = {
        path.relative_to(rooms.ROOT).as_posix()
        for path in rooms.ROOT.rglob("*.py")
        if pattern.search(path.read_text("utf8"))
    }
    names = ("handler", "implied", "joint", "points", "products", "watching")
    own = {f"solvers/scip/{name}.py" for name in names}
    assert found <= {"programs/scip.py", "base/lazy.py", *own}
