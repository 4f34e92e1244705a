"""The rooms of the package and what each may use; a test and the documentation read it.

A room may use every room of a lower floor, and nothing else: neither its neighbours on
the same floor nor what lies above. ``python .ci/rooms.py`` prints the arrows there are.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "pyomo_relu"

#: Floors from the top; each room with what it is for.
FLOORS: list[dict[str, str]] = [
    {
        "__init__": "the public names",
        "__main__": "`python -m pyomo_relu`",
        "applications": "a former name of verification and adversarial",
    },
    {"cli": "the command line"},
    {
        "training": "networks trained by mixed-integer programs",
        "differentiable": "gradients through mixed-integer programs",
    },
    {"adversarial": "nearest adversarial inputs, feature visualization, pictures"},
    {
        "verification": "properties, verdicts, VNN-LIB; attack, bounds, boxes, sides, MIP",
    },
    {"analysis": "linear regions, stability, reports, plots"},
    {"solvers": "relu_highs, relu_global, relu_scip; one skeleton of `solve` for all"},
    {"block": "ReLUNetBlock: component, data, inputs, guard, statistics"},
    {"heuristics": "feasible points of a model from its networks"},
    {"presolve": "what a model says about its networks"},
    {"formulations": "one file for each way to write a layer; the registry"},
    {"sides": "bounds and branch and bound on the sides of neurons"},
    {"bounds": "interval, CROWN, alpha-CROWN, boxes, LP, rolling, MIP; the ladder"},
    {"steps": "networks of step neurons; the exact program of their largest margin"},
    {"readers": "one folder for each source: Keras, ONNX, PyTorch, scikit-learn"},
    {"programs": "linear programs as arrays, standard form; the doors to HiGHS and SCIP"},
    {"network": "what a network is: three primitives on flat vectors"},
    {"base": "deadlines, progress, versions, lazy imports, index sets, tables"},
]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Which modules each module imports, in functions too; those for types left out."""
    known = modules(root)
    found: dict[str, set[str]] = defaultdict(set)
    for name, path in known.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for target, names in _imported(ast.parse(path.read_text("utf8")), package):
            for one in names or [""]:
                whole = f"{target}.{one}"
                hit = whole if whole in known else target
                if hit in known and hit != name:
                    found[name].add(hit)
    return found


def _imported(tree: ast.AST, package: str) -> Iterator[tuple[str, list[str]]]:
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
        return
    if isinstance(tree, ast.Import):
        for alias in tree.names:
            yield alias.name, []
    elif isinstance(tree, ast.ImportFrom):
        base = package.split(".")
        base = base[: len(base) + 1 - tree.level] if tree.level else []
        target = ".".join([*base, *([tree.module] if tree.module else [])])
        yield target, [alias.name for alias in tree.names]
    for child in ast.iter_child_nodes(tree):
        yield from _imported(child, package)


def room(module: str) -> str:
    """The room of a module."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def arrows(root: Path = ROOT) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Imports from room to room, as pairs of modules."""
    found = defaultdict(list)
    for source, targets in sorted(imports(root).items()):
        for target in sorted(targets):
            if room(source) != room(target):
                found[room(source), room(target)].append((source, target))
    return found


def arrows_up(root: Path = ROOT) -> list[str]:
    """Imports that point up or to a neighbour on the same floor, one line each."""
    floor = {name: k for k, rooms in enumerate(FLOORS) for name in rooms}
    bad = []
    for (a, b), pairs in arrows(root).items():
        for one in (a, b):
            if one not in floor:
                raise ValueError(f"the room '{one}' stands on no floor of FLOORS.")
        if floor[b] <= floor[a]:
            bad += [f"{source} imports {target}" for source, target in pairs]
    return bad


def circles(root: Path = ROOT) -> list[list[str]]:
    """Groups of files that import each other in a circle (Tarjan's algorithm).

    A package's ``__init__`` that gathers names of its own files is no part of one.
    """
    graph = {
        source: [t for t in sorted(targets) if not source.startswith(f"{t}.")]
        for source, targets in imports(root).items()
    }
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in graph.get(node, []):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


if __name__ == "__main__":
    for (a, b), pairs in sorted(arrows().items()):
        print(f"{a} -> {b}: {len(pairs)}")
    for line in arrows_up():
        print("up:", line)
    for group in circles():
        print("circle:", ", ".join(group))
