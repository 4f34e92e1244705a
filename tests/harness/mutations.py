"""Damage of files: bytes, values in JSON, fields of protobuf messages, arrays."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

#: Integers at which programs go wrong.
INTEGERS = (0, 1, -1, 2, 3, 7, 255, -128, 10**6, 2 * 10**9, 2**31, -(2**31), 10**12)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-320, 1e300, -1e300, float("nan"), float("inf"))
TEXTS = ("", "x", "float16", "linear", "NOTSET", "\0", "a/b", "..", "\u2028", "y" * 100)


def mutated_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """``data`` with one to four random changes."""
    found = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        n = len(found)
        at = int(rng.integers(n)) if n else 0
        length = (
            int(rng.integers(1, 17)) if rng.random() < 0.8 else int(rng.integers(1, 400))
        )
        kind = rng.integers(8)
        if kind == 0 and n:
            found[at] ^= 1 << int(rng.integers(8))
        elif kind == 1 and n:
            found[at] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
        elif kind == 2:
            found[at : at + length] = rng.bytes(length)
        elif kind == 3:
            del found[at : at + length]
        elif kind == 4:
            found[at:at] = rng.bytes(length)
        elif kind == 5 and n:
            other = int(rng.integers(n))
            found[at:at] = found[other : other + length]
        elif kind == 6 and n:
            number = int(rng.choice(INTEGERS)) % 2**64
            width = int(rng.choice([2, 4, 8]))
            found[at : at + width] = number.to_bytes(8, "little")[:width]
        elif rng.random() < 0.2:
            del found[at:]
    return bytes(found)


def mutated_json(rng: np.random.Generator, value: Any) -> Any:
    """A copy of a JSON value with one to three random changes in it."""
    found = copy.deepcopy(value)
    for _ in range(rng.integers(1, 4)):
        places = list(_places(found))
        if not places:
            return _other(rng, found)
        holder, key = places[int(rng.integers(len(places)))]
        kind = rng.integers(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 2:
            other, place = places[int(rng.integers(len(places)))]
            holder[key] = copy.deepcopy(other[place])
        else:
            holder[key] = _other(rng, holder[key])
    return found


def _places(value: Any):
    """(container, key) of everything inside a JSON value."""
    stack = [value]
    while stack:
        holder = stack.pop()
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                stack.append(holder[key])


def _other(rng: np.random.Generator, value: Any) -> Any:
    """A value of the same type mostly, but another one."""
    if rng.random() < 0.2:
        return [None, True, [], {}, "a", 1.5, 3, [1, 2], {"a": 1}][int(rng.integers(9))]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        near = value + int(rng.integers(-2, 3))
        return near if rng.random() < 0.4 else int(rng.choice(INTEGERS))
    if isinstance(value, float):
        return float(rng.choice(NUMBERS))
    if isinstance(value, str):
        return str(rng.choice(TEXTS)) if rng.random() < 0.7 else value + "_2"
    if isinstance(value, list):
        return value[::-1] if rng.random() < 0.5 else value * 2
    if isinstance(value, dict):
        return dict(list(value.items())[:-1])
    return float(rng.choice(NUMBERS))


def mutate_message(rng: np.random.Generator, message: Any) -> None:
    """Change one to three fields of a protobuf message, however deep."""
    for _ in range(rng.integers(1, 4)):
        inner = list(_messages(message))
        chosen = inner[int(rng.integers(len(inner)))]
        fields = chosen.DESCRIPTOR.fields
        # Mostly a field that is there.
        present = [f for f, _ in chosen.ListFields()]
        if present and rng.random() < 0.9:
            fields = present
        if fields:
            _change_field(rng, chosen, fields[int(rng.integers(len(fields)))])


def _messages(message: Any):
    stack = [message]
    while stack:
        top = stack.pop()
        yield top
        for field, value in top.ListFields():
            if field.type == field.TYPE_MESSAGE:
                stack.extend(value if _repeated(field) else [value])


def _repeated(field: Any) -> bool:
    repeated = getattr(field, "is_repeated", None)  # newer protobuf has no label
    return field.label == field.LABEL_REPEATED if repeated is None else bool(repeated)


def _change_field(rng: np.random.Generator, message: Any, field: Any) -> None:
    if rng.random() < 0.15:
        message.ClearField(field.name)
        return
    if not _repeated(field):
        if field.type == field.TYPE_MESSAGE:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, _scalar(rng, field, getattr(message, field.name)))
        return
    values = getattr(message, field.name)
    at = int(rng.integers(len(values))) if len(values) else 0
    kind = rng.integers(3)
    if kind == 0 and len(values):
        del values[at]
    elif field.type == field.TYPE_MESSAGE:
        if len(values):
            other = copy.deepcopy(values[at])
            values.add().CopyFrom(other)
    elif kind == 1 and len(values):
        values.append(values[at])
    elif len(values):
        values[at] = _scalar(rng, field, values[at])
    else:
        values.append(_scalar(rng, field, None))


def _scalar(rng: np.random.Generator, field: Any, value: Any) -> Any:
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return float(np.float32(rng.choice(NUMBERS)))
    if field.type == field.TYPE_STRING:
        return str(rng.choice(TEXTS)) if rng.random() < 0.7 else f"{value}_2"
    if field.type == field.TYPE_BYTES:
        return mutated_bytes(rng, value or b"a")
    if field.type == field.TYPE_BOOL:
        return not value
    if field.type == field.TYPE_ENUM:
        return int(rng.choice([v.number for v in field.enum_type.values]))
    number = int(rng.choice(INTEGERS))
    if field.type in (field.TYPE_INT32, field.TYPE_SINT32, field.TYPE_SFIXED32):
        return int(np.clip(number, -(2**31), 2**31 - 1))
    if field.type in (field.TYPE_UINT64, field.TYPE_UINT32, field.TYPE_FIXED64):
        return abs(number) % 2**31
    return (value or 0) + int(rng.integers(-2, 3)) if rng.random() < 0.3 else number


def mutated_array(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """An array with other entries, another shape or another dtype."""
    found = np.array(array)
    kind = rng.integers(7)
    if kind == 0 and found.dtype.kind in "iuf" and found.size:
        values = INTEGERS if found.dtype.kind in "iu" else NUMBERS
        with np.errstate(over="ignore"):
            number = np.array(rng.choice(values)).astype(found.dtype)
        found.reshape(-1)[int(rng.integers(found.size))] = number
    elif kind == 1 and found.size:
        found = found.reshape(-1)[: int(rng.integers(found.size))]
    elif kind == 2:
        found = np.concatenate([found.reshape(-1), found.reshape(-1)])
    elif kind == 3:
        found = found[None] if rng.random() < 0.5 else found.T
    elif kind == 4 and found.dtype.kind in "iuf":
        with np.errstate(over="ignore", invalid="ignore"):
            found = found.astype(rng.choice(["f4", "f8", "i4", "i8", "u1", ">f8", "c16"]))
    elif kind == 5 and found.size > 1:
        found = rng.permutation(found.reshape(-1)).reshape(found.shape)
    else:
        found = np.zeros(found.shape, dtype=found.dtype)
    return found
