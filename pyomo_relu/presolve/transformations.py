"""The Pyomo transformations of this room: known by name from the start, loaded when applied."""

from __future__ import annotations

from typing import Any

from pyomo.core.base import Transformation, TransformationFactory


@TransformationFactory.register(
    "relu.table_rows", doc="Add the rows that tables of networks imply"
)
class TableRows(Transformation):
    """Add the rows that tables of networks imply.

    See :func:`pyomo_relu.presolve.table_rows.add_table_rows`.
    """

    def _apply_to(self, instance: Any, **kwds: Any) -> None:
        from pyomo_relu.presolve.table_rows import add_table_rows

        if kwds:
            raise ValueError(
                f"transformation 'relu.table_rows' has no option '{next(iter(kwds))}'; it "
                "takes none."
            )
        add_table_rows(instance)
