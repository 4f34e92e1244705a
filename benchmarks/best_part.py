"""``relu`` beside the best of its parts: the table that three reports share.

``relu`` runs boxes, sides, prices, SCIP and HiGHS by turns, and shall hardly cost more than
whoever names the right one of them: at most ``FACTOR`` times its CPU seconds and ``MORE``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from common import geometric_mean, seconds, significant, table

#: What is asked of `relu`: so many times the best part's CPU seconds, and so many seconds.
FACTOR, MORE = 1.3, 0.2


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Attributes
    ----------
    seconds : float
        CPU seconds of building and solving; the limit where nothing was proved.
    proved : bool
    """

    seconds: float
    proved: bool

    def __str__(self) -> str:
        return f"{'' if self.proved else '> '}{seconds(self.seconds)}"


@dataclass(frozen=True)
class Pair:
    """One instance: ``relu``, and the part that proved it first.

    Where no part proved it the best one is the part with the longest limit, and all that is
    known is that each needs more than that.
    """

    name: str
    one: Cost
    part: str
    best: Cost

    @property
    def within(self) -> bool | None:
        """Whether ``relu`` keeps to what is asked of it; None where that isn't known."""
        most = FACTOR * self.best.seconds + MORE
        if self.one.seconds <= most:
            return True if self.one.proved else None
        return False if self.best.proved else None


def pairs(
    names: Iterable[str],
    found: Mapping[tuple[str, str], Cost],
    one: str,
    parts: Sequence[str],
) -> list[Pair]:
    """What ``relu``, here called ``one``, and its parts took on instances that both ran."""
    answer = []
    for name in names:
        costs = {part: found[name, part] for part in parts if (name, part) in found}
        if (name, one) not in found or not costs:
            continue
        proved = [part for part in costs if costs[part].proved]
        if proved:
            best = min(proved, key=lambda part: costs[part].seconds)
        else:
            best = max(costs, key=lambda part: costs[part].seconds)
        answer.append(Pair(name, found[name, one], best, costs[best]))
    return answer


def best_part(
    names: Iterable[str],
    found: Mapping[tuple[str, str], Cost],
    one: str,
    parts: Sequence[str],
    shown: int = 30,
) -> str:
    """How many instances are within, and those with the largest ratios."""
    known = pairs(names, found, one, parts)
    if not known:
        return f"No row of `{one}` and of a part of it."
    both = [p for p in known if p.one.proved and p.best.proved]
    verdicts = [p.within for p in known]
    mean = geometric_mean(p.one.seconds / p.best.seconds for p in both)
    text = (
        f"`{one}` takes at most {FACTOR:g} times the CPU seconds of its best part and {MORE:g} on "
        f"{verdicts.count(True)} of {len(known)}, more on {verdicts.count(False)}; on "
        f"{verdicts.count(None)} that isn't known. Geometric mean of the ratio where both prove it "
        f"({len(both)}): {'-' if math.isnan(mean) else significant(mean)}."
    )
    words = {True: "yes", False: "**no**", None: "not known"}
    worst = sorted(known, key=lambda p: p.best.seconds / p.one.seconds)[:shown]
    lines = [
        [p.name, p.one, p.part, p.best]
        + [significant(p.one.seconds / p.best.seconds, 3), words[p.within]]
        for p in worst
    ]
    head = ["largest ratios", f"{one}, CPU s", "best part", "CPU s", "ratio", "within"]
    return f"{text}\n\n{table(head, lines)}"
