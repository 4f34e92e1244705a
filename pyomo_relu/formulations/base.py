"""`Formulation`: one way to write nonlinear units in Pyomo, and the registry of them.

To add one, derive from :class:`Formulation`, write the units it is handed, and
decorate the class with :func:`register_formulation`: it is then a keyword of
``ReLUNetBlock`` and the Pyomo transformation ``relu.<name>``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pyomo.common.config import ConfigDict, ConfigValue
from pyomo.environ import TransformationFactory

from pyomo_relu.base.suggest import did_you_mean
from pyomo_relu.bounds import Bounds
from pyomo_relu.bounds.well_scaled import WellScaled
from pyomo_relu.formulations.transformation import register_transformation
from pyomo_relu.formulations.units import MaxLayer, PiecesOf, PiecewiseLayer, SmoothLayer
from pyomo_relu.network import Max, Network, Node, PiecewiseLinear, Smooth

#: What to do about smooth units that no formulation of pieces can write.
SMOOTH_REMEDY = (
    "give accuracy=1e-3, curves with that proved error of the outputs; or "
    "formulation='smooth', exact nonlinear expressions for a nonlinear solver; or "
    "formulation=None and the solver relu_scip"
)


def declared_options(**values: ConfigValue) -> ConfigDict:
    """The options of a formulation, each with its default, domain and description."""
    config = ConfigDict()
    for name, declared in values.items():
        config.declare(name, declared)
    return config


def known_transformation(option: str, kind: str, spec: Any) -> str | None:
    """The value of an option that names a Pyomo transformation ``kind.*``, or None."""
    known = [name for name in TransformationFactory if name.startswith(f"{kind}.")]
    if spec is None or spec in known:
        return spec
    raise ValueError(
        f"{option}={spec!r} is unknown; choose one of {sorted(known)} or None."
    )


#: What an input can be: numbers with the binary that chooses each, or numbers.
InputValues = Mapping[float, Any] | Sequence[float]


@dataclass(frozen=True)
class Wiring:
    """What a formulation of whole networks may know of the model around its block.

    Attributes
    ----------
    inputs : sequence
        A variable, float or expression for each entry of the flat input vector.
    sides : callable
        The sides of the outputs' graphs that rows and objective of the model need now,
        one of ``"both"``, ``"hypograph"``, ``"epigraph"`` for each output.
    values : callable
        The :data:`InputValues` of each input that takes few by the rows of the model.
    point : callable
        The (1, n_inputs) present values of the inputs; None if one that matters has none.
    """

    inputs: Sequence[Any]
    sides: Callable[[], Sequence[str]]
    values: Callable[[], Mapping[int, InputValues]]
    point: Callable[[], np.ndarray | None]


class Formulation:
    """Base class: writes the unstable units of a layer into its block.

    Class attributes
    ----------------
    name : str
        The keyword, and the transformation ``relu.<name>``.
    needs_preactivation : bool
        Whether ``layer.pre`` is wanted; else only ``layer.rows`` is filled in and no
        pre-activation variable is made.
    needs_rows : bool
        Whether ``layer.rows`` is wanted next to ``layer.pre``.
    says_all : bool
        Whether what is written has the points of the network, no more and no fewer;
        a relaxation, a part of the network or one side of its graph has not.
    sides_from_model : tuple of str or None
        What :attr:`Wiring.sides` said, where what is written relies on that: it is checked
        whenever a solver or writer reads the block.
    values_from_model : mapping or None
        What :attr:`Wiring.values` said, likewise.
    reason : str
        Why it was chosen, where a formulation chose it in its own place.
    units_on_one_side : int
        How many unstable units are written without a binary, since the model needs one
        side of them only.
    CONFIG : ConfigDict
        The options.

    Parameters
    ----------
    **options
        Checked against :attr:`CONFIG`; unknown ones are refused.

    Notes
    -----
    An object holds options and is never written with: each write of a network gets an
    object of its own (:meth:`for_one_write`), whose :meth:`start` comes before all else.
    What a write must remember until :meth:`finish` is set there, and by layer name.
    """

    name: ClassVar[str] = ""
    needs_preactivation: bool = True
    needs_rows: bool = False
    says_all: bool = True
    sides_from_model: tuple[str, ...] | None = None
    values_from_model: Mapping[int, InputValues] | None = None
    reason: str = ""
    units_on_one_side: int = 0
    CONFIG: ClassVar[ConfigDict] = ConfigDict()

    def __init__(self, **options: Any) -> None:
        unknown = sorted(set(options) - set(self.CONFIG.keys()))
        if unknown:
            known = sorted(self.CONFIG.keys())
            raise ValueError(
                f"formulation '{self.name}' has no option '{unknown[0]}'; it takes "
                + (f"{known}." if known else "none.")
            )
        self.config = self.CONFIG(options)
        self.config.value()  # a value that was never read can't be pickled

    @property
    def title(self) -> str:
        """The name of the formulation that the user chose."""
        return self.name

    def for_one_write(self) -> Formulation:
        """A copy with the same options, for one write of one network.

        Whatever else the object holds is copied deeply, so that nothing of one write
        is seen by another.
        """
        new = copy(self)
        for name, held in vars(self).items():
            if name != "config":
                setattr(new, name, deepcopy(held))
        return new

    def begin(self, written: WellScaled) -> None:
        """Called once with the :class:`~pyomo_relu.bounds.well_scaled.WellScaled` network.

        Overridden by formulations that know something of the network in the user's
        units; the others need :meth:`start` only.
        """
        self.start(written.network, written.bounds)

    def replacement(
        self, bounds: Bounds, wiring: Wiring
    ) -> tuple[Bounds, Formulation] | None:
        """What is written in place of the given network, and the way to write it.

        Called once, before :meth:`begin`. Overridden by formulations of whole networks,
        and by those that want to know what stands around the network.

        Parameters
        ----------
        bounds : Bounds
            Of the given network.
        wiring : Wiring

        Returns
        -------
        Bounds
            Of a network with the same inputs, and the same outputs over the box.
        Formulation
            Of its nonlinear nodes, or a
            :class:`~pyomo_relu.formulations.WholeFormulation`.
        """
        return None

    def start(self, network: Network, bounds: Bounds) -> None:
        """Called once before any layer of ``network`` is written.

        The network is in the units of the rows, which may be other than the user's.
        """

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        """Write ``post == phi(pre)`` for every unit of the layer."""
        raise self.refusal(layer.node.name, f"activation '{layer.node.function}'")

    def write_max(self, layer: MaxLayer) -> None:
        """Write ``post == max of the arguments`` for every unit of the layer."""
        raise self.refusal(layer.node.name, "a maximum")

    def for_node(self, node: Node) -> Formulation:
        """The formulation that writes a nonlinear node: this one, or another one it names.

        Raises
        ------
        ValueError
            For smooth units, which a formulation of pieces can't write.
        """
        if isinstance(node, Smooth):
            raise ValueError(
                f"layer '{node.name}' computes '{node.function}', which is smooth, and "
                f"formulation '{self.name}' writes pieces; {SMOOTH_REMEDY}."
            )
        return self

    def write_smooth(self, layer: SmoothLayer) -> None:
        """Write ``post == phi(pre)`` for every unit of the layer; :meth:`for_node` sees to
        it that only formulations that can are asked."""
        raise self.refusal(layer.node.name, f"activation '{layer.node.function}'")

    def transform(self, blocks: list) -> None:
        """Called once with the blocks of all layers written, not yet in any model."""

    def finish(self, block: Any) -> None:
        """Called once when the block is installed; must not fail."""

    def set_values(
        self,
        block: Any,
        node: Node,
        pre: np.ndarray,
        post: np.ndarray,
        pieces: PiecesOf,
    ) -> None:
        """Give the variables in a layer's block the values that the network implies.

        Parameters
        ----------
        block : BlockData
            The layer's block, as the write method left it.
        node : PiecewiseLinear or Max
        pre, post : arrays
            Entries of the node's source and of the node.
        pieces : callable
            The pieces of a unit, as they were when it was written.
        """

    def refusal(self, layer: str, what: str) -> ValueError:
        """The error for a unit that this formulation can't write."""
        return ValueError(
            f"formulation '{self.name}' can't write {what} (layer '{layer}'); choose "
            f"another for this layer, for example formulation={{'{layer}': 'bigm', "
            f"'...': '{self.name}'}}."
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config.value()})"


