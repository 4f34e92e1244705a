"""Figures of the package's code: lines, complexity, long functions, same lines.

``python .ci/figures.py`` prints them for this checkout, ``--root`` for another one, and
``--check`` ends with an error where a limit is broken. Cyclomatic complexity is counted
by radon (in the extra ``test``), same lines by pylint's ``symilar`` where it is installed.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from radon.complexity import cc_visit
from radon.visitors import Function

HERE = Path(__file__).resolve().parent.parent

#: No function has a cyclomatic complexity above this.
MOST_COMPLEX = 20
#: A complexity above this needs a reason; so many functions may have one.
COMPLEX, MOST_OF_THOSE = 15, 15
#: Lines of code of a function; its docstring, comments and empty lines don't count.
MOST_LINES = 60
#: Lines of a file, all of them.
MOST_LINES_OF_FILE = 500
#: Lines that two places must share to count as the same, comments and imports left out.
SHARED = 6

NOT_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(text: str) -> set[int]:
    """Numbers of the lines that hold code."""
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            found.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and ast.get_docstring(node, False) is not None:
                found -= set(range(first.lineno, (first.end_lineno or 0) + 1))
    return found


def functions(text: str) -> Iterator[tuple[str, int, int]]:
    """Each function with its first line and its number of lines of code."""
    code = code_lines(text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            yield node.name, node.lineno, len(code & set(lines))


def complexities(text: str) -> Iterator[tuple[str, int, int]]:
    """Each function with its first line and its cyclomatic complexity."""
    waiting = [block for block in cc_visit(text) if isinstance(block, Function)]
    while waiting:
        block = waiting.pop()
        yield block.name, block.lineno, block.complexity
        waiting += block.closures


def constants(text: str) -> int:
    """How many names of a module are numbers."""
    return sum(
        isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Constant)
        and type(node.value.value) in (int, float)
        for node in ast.parse(text).body
    )


def same_lines(files: list[Path]) -> str:
    """What ``symilar`` says in its last line."""
    if find_spec("pylint") is None:
        return "not counted: pylint is not installed"
    command = [sys.executable, "-m", "pylint.checkers.symilar", "-d", str(SHARED)]
    command += ["--ignore-comments", "--ignore-docstrings", "--ignore-imports"]
    done = subprocess.run(
        [*command, *map(str, files)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr.strip()


def main() -> int:
    """Print the figures; 1 where ``--check`` finds a limit broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=HERE)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    root = arguments.root / "pyomo_relu"
    files = sorted(root.rglob("*.py"))

    rooms: dict[str, Counter[str]] = defaultdict(Counter)
    broken: list[str] = []
    complex_ones: list[tuple[int, str]] = []
    numbers = 0
    for path in files:
        text = path.read_text("utf8")
        at = path.relative_to(root).as_posix()
        room = at.split("/")[0] if "/" in at else "(top)"
        rooms[room]["lines"] += text.count("\n")
        rooms[room]["code"] += len(code_lines(text))
        rooms[room]["files"] += 1
        numbers += constants(text)
        if text.count("\n") > MOST_LINES_OF_FILE:
            broken.append(f"{at} has {text.count(chr(10))} lines")
        complex_ones += [(c, f"{at}:{line} {name}") for name, line, c in complexities(text)]
        broken += [
            f"{at}:{line} {name} has {n} lines of code"
            for name, line, n in functions(text)
            if n > MOST_LINES
        ]
    complex_ones = sorted((c, name) for c, name in complex_ones if c > COMPLEX)[::-1]
    above = [one for one in complex_ones if one[0] > MOST_COMPLEX]
    broken += [f"{name} has a complexity of {c}" for c, name in above]
    if len(complex_ones) > MOST_OF_THOSE:
        broken.append(f"{len(complex_ones)} functions have a complexity above {COMPLEX}")

    print(f"{'room':16} {'files':>6} {'lines':>7} {'of code':>8}")
    for room, count in [*sorted(rooms.items()), ("all", sum(rooms.values(), Counter()))]:
        print(f"{room:16} {count['files']:6} {count['lines']:7} {count['code']:8}")
    print(f"functions of a complexity above {MOST_COMPLEX}: {len(above)}")
    print(f"functions of a complexity above {COMPLEX}: {len(complex_ones)}")
    for c, name in complex_ones:
        print(f"  {c:3} {name}")
    long = sum("lines of code" in one for one in broken)
    print(f"functions of more than {MOST_LINES} lines of code: {long}")
    print(f"names of modules that are numbers: {numbers}")
    if arguments.check:
        for line in broken:
            print("broken:", line)
        return bool(broken)
    print(f"same lines: {same_lines(files)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
