"""VNN-LIB files: the properties of the verification competition.

A file declares inputs ``X_0, X_1, ...`` and outputs ``Y_0, Y_1, ...`` and asserts what
a *counterexample* satisfies: linear inequalities joined by ``and`` and ``or``. It is
brought to disjunctive normal form; each disjunct has a box of inputs and a polyhedron
over outputs (and inputs, where a row isn't a bound). Disjuncts with one box are one
:class:`Case`.

Source: Demarchi et al., "VNN-LIB standard", 2023; the files of VNN-COMP 2021 to 2024.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyomo_relu.applications.properties import Property, Unsafe

#: Disjuncts that a file may expand to.
MOST = 100_000

_TOKEN = re.compile(r"[()]|\|[^|]*\||\"[^\"]*\"|[^\s()|\"]+")
_NAME = re.compile(r"^([XY])_(\d+)$")
_IGNORED = {"set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"}


class VnnlibError(ValueError):
    """A property file that can't be read; the message has the line."""


@dataclass(frozen=True, eq=False)
class Case:
    """A box of inputs and what must not happen in it.

    Attributes
    ----------
    lower, upper : (n_inputs,) arrays
    property : Property
    """

    lower: np.ndarray
    upper: np.ndarray
    property: Property


@dataclass(frozen=True, eq=False)
class VnnlibProperty:
    """What a VNN-LIB file says.

    Attributes
    ----------
    n_inputs, n_outputs : int
    cases : tuple of Case
        A counterexample is one of any of them; empty where the file contradicts itself.
    """

    n_inputs: int
    n_outputs: int
    cases: tuple[Case, ...]


@dataclass
class _Word:
    text: str
    line: int


@dataclass
class _List:
    items: list
    line: int


def _error(line: int, message: str) -> VnnlibError:
    return VnnlibError(f"line {line}: {message}")


def _tokens(text: str) -> Iterator[_Word]:
    for number, line in enumerate(text.splitlines(), 1):
        for found in _TOKEN.finditer(line.split(";", 1)[0]):
            yield _Word(found.group(), number)


def _parse(text: str) -> list[_List]:
    """The commands of a file as nested lists."""
    top: list[_List] = []
    stack: list[_List] = []
    for word in _tokens(text):
        if word.text == "(":
            stack.append(_List([], word.line))
        elif word.text == ")":
            if not stack:
                raise _error(word.line, "a ')' closes nothing.")
            done = stack.pop()
            (stack[-1].items if stack else top).append(done)
        elif stack:
            stack[-1].items.append(word)
        else:
            raise _error(word.line, f"'{word.text}' stands outside of any command.")
    if stack:
        raise _error(stack[-1].line, "a '(' is never closed.")
    return top


@dataclass(frozen=True)
class _Atom:
    """``sum of coefficient * variable + const <= 0``."""

    terms: tuple[tuple[str, float], ...]
    const: float
    line: int


_Clause = tuple[_Atom, ...]


