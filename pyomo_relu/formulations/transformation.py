"""``relu.<name>``: reformulate every network block of a model, all of them or none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyomo.common.config import ConfigDict, ConfigValue
from pyomo.common.gc_manager import PauseGC
from pyomo.core.base import Transformation, TransformationFactory
from pyomo.core.util import target_list
from pyomo.environ import Block
from pyomo.gdp import Disjunct
from pyomo.gdp.util import is_child_of


def network_blocks(
    instance: Any, active: bool | None = True, *, in_disjuncts: bool = False
) -> Iterator[Any]:
    """Yield every network block in ``instance``, itself included.

    Parameters
    ----------
    instance : BlockData
    active : bool or None
        As Pyomo's: only active blocks, only inactive ones, or (None) both.
    in_disjuncts : bool
        Whether to look into Disjuncts, too, whose rows no solver sees before a ``gdp``
        transformation has copied them.
    """
    descend = (Block, Disjunct) if in_disjuncts else Block
    for block in instance.block_data_objects(active=active, descend_into=descend):
        if getattr(type(block), "is_network_block", False):
            yield block


def _targets(instance: Any, targets: Any) -> list[Any]:
    if targets is None:
        return list(network_blocks(instance, in_disjuncts=True))
    known: dict = {}
    found: dict[int, Any] = {}
    for target in targets:
        if not is_child_of(parent=instance, child=target, knownBlocks=known):
            raise ValueError(f"target '{target.name}' is not part of '{instance.name}'.")
        blocks: list[Any] = []
        for data in target.values() if target.is_indexed() else (target,):
            blocks += network_blocks(data, in_disjuncts=True)
        if not blocks:
            raise ValueError(f"target '{target.name}' holds no network block.")
        found.update((id(b), b) for b in blocks)
    return list(found.values())


def register_transformation(formulation: Any) -> None:
    """Register the Pyomo transformation ``relu.<name>`` of a formulation."""
    config = ConfigDict(f"relu.{formulation.name}")
    config.declare(
        "targets",
        ConfigValue(
            default=None,
            domain=target_list,
            description="network blocks, or blocks that hold some; all if left out",
        ),
    )
    for key in formulation.CONFIG.keys():
        config.declare(key, formulation.CONFIG.get(key)())

    class ReluTransformation(Transformation):
        CONFIG = config

        def _apply_to(self, instance: Any, **kwds: Any) -> None:
            options = {**(kwds.pop("options", None) or {}), **kwds}
            unknown = sorted(set(options) - set(config.keys()))
            if unknown:
                raise ValueError(
                    f"transformation 'relu.{formulation.name}' has no option "
                    f"'{unknown[0]}'; it takes {sorted(config.keys())}."
                )
            targets = options.pop("targets", None)
            blocks = _targets(instance, None if targets is None else target_list(targets))
            # Every block is written before the first one changes.
            with PauseGC():
                prepared = [(b, b.prepare(formulation.name, **options)) for b in blocks]
                for block, new in prepared:
                    block.install(new)

    ReluTransformation.__name__ = f"Relu{formulation.__name__}"
    ReluTransformation.__doc__ = formulation.__doc__
    TransformationFactory.register(
        f"relu.{formulation.name}",
        doc=(formulation.__doc__ or "").strip().split("\n")[0],
    )(ReluTransformation)
