"""`ReLUNetBlockData`: one network in a model, what the user calls on the block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pyomo_relu.base.index_set import data_of
from pyomo_relu.block import point as _point
from pyomo_relu.block import writing
from pyomo_relu.block.approximated import ApproximatedData, approximated, take_accuracy
from pyomo_relu.block.box import check_box, present_box
from pyomo_relu.block.found_bounds import check_given, loaded
from pyomo_relu.block.frames import OutputsInPandas
from pyomo_relu.block.input_bounds import check_input_box, read_input_bounds
from pyomo_relu.block.inputs import add_inputs, named_index, read_inputs
from pyomo_relu.block.output_bounds import users_bounds
from pyomo_relu.block.printing import NetworkOutputs, PrintedData
from pyomo_relu.block.replacing import check_replacement, check_scalers, named_as
from pyomo_relu.block.scaling import Scalings
from pyomo_relu.block.statistics import BlockStatistics, block_statistics
from pyomo_relu.block.writing import Prepared
from pyomo_relu.block.written import Change, WrittenRecord
from pyomo_relu.bounds import Bounds
from pyomo_relu.bounds.difference.network import true_network
from pyomo_relu.bounds.well_scaled import WellScaled
from pyomo_relu.formulations import Formulation
from pyomo_relu.formulations.layer_values import LayerValues
from pyomo_relu.network import Network


class ReLUNetBlockData(ApproximatedData, OutputsInPandas, PrintedData):
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

    def __init__(self, component: Any) -> None:
        super().__init__(component)
        self._network: Network | None = None
        self._accuracy: Any = None  # as the user gave it
        self._margin = False
        self._entries: tuple[Any, ...] = ()
        self._given: tuple[np.ndarray, np.ndarray] | None = None
        self._bounds_method: Any = None  # as the user gave it
        self._asked: tuple[Any, Bounds] | None = None  # last, and what was found
        self._tightened: Bounds | None = None  # by tighten() since
        self._bounds: Bounds | None = None
        self._unread: np.ndarray | None = None
        self._well_scaled: WellScaled | None = None
        self._written_of: Bounds | None = None  # of the network that is written
        self._formulations: dict[int, Formulation] | None = None
        self._spec: Any = None
        self._options: dict[str, Any] = {}
        self._output_bounds: tuple[list[float], list[float]] | None = None
        self._build_seconds = 0.0
        self._written: WrittenRecord | None = None
        self._scalings: Scalings | None = None
        self._outputs: tuple[Any, ...] = ()
        self._relaxable = False
        #: What was said of an input outside of its box, so that it is said once.
        self._told: Any = None

    # -------------------------------------------------------------------- building
    def build(
        self,
        network: Network,
        inputs: Any = None,
        input_bounds: Any = None,
        formulation: Any = "bigm",
        bounds: Any = None,
        accuracy: Any = None,
        margin: bool = False,
        **options: Any,
    ) -> None:
        """Make inputs and outputs, and write the formulation.

        Called by the component with its keywords; see :class:`ReLUNetBlock`.
        """
        self.begin(network, inputs, input_bounds, bounds, accuracy, margin)
        prepared = self.written(formulation, None, **options)
        if prepared is not None:
            self.install(prepared)

    def begin(
        self,
        network: Network,
        inputs: Any = None,
        input_bounds: Any = None,
        bounds: Any = None,
        accuracy: Any = None,
        margin: bool = False,
    ) -> None:
        """Make inputs and outputs, before anything is :meth:`written`.

        The component begins all its blocks before it bounds them together.
        """
        where, network = self.name, true_network(network)
        self._refuse_to_build()
        given = read_input_bounds(input_bounds, network, where)
        entries: list[Any] | None = None
        if inputs is None:
            names = network.input_names or tuple(map(str, range(network.n_inputs)))
            check_input_box(None, names, *given, where)
        else:
            entries = read_inputs(inputs, network, where)
        self._network, self._given = network, given
        self._entries = add_inputs(self, entries)
        index = named_index(network.output_names, network.n_outputs)
        self.add_component("outputs", NetworkOutputs(index))
        self._outputs = tuple(data_of(self.component("outputs")))
        self._scalings = Scalings(self)
        box = present_box(self)  # refuses one that is not finite, whatever the formulation
        take_accuracy(self, accuracy, margin)
        self._bounds_method = loaded(bounds, self.network)
        if isinstance(self._bounds_method, Bounds):  # refuses those of another box
            check_given(self, self.network, self._bounds_method, box)

    def written(
        self, formulation: Any, found: Bounds | None, **options: Any
    ) -> Prepared | None:
        """What :meth:`install` takes, with bounds where some were found; None for none."""
        if formulation is not None:
            return writing.prepare(self, formulation, None, options, found=found)
        if options:
            raise ValueError(
                f"{self.name}: option '{next(iter(options))}' belongs to a formulation, but "
                "formulation=None."
            )
        return None

    def _refuse_to_build(self) -> None:
        """Refuse a second network, and components of the user's in its place."""
        if self._network is not None:
            raise ValueError(f"{self.name}: the block has its network; use reformulate().")
        for name in ("inputs", "outputs", "layer", "input_box", "deviation"):
            if self.component(name) is not None:
                raise ValueError(
                    f"{self.name}: the block already has a component '{name}', a name that "
                    "the network needs; call yours something else."
                )

    def _checked(self) -> Network:
        if self._network is None:
            raise ValueError(
                f"'{self.name}' has no network yet; give ReLUNetBlock(network=...), or "
                "call build(network, inputs)."
            )
        return self._network

    def prepare(
        self, formulation: Any = None, *, bounds: Any = None, **options: Any
    ) -> Prepared:
        """Write a formulation without changing the block; :meth:`install` takes it."""
        return writing.prepare(self, formulation, bounds, options)

    def install(self, new: Prepared) -> None:
        """Replace what the block holds by a prepared formulation."""
        writing.install(self, new)

    # --------------------------------------------------------------- the user's side
    @property
    def has_network(self) -> bool:
        """Whether a network is embedded; an abstract block has none before it is built."""
        return self._network is not None

    @property
    def network(self) -> Network:
        """The network that is embedded, with curves for smooth units of the true one."""
        return self._checked()

    @property
    def entries(self) -> tuple[Any, ...]:
        """For each input of the network the user's variable, expression or number.

        An expression is a named one, held by :attr:`inputs`; a number is a float.
        """
        return self._entries

    @property
    def output_variables(self) -> tuple[Any, ...]:
        """The variable of each output, whatever became of the component :attr:`outputs`."""
        return self._outputs

    @property
    def given_box(self) -> tuple[np.ndarray, np.ndarray]:
        """The (n_inputs,) lower and upper bounds of ``input_bounds=``, infinite without."""
        if self._given is None:
            self._checked()
        assert self._given is not None
        return self._given

    @property
    def formulations(self) -> dict[int, Formulation]:
        """The formulation of each nonlinear node that is written, by its position."""
        return dict(self._formulations or {})

    @property
    def written_output_bounds(self) -> tuple[list[float], list[float]] | None:
        """The bounds that the network gave its outputs when it was written."""
        return self._output_bounds

    @property
    def bounds(self) -> Bounds | None:
        """The bounds the formulation was written with; None before there is one."""
        return self._bounds

    @property
    def formulation(self) -> Any:
        """The formulation as it was asked for; None before there is one."""
        return self._spec

    def reformulate(
        self, formulation: Any = None, *, bounds: Any = None, **options: Any
    ) -> None:
        """Replace the formulation; inputs, outputs and the user's constraints stay.

        Parameters
        ----------
        formulation : str, Formulation, mapping or callable, optional
            As in :class:`ReLUNetBlock`; left out, the present one, written anew.
        bounds : optional
            Other bounds than the block was made with; as in :class:`ReLUNetBlock`.
        **options
            Options of the formulation; besides those it has, where it stays.

        Notes
        -----
        When it fails the block is as it was. Bounds that hold no longer, because the
        inputs' bounds were widened or the model changed since, are computed anew.
        """
        self.install(self.prepare(formulation, bounds=bounds, **options))
        if bounds is not None:
            self.use_bounds(bounds)

    def use_bounds(self, bounds: Any) -> None:
        """Write the block with these bounds, or by this method, from now on."""
        self._bounds_method = loaded(bounds, self.network)
        self._tightened = None

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
        new = writing.tightened(self, method, options, {})
        self.install(new)
        return new.bounds

    def replace_network(
        self,
        network: Any,
        *,
        formulation: Any = None,
        bounds: Any = None,
        **options: Any,
    ) -> None:
        """Embed another network in the same block, between the same variables.

        Inputs, outputs, and whatever constraints and objectives use them stay; the
        formulation is written anew, with bounds of the new network. Rows that use
        variables of the layers inside do not follow: these are other variables then.

        Parameters
        ----------
        network
            As in :class:`ReLUNetBlock`, with as many inputs and outputs as the block has.
            Names, where both have some, must be the same and in the same order.
        formulation : optional
            Another one than the block has; as in :class:`ReLUNetBlock`.
        bounds : optional
            Left out, the method that the block was made with.
        **options
            Options of the formulation, and what :func:`pyomo_relu.read_network` takes.
            Scalers are the network's, not the block's: give them with each network.

        Raises
        ------
        ValueError
            If the network doesn't fit, or the block was made with a scaler that is not given
            again (nor as None); the block is as it was.

        Notes
        -----
        Outputs and the variables inside get the values that the new network implies at
        the inputs' present values, or none where an input has none. Bounds that
        the user has set on outputs stay, those of the old network go.
        """
        component = self.parent_component()
        reader = component.take_reader_keywords(options)
        check_scalers(self, component.scalers, reader)
        fitting = self.fitting(component.read(network, reader))
        new, prepared = self.prepare_network(fitting, formulation, bounds, options)
        self.install_network(new, prepared, bounds)
        if not component.is_indexed():
            component.use_network(new, reader)

    def forget_model_bounds(self) -> None:
        """Drop bounds that rely on a model, in a copy of that model that is changed."""
        method = self._bounds_method
        if isinstance(method, Bounds) and method.scope != "box":
            self._bounds_method = None
        if self._tightened is not None and self._tightened.scope != "box":
            self._tightened = None

    def fitting(self, network: Network) -> Network:
        """A network in place of this one, under the same names of inputs and outputs.

        Raises
        ------
        ValueError
            If it doesn't fit.
        """
        check_replacement(self, network)
        return approximated(self, named_as(network, self.true_network))

    def prepare_network(
        self,
        network: Network,
        formulation: Any,
        bounds: Any,
        options: dict[str, Any],
        found: Bounds | None = None,
    ) -> tuple[Network, Prepared | None]:
        """What :meth:`install_network` takes of a fitting network; nothing is changed."""
        if formulation is None and self._spec is None:
            present_box(self)
            return network, None
        new = writing.prepare(self, formulation, bounds, options, network, found)
        return network, new

    def install_network(
        self, network: Network, prepared: Prepared | None, bounds: Any
    ) -> None:
        """Replace the network by a prepared one."""
        self._network, self._tightened = network, None
        if bounds is not None or isinstance(self._bounds_method, Bounds):
            self._bounds_method = loaded(bounds, network)
        if prepared is not None:
            self.install(prepared)
        _point.set_output_values(self, _point.input_values(self))

    def check_box(self) -> None:
        """Raise if an input may now leave the box that the formulation was written for.

        Raises
        ------
        ValueError
            Naming the input; :meth:`reformulate` mends it.
        """
        check_box(self)

    def changes(self) -> Iterator[Change]:
        """Yield what is different in the block from what its formulation wrote.

        Each :class:`~pyomo_relu.block.written.Change` says what was changed, and whether it can
        only take points away: a fixed variable, a tighter bound, one more row. Rows and
        variables outside the block, and bounds of inputs and outputs, are the user's
        and don't count.
        """
        if self._is_scaled():
            yield Change("its variables were scaled by core.scale_model", False)
        if self._written is not None:
            yield from self._written.changes(self)
        elif self.component("layer") is not None:
            yield Change("what its formulation wrote is not on record", False)

    @property
    def layer_variables(self) -> tuple[Any, ...]:
        """The variables that the formulation made; none before there is one."""
        return () if self._written is None else self._written.variables

    def users_output_bounds(self) -> dict[int, tuple[float | None, float | None]]:
        """Bounds of the outputs that the user has set, by the ``id`` of the variable."""
        return {id(v): users_bounds(v) for v in self._outputs}

    def remember_scalings(self) -> None:
        """Note how the model is scaled now; called before a row of the block changes."""
        if self._scalings is not None:
            self._scalings.remember(self)

    def _is_scaled(self) -> bool:
        """Whether ``core.scale_model`` gave a variable of the block another meaning."""
        entries = (*self._entries, *self._outputs, *self.layer_variables)
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
            If an input can't have the value: a number or expression, a fixed variable,
            or one whose bounds leave it out. Nothing is set then.
        """
        return _point.warm_start(self, x)

    def present_box(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the (n_inputs,) bounds of the inputs now, ``input_bounds=`` included.

        Raises
        ------
        ValueError
            If a side is open, naming the variable.
        """
        return present_box(self)

    def input_values(self) -> np.ndarray | None:
        """Return the (1, n_inputs) values of the inputs in the network's units.

        None if one has none that matters.
        """
        return _point.input_values(self)

    def set_layer_values(self, point: np.ndarray) -> None:
        """Give the variables of all layers what a (1, n_inputs) point implies for them."""
        _point.set_layer_values(self, point)

    def layer_values(self) -> LayerValues:
        """What gives the variables of the layers the values that the network implies."""
        return _point.layer_values(self)

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