class _Reader:
    def __init__(self) -> None:
        self.variables: dict[str, int] = {}
        self.clauses: list[_Clause] = [()]
        self.always: list[_Atom] = []

    # ----------------------------------------------------------------------- commands
    def command(self, command: _List) -> None:
        head = command.items[0] if command.items else None
        if not isinstance(head, _Word):
            raise _error(command.line, "a command must begin with its name.")
        if head.text in ("declare-const", "declare-fun"):
            self._declare(command, head.text)
        elif head.text == "assert":
            if len(command.items) != 2:
                raise _error(command.line, "assert takes one formula.")
            found = self._formula(command.items[1])
            if len(found) == 1:
                self.always.extend(found[0])
            else:
                self._join(found, command.line)
        elif head.text not in _IGNORED:
            raise _error(
                command.line,
                f"the command '{head.text}' is not supported; a property has "
                "declare-const, declare-fun and assert.",
            )

    def _declare(self, command: _List, head: str) -> None:
        items = command.items[1:]
        if head == "declare-fun":
            if len(items) != 3 or not isinstance(items[1], _List) or items[1].items:
                raise _error(command.line, "write (declare-fun X_0 () Real).")
            items = [items[0], items[2]]
        if len(items) != 2 or not all(isinstance(i, _Word) for i in items):
            raise _error(command.line, f"write ({head} X_0 Real).")
        name, sort = items[0].text, items[1].text
        if sort != "Real":
            raise _error(command.line, f"'{name}' is a {sort}; only Real is supported.")
        if not _NAME.match(name):
            raise _error(
                command.line, f"'{name}' is neither an input X_i nor an output Y_i."
            )
        if name in self.variables:
            raise _error(command.line, f"'{name}' is declared twice.")
        self.variables[name] = command.line

    def _join(self, found: list[_Clause], line: int) -> None:
        if len(self.clauses) * len(found) > MOST:
            raise _error(line, f"the property has more than {MOST} disjuncts.")
        self.clauses = [a + b for a in self.clauses for b in found]

    # ----------------------------------------------------------------------- formulas
    def _formula(self, item) -> list[_Clause]:
        """Disjunctive normal form: a list of conjunctions; empty is false."""
        if isinstance(item, _Word):
            if item.text == "true":
                return [()]
            if item.text == "false":
                return []
            raise _error(item.line, f"'{item.text}' is no formula.")
        if not item.items or not isinstance(item.items[0], _Word):
            raise _error(item.line, "a formula must begin with an operator.")
        head, rest = item.items[0].text, item.items[1:]
        if head == "and":
            clauses: list[_Clause] = [()]
            for part in rest:
                found = self._formula(part)
                if len(clauses) * len(found) > MOST:
                    raise _error(item.line, f"more than {MOST} disjuncts.")
                clauses = [a + b for a in clauses for b in found]
            return clauses
        if head == "or":
            return [clause for part in rest for clause in self._formula(part)]
        if head in ("<=", ">=", "="):
            if len(rest) != 2:
                raise _error(item.line, f"'{head}' takes two terms, not {len(rest)}.")
            left, right = (self._term(r) for r in rest)
            less = self._atom(left, right, item.line)
            more = self._atom(right, left, item.line)
            return [{"<=": (less,), ">=": (more,), "=": (less, more)}[head]]
        if head in ("<", ">"):
            raise _error(item.line, f"'{head}' is strict; VNN-LIB has <= and >= only.")
        raise _error(
            item.line,
            f"the operator '{head}' is not supported; a formula is made of and, or, "
            "<=, >= and =.",
        )

    @staticmethod
    def _atom(left: dict[str, float], right: dict[str, float], line: int) -> _Atom:
        total = dict(left)
        for name, value in right.items():
            total[name] = total.get(name, 0.0) - value
        const = total.pop("", 0.0)
        terms = tuple((n, c) for n, c in sorted(total.items()) if c != 0)
        if not np.isfinite([const, *(c for _, c in terms)]).all():
            raise _error(line, "a number is too large for float64.")
        return _Atom(terms, const, line)

    def _term(self, item) -> dict[str, float]:
        """A linear expression: coefficients by name, the constant by ''."""
        if isinstance(item, _Word):
            if _NAME.match(item.text):
                if item.text not in self.variables:
                    raise _error(item.line, f"'{item.text}' is not declared.")
                return {item.text: 1.0}
            try:
                value = float(item.text)
            except ValueError:
                raise _error(
                    item.line, f"'{item.text}' is neither a number nor a variable."
                ) from None
            if not np.isfinite(value):
                raise _error(item.line, f"'{item.text}' is not a finite number.")
            return {"": value}
        if len(item.items) < 2 or not isinstance(item.items[0], _Word):
            raise _error(item.line, "a term is a number, a variable or (operator terms).")
        head, parts = item.items[0].text, [self._term(p) for p in item.items[1:]]
        if head == "+":
            return _sum(parts, [1.0] * len(parts))
        if head == "-":
            signs = [-1.0] if len(parts) == 1 else [1.0] + [-1.0] * (len(parts) - 1)
            return _sum(parts, signs)
        if head in ("*", "/"):
            return self._product(head, parts, item.line)
        raise _error(item.line, f"the operator '{head}' is not linear arithmetic.")

    @staticmethod
    def _product(head: str, parts: list[dict[str, float]], line: int) -> dict[str, float]:
        result = parts[0]
        for part in parts[1:]:
            numbers = set(part) <= {""}
            if head == "/":
                if not numbers or not part.get("", 0.0):
                    raise _error(line, "'/' needs a number other than 0 below.")
                result = {n: c / part[""] for n, c in result.items()}
            elif numbers:
                result = {n: c * part.get("", 0.0) for n, c in result.items()}
            elif set(result) <= {""}:
                factor = result.get("", 0.0)
                result = {n: c * factor for n, c in part.items()}
            else:
                raise _error(line, "a product of two variables is not linear.")
        return result

    # ------------------------------------------------------------------------- result
    def result(self) -> VnnlibProperty:
        sizes = {}
        for letter, what in (("X", "input"), ("Y", "output")):
            found = sorted(int(n[2:]) for n in self.variables if n[0] == letter)
            if found != list(range(len(found))):
                missing = next(i for i in range(len(found)) if i not in found)
                raise VnnlibError(
                    f"the {what}s are not numbered from 0 on: {letter}_{missing} is not "
                    "declared."
                )
            if not found:
                raise VnnlibError(f"the file declares no {what} {letter}_0.")
            sizes[letter] = len(found)
        n, m = sizes["X"], sizes["Y"]
        base = _Box(n)
        rest = [a for a in self.always if not base.take(a)]
        groups: dict[bytes, tuple[_Box, list[Unsafe]]] = {}
        for k, clause in enumerate(self.clauses):
            box = base.copy()
            rows = rest + [a for a in clause if not box.take(a)]
            constant = [a for a in rows if not a.terms]
            if any(a.const > 0 for a in constant) or box.empty():
                continue
            box.check()
            unsafe = _unsafe([a for a in rows if a.terms], n, m, f"disjunct {k}")
            key = box.lower.tobytes() + box.upper.tobytes()
            groups.setdefault(key, (box, []))[1].append(unsafe)
        cases = [Case(b.lower, b.upper, Property(tuple(u))) for b, u in groups.values()]
        return VnnlibProperty(n, m, tuple(cases))


