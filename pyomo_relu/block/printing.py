"""What a network block says of itself: its ``repr``, its ``pprint``, wrong names of outputs.

A network has thousands of rows, and who prints a model wants to see the model. So
``pprint()`` shows a line for the network, inputs and outputs; ``pprint(verbose=True)`` of
the block shows everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pyomo.common.formatting import StreamIndenter
from pyomo.core.base.block import BlockData
from pyomo.core.base.var import IndexedVar

from pyomo_relu.formulations import Formulation
from pyomo_relu.network import Max, Network, PiecewiseLinear, Smooth

#: So many groups of layers are named before the rest is counted.
MOST_GROUPS = 4
#: Names of functions as people write them.
WRITTEN = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "relu6": "ReLU6", "max": "maxima"}

_everything: ContextVar[bool] = ContextVar("print everything", default=False)


@contextmanager
def printing(verbose: bool) -> Iterator[None]:
    """Inside, network blocks print everything where that is asked for."""
    token = _everything.set(verbose or _everything.get())
    try:
        yield
    finally:
        _everything.reset(token)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def layers_in_words(network: Network) -> str:
    """The nonlinear layers, equal ones together: ``2 x 24 ReLU, 12 abs``."""
    groups: list[tuple[int, str, int]] = []  # size, function, how often
    for node in network.nodes:
        if not isinstance(node, (PiecewiseLinear, Smooth, Max)):
            continue
        function = "max" if isinstance(node, Max) else node.function
        size, name = node.size, WRITTEN.get(function, function)
        if groups and groups[-1][:2] == (size, name):
            groups[-1] = (size, name, groups[-1][2] + 1)
        else:
            groups.append((size, name, 1))
    words = [f"{f'{k} x ' if k > 1 else ''}{n} {name}" for n, name, k in groups]
    if len(words) > MOST_GROUPS:
        more = sum(k for _, _, k in groups[MOST_GROUPS:])
        words = [*words[:MOST_GROUPS], f"{more} layers more"]
    return ", ".join(words) or "affine"


def in_words(block: Any) -> str:
    """What a block is: network, formulation, binaries."""
    if not block.has_network:
        return "no network yet"
    network, formulation = block.network, block.formulation
    parts = [
        _counted(network.n_inputs, "input"),
        layers_in_words(network),
        _counted(network.n_outputs, "output"),
    ]
    if block.bounds is None:
        parts.append("no formulation")
    else:
        parts.append(_name_of(block, formulation))
        binaries = sum(1 for v in block.layer_variables if v.is_binary())
        parts.append(f"{binaries} binar{'y' if binaries == 1 else 'ies'}")
    return ", ".join(parts)


def _name_of(block: Any, formulation: Any) -> str:
    """The name of a formulation; the names of those in use where layers have their own."""
    if isinstance(formulation, str):
        return formulation
    if isinstance(formulation, Formulation):
        return formulation.name
    names = dict.fromkeys(f.name for f in block.formulations.values())
    return " and ".join(names) or str(formulation)


def one_line(block: Any) -> str:
    """The ``repr`` of a network block."""
    return f"ReLUNetBlock {block.name}: {in_words(block)}"


def line_of_indexed(component: Any) -> str:
    """The ``repr`` of an indexed one: the number of its blocks, and what they are."""
    if not component.is_constructed():
        return f"ReLUNetBlock {component.name}: not constructed"
    found: dict[str, int] = {}
    for data in component._data.values():
        words = in_words(data)
        found[words] = found.get(words, 0) + 1
    kinds = [words if len(found) == 1 else f"{k} of {words}" for words, k in found.items()]
    if len(kinds) > MOST_GROUPS:
        kinds = [*kinds[:MOST_GROUPS], f"{len(kinds) - MOST_GROUPS} kinds more"]
    count = _counted(len(component._data), "block")
    return f"ReLUNetBlock {component.name}: {'; '.join([count, *kinds])}"


def print_block(block: Any, ostream: Any, sort: Any, everything: Any) -> None:
    """Print a block: a line and what the user deals with, or all of it.

    Parameters
    ----------
    everything : callable
        Prints all components to a stream.
    """
    ostream.write(f"ReLUNetBlock: {in_words(block)}\n")
    if _everything.get() or block.component("layer") is None:
        everything(ostream, sort)
        return
    layer = block.component("layer")
    indented = StreamIndenter(ostream, block._PPRINT_INDENT)
    hidden = []
    for component in block.component_map().values():
        if component is layer:
            hidden = [str(key) for key in component.keys()]
        else:
            component.pprint(ostream=indented, sort=sort)
    some = ", ".join(hidden[:MOST_GROUPS]) + (", ..." if len(hidden) > MOST_GROUPS else "")
    variables = len(block.layer_variables)
    ostream.write(
        f"layer: {some}; {variables} variables and their rows; "
        f"{block.name}.pprint(verbose=True) prints them.\n"
    )


class PrintedData(BlockData):
    """What a single network block prints and draws."""

    def __repr__(self) -> str:
        return one_line(self)

    def pprint(
        self, ostream: Any = None, verbose: bool = False, prefix: str = "", **kwds: Any
    ) -> None:
        """Print what the block is, its inputs and outputs; all of it with ``verbose``."""
        with printing(verbose):
            super().pprint(ostream, verbose, prefix, **kwds)

    def _pprint_blockdata_components(self, ostream: Any, sort: Any) -> None:
        print_block(self, ostream, sort, super()._pprint_blockdata_components)

    def plot(self, output: Any = 0, *, ax: Any = None, cmap: str = "viridis") -> Any:
        """Draw an output over the free inputs, with the present values and the user's rows.

        Parameters
        ----------
        output : int or str
            Position, or name where the network has names.
        ax : matplotlib Axes, optional
        cmap : str
            A Matplotlib colour map.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ValueError
            Unless one or two inputs can move, or for an unknown output.
        ImportError
            Without Matplotlib.
        """
        from pyomo_relu.block.picture import plot

        return plot(self, output, ax, cmap)


class NetworkOutputs(IndexedVar):
    """Outputs of a network: variables whose missing names are explained."""

    def _validate_index(self, idx: Any) -> Any:
        try:
            return super()._validate_index(idx)
        except KeyError:
            names = [key for key in self._index_set if isinstance(key, str)]
            raise KeyError(no_such_entry(self.name, idx, names, len(self))) from None


def no_such_entry(name: str, asked: Any, names: Sequence[str], count: int) -> str:
    """What an error says of an entry that there isn't."""
    if names:
        from difflib import get_close_matches

        close = get_close_matches(str(asked), names, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {list(names)}."
        return f"'{name}' has no entry {asked!r}; {hint}"
    what = name.rsplit(".", 1)[-1]
    remedy = (
        f" For names give ReLUNetBlock(..., {what[:-1]}_names=[...]), one for each."
        if isinstance(asked, str)
        else ""
    )
    return (
        f"'{name}' has no entry {asked!r}: the network has no names for its {what}, so they "
        f"are numbered 0 to {count - 1}.{remedy}"
    )
