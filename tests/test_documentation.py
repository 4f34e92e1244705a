"""The guide: every error message is raised, its programs run, the API page is complete."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
from types import ModuleType

import numpy as np
import pyomo.environ as pyo
import pyomo.kernel as kernel
import pytest
from pyomo.gdp import Disjunct, Disjunction

from pyomo_relu import (
    NetworkBuilder,
    ReLUNetBlock,
    activations,
    compute_bounds,
    read_network,
)
from pyomo_relu.bounds import RUNGS
from pyomo_relu.formulations import FORMULATIONS
from tests.paths import ROOT

DOCS = ROOT / "docs"


def network(scale: float = 1.0):
    b = NetworkBuilder()
    x = b.input("x", (2,))
    hidden = b.affine("hidden", [(x, [[scale, -1.0], [2.0, 1.0]])], [0.0, -1.0])
    relu = b.piecewise("relu", hidden, activations.relu())
    return b.build([b.affine("sum", [(relu, [[1.0, 1.0]])])])


def block(bounds=(-1, 1), **keywords) -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=bounds)
    m.p = pyo.Param(initialize=1.0, mutable=True)
    given = {"network": network(), "inputs": m.x, **keywords}
    if callable(given["inputs"]):
        given["inputs"] = given["inputs"](m)
    m.net = ReLUNetBlock(**given)
    return m


def widened() -> None:
    m = block()
    m.x[0].setub(5.0)
    m.net.error()


def taken() -> None:
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1))

    def rule(b):
        b.outputs = pyo.Var()
        b.build(network(), m.x)

    m.net = ReLUNetBlock(rule=rule)


def of_keras(make, **options):
    keras = pytest.importorskip("keras")
    return read_network(make(keras), **options)


def own_call(keras):
    class Own(keras.Model):
        def call(self, x):
            return x if keras.ops.sum(x) >= 0 else -x

    model = Own()
    model(np.zeros((1, 3)))
    return model


def misread(keras):
    from pyomo_relu.readers.keras import register_keras_layer

    class Halve(keras.layers.Layer):
        def call(self, x):
            return x / 2

    @register_keras_layer(Halve)
    def double(layer, builder, sources, name):
        return builder.affine(name, [(sources[0], 2 * np.eye(3))])

    return keras.Sequential([keras.Input((3,)), Halve()])


def some_names() -> None:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(["a", "c"], bounds=(-1, 1))
    m.net = ReLUNetBlock(network=network(), input_names=["a", "b"], inputs=m.x)


def no_framework(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    path = tmp_path / "net.onnx"
    path.write_bytes(b"")
    read_network(path)


def torch_file(monkeypatch, tmp_path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"")
    read_network(path)


def folder(monkeypatch, tmp_path) -> None:
    (tmp_path / "saved_model.pb").touch()
    read_network(tmp_path)


def wrapped(module: str) -> None:
    read_network(type("Wrapped", (), {"__module__": module})())


def foreign_option() -> None:
    m = block()
    m.o = pyo.Objective(expr=m.net.outputs[0])
    pyo.SolverFactory("relu_global").solve(m, boxes=3)


def too_large(monkeypatch, tmp_path) -> None:
    network().save(tmp_path / "n.npz")
    read_network(tmp_path / "n.npz", max_memory=10)


def with_bounds(box: float, bounds) -> None:
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-box, box))
    m.net = ReLUNetBlock(network=network(), inputs=m.x, bounds=bounds)


def replaced() -> None:
    m = block()
    m.row = pyo.Constraint(expr=m.net.layer["relu"].on[0] <= 0)
    m.net.reformulate("hull")
    pyo.SolverFactory("relu_highs").solve(m)


def deleted() -> None:
    m = block()
    m.o = pyo.Objective(expr=m.net.outputs[0])
    held = m.net
    m.del_component(held)
    pyo.SolverFactory("relu_highs").solve(m)


def transformed(formulation="bigm") -> None:
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1))
    m.d = Disjunct([0, 1])
    m.d[0].net = ReLUNetBlock(network=network(), inputs=m.x, formulation=formulation)
    m.either = Disjunction(expr=[m.d[0], m.d[1]])
    pyo.TransformationFactory("gdp.bigm").apply_to(m)
    m.d[0].net.reformulate("hull")


def fixed() -> None:
    m = block()
    m.x[0].fix(3, skip_validation=True)
    m.net.error()


def other_size() -> None:
    b = NetworkBuilder()
    block().net.replace_network(b.build([b.input("x", (2,))]))


def other_names() -> None:
    block(output_names=["a"]).net.replace_network(network(), output_names=["b"])


def scaled() -> None:
    m = block()
    m.scaling_factor = pyo.Suffix()
    m.scaling_factor[m.x[0]] = 10.0
    pyo.TransformationFactory("core.scale_model").apply_to(m)
    m.net.reformulate("hull")


MESSAGES = {
    "has no finite lower bound": lambda: block(bounds=(None, 1)),
    "depends on the mutable Param": lambda: block(inputs=lambda m: [m.x[0], m.p]),
    "has inverted bounds": lambda: block(input_bounds=(3, 4)),
    "inputs, but inputs= gives": lambda: block(inputs=lambda m: [m.x[0]]),
    "give variables, expressions or numbers": lambda: block(inputs=["a", "b"]),
    "is meant by position": some_names,
    "of pyomo.kernel": lambda: block(inputs=lambda m: [kernel.variable(), m.x[0]]),
    "were widened from": widened,
    "outside of its bounds": fixed,
    "ReLUNetBlock has no keyword": lambda: block(partz=2),
    "give the network as network=": lambda: ReLUNetBlock(network()),
    "there is no formulation": lambda: block(formulation="bigM"),
    "which is no nonlinear layer": lambda: block(
        formulation={"relu": "bigm", "sum": "hull", "...": "bigm"}
    ),
    "has no formulation; name it": lambda: block(formulation={}),
    "has no entry": lambda: block().net.outputs["profit"],
    "already has a component": taken,
    "there are no bounds": lambda: with_bounds(1, "corwn"),
    "hold for a smaller box": lambda: with_bounds(2, compute_bounds(network(), -1, 1)),
    "are of another network": lambda: with_bounds(1, compute_bounds(network(3.0), -1, 1)),
    "pip install": no_framework,
    "is not built": lambda: of_keras(lambda k: k.Sequential([k.layers.Dense(2)])),
    "has its own call method": lambda: of_keras(own_call),
    "logits=True": lambda: of_keras(
        lambda k: k.Sequential([k.Input((3,)), k.layers.Dense(2, "softmax")])
    ),
    "is not what was read from it": lambda: of_keras(misread),
    "is a PyTorch file": torch_file,
    "is a SavedModel": folder,
    "a module of PyTorch's in skorch": lambda: wrapped("skorch.regressor"),
    "a model of Keras 2": lambda: wrapped("tf_keras.src.models"),
    "more than the": too_large,
    "has no option": foreign_option,
    "without a value": lambda: block().net.error(),
    "of a formulation that its network block no longer has": replaced,
    "which is not in the model any more": deleted,
    "of the new network": other_names,
    "another number needs another block": other_size,
    "is inside the Disjunct": lambda: transformed("sos1"),
    "was transformed by pyomo.gdp": transformed,
    "core.scale_model has scaled": scaled,
}


@pytest.mark.parametrize("part", MESSAGES)
def test_every_message_of_the_guide_is_raised(part, monkeypatch, tmp_path):
    provoke = MESSAGES[part]
    files = provoke in (no_framework, torch_file, folder, too_large)
    arguments = (monkeypatch, tmp_path) if files else ()
    with pytest.raises(
        (ValueError, TypeError, ImportError, RuntimeError, KeyError)
    ) as found:
        provoke(*arguments)
    assert part in str(found.value)


def test_the_guide_explains_these_messages_and_no_others():
    text = (DOCS / "guide" / "troubleshooting.rst").read_text(encoding="utf8")
    text = text[: text.index("No message, but")]
    headings = re.findall(r"^(.+)\n~~~+$", text, flags=re.MULTILINE)
    assert headings == list(MESSAGES)


@pytest.fixture
def registries():
    """Rungs, layers, operators and solvers as they were, afterwards."""
    from pyomo_relu.readers.keras.registration import LAYERS
    from pyomo_relu.readers.onnx.node import OPERATORS

    tables: tuple[dict, ...] = (RUNGS, LAYERS, OPERATORS)
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before):
        table.clear()
        table.update(old)
    if "started_highs" in pyo.SolverFactory:
        pyo.SolverFactory.unregister("started_highs")


def test_the_page_on_extending_runs(registries):
    keras = pytest.importorskip("keras")
    pytest.importorskip("onnx")
    text = (DOCS / "guide" / "extending.rst").read_text(encoding="utf8")
    scope: dict = {}
    for code in re.findall(r"code-block:: python\n\n((?:   .*\n|\n)+)", text):
        exec(textwrap.dedent(code), scope)
    net = read_network(scope["model"])
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    keras_says = keras.ops.convert_to_numpy(scope["model"](x))
    np.testing.assert_allclose(net.evaluate(x), keras_says, atol=1e-6)

    from tests.bounds.soundness import assert_contains_samples

    halves, crown = (compute_bounds(net, -1, 1, rung) for rung in ("halves", "crown"))
    assert_contains_samples(halves, np.random.default_rng(1), 2000)
    assert all((a >= b - 1e-12).all() for a, b in zip(halves.lower, crown.lower))
    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(3), bounds=(-1, 1))
    m.net = ReLUNetBlock(network=net, inputs=m.x, bounds="halves")
    m.o = pyo.Objective(expr=sum(m.net.outputs[i] for i in range(4)))
    pyo.SolverFactory("started_highs").solve(m)
    assert m.net.error() < 1e-6


PAGES = {path: path.read_text(encoding="utf8") for path in sorted(DOCS.rglob("*.rst"))}
PAGES |= {path: path.read_text(encoding="utf8") for path in sorted(DOCS.rglob("*.md"))}
PAGES = {
    path: text for path, text in PAGES.items() if not {"gallery", "_build"} & {*path.parts}
}
MATHEMATICS = "".join(t for path, t in PAGES.items() if path.parent.name == "mathematics")


def test_mathematics_and_guide_have_every_formulation_and_bound():
    for page, names in (("formulations", FORMULATIONS), ("bounds", RUNGS)):
        table = PAGES[DOCS / "guide" / f"{page}.rst"]
        for name in names:
            label = f"mathematics-{name}"
            assert f".. _{label}:" in MATHEMATICS
            assert f"   * - :ref:`{name} <{label}>`" in table
            assert f"images/{name}.png" in MATHEMATICS


def test_every_picture_of_the_mathematics_is_shown():
    shown = re.findall(r"images/(\w+\.png)", MATHEMATICS)
    assert sorted(shown) == sorted(
        path.name for path in (DOCS / "mathematics" / "images").glob("*.png")
    )


@pytest.mark.slow
def test_the_pictures_of_the_mathematics_can_be_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(DOCS))
    pictures = importlib.import_module("pictures")
    importlib.import_module("bound_pictures")
    importlib.import_module("search_pictures")
    pictures.draw(tmp_path)
    assert {f"images/{path.name}" for path in tmp_path.glob("*.png")} == set(
        re.findall(r"images/\w+\.png", MATHEMATICS)
    )


def rendered() -> list[tuple[str, object]]:
    """(page, object) for each docstring that a page shows, members of modules too."""
    directive = re.compile(r"^\.\. auto(\w+):: ([\w.]+)\n((?:   .*\n)*)", re.MULTILINE)
    found: list[tuple[str, object]] = []
    for path, text in PAGES.items():
        for kind, name, options in directive.findall(text):
            if kind != "module":
                module, _, last = name.rpartition(".")
                found.append((path.name, getattr(importlib.import_module(module), last)))
                continue
            thing = importlib.import_module(name)
            found.append((path.name, thing))
            found += [(path.name, getattr(thing, n)) for n in members(thing, options)]
    found += [("formulations.inc", thing) for thing in FORMULATIONS.values()]
    return found + [("rungs.inc", thing) for thing in RUNGS.values()]


def members(module: ModuleType, options: str) -> set[str]:
    """What the options of an ``automodule`` show of the module."""
    line = re.search(r"^   :members:(.*)$", options, flags=re.MULTILINE)
    if line is None:
        return set()
    own = [
        name
        for name, thing in vars(module).items()
        if getattr(thing, "__module__", None) == module.__name__ and thing.__doc__
    ]
    left_out = re.findall(r"\w+", options.partition(":exclude-members:")[2])
    return set(re.findall(r"\w+", line[1]) or getattr(module, "__all__", own)) - {*left_out}


def test_each_docstring_is_shown_once():
    pages: dict[int, list[str]] = {}
    shown = rendered()  # holds the objects, so that no number is given out twice
    for page, thing in shown:
        if not isinstance(thing, (int, float, str)):
            pages.setdefault(id(thing), []).append(page)
    twice = {str(t): pages[id(t)] for _, t in shown if len(pages.get(id(t), ())) > 1}
    assert not twice
    assert not [path for path, text in PAGES.items() if ":no-index:" in text]


def test_what_the_pages_import_is_public():
    imports = re.compile(
        r"^\W*from (pyomo_relu[\w.]*) import (\([^)]*\)|[\w, ]+)", re.MULTILINE
    )
    seen = 0
    for path in [*PAGES, ROOT / "README.md", *sorted((ROOT / "examples").glob("*.py"))]:
        for module, names in imports.findall(path.read_text(encoding="utf8")):
            package = importlib.import_module(module)
            assert hasattr(package, "__path__"), f"{path.name}: {module} is a private file"
            for name in re.findall(r"\w+", re.sub("#.*", "", names)):
                assert name in package.__all__, f"{path.name}: {module} exports no {name}"
                assert getattr(package, name) is not None
                seen += 1
    assert seen > 30


def test_tests_that_the_mathematics_names_exist():
    tests = "".join(
        p.read_text(encoding="utf8") for p in sorted((ROOT / "tests").rglob("test_*.py"))
    )
    for page in sorted((DOCS / "mathematics").glob("*.rst")):
        for name in re.findall(r"``(test_\w+)``", page.read_text(encoding="utf8")):
            assert f"def {name}(" in tests, f"{page.name}: {name}"


@pytest.mark.parametrize("page", ["docs/design.rst", "CONTRIBUTING.md"])
def test_files_and_rooms_of_the_design_exist(page):
    text = (ROOT / page).read_text(encoding="utf8")
    found = re.findall(r"(?<!:)`((?:\.?[\w-]+/)+[\w.-]*|\w+\.(?:py|md|rst))`", text)
    assert len(found) > 10
    for name in found:
        assert any((place / name).exists() for place in (ROOT, ROOT / "pyomo_relu")), name


def _defines(path: str) -> bool:
    """Whether a path is that of a module, or a module there has the next name of it."""
    parts = path.split(".")
    for k in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:k])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.is_file():
            text = file.read_text(encoding="utf8")
            return all(re.search(rf"\b{name}\b", text) for name in parts[k : k + 1])
    return False


def test_what_texts_refer_to_exists():
    """By its full path: short names are looked for by readers alone."""
    seen = 0
    for folder, suffix in (("pyomo_relu", "py"), ("docs", "rst"), ("docs", "md")):
        for page in sorted((ROOT / folder).rglob(f"*.{suffix}")):
            text = page.read_text(encoding="utf8")
            for path in re.findall(r":\w+:`~?(pyomo_relu[\w.]*)`", text):
                assert _defines(path), f"{page.relative_to(ROOT)}: {path}"
                seen += 1
            here = ".".join(page.relative_to(ROOT).parts[:-1])
            for path in re.findall(r":mod:`~?(\.\w[\w.]*)`", text):
                assert _defines(here + path), f"{page.relative_to(ROOT)}: {path}"
    assert seen > 100


def test_contributing_names_every_room():
    rooms = [path.parent.name for path in (ROOT / "pyomo_relu").glob("*/__init__.py")]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")
    table = "".join(re.findall(r"^\| `.+$", text, flags=re.MULTILINE))
    assert set(rooms) <= set(re.findall(r"`(\w+)`", table))


PACKAGES = [
    "",
    ".analysis",
    ".adversarial",
    ".bounds",
    ".differentiable",
    ".formulations",
    ".heuristics",
    ".network",
    ".readers",
    ".solvers",
    ".training",
    ".verification",
]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_api_is_complete(package):
    module = importlib.import_module(f"pyomo_relu{package}")
    shown = rendered()
    known = {id(thing) for _, thing in shown} | {id(FORMULATIONS), id(RUNGS)}
    missing = [n for n in module.__all__ if id(getattr(module, n)) not in known]
    assert set(missing) <= {"NetworkWriter"}, f"docs/api names none of {missing}"


def test_the_signature_of_the_block_has_every_keyword_and_each_is_documented():
    from pyomo_relu.block.component import _BLOCK_KEYWORDS, _READER_KEYWORDS

    shown = set(inspect.signature(ReLUNetBlock).parameters)
    taken = {"network", "inputs", "input_bounds", "formulation", "bounds"}
    taken |= {"accuracy", "margin"}
    of_blocks = {"rule", "name", "doc"}
    assert of_blocks <= _BLOCK_KEYWORDS
    assert shown == taken | of_blocks | _READER_KEYWORDS | {"indices", "options"}
    for name in shown:
        assert re.search(rf"^    [^:]*\b{name}\b", ReLUNetBlock.__doc__, flags=re.MULTILINE)


def test_no_class_of_the_pages_has_a_signature_of_unnamed_keywords():
    """Options that are declared elsewhere are shown by name."""
    signatures = pytest.importorskip("sphinx") and _docs_module("signatures")
    shown = {thing for page, thing in rendered() if inspect.isclass(thing)}
    seen = 0
    for thing in shown:
        if thing.__name__ == "Formulation" or issubclass(thing, Exception):
            continue
        text = str(inspect.signature(thing))
        found = signatures.of_options(None, "class", "", thing, None, text, "")
        text = text if found is None else found[0]
        assert "kwargs" not in text and "kwds" not in text and "keywords" not in text, thing
        seen += found is not None
    assert seen > 15


def _docs_module(name: str) -> ModuleType:
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS))
