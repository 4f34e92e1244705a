"""VNN-LIB files: the properties of the verification competition.

A file declares inputs ``X_0, X_1, ...`` and outputs ``Y_0, Y_1, ...`` and asserts what
a *counterexample* satisfies: linear inequalities joined by ``and`` and ``or``. It is
brought to disjunctive normal form; each disjunct has a box of inputs and a polyhedron
over outputs (and inputs, where a row isn't a bound). Disjuncts with one box are one
:class:`Case`.

Source: Demarchi et al., "VNN-LIB standard", 2023; the files of VNN-COMP 2021 to 2024.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyomo_relu.network.limits import memory_limit, need
from pyomo_relu.verification.normal_form import MOST_DISJUNCTS, normal_form
from pyomo_relu.verification.properties import Property, Unsafe
from pyomo_relu.verification.vnnlib_syntax import (
    Atom,
    Commands,
    VnnlibError,
    read_commands,
)

#: Bytes that a character of a file takes while it is read; measured on files of bounds.
CHARACTER = 20


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


def _sizes(variables: dict[str, int]) -> tuple[int, int]:
    """Numbers of inputs and outputs; each kind must be numbered from 0 on."""
    sizes = []
    for letter, what in (("X", "input"), ("Y", "output")):
        found = {int(n[2:]) for n in variables if n[0] == letter}
        if not found:
            raise VnnlibError(f"the file declares no {what} {letter}_0.")
        if max(found) >= len(found):
            missing = next(i for i in range(len(found)) if i not in found)
            raise VnnlibError(
                f"the {what}s are not numbered from 0 on: {letter}_{missing} is not "
                "declared."
            )
        sizes.append(len(found))
    return sizes[0], sizes[1]


def _property(commands: Commands, max_disjuncts: int) -> VnnlibProperty:
    """The cases of a file: its disjuncts by their boxes."""
    n, m = _sizes(commands.variables)
    always, clauses = normal_form(commands.asserted, max_disjuncts)
    base = _Box(n)
    rest = [a for a in always if not base.take(a)]
    groups: dict[tuple[bytes, ...], tuple[_Box, list[Unsafe]]] = {}
    for k, clause in enumerate(clauses):
        box, atoms = base, clause.atoms()
        if any(_on_inputs(a) for a in atoms):
            need(f"the boxes of {len(clauses)} disjuncts", passing=40 * n * len(groups))
            box = base.copy()
        rows = rest + [a for a in atoms if not box.take(a)]
        if any(a.const > 0 for a in rows if not a.terms) or box.empty():
            continue
        box.check()
        unsafe = _unsafe([a for a in rows if a.terms], n, m, f"disjunct {k}")
        groups.setdefault(box.key(base), (box, []))[1].append(unsafe)
    cases = [Case(b.lower, b.upper, Property(tuple(u))) for b, u in groups.values()]
    return VnnlibProperty(n, m, tuple(cases))


def _on_inputs(atom: Atom) -> bool:
    """Whether the atom is about a single input."""
    return len(atom.terms) == 1 and atom.terms[0][0][0] == "X"


class _Box:
    """Bounds of the inputs, collected from atoms."""

    def __init__(self, n: int) -> None:
        self.lower, self.upper = np.full(n, -np.inf), np.full(n, np.inf)

    def copy(self) -> _Box:
        other = _Box(0)
        other.lower, other.upper = self.lower.copy(), self.upper.copy()
        return other

    def take(self, atom: Atom) -> bool:
        """Whether the atom is a plain bound of one input; then it is applied.

        A bound with a coefficient other than 1 is applied rounded outwards, and stays a
        row as well.
        """
        if not _on_inputs(atom):
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

    def key(self, base: _Box) -> tuple[bytes, ...]:
        """What tells the box from others; nothing for one like ``base``."""
        if self is base:
            return ()
        found = self.lower.tobytes(), self.upper.tobytes()
        same = found == (base.lower.tobytes(), base.upper.tobytes())
        return () if same else found

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


def _unsafe(atoms: list[Atom], n: int, m: int, name: str) -> Unsafe:
    """The polyhedron of a disjunct; a disjunct without rows is the whole space."""
    mixed = any(v[0] == "X" for a in atoms for v, _ in a.terms)
    rows = max(len(atoms), 1)
    need(f"the rows of {name}", kept=8 * rows * (m + 1 + n * mixed))
    outputs, limit = np.zeros((rows, m)), np.zeros(rows)
    inputs = np.zeros((rows, n)) if mixed else None
    for row, atom in enumerate(atoms):
        limit[row] = -atom.const
        for variable, value in atom.terms:
            side = outputs if variable[0] == "Y" else inputs
            assert side is not None
            side[row, int(variable[2:])] = value
    return Unsafe(outputs, limit, inputs, name=name)


def parse_vnnlib(
    text: str, *, max_disjuncts: int = MOST_DISJUNCTS, max_memory: float | None = None
) -> VnnlibProperty:
    """Read a property from text; see :func:`read_vnnlib`."""
    with memory_limit("the property", max_memory):
        need("its text", passing=CHARACTER * len(text))
        return _property(read_commands(text), max_disjuncts)


def read_vnnlib(
    path: str | Path,
    *,
    max_disjuncts: int = MOST_DISJUNCTS,
    max_memory: float | None = None,
) -> VnnlibProperty:
    """Read a VNN-LIB file.

    Parameters
    ----------
    path : str or Path
        The file; ``.gz`` is unpacked.
    max_disjuncts : int
        How many sets the formula may have once each ``or`` in it is multiplied out. An
        ``and`` over ``k`` times ``or`` of two has 2 ** k of them, less those whose bounds
        of single variables contradict each other.
    max_memory : float, optional
        Bytes that reading may take;
        :data:`~pyomo_relu.network.limits.MOST_MEMORY` if left out.

    Raises
    ------
    VnnlibError
        With the line, for anything that isn't a linear property over declared inputs
        and outputs, or that leaves an input without bounds.
    ValueError
        If the file needs more memory.
    FileNotFoundError
    """
    path = Path(path)
    with memory_limit(f"'{path}'", max_memory):
        text = _text(path)
        try:
            return parse_vnnlib(text, max_disjuncts=max_disjuncts)
        except VnnlibError as e:
            raise VnnlibError(f"'{path}', {e}") from None


def _text(path: Path) -> str:
    """The text of a file, unpacked piece by piece."""
    parts, total = [], 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            while part := file.read(2**20):
                total += len(part)
                need("its text", passing=CHARACTER * total)
                parts.append(part)
        return b"".join(parts).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise VnnlibError(f"'{path}' is not a text file in UTF-8.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise VnnlibError(f"'{path}' is no gzip file, or it is damaged: {e}") from None
