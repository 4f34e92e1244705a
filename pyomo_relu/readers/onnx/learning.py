"""Operators of the domain ``ai.onnx.ml``, which converters of scikit-learn write."""

from __future__ import annotations

import numpy as np

from pyomo_relu.readers.categories import looked_up, with_neighbours
from pyomo_relu.readers.onnx.node import OnnxNode, register_onnx_operator
from pyomo_relu.readers.values import Tensor

_DOMAIN = "ai.onnx.ml"


@register_onnx_operator("Scaler", domain=_DOMAIN)
def scaler(node: OnnxNode) -> Tensor:
    """``(x - offset) * scale``, one of each for all features or for each of them."""
    x = node.tensor(0)
    offset, factor = (
        np.asarray(node.attributes.get(key, [default]), dtype=float)
        for key, default in (("offset", 0.0), ("scale", 1.0))
    )
    if any(len(v) not in (1, x.shape[-1]) for v in (offset, factor)):
        raise node.error(f"its attributes don't fit the {x.shape[-1]} features it reads")
    return node.graph.standardize(node.name, x, offset, factor)


@register_onnx_operator("LinearRegressor", domain=_DOMAIN)
def linear_regressor(node: OnnxNode) -> Tensor:
    """``coefficients @ x + intercepts``, without a function after it."""
    x, attributes = node.tensor(0), node.attributes
    after = attributes.get("post_transform", "NONE")
    if after != "NONE":
        raise node.error(f"its post_transform {after} is not piecewise linear")
    targets = int(attributes.get("targets", 1))
    weight = np.asarray(node.required("coefficients"), dtype=float)
    weight = weight.reshape(targets, x.shape[-1])
    bias = attributes.get("intercepts", [0.0] * targets)
    return node.graph.matmul(node.name, x, weight.T, np.asarray(bias, dtype=float))


@register_onnx_operator("ArrayFeatureExtractor", domain=_DOMAIN)
def array_feature_extractor(node: OnnxNode) -> Tensor:
    """The entries at constant positions along the last axis."""
    x = node.tensor(0)
    places = np.asarray(node.constant(1, "positions"), dtype=np.int64).reshape(-1)
    codes = x.index[..., places]
    if len(x.shape) == 1:  # the result has two axes
        codes = codes[None, :]
    return node.graph.rearrange(node.name, [x], codes, batch=x.batch)


@register_onnx_operator("OneHotEncoder", domain=_DOMAIN)
def one_hot_encoder(node: OnnxNode) -> Tensor:
    """For each entry, which of the categories it is, along a new last axis.

    Exact where the entry is one of the categories; with ``zeros=1`` at all integers.
    """
    x = node.tensor(0)
    if "cats_int64s" not in node.attributes:
        raise node.error(
            "its categories are text, and the inputs of a network are numbers; train "
            "the model on integers"
        )
    given = np.asarray(node.attributes["cats_int64s"], dtype=float)
    categories = np.unique(given)
    if len(categories) < len(given):
        raise node.error("a category occurs twice")
    grid = with_neighbours(categories) if node.flag("zeros", True) else categories
    hot = (grid[:, None] == given[None, :]).astype(float)
    return looked_up(node.graph, node.name, x, grid, hot)