#: Formulations by name.
FORMULATIONS: dict[str, type[Formulation]] = {}


def register_formulation(cls: type[Formulation]) -> type[Formulation]:
    """Class decorator: make a formulation a keyword and a Pyomo transformation."""
    if not cls.name:
        raise ValueError(f"{cls.__name__} needs a class attribute 'name'.")
    FORMULATIONS[cls.name] = cls
    register_transformation(cls)
    return cls


def make_formulation(spec: Any, options: Mapping[str, Any] | None = None) -> Formulation:
    """A formulation for one write, from its name or an object with its options."""
    if isinstance(spec, Formulation):
        if options:
            raise ValueError("options are given to the formulation itself, not beside it.")
        return spec.for_one_write()
    if isinstance(spec, tuple) and len(spec) == 2:
        return make_formulation(spec[0], {**spec[1], **(options or {})})
    if not isinstance(spec, str) or spec not in FORMULATIONS:
        raise ValueError(
            f"there is no formulation {spec!r}; choose one of {sorted(FORMULATIONS)}."
            + did_you_mean(spec, FORMULATIONS)
        )
    return FORMULATIONS[spec](**(options or {}))


def choose_formulations(
    network: Network, spec: Any, options: Mapping[str, Any]
) -> dict[int, Formulation]:
    """The formulation of every nonlinear node, in objects made for one write.

    Parameters
    ----------
    network : Network
    spec : str, Formulation, mapping or callable
        One for all layers; or a mapping from layer names, with ``"..."`` for the
        others; or a function of the layer's name. Each may be ``(name, options)``.
        An activation may be named by its own layer or by the layer before it.
    options : mapping
        For a single formulation.
    """
    kinds = (PiecewiseLinear, Smooth, Max)
    nodes = {i: n for i, n in enumerate(network.nodes) if isinstance(n, kinds)}
    by_layer = isinstance(spec, Mapping)
    if not by_layer and (isinstance(spec, Formulation) or not callable(spec)):
        one = make_formulation(spec, options)
        return {i: one.for_node(node) for i, node in nodes.items()}
    if options:
        raise ValueError(
            f"option '{next(iter(options))}' can't be given for a choice by layer; "
            "write {'layer': ('partition', {'parts': 2})}."
        )
    if by_layer:
        entries = _entries_by_layer(network, nodes, spec)
    else:
        entries = {i: spec(node.name) for i, node in nodes.items()}
    # What is named twice is one object. Entries live as long as their ids are keys.
    made: dict[Any, Formulation] = {}
    for entry in entries.values():
        if (key := _identity(entry)) not in made:
            made[key] = make_formulation(entry)
    return {i: made[_identity(e)].for_node(nodes[i]) for i, e in entries.items()}


def _identity(entry: Any) -> Any:
    return entry if isinstance(entry, str) else id(entry)


def _entries_by_layer(
    network: Network, nodes: Mapping[int, Any], spec: Mapping[str, Any]
) -> dict[int, Any]:
    """What a mapping from layer names says for each nonlinear node."""
    entries, used = {}, {"..."}
    for i, node in nodes.items():
        names = [node.name, network.nodes[node.source].name, "..."]
        key = next((name for name in names if name in spec), None)
        if key is None:
            raise ValueError(
                f"layer '{node.name}' has no formulation; name it, or give '...' "
                "for all others."
            )
        used.add(key)
        entries[i] = spec[key]
    unused = sorted(set(spec) - used)
    if unused:
        raise ValueError(
            f"formulation= names '{unused[0]}', which is no nonlinear layer; there "
            f"are {[n.name for n in nodes.values()]}."
        )
    return entries
