"""What ``core.scale_model`` did to the inputs and outputs of a network block.

Pyomo's transformation keeps a variable and changes what it stands for: afterwards its
value and its bounds are those of the scaled quantity, and every constraint that it finds
is written over ``variable / factor``. The rows of a network stay right, but the network
itself reads the quantity, not the variable. So whoever compares inputs with a box, or
evaluates the network, asks here for the inputs in the network's own units.

The transformation leaves its factors in an attribute of the model that it was given. A
second scaling replaces that attribute, so a block keeps every such mapping that it has
met; those that were there before it was written don't count, since it was written over
the scaled variables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyomo.core.expr import replace_expressions
from pyomo.core.expr.visitor import identify_variables

#: The attribute in which ``core.scale_model`` leaves its factors.
FACTORS = "component_scaling_factor_map"


def scalings_of(block: Any) -> list[Any]:
    """The mappings from components to factors on a block and those that hold it."""
    found = []
    while block is not None:
        factors = block.__dict__.get(FACTORS)
        if factors is not None:
            found.append(factors)
        block = block.parent_block()
    return found


class Scalings:
    """The scalings of a model that a block was written before.

    Parameters
    ----------
    block : BlockData
        Just written.
    """

    def __init__(self, block: Any) -> None:
        self._before = tuple(scalings_of(block))
        self._met: list[Any] = []

    def remember(self, block: Any) -> None:
        """Keep the mappings of now, which a further scaling would replace."""
        self._met = self.since(block)

    def since(self, block: Any) -> list[Any]:
        """The mappings that have come since the block was written, each once."""
        found = list(self._met)
        for factors in scalings_of(block):
            if not any(factors is known for known in (*self._before, *found)):
                found.append(factors)
        return found

    def touch(self, block: Any, entries: Iterable[Any]) -> bool:
        """Whether a variable of these entries stands for something else than then."""
        if not self.since(block):
            return False
        return any(self.factor(block, v) != 1.0 for e in entries for v in _variables(e))

    def factor(self, block: Any, variable: Any) -> float:
        """What the variable stands for times this is its value."""
        total = 1.0
        for factors in self.since(block):
            if variable in factors:
                total *= float(factors[variable])
        return total

    def unscaled(self, block: Any, entries: Iterable[Any]) -> tuple[Any, ...]:
        """Variables, expressions and numbers in the units of before the scalings."""
        entries = tuple(entries)
        if not self.since(block):
            return entries
        return tuple(self._unscaled(block, e) for e in entries)

    def _unscaled(self, block: Any, entry: Any) -> Any:
        if isinstance(entry, float):
            return entry
        if entry.is_variable_type():
            factor = self.factor(block, entry)
            return entry if factor == 1.0 else entry / factor
        factors = {
            id(v): v / self.factor(block, v)
            for v in _variables(entry)
            if self.factor(block, v) != 1.0
        }
        return replace_expressions(entry, factors) if factors else entry


def _variables(entry: Any) -> Iterator[Any]:
    if isinstance(entry, float):
        return
    if entry.is_variable_type():
        yield entry
    else:
        yield from identify_variables(entry, include_fixed=True)
