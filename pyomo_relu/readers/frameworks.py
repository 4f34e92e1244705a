"""A model as its framework runs it, for the check of what was read from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from pyomo_relu.readers.values import Call

_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}
_EPSILON |= {"bfloat16": 2.0**-7}
# The least numbers that a device needn't take for 0; many flush what is smaller.
_SMALLEST = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-24}
_SMALLEST |= {"bfloat16": 2.0**-126}
#: The most points at which a model with a list of admitted values is evaluated: a few
#: forward passes of a small model; by hand.
MOST_ADMITTED = 64
#: The largest integer at which a model of integers is evaluated: one of every type of
#: them but int8, which float32 holds.
INTEGERS = 30_000.0
_LARGEST = {"float64": 1e300, "float32": 3e38, "float16": 6e4, "bfloat16": 3e38}


@dataclass(frozen=True)
class Arithmetic:
    """The floating-point numbers that a model computes with.

    Attributes
    ----------
    dtype : str
        The coarsest type; the points are numbers of it.
    epsilon : float
        The distance from 1 to the next number; larger where a device computes coarser.
    largest : float
    mixed : bool
        Whether types are mixed, so that even a copy may round.
    smallest : float
        What is nearer to 0 may become 0.
    """

    dtype: str
    epsilon: float
    largest: float
    mixed: bool = False
    smallest: float = 0.0

    @classmethod
    def of(cls, dtypes: Iterable[str], coarse: bool = False) -> Arithmetic:
        """The arithmetic of a model that holds tensors of these types.

        ``coarse`` says that a device may multiply in TF32, with the eleven bits of half
        precision.

        Raises
        ------
        ValueError
            For a type that is not known here.
        """
        found = set(dtypes) or {"float32"}
        unknown = sorted(found - set(_EPSILON))
        if unknown:
            raise ValueError(
                f"the dtype {unknown[0]} is not known; convert the model to float32."
            )
        coarsest = max(found, key=lambda d: _EPSILON[d])
        epsilon = _EPSILON[coarsest]
        if coarse:
            epsilon = max(epsilon, _EPSILON["float16"])
        largest = min(_LARGEST[d] for d in found)
        smallest = max(_SMALLEST[d] for d in found)
        return cls(coarsest, epsilon, largest, coarse or len(found) > 1, smallest)

    def represent(self, points: np.ndarray) -> np.ndarray:
        """``points`` rounded to numbers of the type, as float64."""
        with np.errstate(over="ignore"):
            if self.dtype == "bfloat16":
                bits = np.ascontiguousarray(points, dtype=np.float32).view(np.uint32)
                return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(float)
            return points.astype(self.dtype).astype(float)


@dataclass(frozen=True)
class Record:
    """What one layer gave in the framework.

    Attributes
    ----------
    layer : str
        How errors name it.
    handle : int
        The node of the builder that was made for it.
    values : (N, size) array
    """

    layer: str
    handle: int
    values: np.ndarray


class CannotRunHere(Exception):
    """The model is sound, but this machine can't run it; the message says why."""


class Framework(ABC):
    """A model as its framework evaluates it; each reader has its own.

    Attributes
    ----------
    name : str
        How errors name the model, for example ``"the Keras model 'm'"``.
    arithmetic : Arithmetic
    heads : dict of callables
        By the number of an output: the smooth function that was taken off there, on
        (N, size) values of the network.
    admitted : dict of arrays
        By the number of an input: the only values that it may take.
    integers : set of int
        The numbers of inputs that are integers.
    """

    name: str
    arithmetic: Arithmetic

    def __init__(self) -> None:
        self.heads: dict[int, Callable[[np.ndarray], np.ndarray]] = {}
        self.admitted: dict[int, np.ndarray] = {}
        self.integers: set[int] = set()

    @abstractmethod
    def outputs(self, points: np.ndarray) -> list[np.ndarray]:
        """One (N, size) array for each output of the network, as a user would get it."""

    def represent(self, points: np.ndarray) -> np.ndarray:
        """The points, with admitted values in place of those of restricted inputs.

        There are as many as it takes to see each value once, but not very many.
        """
        points = self.arithmetic.represent(points)
        longest = max((len(v) for v in self.admitted.values()), default=0)
        rows = max(len(points), min(longest, MOST_ADMITTED))
        points = np.resize(points, (rows, points.shape[1]))
        columns = sorted(self.integers)
        points[:, columns] = np.clip(np.round(points[:, columns]), -INTEGERS, INTEGERS)
        rng = np.random.default_rng(0)
        for column, values in self.admitted.items():
            points[:, column] = np.resize(rng.permutation(values), rows)
        return points

    def shown(self, k: int, values: np.ndarray) -> np.ndarray:
        """What a user would get where the network's output ``k`` has these values."""
        return self.heads[k](values) if k in self.heads else values

    def replay(
        self, points: np.ndarray
    ) -> tuple[list[Record], list[np.ndarray] | None] | None:
        """What each layer gives, in their order, and the outputs of all; None: unknown."""
        return None


class CalledFramework(Framework):
    """A model whose parts were noted as :class:`~pyomo_relu.readers.values.Call`.

    Parameters
    ----------
    name : str
    run : callable
        From (N, n_inputs) points to one (N, size) array for each output.
    calls : sequence of Call
        In the order in which they run.
    source : int, optional
        The builder's node of the input, where there is only one.
    admitted : mapping, optional
        See :class:`Framework`.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[np.ndarray], list[np.ndarray]],
        calls: Sequence[Call],
        source: int | None,
        admitted: Mapping[int, np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.run, self.calls, self.source = name, run, calls, source
        self.admitted = dict(admitted or {})
        self.arithmetic = Arithmetic.of(["float64"])

    def outputs(self, points: np.ndarray) -> list[np.ndarray]:
        """The outputs (N, ...) of the source at points (N, n)."""
        return self.run(points)

    def replay(self, points: np.ndarray) -> tuple[list[Record], None]:
        """The results of all calls that can be reached from the input by calls."""
        known = {} if self.source is None else {self.source: points}
        records = []
        for call in self.calls:
            if call.source in known:
                known[call.result] = call.run(known[call.source].copy())
                records.append(Record(call.layer, call.result, known[call.result]))
        return records, None


def inputs_at(points: np.ndarray, shapes: Iterable[Sequence[int]]) -> list[np.ndarray]:
    """The (N, *shape) arrays of several inputs, of which ``points`` holds the entries."""
    found, start = [], 0
    for shape in shapes:
        size = prod(shape)
        found.append(points[:, start : start + size].reshape(-1, *shape))
        start += size
    return found


def stacked(rows: Iterable[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """One (N, size) array for each output, from the outputs at each of N points."""
    return [np.stack(parts) for parts in zip(*rows, strict=True)]
