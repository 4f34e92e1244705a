"""This package's version, and those of other packages that it is tested with.

Pyomo, HiGHS and Keras promise less than this package uses of them: a minor release of
HiGHS changed what a number of threads means, and every solve failed. ``setup.cfg`` keeps
such releases out; whoever brings one in all the same is told once, by name.
"""

from __future__ import annotations

import warnings

#: As in ``setup.cfg``.
VERSION = "0.1.0"

#: The oldest and the newest minor release of each package that the tests ran with, as in
#: ``setup.cfg``; a scheduled run tries the newest of all.
TESTED: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "pyomo": ((6, 10), (6, 10)),
    "highspy": ((1, 15), (1, 16)),
    "keras": ((3, 0), (3, 15)),
}


class UntestedVersionWarning(UserWarning):
    """A package is older or newer than what this one is tested with."""


_told: set[str] = set()


def check_version(name: str, version: str | tuple[int, ...]) -> None:
    """Warn once where a package's version is outside of :data:`TESTED`.

    Parameters
    ----------
    name : str
        As pip knows the package.
    version : str or tuple of int
        What the package says of itself.
    """
    numbers = _numbers(version)
    oldest, newest = TESTED[name]
    if name in _told or len(numbers) < 2 or oldest <= numbers[:2] <= newest:
        return
    _told.add(name)
    found, low, high = (".".join(map(str, n)) for n in (numbers, oldest, newest))
    what = f"{low}" if oldest == newest else f"{low} to {high}"
    warnings.warn(
        f"{name} {found} is not tested with this version of pyomo_relu, which was tested "
        f"with {what}; if anything looks wrong, install one of these "
        f"(pip install '{name}>={low},<{high.rsplit('.', 1)[0]}.{newest[1] + 1}').",
        UntestedVersionWarning,
        stacklevel=3,
    )


def _numbers(version: str | tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(version, str):
        return tuple(version)[:3]
    numbers = []
    for part in version.split(".")[:3]:
        digits = "".join(c for c in part if c.isdigit())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
