"""`ReLUNetBlockData`: one network in a model, what the user calls on the block."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.common.gc_manager import PauseGC
from pyomo.core.base.block import Block, BlockData
from pyomo.environ import Expression, Var, value

from pyomo_relu.block import inputs as _inputs
from pyomo_relu.block.guard import guard_box
from pyomo_relu.block.scaling import Scalings
from pyomo_relu.block.statistics import BlockStatistics, block_statistics
from pyomo_relu.block.written import Change, Record
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.bounds.well_scaled import WellScaled, well_scaled
from pyomo_relu.formulations import Formulation, NetworkWriter, choose_formulations
from pyomo_relu.formulations.layer_values import LayerValues
from pyomo_relu.formulations.values import add_rows, link_coefficient
from pyomo_relu.model_bounds import check_scope, is_stale, model_bounds
from pyomo_relu.network import Network

logger = logging.getLogger(__name__)

#: Of a bound: the rounding of products with scaling factors and quotients by them, and
#: what bounds of expressions are widened by.
SCALED = 64 * np.finfo(float).eps


@dataclass
class Prepared:
    """A written formulation that is not yet part of the block."""

    container: Block
    bounds: Bounds
    well_scaled: WellScaled
    formulations: dict[int, Formulation]
    spec: Any
    options: dict[str, Any]
    seconds: float


class ReLUNetBlockData(BlockData):
    """One network in a model: its inputs, its outputs, and the constraints between.

    Attributes
    ----------
    inputs : NetworkInputs, Expression or Var
        The inputs, by position and, if the network has names, by name.
    outputs : Var
        The outputs, likewise.
    layer : Block
        What the formulation wrote, by layer name; none before one is chosen.
    """

    is_network_block = True

    def __init__(self, component) -> None:
        super().__init__(component)
        self._network: Network | None = None
        self._entries: tuple[Any, ...] = ()
        self._given: tuple[np.ndarray, np.ndarray] | None = None
        self._bounds_method: Any = None
        self._bounds: Bounds | None = None
        self._well_scaled: WellScaled | None = None
        self._formulations: dict[int, Formulation] | None = None
        self._spec: Any = None
        self._options: dict[str, Any] = {}
        self._output_bounds: tuple[list[float], list[float]] | None = None
        self._build_seconds = 0.0
        self._written: Record | None = None
        self._scalings: Scalings | None = None
        self._outputs: tuple[Any, ...] = ()

    # -------------------------------------------------------------------- building
    def build(
        self,
        network: Network,
        inputs: Any = None,
        input_bounds: Any = None,
        formulation: Any = "bigm",
        bounds: Any = None,
        **options: Any,
    ) -> None:
        """Make inputs and outputs, and write the formulation.

        Called by the component with its keywords; see :class:`ReLUNetBlock`.
        """
        where = self.name
        if self._network is not None:
            raise ValueError(f"{where}: the block has its network; use reformulate().")
        for name in ("inputs", "outputs", "layer", "input_box"):
            if self.component(name) is not None:
                raise ValueError(
                    f"{where}: the block already has a component '{name}', a name that "
                    "the network needs; call yours something else."
                )
        given = _inputs.given_box(input_bounds, network, where)
        names = network.input_names or tuple(map(str, range(network.n_inputs)))
        entries: list[Any] | None = None
        if inputs is None:
            _inputs.check_input_box(None, names, *given, where)
        else:
            entries = _inputs.read_inputs(inputs, network, where)
        self._network = network
        self._given = given
        self._bounds_method = bounds
        if entries is None:
            index = _inputs.named_index(network.input_names, network.n_inputs)
            self.add_component("inputs", Var(index))
            entries = list(self.component("inputs").values())
            for v, low, high in zip(entries, *(b.tolist() for b in given)):
                v.setlb(low)
                v.setub(high)
        else:
            component = _inputs.input_component(entries, network.input_names)
            self.add_component("inputs", component)
            if component.ctype is Expression:
                entries = [
                    e if isinstance(e, float) else c
                    for e, c in zip(entries, component.values())
                ]
        self._entries = tuple(entries)
        index = _inputs.named_index(network.output_names, network.n_outputs)
        self.add_component("outputs", Var(index))
        self._outputs = tuple(self.component("outputs").values())
        self._scalings = Scalings(self)
        self._box()  # refuses a box that is not finite, whatever the formulation
        if formulation is not None:
            self.install(self.prepare(formulation, **options))
        elif options:
            raise ValueError(
                f"{where}: option '{next(iter(options))}' belongs to a formulation, but "
                "formulation=None."
            )

    def _box(self) -> tuple[np.ndarray, np.ndarray]:
        """The box of the inputs now: their own bounds and the given ones."""
        network, given = self._checked(), self._given
        assert given is not None
        low, high = _inputs.own_box(self._entries)
        low, high = np.maximum(low, given[0]), np.minimum(high, given[1])
        names = network.input_names or tuple(map(str, range(network.n_inputs)))
        _inputs.check_input_box(self._entries, names, low, high, self.name)
        return low, high

    def _checked(self) -> Network:
        if self._network is None:
            raise ValueError(
                f"'{self.name}' has no network yet; give ReLUNetBlock(network=...), or "
                "call build(network, inputs)."
            )
        return self._network

    def prepare(self, formulation: Any, *, bounds: Any = None, **options: Any) -> Prepared:
        """Write a formulation without changing the block; :meth:`install` takes it."""
        network = self._checked()
        begin = time.perf_counter()
        if self._is_scaled():
            raise ValueError(
                f"'{self.name}': core.scale_model has scaled its inputs or outputs, so the "
                "network can't be written over them; reformulate before the model is "
                "scaled, and scale anew."
            )
        formulations = choose_formulations(network, formulation, options)
        found = self._find_bounds(self._bounds_method if bounds is None else bounds)
        outputs = list(self.component("outputs").values())
        with PauseGC():
            written = well_scaled(found)
            writer = NetworkWriter(written, formulations, list(self._entries), outputs)
            container = writer.write()
        return Prepared(
            container,
            found,
            written,
            formulations,
            formulation,
            options,
            time.perf_counter() - begin,
        )

    def _find_bounds(self, method: Any) -> Bounds:
        """Bounds over the box as it is now, those at hand if they still fit."""
        network, (low, high) = self._checked(), self._box()
        if isinstance(method, Bounds):
            if method.network.fingerprint != network.fingerprint:
                raise ValueError(
                    f"{self.name}: bounds= are of another network; compute them for this one."
                )
            check_scope(self, method)
            old_low, old_high = method.input_box
            if method.scope == "box" and ((low < old_low).any() or (high > old_high).any()):
                raise ValueError(
                    f"{self.name}: bounds= hold for a smaller box than the inputs have; "
                    "compute them for this box."
                )
            return method
        if isinstance(method, str) and method.endswith(".npz"):
            return self._find_bounds(Bounds.load(method, network))
        key = (network.fingerprint, repr(method), low.tobytes(), high.tobytes())
        cache = self.parent_component()._shared_bounds
        if key not in cache:
            if len(cache) > 64:
                cache.clear()
            cache[key] = compute_bounds(network, low, high, method)
        return cache[key]

    def install(self, new: Prepared) -> None:
        """Replace what the block holds by a prepared formulation."""
        with PauseGC():
            if self.component("layer") is not None:
                self.del_component("layer")
            if self.component("input_box") is not None:
                self.del_component("input_box")
            self.add_component("layer", new.container)
            self._enclose(new.well_scaled)
            self._bounds = new.bounds
            self._well_scaled = new.well_scaled
            self._formulations = new.formulations
            self._spec, self._options = new.spec, dict(new.options)
            self._build_seconds = new.seconds
            self._set_output_bounds(new.bounds)
            guard_box(self)
        point = self._input_values()
        if point is not None:
            self._set_layer_values(point)
        for formulation in dict.fromkeys(new.formulations.values()):
            formulation.finish(self)
        self._written = Record(self)

    def _enclose(self, written: WellScaled) -> None:
        """Rows for sides of the box that the inputs' own bounds don't imply."""
        low, high = _inputs.own_box(self._entries)
        factors = written.input_factors
        rows = {}
        for i, (a, b) in enumerate(zip(*(x.tolist() for x in written.input_box))):
            entry, by = self._entries[i], link_coefficient(float(factors[i]))
            if isinstance(entry, float):
                continue
            side = entry if by == 1.0 else by * entry
            if a > low[i] or not np.isfinite(low[i]):
                rows[i, "lower"] = side >= by * a
            if b < high[i] or not np.isfinite(high[i]):
                rows[i, "upper"] = side <= by * b
        add_rows(self, "input_box", rows)

    def _set_output_bounds(self, bounds: Bounds) -> None:
        """Bound the outputs; where the user set a bound since, the tighter one stays."""
        new = tuple(b.tolist() for b in bounds.outputs)
        old = self._output_bounds
        for i, v in enumerate(self.component("outputs").values()):
            low, high = v.lb, v.ub
            ours_low = low is None or (old is not None and low == old[0][i])
            ours_high = high is None or (old is not None and high == old[1][i])
            v.setlb(new[0][i] if ours_low else max(low, new[0][i]))
            v.setub(new[1][i] if ours_high else min(high, new[1][i]))
        self._output_bounds = new  # type: ignore[assignment]

    # --------------------------------------------------------------- the user's side
    @property
    def network(self) -> Network:
        """The network that is embedded."""
        return self._checked()

    @property
    def bounds(self) -> Bounds | None:
        """The bounds the formulation was written with; None before there is one."""
        return self._bounds

    @property
    def formulation(self) -> Any:
        """The formulation as it was asked for; None before there is one."""
        return self._spec

    def reformulate(self, formulation: Any, *, bounds: Any = None, **options: Any) -> None:
        """Replace the formulation; inputs, outputs and the user's constraints stay.

        Parameters
        ----------
        formulation : str, Formulation, mapping or callable
            As in :class:`ReLUNetBlock`.
        bounds : optional
            Other bounds than the block was made with; as in :class:`ReLUNetBlock`.
        **options
            Options of the formulation.

        Notes
        -----
        When it fails the block is as it was. Bounds are computed anew if the inputs'
        bounds have changed since.
        """
        self.install(self.prepare(formulation, bounds=bounds, **options))
        if bounds is not None:
            self._bounds_method = bounds

    def tighten(self, method: Any = None, **options: Any) -> Bounds:
        """Tighten the bounds of a built block and write its formulation anew with them.

        Parameters
        ----------
        method : str or sequence, optional
            A rung of :data:`pyomo_relu.bounds.RUNGS`, or several, or ``"model"``: with all
            constraints of the model the block is in, valid for that model only. Started
            from the present bounds, so what is known is never lost.
        **options
            Options of the (last) rung, such as ``time_limit`` or ``executor``.

        Returns
        -------
        Bounds
        """
        if self._spec is None:
            raise ValueError(
                f"'{self.name}' has no formulation to tighten; call reformulate() first, "
                "or give it bounds=."
            )
        low, high = self._box()
        given, known = self._bounds_method, self._bounds
        if isinstance(given, Bounds) and is_stale(self, given):
            given = None
        start = self._find_bounds(given)
        if known is not None and start is not known and not is_stale(self, known):
            # The box may have shrunk since, and no rung promises to gain by that.
            old_low, old_high = known.input_box
            if (old_low <= low).all() and (high <= old_high).all():
                start = start.intersect(known)
        if method == "model":
            found = model_bounds(self, start, **options)
        else:
            found = compute_bounds(
                self.network, low, high, method or "lp", start, **options
            )
        self.install(self.prepare(self._spec, bounds=found, **self._options))
        self._bounds_method = found
        return found

    def evaluate(self, x: Any = None) -> np.ndarray:
        """Return the network's outputs at a point, or at the inputs' present values.

        See :meth:`pyomo_relu.network.Network.evaluate` for what ``x`` may be.
        """
        if x is None:
            point = self._input_values()
            if point is None:
                raise ValueError(
                    f"'{self.name}' has inputs without a value; solve first, or give x."
                )
            x = point[0]
        return self.network.evaluate(x)

    def error(self) -> float:
        """Return ``max |network(inputs) - outputs|`` at the present values.

        Raises
        ------
        ValueError
            If inputs or outputs have no value, or if the inputs' bounds were widened
            after the formulation was written, which then no longer holds.
        """
        self.check_box()
        outputs = [value(y, exception=False) for y in self._in_own_units(self._outputs)]
        if any(v is None for v in outputs):
            raise ValueError(f"'{self.name}' has outputs without a value; solve first.")
        return float(np.max(np.abs(self.evaluate() - np.array(outputs, dtype=float))))

    def check_box(self) -> None:
        """Raise if an input may now leave the box that the formulation was written for.

        Raises
        ------
        ValueError
            Naming the input; :meth:`reformulate` mends it.
        """
        if self._bounds is None:
            return
        check_scope(self, self._bounds)
        rows = self.component("input_box")
        if rows is None and self._written is not None:
            rows = self._written.box_rows  # transformations rename components
        enforced = set()
        if rows is not None and rows.parent_block() is self and rows.active:
            enforced = {key for key, row in rows.items() if row.active}
        low, high = _inputs.own_box(self._in_own_units(self._entries))
        old_low, old_high = self._bounds.input_box
        if self._is_scaled():  # a bound times a factor, divided by it again, is rounded
            slack = SCALED * np.maximum(np.abs(old_low), np.abs(old_high))
            old_low, old_high = old_low - slack, old_high + slack
        for i, entry in enumerate(self._entries):
            loose_low = low[i] < old_low[i] and (i, "lower") not in enforced
            loose_high = high[i] > old_high[i] and (i, "upper") not in enforced
            if loose_low or loose_high:
                remedy = (
                    "take them back, or widen them before the model is scaled."
                    if self._is_scaled()
                    else f"call {self.name}.reformulate({self._spec!r}) to write it for "
                    "the new ones."
                )
                raise ValueError(
                    f"'{self.name}': the bounds of '{_inputs.as_given(entry)}' were widened "
                    f"from [{old_low[i]:g}, {old_high[i]:g}] to [{low[i]:g}, {high[i]:g}] after "
                    f"the network was written; {remedy}"
                )

    def changes(self) -> Iterator[Change]:
        """Yield what is different in the block from what its formulation wrote.

        Each :class:`~pyomo_relu.block.Change` says what was changed, and whether it can
        only take points away: a fixed variable, a tighter bound, one more row. Rows and
        variables outside the block, and bounds of inputs and outputs, are the user's
        and don't count.
        """
        if self._is_scaled():
            yield Change("its variables were scaled by core.scale_model", False)
        if self._written is not None:
            yield from self._written.changes(self)

    def remember_scalings(self) -> None:
        """Note how the model is scaled now; called before a row of the block changes."""
        if self._scalings is not None:
            self._scalings.remember(self)

    def _is_scaled(self) -> bool:
        """Whether ``core.scale_model`` gave a variable of the block another meaning."""
        inner = () if self._written is None else self._written.variables
        entries = (*self._entries, *self._outputs, *inner)
        return self._scalings is not None and self._scalings.touch(self, entries)

    def _in_own_units(self, entries: Sequence[Any]) -> Sequence[Any]:
        """Entries as the network reads and gives them, whatever scaled the model."""
        return entries if self._scalings is None else self._scalings.unscaled(self, entries)

    def statistics(self) -> BlockStatistics:
        """Return layers, neurons, binaries, big-M range, bounds and times; printable."""
        return block_statistics(self)

    def polish(self) -> Any:
        """Solve the model again with its activation patterns fixed; removes the leak.

        See :func:`pyomo_relu.heuristics.polish`, which this calls on the whole model.
        """
        from pyomo_relu.heuristics.polish import polish

        return polish(self.model())

    def warm_start(self, x: Any) -> np.ndarray:
        """Set every variable of the block to its value at the input ``x``.

        Parameters
        ----------
        x : array_like, mapping or list
            One point, as in :meth:`pyomo_relu.network.Network.evaluate`.

        Returns
        -------
        (n_outputs,) array

        Raises
        ------
        ValueError
            If an input is a number or expression and so can't be set.
        """
        if self._is_scaled():
            raise ValueError(
                f"'{self.name}': core.scale_model has scaled its inputs or outputs, so x "
                "would be taken for scaled values; call warm_start before scaling."
            )
        point, single = self.network.flat_inputs(x)
        if not single:
            raise ValueError(f"{self.name}: warm_start takes one point.")
        for i, entry in enumerate(self._entries):
            if isinstance(entry, float) or not entry.is_variable_type():
                if abs(float(value(entry, exception=False) or 0.0) - point[0, i]) > 1e-9:
                    raise ValueError(
                        f"{self.name}: input {i} is no variable; set what it is made of, "
                        "then call warm_start(evaluate's inputs)."
                    )
        for entry, v in zip(self._entries, point[0].tolist()):
            if (
                not isinstance(entry, float)
                and entry.is_variable_type()
                and not entry.fixed
            ):
                entry.set_value(v, skip_validation=True)
        # Layers that read an output take its value, so the outputs come first.
        outputs = self.network.evaluate(point[0])
        for v, y in zip(self.component("outputs").values(), outputs.tolist()):
            if not v.fixed:
                v.set_value(y, skip_validation=True)
        self._set_layer_values(point)
        return outputs

    def _input_values(self) -> np.ndarray | None:
        """The (1, n_inputs) present values of the inputs; None if one has none."""
        found = [
            e if isinstance(e, float) else value(e, exception=False)
            for e in self._in_own_units(self._entries)
        ]
        return None if any(v is None for v in found) else np.array([found], dtype=float)

    def _set_layer_values(self, point: np.ndarray) -> None:
        """Give the variables of all layers the values implied by an input point."""
        layers = self.component("layer")
        if layers is None:
            return
        fixed = [
            (v, v.value)
            for layer in layers.values()
            for component in layer.component_objects(Var)
            for v in component.values()
            if v.fixed
        ]
        self.layer_values().set(point[0])
        for v, known in fixed:  # by the user, who means it
            v.set_value(known, skip_validation=True)

    def layer_values(self) -> LayerValues:
        """What gives the variables of the layers the values that the network implies."""
        if self._well_scaled is None or self._formulations is None:
            return LayerValues(None, None, {})
        return LayerValues(self.component("layer"), self._well_scaled, self._formulations)

    def entry_factors(self, node: int) -> np.ndarray:
        """What the entries of a node are multiplied by in the layer's variables.

        Parameters
        ----------
        node : int
            Position in :attr:`network`.

        Returns
        -------
        (size,) array
            Powers of two; 1 wherever the network's numbers are of ordinary size. The
            block's inputs and outputs are always in the user's units.
        """
        if self._well_scaled is None:
            return np.ones(self.network.nodes[node].size)
        return self._well_scaled.factor(node)
