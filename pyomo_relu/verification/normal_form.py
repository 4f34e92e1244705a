"""Formulas in disjunctive normal form, without recursion and with a limit.

Nested junctions of one kind are flattened first; then ``and`` and ``or`` alternate, and
the clauses of each ``and`` are the products of those of its ``or``s. A product whose
bounds of single variables contradict each other is dropped at once: a conjunction of
``or``s over the same variable then stays as small as the pieces of its range.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nextafter

from pyomo_relu.verification.vnnlib_syntax import Atom, Formula, Junction, error_at

#: Disjuncts that a formula may expand to, where ``max_disjuncts=`` is left out: each is
#: a set that :func:`pyomo_relu.verification.verify` has to exclude.
MOST_DISJUNCTS = 100_000

#: Products that are tried in all for each disjunct that is allowed; one takes about two
#: microseconds, so the default gives up after a second or two.
_TRIED = 5

#: Ranges of a conjunction that are copied into each of its clauses, so that what stands
#: around it is compared with them too. More are left out, which only prunes less.
_COPIED = 50

Ranges = dict[str, tuple[float, float]]


class Clause:
    """A conjunction of atoms, shared with the clauses that it was made of.

    Attributes
    ----------
    ranges : dict
        (lower, upper) of the variables that an atom alone bounds, rounded outwards.
    """

    __slots__ = ("parts", "ranges")

    def __init__(self, parts: tuple, ranges: Ranges) -> None:
        self.parts, self.ranges = parts, ranges

    def atoms(self) -> list[Atom]:
        """Its atoms in the order of the formula."""
        found: list[Atom] = []
        stack: list = [self]
        while stack:
            part = stack.pop()
            if isinstance(part, Atom):
                found.append(part)
            else:
                stack.extend(reversed(part.parts))
        return found


def normal_form(
    asserted: Sequence[Formula], most: int = MOST_DISJUNCTS
) -> tuple[list[Atom], list[Clause]]:
    """The conjunction of formulas as atoms that always hold and a union of clauses.

    Parameters
    ----------
    most : int
        How many clauses there may be.

    Returns
    -------
    always : list of Atom
    clauses : list of Clause
        One empty clause where there is no ``or``; none where the formula is false.

    Raises
    ------
    VnnlibError
        If there are more than ``most`` clauses; it names the line and the keyword.
    ValueError
        If ``most`` is below 1.
    """
    if most < 1:
        raise ValueError(f"max_disjuncts={most} must be at least 1.")
    groups = _flattened(Junction("and", list(asserted), 0))
    expansion = _Expansion(most)
    clauses: list[list[Clause]] = [[] for _ in groups]
    # The junctions inside a junction come after it.
    for k in reversed(range(1, len(groups))):
        kind, items, line = groups[k]
        atoms, inner = _parted(items)
        if kind == "and":
            own = Clause(tuple(atoms), _ranges(atoms))
            clauses[k] = expansion.product(own, _taken(clauses, inner), line)
        else:
            for i in items:
                if isinstance(i, Atom):
                    clauses[k].append(Clause((i,), _ranges([i])))
                else:
                    clauses[k] += clauses[i]
            _taken(clauses, inner)
            expansion.check(len(clauses[k]), line)
    always, inner = _parted(groups[0][1])
    line = groups[inner[-1]][2] if inner else 0
    own = Clause((), _ranges(always))  # its atoms are returned, not repeated
    return always, expansion.product(own, _taken(clauses, inner), line)


def _parted(items: list[Atom | int]) -> tuple[list[Atom], list[int]]:
    """The atoms of a junction, and the numbers of the junctions inside."""
    atoms = [i for i in items if isinstance(i, Atom)]
    return atoms, [i for i in items if isinstance(i, int)]


def _taken(clauses: list[list[Clause]], numbers: list[int]) -> list[list[Clause]]:
    """Some lists of clauses, which are not needed in their places any more."""
    found = [clauses[k] for k in numbers]
    for k in numbers:
        clauses[k] = []
    return found


def _flattened(root: Junction) -> list[tuple[str, list[Atom | int], int]]:
    """Each junction's kind, items and line; an item of the other kind is its number."""
    groups: list[tuple[str, list[Atom | int], int]] = []
    waiting = [root]
    while len(groups) < len(waiting):
        junction = waiting[len(groups)]
        items: list[Atom | int] = []
        stack: list[Formula] = list(reversed(junction.items))
        while stack:
            item = stack.pop()
            while isinstance(item, Junction) and len(item.items) == 1:
                item = item.items[0]
            if isinstance(item, Atom):
                items.append(item)
            elif item.kind == junction.kind:
                stack.extend(reversed(item.items))
            else:
                items.append(len(waiting))
                waiting.append(item)
        groups.append((junction.kind, items, junction.line))
    return groups


class _Expansion:
    """Products of clauses, as many as ``most`` allows."""

    def __init__(self, most: int) -> None:
        self.most, self.left = most, _TRIED * most

    def check(self, count: int, line: int) -> None:
        """Refuse more clauses than there may be, or more products than may be tried."""
        if count > self.most or self.left < 0:
            raise error_at(
                line,
                f"the formula has more than {self.most} disjuncts, or takes too long to "
                "multiply out; split the property into files, or give read_vnnlib a larger "
                "max_disjuncts=.",
            )

    def product(
        self, own: Clause, factors: Sequence[list[Clause]], line: int
    ) -> list[Clause]:
        """The clauses of ``own and (a or b ...) and (c or d ...) ...`` that may hold."""
        copied = own.ranges if len(own.ranges) <= _COPIED or not factors else {}
        found = [Clause(own.parts, copied)]
        for factor in factors:
            self.left -= len(found) * len(factor)
            self.check(0, line)
            found = [
                _joined(a, b)
                for a in found
                for b in factor
                if _meet(own.ranges, b.ranges) and _meet(a.ranges, b.ranges)
            ]
            self.check(len(found), line)
        return found


def _joined(a: Clause, b: Clause) -> Clause:
    if not a.parts:
        return b
    small, large = sorted((a.ranges, b.ranges), key=len)
    ranges = large
    if small:
        ranges = dict(large)
        for name, (low, high) in small.items():
            other = ranges.get(name, (-inf, inf))
            ranges[name] = (max(low, other[0]), min(high, other[1]))
    return Clause((a, b), ranges)


def _meet(a: Ranges, b: Ranges) -> bool:
    """Whether no variable has two ranges without a common point."""
    if len(a) > len(b):
        a, b = b, a
    for name, (low, high) in a.items():
        other = b.get(name)
        if other is not None and (low > other[1] or other[0] > high):
            return False
    return True


def _ranges(atoms: Sequence[Atom]) -> Ranges:
    """What the atoms on one variable alone say about it, rounded outwards."""
    found: Ranges = {}
    for atom in atoms:
        if len(atom.terms) != 1:
            continue
        name, factor = atom.terms[0]
        low, high = found.get(name, (-inf, inf))
        bound = -atom.const / factor
        if factor > 0:
            found[name] = (low, min(high, nextafter(bound, inf)))
        else:
            found[name] = (max(low, nextafter(bound, -inf)), high)
    return found
