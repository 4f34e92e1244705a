"""Bounds of a block over its present box, or of many blocks at once.

Blocks of one component that share a network are bounded in one batch; those that have the
same box share their bounds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.base.weak_table import WeakTable
from pyomo_relu.block.box import present_box
from pyomo_relu.bounds import Bounds
from pyomo_relu.network import Network
from pyomo_relu.presolve.model_scope import check_scope, is_stale, unchanged_models


def loaded(method: Any, network: Network) -> Any:
    """Bounds where a method is the path of a file that holds them."""
    if isinstance(method, Path) or (isinstance(method, str) and method.endswith(".npz")):
        return Bounds.load(method, network)
    return method


def covers(bounds: Bounds, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether bounds hold over a box."""
    old_low, old_high = bounds.input_box
    return bounds.scope != "box" or bool(
        (low >= old_low).all() and (high <= old_high).all()
    )


def find_bounds(blocks: Sequence[Any], network: Network, method: Any) -> list[Bounds]:
    """Bounds of a network over the box that each block has now.

    Parameters
    ----------
    blocks : sequence of ReLUNetBlockData
        Of one component.
    network : Network
        Which blocks have, or are about to have.
    method : optional
        As the user gives it: rungs, bounds or the path of a file.

    Raises
    ------
    ValueError
        If given bounds are of another network, or don't hold for a box or model, naming
        the block.
    """
    method = loaded(method, network)
    boxes = [present_box(block) for block in blocks]
    if isinstance(method, Bounds):
        with unchanged_models():
            for block, box in zip(blocks, boxes):
                check_given(block, network, method, box)
        return [method] * len(blocks)
    asked = network.fingerprint, repr(method)
    keys = [(*asked, low.tobytes(), high.tobytes()) for low, high in boxes]
    shared: WeakTable[Bounds] = blocks[0].parent_component()._shared_bounds
    found = {key: known for key in keys if (known := shared.get(key)) is not None}
    # A copy of a model or a pickle knows what its blocks had found, to the last digit.
    found |= {b._asked[0]: b._asked[1] for b in blocks if b._asked is not None}
    new = {key: box for key, box in zip(keys, boxes) if key not in found}
    if new:
        from pyomo_relu.bounds import bounds_over_boxes

        lower, upper = (np.array(side) for side in zip(*new.values()))
        for key, bounds in zip(new, bounds_over_boxes(network, lower, upper, method)):
            found[key] = shared.put(key, bounds)
    for block, key in zip(blocks, keys):
        block._asked = key, found[key]
    return [found[key] for key in keys]


def check_given(
    block: Any, network: Network, bounds: Bounds, box: tuple[np.ndarray, np.ndarray]
) -> None:
    """Raise a ValueError unless given bounds are of the network and hold over the box."""
    if bounds.network.fingerprint != network.fingerprint:
        raise ValueError(
            f"{block.name}: bounds= are of another network; compute them for this one."
        )
    check_scope(block, bounds)
    if not covers(bounds, *box):
        raise ValueError(
            f"{block.name}: bounds= hold for a smaller box than the inputs have; "
            "compute them for this box."
        )


def bounds_at_hand(blocks: Sequence[Any], networks: Sequence[Network]) -> list[Bounds]:
    """The bounds that blocks were tightened to or made with, where these still hold.

    After a box was widened, the model changed or the network was replaced they may not;
    then bounds are computed anew, by the block's method, for all such blocks together.

    Parameters
    ----------
    blocks : sequence of ReLUNetBlockData
        Of one component.
    networks : sequence of Network
        For each block the one that it has, or is about to have.
    """
    with unchanged_models():
        found = {k: _known(b, n) for k, (b, n) in enumerate(zip(blocks, networks))}
    groups: dict[Any, list[int]] = defaultdict(list)
    for k, (block, network) in enumerate(zip(blocks, networks)):
        if found[k] is None:
            groups[network.fingerprint, repr(_method(block))].append(k)
    for numbers in groups.values():
        some, first = [blocks[k] for k in numbers], numbers[0]
        new = find_bounds(some, networks[first], _method(blocks[first]))
        found.update(zip(numbers, new))
    return list(found.values())  # type: ignore[arg-type]  # none is left


def _method(block: Any) -> Any:
    """The method that a block was made with; None, the default, where it was given bounds."""
    method = block._bounds_method
    return None if isinstance(method, Bounds) else method


def _known(block: Any, network: Network) -> Bounds | None:
    """Bounds that were given, or tightened, and still hold."""
    given = [b for b in (block._tightened, block._bounds_method) if isinstance(b, Bounds)]
    if not given:
        return None
    low, high = present_box(block)
    for known in given:
        if (
            known.network.fingerprint == network.fingerprint
            and not is_stale(block, known)
            and covers(known, low, high)
        ):
            return known
    return None
