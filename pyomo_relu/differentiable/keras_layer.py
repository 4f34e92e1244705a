"""Keras layers whose forward pass solves a mixed-integer program (TensorFlow backend).

Import this module only with TensorFlow installed. Programs are solved in float64, and the
parameters are never rounded on the way to them: no policy of Keras casts them. Results and
gradients have the type of the parameters.

The programs are solved in Python, which XLA can't call: Keras runs models with these layers
without ``jit_compile``, and ``tf.function(jit_compile=True)`` refuses them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

try:
    import keras
    import tensorflow as tf
except ImportError as e:  # pragma: no cover - depends on the installation
    raise ImportError(
        "layers for Keras need TensorFlow; pip install 'pyomo_relu[keras]'"
    ) from e

from pyomo_relu.differentiable.parametric import ParametricMILP
from pyomo_relu.differentiable.solution_gradients import (
    SolutionGradient,
    batch_backward,
    batch_forward,
    batch_values,
)


def milp_value(milp: ParametricMILP, theta: Any) -> Any:
    """The optimal value of each row of parameters, (N,), with its gradient.

    Parameters
    ----------
    milp : ParametricMILP
    theta : (N, p) tensor or array_like
        Any floating type, which the values have as well; integers count as float64.
    """
    theta = _parameters(theta)
    return tf.cast(_value(milp, tf.cast(theta, tf.float64)), theta.dtype)


def milp_solution(
    milp: ParametricMILP, theta: Any, how: SolutionGradient | None = None
) -> Any:
    """The optimal point of each row of parameters, (N, n), with its gradient.

    Parameters
    ----------
    milp : ParametricMILP
    theta : (N, p) tensor or array_like
        Any floating type, which the points have as well; integers count as float64.
    how : SolutionGradient, optional
        By default the derivative of the optimal basis.
    """
    theta, how = _parameters(theta), how or SolutionGradient()
    return tf.cast(_solution(milp, tf.cast(theta, tf.float64), how), theta.dtype)


def _parameters(theta: Any) -> Any:
    """A tensor of a floating type; Python's numbers are float64, as they are in Python."""
    if not any(tf.is_tensor(x) or hasattr(x, "numpy") for x in tf.nest.flatten(theta)):
        theta = np.asarray(theta)
    theta = tf.convert_to_tensor(theta)
    return theta if theta.dtype.is_floating else tf.cast(theta, tf.float64)


def _value(milp: ParametricMILP, theta: Any) -> Any:
    """``milp_value`` in float64."""
    size = len(milp.initial)

    @tf.custom_gradient
    def call(rows: Any) -> Any:
        value, slope = tf.py_function(
            lambda t: batch_values(milp, t.numpy()), [rows], [tf.float64, tf.float64]
        )
        value = tf.ensure_shape(value, [rows.shape[0]])
        slope = tf.ensure_shape(slope, [rows.shape[0], size])
        return value, lambda upstream: upstream[:, None] * slope

    return call(theta)


def _solution(milp: ParametricMILP, theta: Any, how: SolutionGradient) -> Any:
    """``milp_solution`` in float64."""
    size, width = len(milp.initial), milp.program().shape[1]

    def pull(t: Any, upstream: Any) -> np.ndarray:
        return batch_backward(milp, how, t.numpy(), upstream.numpy())

    @tf.custom_gradient
    def call(rows: Any) -> Any:
        points = tf.py_function(
            lambda t: batch_forward(milp, how, t.numpy()), [rows], tf.float64
        )

        def gradient(upstream: Any) -> Any:
            found = tf.py_function(pull, [rows, upstream], tf.float64)
            return tf.ensure_shape(found, [rows.shape[0], size])

        return tf.ensure_shape(points, [rows.shape[0], width]), gradient

    return call(theta)


class _MILPLayer(keras.layers.Layer, ABC):
    """What both layers share: parameters that nothing rounds, and the type of results."""

    def __init__(self, milp: ParametricMILP, *, dtype: Any = None, **kwargs: Any) -> None:
        # Keras would cast the parameters to the type of its policy: a bound of 1.1 that
        # is met in float64 is missed by one of 1.1 in float32.
        super().__init__(dtype=dtype, autocast=False, **kwargs)
        self.supports_jit = False  # XLA can't call Python
        self.milp, self.typed = milp, dtype is not None

    def _type(self, given: Any) -> str:
        """The type of results for parameters of a type."""
        if self.typed:
            return self.compute_dtype
        given = tf.as_dtype(given)
        return given.name if given.is_floating else "float64"

    @abstractmethod
    def _solve(self, theta: Any) -> Any:
        """Results in float64; each layer has its own way."""

    def call(self, theta: Any) -> Any:
        """Solve each row."""
        theta = _parameters(theta)
        found = self._solve(tf.cast(theta, tf.float64))
        return tf.cast(found, self._type(theta.dtype))

    def compute_output_spec(self, theta: Any) -> Any:
        """Shape and type of the results."""
        shape = self.compute_output_shape(theta.shape)
        return keras.KerasTensor(shape, dtype=self._type(theta.dtype))


class MILPValue(_MILPLayer):
    """A layer from parameters (N, p) to the optimal value (N, 1).

    A program isn't written to model files: build the layer anew and load the weights of
    the others.

    Parameters
    ----------
    milp : ParametricMILP
    dtype : str or policy, optional
        The type of the values; by default that of the parameters. After layers in half
        precision, ``dtype="float32"`` keeps the digits of the values.
    **kwargs
        Of ``keras.layers.Layer``.
    """

    def _solve(self, theta: Any) -> Any:
        return _value(self.milp, theta)[:, None]

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, int]:
        """One value for each row."""
        return (input_shape[0], 1)


class MILPSolution(_MILPLayer):
    """A layer from parameters (N, p) to the optimal point (N, n).

    Parameters
    ----------
    milp : ParametricMILP
    how : SolutionGradient, optional
        By default the derivative of the optimal basis.
    dtype : str or policy, optional
        The type of the points; by default that of the parameters.
    **kwargs
        Of ``keras.layers.Layer``.
    """

    def __init__(
        self, milp: ParametricMILP, how: SolutionGradient | None = None, **kwargs: Any
    ) -> None:
        super().__init__(milp, **kwargs)
        self.how, self.width = how or SolutionGradient(), milp.program().shape[1]

    def _solve(self, theta: Any) -> Any:
        return _solution(self.milp, theta, self.how)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, int]:
        """One point for each row."""
        return (input_shape[0], self.width)
