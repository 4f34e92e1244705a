"""Keras layers whose forward pass solves a mixed-integer program (TensorFlow backend).

Import this module only with TensorFlow installed. Layers compute in float64, whatever
the type of their inputs.
"""

from __future__ import annotations

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


def milp_value(milp: ParametricMILP, theta):
    """The optimal value of each row of parameters, (N,), with its gradient.

    Parameters
    ----------
    milp : ParametricMILP
    theta : (N, p) tensor
    """
    size = len(milp.initial)

    @tf.custom_gradient
    def call(rows):
        def solve(t):
            return batch_values(milp, t.numpy())

        value, slope = tf.py_function(solve, [rows], [tf.float64, tf.float64])
        value = tf.ensure_shape(value, [rows.shape[0]])
        slope = tf.ensure_shape(slope, [rows.shape[0], size])

        def gradient(upstream):
            return upstream[:, None] * slope

        return value, gradient

    theta = tf.convert_to_tensor(theta)
    return tf.cast(call(tf.cast(theta, tf.float64)), theta.dtype)


def milp_solution(milp: ParametricMILP, theta, how: SolutionGradient | None = None):
    """The optimal point of each row of parameters, (N, n), with its gradient.

    Parameters
    ----------
    milp : ParametricMILP
    theta : (N, p) tensor
    how : SolutionGradient, optional
        By default the derivative of the optimal basis.
    """
    chosen = how or SolutionGradient()
    size, width = len(milp.initial), milp.program().shape[1]

    @tf.custom_gradient
    def call(rows):
        def solve(t):
            return batch_forward(milp, chosen, t.numpy())

        def pull(t, upstream):
            return batch_backward(milp, chosen, t.numpy(), upstream.numpy())

        points = tf.py_function(solve, [rows], tf.float64)
        points = tf.ensure_shape(points, [rows.shape[0], width])

        def gradient(upstream):
            found = tf.py_function(pull, [rows, upstream], tf.float64)
            return tf.ensure_shape(found, [rows.shape[0], size])

        return points, gradient

    theta = tf.convert_to_tensor(theta)
    return tf.cast(call(tf.cast(theta, tf.float64)), theta.dtype)


class MILPValue(keras.layers.Layer):
    """A layer from parameters (N, p) to the optimal value (N, 1).

    A program isn't written to model files: build the layer anew and load the weights of
    the others.
    """

    def __init__(self, milp: ParametricMILP, **kwargs) -> None:
        super().__init__(**kwargs)
        self.milp = milp

    def call(self, theta):
        """Solve each row."""
        return milp_value(self.milp, theta)[:, None]

    def compute_output_shape(self, input_shape):
        """One value for each row."""
        return (input_shape[0], 1)


class MILPSolution(keras.layers.Layer):
    """A layer from parameters (N, p) to the optimal point (N, n)."""

    def __init__(
        self, milp: ParametricMILP, how: SolutionGradient | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.milp, self.how = milp, how or SolutionGradient()
        self.width = milp.program().shape[1]

    def call(self, theta):
        """Solve each row."""
        return milp_solution(self.milp, theta, self.how)

    def compute_output_shape(self, input_shape):
        """One point for each row."""
        return (input_shape[0], self.width)
