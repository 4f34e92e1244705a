"""The two-neuron network on which every formulation shows its constraints."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import pyomo.environ as pyo
from pyomo.gdp import Disjunct, Disjunction
from pyomo.mpec import Complementarity
from pyomo.repn import generate_standard_repn

from pyomo_relu.block.component import ReLUNetBlock
from pyomo_relu.network import NetworkBuilder, activations


def two_neurons(formulation: Any, activation: str = "relu", **options: Any) -> Any:
    """A model ``m.net`` of two neurons over ``x`` in ``[-1, 1]`` squared.

    The layer ``relu`` has the pre-activations ``x[0] - x[1]`` in [-2, 2] and
    ``2 x[0] + x[1] - 1`` in [-4, 2]; the output is their sum. With
    ``activation="max"`` it is their maximum.
    """
    b = NetworkBuilder()
    x = b.input("x", (2,))
    h = b.affine("pre", [(x, [[1.0, -1.0], [2.0, 1.0]])], [0.0, -1.0])
    if activation == "max":
        out = b.max("max", h, [[0, 1]])
    else:
        r = b.piecewise(activation, h, activations.ACTIVATIONS[activation]())
        out = b.affine("sum", [(r, [[1.0, 1.0]])])
    m = pyo.ConcreteModel()
    m.x = pyo.Var([0, 1], bounds=(-1, 1))
    m.net = ReLUNetBlock(
        network=b.build([out]), inputs=m.x, formulation=formulation, **options
    )
    return m


def hat(formulation: Any, **options: Any) -> pyo.ConcreteModel:
    """A model ``m.net`` of one input ``x`` in [-2, 3]: 0, then ``x``, then ``2 - x``."""
    from pyomo_relu.block import ReLUNetBlock
    from pyomo_relu.network import NetworkBuilder, activations

    b = NetworkBuilder()
    h = b.affine("pre", [(b.input("x", (1,)), [[1.0], [1.0]])], [0.0, -1.0])
    r = b.piecewise("relu", h, activations.relu())
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-2, 3))
    m.net = ReLUNetBlock(
        network=b.build([b.affine("sum", [(r, [[1.0, -2.0]])])]),
        inputs=[m.x],
        formulation=formulation,
        **options,
    )
    return m


def show(model: Any, layer: str | None = None) -> None:
    """Print every constraint of the network's nonlinear layers, numbers to 6 digits.

    Parameters
    ----------
    model : ConcreteModel
        As :func:`two_neurons` returns it.
    layer : str, optional
        Only this layer.
    """
    for name, block in model.net.layer.items():
        if layer is not None and name != layer:
            continue
        for c in block.component_data_objects(
            (pyo.Constraint, pyo.SOSConstraint, Disjunction, Complementarity),
            active=True,
            descend_into=(pyo.Block, Disjunct),
            sort=False,
        ):
            text = _short(f"{c.name}: {_text(c)}", layer)
            print(textwrap.fill(text, 88, subsequent_indent="    ", break_on_hyphens=False))


def _short(text: str, layer: str | None) -> str:
    """Component names without the block's, and without the only layer's."""
    text = re.sub(r"net\.layer\[([^\]]*)\]", r"\1", text).replace("net.outputs", "outputs")
    return text if layer is None else text.replace(f"{layer}.", "")


def _text(c: Any) -> str:
    if c.ctype is pyo.SOSConstraint:
        inside = ", ".join(v.name for v, _ in c.get_items())
        return f"SOS{c.level}({inside})"
    if c.ctype is Disjunction:
        return " or ".join(d.name for d in c.disjuncts)
    if c.ctype is Complementarity:
        return " complements ".join(map(str, c._args))
    repn = generate_standard_repn(c.body)
    pairs = zip(repn.quadratic_coefs, repn.quadratic_vars)
    terms = [(a, v.name) for a, v in zip(repn.linear_coefs, repn.linear_vars)]
    terms += [(a, f"{v.name}*{w.name}") for a, (v, w) in pairs]
    text = _sum(terms)
    low, high = (
        None if b is None else pyo.value(b) - repn.constant for b in (c.lower, c.upper)
    )
    if c.equality:
        return f"{text} == {low:.6g}"
    if low is not None and high is not None:
        return f"{low:.6g} <= {text} <= {high:.6g}"
    return f"{text} >= {low:.6g}" if high is None else f"{text} <= {high:.6g}"


def _sum(terms: list[tuple[float, str]]) -> str:
    """Coefficients times names, to 6 digits."""
    text = ""
    for a, name in terms:
        size, sign = f"{abs(a):.6g}", "-" if a < 0 else "+"
        one = name if size == "1" else f"{size} {name}"
        text += f" {sign} {one}" if text else f"{sign}{one}".removeprefix("+")
    return text
