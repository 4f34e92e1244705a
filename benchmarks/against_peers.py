"""Our solvers beside the best of their peers: the table that the reports of models share.

Peers are solvers that get the rows of the blocks. The best of them on a model is the one
that proved it first; where none did, the model counts as its limit, so that a ratio to it
is at least what the table says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from best_part import Cost, Pair, pairs
from common import geometric_mean, significant, table


def counted(found: Iterable[Pair]) -> list[Pair]:
    """Models that one side proved: of the others nothing is known."""
    return [p for p in found if p.one.proved or p.best.proved]


def ratio(pair: Pair) -> float:
    """Seconds of the best peer for one of ours; a side that proved nothing has its limit."""
    return pair.best.seconds / pair.one.seconds


def row(one: str, peers: Sequence[str], found: Sequence[Pair]) -> list[str]:
    """What the table says of one of our solvers and some peers."""
    known = counted(found)
    both = [p for p in known if p.one.proved and p.best.proved]
    return [
        one,
        ", ".join(peers),
        str(len(found)),
        str(sum(p.one.proved for p in found)),
        str(sum(p.best.proved for p in found)),
        significant(geometric_mean(map(ratio, known))) if known else "",
        f"{significant(geometric_mean(map(ratio, both)))} ({len(both)})" if both else "",
        str(sum(ratio(p) < 1 for p in known)),
    ]


def against_peers(
    names: Sequence[str],
    found: Mapping[tuple[str, str], Cost],
    ours: Sequence[str],
    peers: Sequence[str],
) -> str:
    """Geometric means of each of our solvers, against all peers and against each one."""
    groups = [list(peers), *([peer] for peer in peers)]
    lines = [
        row(one, group, compared)
        for one in ours
        for group in groups
        if (compared := pairs(names, found, one, group))
    ]
    if not lines:
        return "No row of a peer."
    head = ["", "best of", "models", "proved", "peers proved", "times faster"]
    return table([*head, "where both proved", "behind on"], lines)
