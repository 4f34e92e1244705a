"""`ReLUNetBlock`: a trained network as a block of a Pyomo model."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.common.gc_manager import PauseGC
from pyomo.core.base.block import Block, BlockData
from pyomo.core.base.component import ModelComponentFactory
from pyomo.core.base.global_set import UnindexedComponent_index, UnindexedComponent_set
from pyomo.core.base.initializer import ConstantInitializer, Initializer
from pyomo.dae import ContinuousSet
from pyomo.environ import Expression, Var, value

from pyomo_relu import inputs as _inputs
from pyomo_relu.bounds import Bounds, compute_bounds
from pyomo_relu.formulations import Formulation, NetworkWriter, choose_formulations
from pyomo_relu.formulations.base import unit_pieces
from pyomo_relu.formulations.values import add_rows
from pyomo_relu.network import Max, Network, PiecewiseLinear
from pyomo_relu.statistics import BlockStatistics, block_statistics

logger = logging.getLogger(__name__)

#: Keywords that a Pyomo Block takes.
_BLOCK_KEYWORDS = {"rule", "options", "concrete", "dense", "name", "doc", "ctype"}
#: Keywords that say how a network is read.
_READER_KEYWORDS = {
    "logits",
    "input_names",
    "output_names",
    "input_scaler",
    "output_scaler",
    "input_shape",
}


@dataclass
class Prepared:
    """A written formulation that is not yet part of the block."""

    container: Block
    bounds: Bounds
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
        self._formulations: dict[int, Formulation] | None = None
        self._spec: Any = None
        self._options: dict[str, Any] = {}
        self._output_bounds: tuple[list[float], list[float]] | None = None
        self._build_seconds = 0.0

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
        formulations = choose_formulations(network, formulation, options)
        found = self._find_bounds(self._bounds_method if bounds is None else bounds)
        outputs = list(self.component("outputs").values())
        with PauseGC():
            writer = NetworkWriter(found, formulations, list(self._entries), outputs)
            container = writer.write()
        return Prepared(
            container,
            found,
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
            old_low, old_high = method.input_box
            if (low < old_low).any() or (high > old_high).any():
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
            self._enclose(new.bounds)
            self._bounds = new.bounds
            self._formulations = new.formulations
            self._spec, self._options = new.spec, dict(new.options)
            self._build_seconds = new.seconds
            self._set_output_bounds(new.bounds)
        point = self._input_values()
        if point is not None:
            self._set_layer_values(point)
        for formulation in dict.fromkeys(new.formulations.values()):
            formulation.finish(self)

    def _enclose(self, bounds: Bounds) -> None:
        """Rows for sides of the box that the inputs' own bounds don't imply."""
        low, high = _inputs.own_box(self._entries)
        rows = {}
        for i, (a, b) in enumerate(zip(*(x.tolist() for x in bounds.input_box))):
            entry = self._entries[i]
            if isinstance(entry, float):
                continue
            if a > low[i] or not np.isfinite(low[i]):
                rows[i, "lower"] = entry >= a
            if b < high[i] or not np.isfinite(high[i]):
                rows[i, "upper"] = entry <= b
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
            A rung of :data:`pyomo_relu.bounds.RUNGS`, or several; started from the
            present bounds, so what is known is never lost.
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
        start = self._find_bounds(self._bounds_method)
        found = compute_bounds(self.network, low, high, method or "lp", start, **options)
        self.install(self.prepare(self._spec, bounds=found, **self._options))
        self._bounds_method = found
        return found

    def evaluate(self, x: Any = None) -> np.ndarray:
        """Return the network's outputs at a point, or at the inputs' present values.

        See :meth:`pyomo_relu.network.Network.evaluate` for what ``x`` may be.
        """
        if x is None:
            x = self._input_values()
            if x is None:
                raise ValueError(
                    f"'{self.name}' has inputs without a value; solve first, or give x."
                )
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
        outputs = [v.value for v in self.component("outputs").values()]
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
        rows = self.component("input_box")
        enforced = set(rows.keys()) if rows is not None else set()
        low, high = _inputs.own_box(self._entries)
        old_low, old_high = self._bounds.input_box
        for i, entry in enumerate(self._entries):
            loose_low = low[i] < old_low[i] and (i, "lower") not in enforced
            loose_high = high[i] > old_high[i] and (i, "upper") not in enforced
            if loose_low or loose_high:
                raise ValueError(
                    f"'{self.name}': the bounds of '{entry}' were widened from "
                    f"[{old_low[i]:g}, {old_high[i]:g}] to [{low[i]:g}, {high[i]:g}] after "
                    f"the network was written; call {self.name}.reformulate("
                    f"{self._spec!r}) to write it for the new ones."
                )

    def statistics(self) -> BlockStatistics:
        """Return layers, neurons, binaries, big-M range, bounds and times; printable."""
        return block_statistics(self)

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
        self._set_layer_values(point)
        outputs = self.network.evaluate(point[0])
        for v, y in zip(self.component("outputs").values(), outputs.tolist()):
            v.set_value(y, skip_validation=True)
        return outputs

    def _input_values(self) -> np.ndarray | None:
        """The (1, n_inputs) present values of the inputs; None if one has none."""
        found = [
            e if isinstance(e, float) else value(e, exception=False) for e in self._entries
        ]
        return None if any(v is None for v in found) else np.array([found], dtype=float)

    def _set_layer_values(self, point: np.ndarray) -> None:
        """Give the variables of all layers the values implied by an input point."""
        layers = self.component("layer")
        if layers is None:
            return
        assert self._bounds is not None and self._formulations is not None
        network, bounds = self.network, self._bounds
        values = [a[0] for a in network.activations(point)]
        for i, node in enumerate(network.nodes):
            if i in network.inputs:
                continue
            block = layers[node.name]
            out = block.component("out")
            if out is not None:
                for u, v in out.items():
                    v.set_value(float(values[i][u]), skip_validation=True)
            if isinstance(node, (PiecewiseLinear, Max)):
                s = node.source

                def pieces(u: int, node=node, s=s):
                    low, high = float(bounds.lower[s][u]), float(bounds.upper[s][u])
                    return unit_pieces(node, u, low, high)

                self._formulations[i].set_values(block, node, values[s], values[i], pieces)


@ModelComponentFactory.register("A trained piecewise-linear network in a model.")
class ReLUNetBlock(Block):
    """A trained network between variables of a model.

    Parameters
    ----------
    *indices : Set, optional
        Index sets: one network block for each index.
    network : Network, Keras model, ONNX model, torch module, scikit-learn model, path
        What :func:`pyomo_relu.read_network` reads; or a mapping from indices to those.
    inputs : Var, Reference, list, mapping or rule, optional
        The user's variables, expressions or numbers, one for each input of the network;
        for an indexed block usually a rule ``(block, *index) -> inputs``. Left out, the
        block makes its own, and ``input_bounds`` must bound them.
    input_bounds : optional
        Bounds of the inputs besides those of the variables; both hold. A pair for all
        inputs, a list of pairs, a tuple of two arrays, or a mapping from names.
    formulation : str, mapping, callable or None
        How nonlinear layers are written: a name of
        :data:`pyomo_relu.formulations.FORMULATIONS`; or ``{"layer": name, "...": name}``;
        or a function of the layer's name. With None the block holds only inputs and
        outputs until :meth:`reformulate` is called.
    bounds : str, Bounds or path, optional
        A rung of :data:`pyomo_relu.bounds.RUNGS`, bounds, or a file that holds them.
    logits, input_names, output_names, input_scaler, output_scaler
        Passed to :func:`pyomo_relu.read_network`.
    **options
        Options of the formulation.

    Raises
    ------
    ValueError
        For bad input, before the model is touched; the message says what to do.

    Examples
    --------
    >>> import pyomo.environ as pyo
    >>> from pyomo_relu import NetworkBuilder, ReLUNetBlock, activations
    >>> b = NetworkBuilder()
    >>> x = b.input("x", (2,))
    >>> h = b.affine("hidden", [(x, [[1.0, -1.0], [2.0, 1.0]])], [0.0, -1.0])
    >>> r = b.piecewise("relu", h, activations.relu())
    >>> net = b.build([b.affine("sum", [(r, [[1.0, 1.0]])])])
    >>> m = pyo.ConcreteModel()
    >>> m.x = pyo.Var([0, 1], bounds=(-1, 1))
    >>> m.net = ReLUNetBlock(network=net, inputs=m.x)
    >>> m.obj = pyo.Objective(expr=m.net.outputs[0], sense=pyo.maximize)
    >>> _ = pyo.SolverFactory("appsi_highs").solve(m)
    >>> round(pyo.value(m.obj), 6)
    3.0
    """

    _ComponentDataClass = ReLUNetBlockData

    def __new__(cls, *args: Any, **kwds: Any):
        if cls is not ReLUNetBlock:
            return super().__new__(cls)
        if not args or (args[0] is UnindexedComponent_set and len(args) == 1):
            return super().__new__(ScalarReLUNetBlock)
        return super().__new__(IndexedReLUNetBlock)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        block = {k: kwargs.pop(k) for k in list(kwargs) if k in _BLOCK_KEYWORDS}
        network = kwargs.pop("network", None)
        reader = {k: kwargs.pop(k) for k in list(kwargs) if k in _READER_KEYWORDS}
        self._init_network = self._read(network, reader)
        self._init_inputs = _initializer(kwargs.pop("inputs", None))
        input_bounds = kwargs.pop("input_bounds", None)
        self._init_input_bounds = (
            Initializer(input_bounds)
            if callable(input_bounds)
            else ConstantInitializer(input_bounds)
        )
        self._keywords = {
            "formulation": kwargs.pop("formulation", "bigm"),
            "bounds": kwargs.pop("bounds", None),
            **kwargs,  # options of the formulation, checked next
        }
        self._check_keywords(kwargs)
        self._shared_bounds: dict[Any, Bounds] = {}
        block.setdefault("ctype", Block)
        Block.__init__(self, *args, **block)

    @staticmethod
    def _read(network: Any, options: dict[str, Any]) -> Any:
        """A network, or a mapping of them, from what the user gave."""
        if network is None:
            if options:
                raise ValueError(f"ReLUNetBlock: '{next(iter(options))}' needs network=.")
            return None
        if isinstance(network, Network) and not options:
            return network
        if isinstance(network, Mapping) and not options:
            if all(isinstance(n, Network) for n in network.values()):
                return dict(network)
        from pyomo_relu.readers import read_network

        if isinstance(network, Mapping):
            return {key: read_network(n, **options) for key, n in network.items()}
        return read_network(network, **options)

    def _check_keywords(self, options: dict[str, Any]) -> None:
        """Refuse unknown keywords before the component joins a model."""
        spec = self._keywords["formulation"]
        if isinstance(spec, str):
            from pyomo_relu.formulations import FORMULATIONS

            if spec in FORMULATIONS and options:
                known = set(FORMULATIONS[spec].CONFIG.keys())
                unknown = sorted(set(options) - known)
                if unknown:
                    raise ValueError(
                        f"ReLUNetBlock has no keyword '{unknown[0]}', and formulation "
                        f"'{spec}' no such option"
                        + (f"; it takes {sorted(known)}." if known else ".")
                    )
        if spec is not None:
            network = self._init_network
            some = next(iter(network.values())) if isinstance(network, dict) else network
            if some is not None:
                choose_formulations(some, spec, options)

    def construct(self, data: Any = None) -> None:
        """Build the block, or each of its indices; on failure leave the model as it was."""
        try:
            super().construct(data)
        except Exception:
            parent = self.parent_block()
            if parent is not None and parent.component(self.local_name) is self:
                index = parent.component(f"{self.local_name}_index")
                parent.del_component(self)
                if index is not None:
                    parent.del_component(index)
            raise
        subsets = self.index_set().subsets() if self.is_indexed() else ()
        if self._dense and not any(s.ctype is ContinuousSet for s in subsets):
            self._release_rules()

    def _release_rules(self) -> None:
        """Forget rules once nothing is left to build: they would hinder pickling."""
        self._init_inputs = ConstantInitializer(None)
        self._init_input_bounds = ConstantInitializer(None)

    def update_after_discretization(self) -> None:
        """Build the points that a discretization has added; called by pyomo.dae."""
        for index in self.index_set():
            if index not in self._data:
                self[index]

    def _getitem_when_not_present(self, idx: Any):
        data = super()._getitem_when_not_present(idx)
        if self._init_network is not None and data._network is None:
            network = self._init_network
            if isinstance(network, dict):
                if idx not in network:
                    raise ValueError(f"{self.name}: network= has no network for {idx!r}.")
                network = network[idx]
            parent = self.parent_block()
            with PauseGC():
                data.build(
                    network,
                    self._init_inputs(parent, idx),
                    self._init_input_bounds(parent, idx),
                    **self._keywords,
                )
        return data


def _initializer(inputs: Any):
    """An initializer that takes a component, list or mapping as it is, and calls a rule."""
    if callable(inputs) and not hasattr(inputs, "is_component_type"):
        return Initializer(inputs)
    return ConstantInitializer(inputs)


class ScalarReLUNetBlock(ReLUNetBlockData, ReLUNetBlock):
    """A single network block."""

    def __init__(self, *args: Any, **kwds: Any) -> None:
        ReLUNetBlockData.__init__(self, component=self)
        ReLUNetBlock.__init__(self, *args, **kwds)
        self._data[None] = self  # an abstract block has its data before it is built
        self._index = UnindexedComponent_index

    # Both parents have one; without an index the plain block's shows the contents.
    display = Block.display


class IndexedReLUNetBlock(ReLUNetBlock):
    """Network blocks over an index set; all share networks and bounds."""


# A component of the user's with one of these names would hide a method of the block.
ReLUNetBlockData._Block_reserved_words = set(dir(ReLUNetBlock()))