class _Box:
    """Bounds of the inputs, collected from atoms."""

    def __init__(self, n: int) -> None:
        self.lower, self.upper = np.full(n, -np.inf), np.full(n, np.inf)

    def copy(self) -> _Box:
        other = _Box(0)
        other.lower, other.upper = self.lower.copy(), self.upper.copy()
        return other

    def take(self, atom: _Atom) -> bool:
        """Whether the atom is a plain bound of one input; then it is applied.

        A bound with a coefficient other than 1 is applied rounded outwards, and stays a
        row as well.
        """
        if len(atom.terms) != 1 or atom.terms[0][0][0] != "X":
            return False
        name, coefficient = atom.terms[0]
        i, bound = int(name[2:]), -atom.const / coefficient + 0.0  # no -0.0
        plain = abs(coefficient) == 1.0
        if coefficient > 0:
            bound = bound if plain else np.nextafter(bound, np.inf)
            self.upper[i] = min(self.upper[i], bound)
        else:
            bound = bound if plain else np.nextafter(bound, -np.inf)
            self.lower[i] = max(self.lower[i], bound)
        return plain

    def empty(self) -> bool:
        return bool((self.lower > self.upper).any())

    def check(self) -> None:
        for side, what in ((self.lower, "lower"), (self.upper, "upper")):
            bad = np.flatnonzero(~np.isfinite(side))
            if bad.size:
                raise VnnlibError(
                    f"X_{bad[0]} has no {what} bound in some disjunct; every input needs "
                    "both."
                )


def _sum(parts: list[dict[str, float]], signs: list[float]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part, sign in zip(parts, signs):
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + sign * value
    return total


def _unsafe(atoms: list[_Atom], n: int, m: int, name: str) -> Unsafe:
    """The polyhedron of a disjunct; a disjunct without rows is the whole space."""
    outputs, inputs = np.zeros((len(atoms), m)), np.zeros((len(atoms), n))
    limit = np.array([-a.const for a in atoms])
    for row, atom in enumerate(atoms):
        for variable, value in atom.terms:
            (inputs if variable[0] == "X" else outputs)[row, int(variable[2:])] = value
    if not atoms:
        outputs, limit, inputs = np.zeros((1, m)), np.zeros(1), np.zeros((1, n))
    return Unsafe(outputs, limit, inputs if inputs.any() else None, name=name)


def parse_vnnlib(text: str) -> VnnlibProperty:
    """Read a property from text; see :func:`read_vnnlib`."""
    reader = _Reader()
    for command in _parse(text):
        reader.command(command)
    return reader.result()


def read_vnnlib(path: str | Path) -> VnnlibProperty:
    """Read a VNN-LIB file.

    Parameters
    ----------
    path : str or Path
        The file; ``.gz`` is unpacked.

    Raises
    ------
    VnnlibError
        With the line, for anything that isn't a linear property over declared inputs
        and outputs, or that leaves an input without bounds.
    """
    path = Path(path)
    try:
        if path.suffix == ".gz":
            import gzip

            with gzip.open(path, "rt") as file:
                text = file.read()
        else:
            text = path.read_text()
    except UnicodeDecodeError:
        raise VnnlibError(f"'{path}' is not a text file.") from None
    try:
        return parse_vnnlib(text)
    except VnnlibError as e:
        raise VnnlibError(f"'{path}', {e}") from None
