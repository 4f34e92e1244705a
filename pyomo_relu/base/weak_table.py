"""A table of what is in use elsewhere: an entry stays as long as somebody holds it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class WeakTable(Generic[T]):
    """Objects by what they were made from, so that equal ones are made once.

    The table holds none of them. A copy or pickle of it is empty.
    """

    def __init__(self) -> None:
        self._found: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()

    def get(self, key: Hashable) -> T | None:
        """The object that was made for a key; None where nobody has it any more."""
        return self._found.get(key)

    def put(self, key: Hashable, made: T) -> T:
        """Note an object, and return it."""
        self._found[key] = made
        return made

    def values(self) -> list[T]:
        """All objects that are in use."""
        return list(self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    def __deepcopy__(self, memo: dict[int, Any]) -> WeakTable[T]:
        return memo.setdefault(id(self), WeakTable())

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return WeakTable, ()
