"""What a user calls on an indexed block: for all its indices, or for none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyomo_relu.block import writing
from pyomo_relu.block.statistics import IndexedStatistics
from pyomo_relu.block.writing import Prepared
from pyomo_relu.bounds import Bounds


class IndexedMethods:
    """Methods of :class:`ReLUNetBlock` where it has an index set.

    Every block is prepared before the first one changes, so a failure leaves all of them
    as they were. Blocks that are built later, by an index that is new or by a
    discretization, have the keywords that the component was made with, and the network
    that it has now.
    """

    def _blocks(self) -> dict[Any, Any]:
        return {index: data for index, data in self.items()}  # type: ignore[attr-defined]

    def statistics(self) -> IndexedStatistics:
        """Return sizes, bounds and times of all blocks and their sums; printable."""
        name = self.name  # type: ignore[attr-defined]
        found = {i: data.statistics() for i, data in self._blocks().items()}
        return IndexedStatistics(name, found)

    def error(self) -> float:
        """Return the largest error of the blocks that are active.

        See :meth:`ReLUNetBlockData.error`.
        """
        return max((d.error() for d in self._blocks().values() if d.active), default=0.0)

    def prepare(
        self, formulation: Any = None, *, bounds: Any = None, **options: Any
    ) -> dict[Any, Prepared]:
        """Write a formulation for each block without changing any; :meth:`install` takes it."""
        return {
            index: data.prepare(formulation, bounds=bounds, **options)
            for index, data in self._blocks().items()
        }

    def install(self, new: Mapping[Any, Prepared]) -> None:
        """Replace what the blocks hold by prepared formulations."""
        blocks = self._blocks()
        for index, prepared in new.items():
            blocks[index].install(prepared)

    def reformulate(
        self, formulation: Any = None, *, bounds: Any = None, **options: Any
    ) -> None:
        """Replace the formulation of every block; see :meth:`ReLUNetBlockData.reformulate`."""
        self.install(self.prepare(formulation, bounds=bounds, **options))
        if bounds is not None:
            for data in self._blocks().values():
                data.use_bounds(bounds)

    def tighten(self, method: Any = None, **options: Any) -> dict[Any, Bounds]:
        """Tighten the bounds of every block; see :meth:`ReLUNetBlockData.tighten`.

        Blocks with the same network, box and bounds are tightened once.

        Returns
        -------
        dict
            Bounds by index.
        """
        shared: dict = {}
        new = {
            index: writing.tightened(data, method, options, shared)
            for index, data in self._blocks().items()
        }
        self.install(new)
        return {index: prepared.bounds for index, prepared in new.items()}

    def replace_network(
        self,
        network: Any,
        *,
        formulation: Any = None,
        bounds: Any = None,
        **options: Any,
    ) -> None:
        """Embed other networks in the same blocks, between the same variables.

        Parameters
        ----------
        network
            One for all indices, or a mapping from every index to one.
        formulation, bounds, **options
            As in :meth:`ReLUNetBlockData.replace_network`.

        Raises
        ------
        ValueError
            If a network doesn't fit, or the mapping lacks an index or has another one;
            all blocks are as they were.
        """
        blocks = self._blocks()
        reader = self.take_reader_keywords(options)  # type: ignore[attr-defined]
        if isinstance(network, Mapping):
            self._check_indices(network, blocks)
        found = self.read(network, reader)  # type: ignore[attr-defined]
        each = found if isinstance(found, Mapping) else dict.fromkeys(blocks, found)
        prepared = {
            index: data.prepare_network(each[index], formulation, bounds, options)
            for index, data in blocks.items()
        }
        for index, (new, written) in prepared.items():
            blocks[index].install_network(new, written, bounds)
        self.use_network(found)  # type: ignore[attr-defined]

    def _check_indices(self, network: Mapping, blocks: dict[Any, Any]) -> None:
        where = self.name  # type: ignore[attr-defined]
        for index in blocks:
            if index not in network:
                raise ValueError(
                    f"{where}: the new networks lack index {index!r}; give one for each, or "
                    f"call replace_network on single blocks: {where}[...]."
                )
        for index in network:
            if index not in blocks:
                raise ValueError(f"{where}: there is no block {index!r} to replace.")
