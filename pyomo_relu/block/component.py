"""`ReLUNetBlock`: a trained network as a component of a Pyomo model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyomo.common.gc_manager import PauseGC
from pyomo.core.base.block import Block
from pyomo.core.base.component import ModelComponentFactory
from pyomo.core.base.global_set import UnindexedComponent_index, UnindexedComponent_set
from pyomo.core.base.initializer import ConstantInitializer, Initializer
from pyomo.dae import ContinuousSet

from pyomo_relu.base.index_set import equal_sets_once
from pyomo_relu.base.suggest import did_you_mean
from pyomo_relu.base.weak_table import WeakTable
from pyomo_relu.block.approximated import check_choice
from pyomo_relu.block.data import ReLUNetBlockData
from pyomo_relu.block.found_bounds import bounds_at_hand
from pyomo_relu.block.frames import is_frame, row_of
from pyomo_relu.block.indexed import IndexedMethods
from pyomo_relu.block.replacing import scalers_given
from pyomo_relu.bounds import Bounds
from pyomo_relu.formulations import FORMULATIONS
from pyomo_relu.network import Network
from pyomo_relu.presolve.model_scope import unchanged_models

#: Keywords that a Pyomo Block takes.
_BLOCK_KEYWORDS = {"rule", "options", "concrete", "dense", "name", "doc", "ctype"}
#: Packages whose objects are networks, not index sets.
_FRAMEWORKS = {"keras", "onnx", "torch", "sklearn"}
#: Keywords that blocks need before they are written.
_OF_BEGINNING = ("bounds", "accuracy", "margin")
#: Keywords that say how a network is read.
_READER_KEYWORDS = {
    "logits",
    "input_names",
    "output_names",
    "input_scaler",
    "output_scaler",
    "input_shape",
    "check_reading",
}


def _keywords(
    *indices: Any,
    network: Any = None,
    inputs: Any = None,
    input_bounds: Any = None,
    formulation: Any = "bigm",
    bounds: Any = None,
    accuracy: Any = None,
    margin: bool = False,
    logits: bool = False,
    input_names: Any = None,
    output_names: Any = None,
    input_scaler: Any = None,
    output_scaler: Any = None,
    input_shape: Any = None,
    check_reading: bool = True,
    rule: Any = None,
    name: str | None = None,
    doc: str | None = None,
    **options: Any,
) -> None:
    """What ``ReLUNetBlock`` takes, for its signature."""


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
        for an indexed block usually a rule ``(block, *index) -> inputs``. What is indexed
        by the names of the network's inputs is meant by name. A pandas DataFrame has a row
        for each index. Left out, the block makes its own, and ``input_bounds`` must bound
        them.
    input_bounds : optional
        Bounds of the inputs besides those of the variables; both hold. A pair for all
        inputs, a list of pairs, a tuple of two arrays, a mapping from names, or a pandas
        DataFrame of them or of the training data.
    formulation : str, mapping, callable or None
        How nonlinear layers are written: a name of
        :data:`pyomo_relu.formulations.FORMULATIONS`; or ``{"layer": name, "...": name}``;
        or a function of the layer's name. With None the block holds only inputs and
        outputs until :meth:`reformulate` is called.
    bounds : str, Bounds or path, optional
        A rung of :data:`pyomo_relu.bounds.RUNGS`, bounds, or a file that holds them.
    accuracy : float or sequence of float, optional
        Write smooth units (tanh, sigmoid, GELU, ...) as piecewise-linear curves, such that no
        output is off by more than this anywhere in the box of the inputs, which is proved; in
        the outputs' units, one number for all or one for each. See :meth:`accuracy`.
    margin : bool
        With ``accuracy``: let each output be anything within what was proved around the
        network of curves, so that no point of the true network is lost: an optimum is a bound
        for the true network, and what has no point has none there.
    logits : bool
        Read a softmax or sigmoid at the end as what stands before it.
    input_names, output_names : sequence of str, optional
        Names of the entries, in the order of the network; indices of ``outputs``.
    input_scaler, output_scaler : fitted scaler or (offset, factor), optional
        Between the user's units and those of the network; fused into its layers. A pair
        means ``scaled = (value - offset) / factor``.
    input_shape : tuple of int, optional
        Of one sample, for a PyTorch module.
    check_reading : bool
        Compare what was read with its source at a few points. These seven are passed to
        :func:`pyomo_relu.read_network`, which says more of them.
    rule : callable, optional
        Called with each block, as in a ``Block`` of Pyomo's: it may add components, and
        build the network there by ``block.build(network, inputs)``.
    name, doc : str, optional
        As in any component of Pyomo's.
    **options
        Options of the formulation, for example ``parts=2`` of ``"partition"``.

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
    2.0
    """

    _ComponentDataClass = ReLUNetBlockData
    #: For ``help`` and the documentation: ``__new__`` and ``__init__`` pass keywords on.
    __signature__ = inspect.signature(_keywords)
    #: Blocks that wait for their bounds while the component is made; None at other times.
    _waiting: list[Any] | None = None
    #: Whether a rule of the user's runs, which may look at blocks that wait.
    _rule_runs = False

    def __new__(cls, *args: Any, **kwds: Any) -> Any:
        _refuse_positional_network(args)
        if cls is not ReLUNetBlock:
            return super().__new__(cls)
        if not args or (args[0] is UnindexedComponent_set and len(args) == 1):
            return super().__new__(ScalarReLUNetBlock)
        return super().__new__(IndexedReLUNetBlock)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        block = {k: kwargs.pop(k) for k in list(kwargs) if k in _BLOCK_KEYWORDS}
        network = kwargs.pop("network", None)
        reader = self.take_reader_keywords(kwargs)
        given = [k for k in ("inputs", "input_bounds") if kwargs.get(k) is not None]
        if network is None and given:
            raise ValueError(f"ReLUNetBlock: '{given[0]}' needs network=.")
        self._init_network = self.read(network, reader)
        #: The scalers that the network came with, which another network must tell of.
        self.scalers = scalers_given(reader)
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
            "accuracy": kwargs.pop("accuracy", None),
            "margin": kwargs.pop("margin", False),
            **kwargs,  # options of the formulation, checked next
        }
        self._check_keywords(kwargs)
        #: Bounds and index sets that blocks of this component have, by what they were made from.
        self._shared_bounds: WeakTable[Bounds] = WeakTable()
        self._approximations: WeakTable[Network] = WeakTable()
        self._index_sets: WeakTable[Any] = WeakTable()
        block.setdefault("ctype", Block)
        Block.__init__(self, *args, **block)

    @staticmethod
    def take_reader_keywords(options: dict[str, Any]) -> dict[str, Any]:
        """Take the keywords that say how a network is read out of a dictionary."""
        return {k: options.pop(k) for k in list(options) if k in _READER_KEYWORDS}

    @staticmethod
    def read(network: Any, options: dict[str, Any]) -> Any:
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
        if isinstance(spec, str) and spec in FORMULATIONS:
            known = set(FORMULATIONS[spec].CONFIG.keys())
            unknown = sorted(set(options) - known)
            if unknown:
                keywords = {"network", "inputs", "input_bounds", *self._keywords}
                keywords = (keywords | known | _READER_KEYWORDS) - set(options)
                raise ValueError(
                    f"ReLUNetBlock has no keyword '{unknown[0]}', and formulation "
                    f"'{spec}' no such option"
                    + (f"; it takes {sorted(known)}." if known else ".")
                    + did_you_mean(unknown[0], keywords)
                )
        if spec is not None:
            network = self._init_network
            some = next(iter(network.values())) if isinstance(network, dict) else network
            if some is not None:
                check_choice(some, spec, options, self._keywords["accuracy"])

    def construct(self, data: Any = None) -> None:
        """Build the block, or each of its indices; on failure leave the model as it was."""
        try:
            with self._together():
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

    def use_network(self, network: Any, reader: Mapping[str, Any]) -> None:
        """Build what is not built yet with another network, or a mapping of them.

        ``reader`` has the keywords that it was read with.
        """
        self._init_network, self.scalers = network, scalers_given(reader)

    def update_after_discretization(self) -> None:
        """Build the points that a discretization has added; called by pyomo.dae."""
        new = [index for index in self.index_set() if index not in self._data]
        with self._together():
            for index in new:
                self._getitem_when_not_present(index)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Blocks that are made inside are written at the end, with bounds of one batch.

        Or before, as soon as someone looks at one of them: the rule of ``inputs=`` of an
        index may read the block of another one.
        """
        self._waiting = [] if self._rule is None and self.is_indexed() else None
        with PauseGC():
            try:
                yield
                self.write_waiting()
            finally:
                self._waiting, self._rule_runs = None, False

    def write_waiting(self) -> None:
        """Bound and write the blocks that have inputs and outputs only so far."""
        if not self._waiting:
            return
        blocks, self._waiting = self._waiting, []
        keywords = {k: v for k, v in self._keywords.items() if k not in _OF_BEGINNING}
        found: list[Any] = [None] * len(blocks)
        if keywords["formulation"] is not None:
            found = bounds_at_hand(blocks, [block.network for block in blocks])
        with unchanged_models():
            written = [b.written(found=f, **keywords) for b, f in zip(blocks, found)]
        for block, prepared in zip(blocks, written):
            if prepared is not None:
                block.install(prepared)

    def _getitem_when_not_present(self, idx: Any) -> Any:
        known = self._data.get(idx)
        if known is not None and self.is_indexed() and known.has_network:
            return known  # the rule of another index has asked for it
        data = super()._getitem_when_not_present(idx)
        if self._init_network is not None and data._network is None:
            network = self._init_network
            if isinstance(network, dict):
                if idx not in network:
                    raise ValueError(f"{self.name}: network= has no network for {idx!r}.")
                network = network[idx]
            parent = self.parent_block()
            with PauseGC():
                self._rule_runs = self._waiting is not None
                inputs = self._init_inputs(parent, idx)
                if is_frame(inputs):
                    inputs = row_of(inputs, idx if self.is_indexed() else None, data.name)
                box = self._init_input_bounds(parent, idx)
                self._rule_runs = False
                if self._waiting is None:
                    data.build(network, inputs, box, **self._keywords)
                else:
                    with equal_sets_once(self._index_sets):
                        first = {k: self._keywords[k] for k in _OF_BEGINNING}
                        data.begin(network, inputs, box, **first)
                    self._waiting.append(data)
        return data


def _refuse_positional_network(args: tuple) -> None:
    """Positional arguments are index sets; a network among them is a slip."""
    for arg in args:
        packages = {c.__module__.partition(".")[0] for c in type(arg).__mro__}
        if isinstance(arg, (str, Path, Network)) or packages & _FRAMEWORKS:
            raise TypeError(
                "ReLUNetBlock takes index sets by position; give the network as network=."
            )


def _initializer(inputs: Any) -> Any:
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


class IndexedReLUNetBlock(IndexedMethods, ReLUNetBlock):
    """Network blocks over an index set; all share networks and bounds."""

    def __getitem__(self, index: Any) -> Any:
        if not self._rule_runs:
            return super().__getitem__(index)
        with self._looked_at():
            return super().__getitem__(index)

    def keys(self, *args: Any, **kwds: Any) -> Any:
        """The indices; a rule that asks finds finished blocks there."""
        if self._rule_runs:
            with self._looked_at():
                pass
        return super().keys(*args, **kwds)

    @contextmanager
    def _looked_at(self) -> Iterator[None]:
        """Write what waits, and what is begun inside, for a rule that looks at it."""
        self._rule_runs = False
        self.write_waiting()
        yield
        self.write_waiting()
        self._rule_runs = True


# A component of the user's with one of these names would hide a method of the block.
ReLUNetBlockData._Block_reserved_words = set(dir(ReLUNetBlock()))
