"""What steers the reading of a model: one record for each step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SubstitutionSettings:
    """Which inputs are replaced by what a row of the model makes them."""

    #: The variable that a row defines has at least this share of the row's largest
    #: coefficient: what the row may miss is divided by it (chosen by hand).
    least_share: float = 1e-4
    #: A definition may have so many terms, written out: more would make the network's
    #: first layer larger than what they save (chosen by hand).
    most_terms: int = 200
    #: A definition may bring so many drivers that were none, if they are integers; else
    #: one, so that the free drivers don't become more (chosen by hand).
    most_new: int = 8
    #: Numbers that cancel to less than this share of their size are 0 (chosen by hand,
    #: some thousand roundings).
    cancelled: float = 1e-12
    #: A bound that a definition implies is looser by this share of its size, so that
    #: rounding cuts nothing off (chosen by hand).
    loose: float = 1e-9


@dataclass(frozen=True)
class ComposingSettings:
    """Which blocks of one network share the nodes of a composed one."""

    #: So many blocks at least ...
    fewest_blocks: int = 8
    #: ... of a network whose matrices have so many entries at most: side by side a product
    #: is sparse, which costs some eight times a dense one, but no call for each block.
    #: (1,681 networks 4-64-1: 1.7 CPU s in place of 16.8; the limit is chosen by hand.)
    most_weights: int = 2048


@dataclass(frozen=True)
class ValueSettings:
    """Which variables count as taking few values."""

    #: A variable has so many values at most, and a choice so many members: each is a box
    #: or a row of a table (as many as formulation "table" takes by default).
    most: int = 1000
    #: Numbers that differ by less than this, relative to them, are one value (chosen by
    #: hand, far above rounding and far below what users write).
    same: float = 1e-9
    #: A value that is outside of a column's bounds by less than this, relative to it,
    #: counts as the bound: as much as solvers allow.
    outside: float = 1e-6
    #: A network is tabulated where outputs times values are at most so many entries of
    #: rows (chosen by hand: as many as a network of 300 neurons a layer has).
    most_entries: int = 100_000


SUBSTITUTION = SubstitutionSettings()
VALUES = ValueSettings()
COMPOSING = ComposingSettings()
