"""`Formulation`: one way to write nonlinear units in Pyomo, and the registry of them.

To add one, derive from :class:`Formulation`, write the units it is handed, and
decorate the class with :func:`register_formulation`: it is then a keyword of
``ReLUNetBlock`` and the Pyomo transformation ``relu.<name>``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pyomo.common.config import ConfigDict

from pyomo_relu.formulations.values import Row, Values, entry_row
from pyomo_relu.network import Max, PiecewiseLinear


@dataclass
class Piece:
    """``slope * x + intercept`` for ``lower <= x <= upper``."""

    lower: float
    upper: float
    slope: float
    intercept: float

    def __call__(self, x: float) -> float:
        return self.slope * x + self.intercept


@dataclass
class PiecewiseLayer:
    """The units of a piecewise-linear node that a formulation has to write.

    Attributes
    ----------
    block : BlockData
        Where their components go.
    node : PiecewiseLinear
    units : list of int
        Unstable units that a later layer needs.
    pre : dict
        Pre-activation variable (or expression) of each unit; empty if the
        formulation doesn't need them.
    post : dict
        The variable that must equal the activation of each unit; it has its bounds.
    rows : dict
        The pre-activation of each unit as a :class:`Row` over the layer before.
    lower, upper : dict
        Bounds of the pre-activation, floats.
    is_output : bool
        Whether ``post`` are outputs, whose bounds the user may change.
    """

    block: Any
    node: PiecewiseLinear
    units: list[int]
    pre: dict[int, Any] = field(default_factory=dict)
    post: dict[int, Any] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    lower: dict[int, float] = field(default_factory=dict)
    upper: dict[int, float] = field(default_factory=dict)
    is_output: bool = False

    def pieces(self, i: int) -> list[Piece]:
        """The pieces of unit ``i`` that its bounds meet, from left to right."""
        return unit_pieces(self.node, i, self.lower[i], self.upper[i])

    def pre_row(self, i: int) -> Row:
        """The pre-activation variable of unit ``i`` as a row."""
        return entry_row(self.pre[i], self.lower[i], self.upper[i])


@dataclass
class MaxLayer:
    """The units of a max node that a formulation has to write.

    ``arguments[j]`` lists the entries that unit ``j`` compares, those left out that
    can't be the largest; ``post[j]`` is the variable that must equal their maximum.
    """

    block: Any
    node: Max
    units: list[int]
    source: Values
    arguments: dict[int, list[int]] = field(default_factory=dict)
    post: dict[int, Any] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)

    def argument_row(self, i: int) -> Row:
        """Entry ``i`` of the source as a row with one term."""
        return entry_row(
            self.source.entries[i], float(self.source.lower[i]), float(self.source.upper[i])
        )


def unit_pieces(node: PiecewiseLinear, i: int, lower: float, upper: float) -> list[Piece]:
    """The pieces of unit ``i`` that meet ``[lower, upper]``, cut to it.

    A step at the upper end counts: the value there is the right one. Neighbours on one
    line are joined.
    """
    if node.function == "relu":  # what the loop below finds, without arrays
        if lower >= 0.0:
            return [Piece(lower, upper, 1.0, 0.0)]
        if upper <= 0.0:
            return [Piece(lower, upper, 0.0, 0.0)]
        return [Piece(lower, 0.0, 0.0, 0.0), Piece(0.0, upper, 1.0, 0.0)]
    ends = [-np.inf, *node.breakpoints[i].tolist(), np.inf]
    jumps = node.jumps[i]
    found: list[Piece] = []
    for p, (slope, intercept) in enumerate(
        zip(node.slopes[i].tolist(), node.intercepts[i].tolist())
    ):
        low, high = max(lower, ends[p]), min(upper, ends[p + 1])
        if low > high:
            continue
        if low == high:
            # A breakpoint belongs to the piece on its right; on the left of a step
            # that piece has no length, but its value is taken.
            ends_here = ends[p + 1] == low
            starts_here = p > 0 and ends[p] == low
            if ends_here or (starts_here and lower < upper and jumps[p - 1] == 0):
                continue
        if found and (found[-1].slope, found[-1].intercept) == (slope, intercept):
            found[-1].upper = high
        else:
            found.append(Piece(low, high, slope, intercept))
    return found


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
    needs_preactivation: ClassVar[bool] = True
    needs_rows: ClassVar[bool] = False
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

    def begin(self, written) -> None:
        """Called once with the :class:`~pyomo_relu.bounds.well_scaled.WellScaled` network.

        Overridden by formulations that know something of the network in the user's
        units; the others need :meth:`start` only.
        """
        self.start(written.network, written.bounds)

    def start(self, network, bounds) -> None:
        """Called once before any layer of ``network`` is written.

        The network is in the units of the rows, which may be other than the user's.
        """

    def write_piecewise(self, layer: PiecewiseLayer) -> None:
        """Write ``post == phi(pre)`` for every unit of the layer."""
        raise self.refusal(layer.node.name, f"activation '{layer.node.function}'")

    def write_max(self, layer: MaxLayer) -> None:
        """Write ``post == max of the arguments`` for every unit of the layer."""
        raise self.refusal(layer.node.name, "a maximum")

    def transform(self, blocks: list) -> None:
        """Called once with the blocks of all layers written, not yet in any model."""

    def finish(self, block) -> None:
        """Called once when the block is installed; must not fail."""

    def set_values(
        self,
        block,
        node,
        pre: np.ndarray,
        post: np.ndarray,
        pieces: Callable[[int], list[Piece]],
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
    from pyomo_relu.formulations.transformation import register_transformation

    if not cls.name:
        raise ValueError(f"{cls.__name__} needs a class attribute 'name'.")
    FORMULATIONS[cls.name] = cls
    register_transformation(cls)
    return cls


def make_formulation(spec, options: Mapping[str, Any] | None = None) -> Formulation:
    """A formulation for one write, from its name or an object with its options."""
    if isinstance(spec, Formulation):
        if options:
            raise ValueError("options are given to the formulation itself, not beside it.")
        return spec.for_one_write()
    if isinstance(spec, tuple) and len(spec) == 2:
        return make_formulation(spec[0], {**spec[1], **(options or {})})
    if spec not in FORMULATIONS:
        raise ValueError(
            f"there is no formulation {spec!r}; choose one of {sorted(FORMULATIONS)}."
        )
    return FORMULATIONS[spec](**(options or {}))


def choose_formulations(
    network, spec, options: Mapping[str, Any]
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
    nodes = {
        i: n for i, n in enumerate(network.nodes) if isinstance(n, (PiecewiseLinear, Max))
    }
    if isinstance(spec, Mapping) or (callable(spec) and not isinstance(spec, Formulation)):
        if options:
            raise ValueError(
                f"option '{next(iter(options))}' can't be given for a choice by layer; "
                "write {'layer': ('partition', {'parts': 2})}."
            )
    else:
        one = make_formulation(spec, options)
        return {i: one for i in nodes}
    # With each entry, which must live as long as its id is a key.
    made: dict[Any, tuple[Any, Formulation]] = {}
    chosen: dict[int, Formulation] = {}
    used: set[str] = set()
    for i, node in nodes.items():
        names = [node.name, network.nodes[node.source].name, "..."]
        if isinstance(spec, Mapping):
            key = next((name for name in names if name in spec), None)
            if key is None:
                raise ValueError(
                    f"layer '{node.name}' has no formulation; name it, or give '...' "
                    "for all others."
                )
            used.add(key)
            entry = spec[key]
        else:
            entry = spec(node.name)
        mark = entry if isinstance(entry, str) else id(entry)
        if mark not in made:
            made[mark] = (entry, make_formulation(entry))
        chosen[i] = made[mark][1]
    if isinstance(spec, Mapping):
        unused = sorted(set(spec) - used - {"..."})
        if unused:
            raise ValueError(
                f"formulation= names '{unused[0]}', which is no nonlinear layer; there "
                f"are {[n.name for n in nodes.values()]}."
            )
    return chosen
