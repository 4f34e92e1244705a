"""What a user calls on an indexed block: for all its indices, or for none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyomo.common.gc_manager import PauseGC

from pyomo_relu.block import writing
from pyomo_relu.block.approximated import approximated
from pyomo_relu.block.found_bounds import bounds_at_hand, find_bounds
from pyomo_relu.block.frames import outputs_frame
from pyomo_relu.block.printing import line_of_indexed, printing
from pyomo_relu.block.replacing import check_scalers
from pyomo_relu.block.statistics import IndexedStatistics
from pyomo_relu.block.writing import Prepared
from pyomo_relu.bounds import Bounds
from pyomo_relu.network import Network
from pyomo_relu.presolve.model_scope import unchanged_models


class IndexedMethods:
    """Methods of :class:`ReLUNetBlock` where it has an index set.

    Every block is prepared before the first one changes, so a failure leaves all of them
    as they were. Blocks that are built later, by an index that is new or by a
    discretization, have the keywords that the component was made with, and the network
    that it has now. Python's collector of garbage rests meanwhile: it would walk through all
    that is written once for every few blocks.
    """

    def _blocks(self) -> dict[Any, Any]:
        return {index: data for index, data in self.items()}  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return line_of_indexed(self)

    def pprint(
        self, ostream: Any = None, verbose: bool = False, prefix: str = "", **kwds: Any
    ) -> None:
        """Print what the blocks are, their inputs and outputs; all with ``verbose``."""
        with printing(verbose):
            super().pprint(ostream, verbose, prefix, **kwds)  # type: ignore[misc]

    def statistics(self) -> IndexedStatistics:
        """Return sizes, bounds and times of all blocks and their sums; printable."""
        name = self.name  # type: ignore[attr-defined]
        found = {i: data.statistics() for i, data in self._blocks().items()}
        return IndexedStatistics(name, found)

    def error(self) -> float:
        """Return the largest error of the blocks that are active.

        See :meth:`ReLUNetBlockData.error`.
        """
        with unchanged_models():
            errors = [d.error() for d in self._blocks().values() if d.active]
        return max(errors, default=0.0)

    def outputs_to_pandas(self, values: bool = False) -> Any:
        """Return the outputs as a pandas DataFrame, a row for each index.

        See :meth:`ReLUNetBlockData.outputs_to_pandas`.
        """
        return outputs_frame(self._blocks(), values)

    def prepare(
        self, formulation: Any = None, *, bounds: Any = None, **options: Any
    ) -> dict[Any, Prepared]:
        """Write a formulation for each block without changing any; :meth:`install` takes it."""
        blocks = self._blocks()
        networks = {i: approximated(b, b.network) for i, b in blocks.items()}
        found = _bounds_of(blocks, networks, bounds)
        with PauseGC(), unchanged_models():
            return {
                i: writing.prepare(data, formulation, bounds, options, found=found[i])
                for i, data in blocks.items()
            }

    def install(self, new: Mapping[Any, Prepared]) -> None:
        """Replace what the blocks hold by prepared formulations."""
        blocks = self._blocks()
        with PauseGC():
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
        with PauseGC():
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
        check_scalers(self, self.scalers, reader)  # type: ignore[attr-defined]
        if isinstance(network, Mapping):
            self._check_indices(network, blocks)
        found = self.read(network, reader)  # type: ignore[attr-defined]
        each = found if isinstance(found, Mapping) else dict.fromkeys(blocks, found)
        fitting = {index: data.fitting(each[index]) for index, data in blocks.items()}
        bounds_of = _bounds_of(blocks, fitting, bounds)
        with PauseGC():
            prepared = {
                index: data.prepare_network(
                    fitting[index], formulation, bounds, options, bounds_of[index]
                )
                for index, data in blocks.items()
            }
            for index, (new, written) in prepared.items():
                blocks[index].install_network(new, written, bounds)
        self.use_network(found, reader)  # type: ignore[attr-defined]

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


def _bounds_of(
    blocks: Mapping[Any, Any], networks: Mapping[Any, Network], method: Any
) -> dict[Any, Bounds]:
    """Bounds of all blocks, in one batch for each network that several have.

    Parameters
    ----------
    networks : mapping
        By index the network that a block has, or is about to have.
    method
        As the user gives it; None for the bounds that blocks have, or were made with.
    """
    if method is None:
        found = bounds_at_hand(list(blocks.values()), [networks[i] for i in blocks])
        return dict(zip(blocks, found))
    together: dict[str, list[Any]] = {}
    for index in blocks:
        together.setdefault(networks[index].fingerprint, []).append(index)
    result: dict[Any, Bounds] = {}
    for some in together.values():
        found = find_bounds([blocks[i] for i in some], networks[some[0]], method)
        result.update(zip(some, found))
    return result
