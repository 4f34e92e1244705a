"""Writing a block: bounds, a formulation prepared aside, and its installation.

What can fail comes first and touches nothing; installing what was prepared can't. So a
swap of formulations, bounds or networks is all or nothing, in one block or in many.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.common.gc_manager import PauseGC
from pyomo.core.base.block import Block

from pyomo_relu.base.index_set import equal_sets_once
from pyomo_relu.block import disjuncts
from pyomo_relu.block.approximated import approximated, refuse_exact
from pyomo_relu.block.box import add_box_rows, present_box
from pyomo_relu.block.found_bounds import bounds_at_hand, find_bounds
from pyomo_relu.block.guard import guard_box
from pyomo_relu.block.output_bounds import bound_outputs
from pyomo_relu.block.point import input_values, set_layer_values
from pyomo_relu.block.retired import retire
from pyomo_relu.block.suffixes import forget
from pyomo_relu.block.written import WrittenRecord
from pyomo_relu.bounds import Bounds
from pyomo_relu.bounds.difference.network import true_network
from pyomo_relu.bounds.well_scaled import WellScaled, well_scaled
from pyomo_relu.formulations import Formulation, NetworkWriter, choose_formulations
from pyomo_relu.formulations.base import Wiring
from pyomo_relu.formulations.whole import what_to_write, whole_of, write_whole
from pyomo_relu.network import Network
from pyomo_relu.presolve.model_scope import is_stale


@dataclass
class Prepared:
    """A written formulation that is not yet part of the block."""

    container: Block
    bounds: Bounds
    of: Bounds
    well_scaled: WellScaled
    formulations: dict[int, Formulation]
    spec: Any
    options: dict[str, Any]
    seconds: float
    unread: np.ndarray
    network: Network
    tightened: Bounds | None = None

    @property
    def output_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the outputs: of the network, and of what is written of it."""
        whole = whole_of(self.formulations)
        known = [b.outputs for b in (self.bounds, self.of)]
        if whole is not None and whole.output_range is not None:
            known.append(whole.output_range)
        low, high = zip(*known)
        return np.max(low, axis=0), np.min(high, axis=0)


def prepare(
    block: Any,
    formulation: Any,
    bounds: Any = None,
    options: dict[str, Any] | None = None,
    network: Network | None = None,
    found: Bounds | None = None,
) -> Prepared:
    """Write a formulation without changing the block; :func:`install` takes it.

    Parameters
    ----------
    block : ReLUNetBlockData
    formulation, options
        None stands for the present ones.
    bounds : optional
        As the user gives them; None for those that the block has or was made with.
    network : Network, optional
        Another one than the block has.
    found : Bounds, optional
        What was found for ``bounds`` already, together with other blocks.
    """
    options = dict(options or {})
    if formulation is None:
        formulation, options = block._spec, {**block._options, **options}
        if formulation is None:
            raise ValueError(
                f"'{block.name}' has no formulation yet; name one, for example "
                "reformulate('bigm')."
            )
    begin = time.perf_counter()
    disjuncts.refuse_transformed(block)
    if block._is_scaled():
        raise ValueError(
            f"'{block.name}': core.scale_model has scaled its inputs or outputs, so the "
            "network can't be written over them; reformulate before the model is "
            "scaled, and scale anew."
        )
    network = approximated(block, block.network if network is None else network)
    refuse_exact(block, formulation, network)
    formulations = choose_formulations(network, formulation, options)
    if found is None:
        if bounds is None:
            (found,) = bounds_at_hand([block], [network])
        else:
            (found,) = find_bounds([block], network, bounds)
    inputs, outputs = list(block._entries), list(block._outputs)
    sets = block.parent_component()._index_sets
    with PauseGC(), equal_sets_once(sets):
        of, formulations = what_to_write(formulations, found, _wiring(block, inputs))
        whole = whole_of(formulations)
        if whole is not None:
            written = WellScaled(of)
            container, unread = write_whole(of, whole, inputs, outputs)
        else:
            written = well_scaled(of)
            writer = NetworkWriter(written, formulations, inputs, outputs)
            container = writer.write()
            unread = np.concatenate([~writer.needed[i] for i in of.network.inputs])
    disjuncts.refuse_unrelaxable(block, container)
    return Prepared(
        container,
        found,
        of,
        written,
        formulations,
        formulation,
        options,
        time.perf_counter() - begin,
        unread,
        network,
    )


