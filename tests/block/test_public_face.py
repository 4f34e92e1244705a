"""Other rooms use the public face of a network block, nothing else of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pyomo_relu
from pyomo_relu.block.component import ReLUNetBlock, ScalarReLUNetBlock
from pyomo_relu.block.data import ReLUNetBlockData

PACKAGE = Path(pyomo_relu.__file__).parent


def private_names() -> set[str]:
    """The private names that the block's own classes define, not those of Pyomo."""
    held = vars(ScalarReLUNetBlock()).keys()
    own = {name for kind in (ReLUNetBlock, ReLUNetBlockData) for name in vars(kind)}
    pyomos = set().union(
        *(dir(k) for k in ReLUNetBlock.__mro__ if "pyomo." in k.__module__)
    )
    slots = {"_data", "_index", "_index_set", "_ctype", "_decl", "_dense", "_component"}
    slots.add("_parent")
    found = {n for n in (own | set(held)) - pyomos - slots if n.startswith("_")}
    return {n for n in found if not n.startswith("__")}


def reads(source: str, names: set[str]) -> list[str]:
    """Private attributes of blocks that a file reads of something other than itself.

    A name that the file gives to objects of its own (``self._bounds``) is not one of a
    block there.
    """
    accesses = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute)]
    of_self = {n.attr for n in accesses if getattr(n.value, "id", None) in ("self", "cls")}
    return [ast.unparse(n) for n in accesses if n.attr in names and n.attr not in of_self]


def test_no_room_reads_private_attributes_of_blocks():
    names = private_names()
    found = {
        path.relative_to(PACKAGE).as_posix(): bad
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "block"
        and (bad := reads(path.read_text("utf8"), names))
    }
    assert not found


@pytest.mark.parametrize(
    "name", ["_network", "_entries", "_outputs", "_given", "_formulations", "_is_scaled"]
)
def test_a_private_read_is_found(name):
    names = private_names()
    assert reads(f"def f(block):\n    return block.{name}\n", names) == [f"block.{name}"]
    assert not reads("def f(block):\n    return block.network, block.entries\n", names)