def _wiring(block: Any, inputs: list[Any]) -> Wiring:
    """What a formulation may know of the model around a block."""
    return Wiring(
        inputs,
        sides=lambda: _needed_sides(block),
        values=lambda: _input_values(block),
        point=lambda: input_values(block),
    )


def _needed_sides(block: Any) -> tuple[str, ...]:
    """The sides of the outputs' graphs that the model around a block needs now."""
    from pyomo_relu.presolve.directions import needed_sides

    return needed_sides(block)


def _input_values(block: Any) -> dict[int, Any]:
    """What the inputs can be by the rows of the model around a block."""
    from pyomo_relu.presolve.input_values import input_values as by_the_model

    return by_the_model(block)


def install(block: Any, new: Prepared) -> None:
    """Replace what the block holds by a prepared formulation.

    Raises
    ------
    ValueError
        If it was prepared for another network than the block has now.
    """
    if true_network(new.network).fingerprint != block.true_network.fingerprint:
        raise ValueError(
            f"'{block.name}': what was prepared is of another network than the block has; "
            "prepare it anew."
        )
    with PauseGC(), equal_sets_once(block.parent_component()._index_sets):
        block._network = new.network
        retire(block.layer_variables)
        for name in ("layer", "input_box"):
            if block.component(name) is not None:
                forget(block, block.component(name))
                block.del_component(name)
        block.add_component("layer", new.container)
        add_box_rows(block, new.well_scaled)
        block._bounds, block._unread = new.bounds, new.unread
        block._well_scaled, block._written_of = new.well_scaled, new.of
        block._formulations = new.formulations
        block._spec, block._options = new.spec, dict(new.options)
        block._build_seconds = new.seconds
        if new.tightened is not None:
            block._tightened = new.tightened
        low, high = new.output_range
        bound_outputs(block._outputs, low, high)
        block._output_bounds = (low.tolist(), high.tolist())
        guard_box(block)
    point = input_values(block)
    if point is not None:
        set_layer_values(block, point)
    for formulation in dict.fromkeys(new.formulations.values()):
        formulation.finish(block)
    block._relaxable = disjuncts.enclosing_disjunct(block) is not None
    if block._relaxable:
        disjuncts.make_relaxable(block)
    block._written = WrittenRecord(block)


def tightened(block: Any, method: Any, options: dict[str, Any], shared: dict) -> Prepared:
    """The block's formulation, prepared with tighter bounds.

    Parameters
    ----------
    method, options
        As in :meth:`ReLUNetBlockData.tighten`.
    shared : dict
        Bounds found so far for the same network, box and start.
    """
    if block._spec is None:
        raise ValueError(
            f"'{block.name}' has no formulation to tighten; call reformulate() first, "
            "or give it bounds=."
        )
    disjuncts.refuse_transformed(block)
    network, (low, high) = approximated(block, block.network), present_box(block)
    (start,), known = bounds_at_hand([block], [network]), block._bounds
    same = network.fingerprint == known.network.fingerprint
    if known is not start and same and not is_stale(block, known):
        # The box may have shrunk since, and no rung promises to gain by that.
        old_low, old_high = known.input_box
        if (old_low <= low).all() and (high <= old_high).all():
            start = start.intersect(known)
    if method == "model":
        from pyomo_relu.presolve.model_bounds import model_bounds

        found = model_bounds(block, start, **options)
    else:
        if start.scope != "box":  # the model keeps the inputs in a smaller box
            low = np.maximum(low, start.input_box[0])
            high = np.minimum(high, start.input_box[1])
        key = (network.fingerprint, low.tobytes(), high.tobytes(), id(start))
        if key not in shared:  # with the start, which must live as long as its id is a key
            from pyomo_relu.bounds import compute_bounds

            bounds = compute_bounds(network, low, high, method or "lp", start, **options)
            shared[key] = (start, bounds)
        found = shared[key][1]
    new = prepare(block, block._spec, found, block._options, network)
    new.tightened = found
    return new
