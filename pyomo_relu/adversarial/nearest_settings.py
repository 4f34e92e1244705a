"""What steers the search for the nearest image; chosen by hand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NearestSettings:
    """The numbers of :func:`~pyomo_relu.adversarial.find_adversarial` and of its parts."""

    #: The search for a first image takes this share of the time, or so many seconds where
    #: there is no limit.
    start_share: float = 0.1
    start_seconds: float = 10.0
    #: Of that, the search for candidates may take this share once there is one; the rest is
    #: for the walks from region to region, which bring 13.7 out of 108 in a second of the
    #: processor (networks and images of benchmarks/paper_fischetti_jo.py).
    candidate_share: float = 0.5
    #: The bounds of a distance's program may take this share of the distance's time.
    bound_share: float = 0.4
    #: Branch and bound on sides may take this share of what is left then.
    sides_share: float = 0.8
    #: Sides are not tried where at least so many layers of neurons have at most so many each.
    #: (MNIST, two or three images each, CPU seconds by sides and by the program: six layers of
    #: 8 153 on average and 2 to 11, on another such network 2.4 and 1.8, 4.4 and 1.8; five
    #: of 8 0.9 and 1.0, 2.5 and 1.9; six of 10 1.9 and 2.1, 2.5 and 2.7; five of 10 5.9 and open,
    #: 3.1 and 2.2; six of 12 and of 16 3.1 and 8.2, both open by the program after 11.)
    deep: int = 6
    narrow: int = 8
    #: The distance of the first image has this share of the time, and the second one
    #: where branch and bound on sides comes before the program.
    first_share: float = 0.6
    first_share_with_sides: float = 0.85
    #: A smaller distance, tried when that is over, has this share of what is left.
    inward_share: float = 0.5
    #: Smaller distances are tried until bound and distance are this close, as a share of
    #: the distance; in ``l0`` until no smaller whole number is left.
    inward_gap: float = 1e-3
    #: A program has so many seconds at least, however late it is.
    program_seconds: float = 0.1
    #: No further distance is tried with fewer seconds left.
    least_seconds: float = 1.0
    #: Without a known image the distances begin at the farthest one of the box, halved so
    #: many times, and double.
    halvings: int = 6

    #: With at most so many unstable neurons the search is over before linear programs
    #: bound them.
    few_unstable: int = 16
    #: Linear programs bound the neurons in so many rounds, each with the bounds of the
    #: last, as long as a round leaves at most this share of the neurons unstable.
    rounds: int = 3
    worthwhile: float = 0.9

    #: The best image is proved to be nearest if its distance is within this of the bound,
    #: relative to one plus the bound.
    gap: float = 1e-4
    #: Branch and bound on sides is done with what may only gain this share of the distance.
    sides_gap: float = 2e-5
    #: A known image's radius is widened by this much, and a billionth of itself.
    beyond: float = 1e-6
    #: Changes up to this are the solver's tolerance, and undone where the rule allows it.
    noise: float = 1e-6
    #: A rule with a ratio may be missed by this share of one plus the largest output.
    ratio_slack: float = 1e-6
    #: A pixel counts as changed from this difference on.
    changed: float = 1e-9

    #: Linear programs of regions may take this share of the search on sides ...
    region_share: float = 0.15
    #: ... a walk solves so many of them, and steps beyond an optimum by this share of the
    #: way to it.
    region_rounds: int = 4
    region_beyond: float = 0.01

    #: Step lengths of the greedy walks, as shares of a pixel's range.
    greedy_steps: tuple[float, ...] = (1.0, 0.5, 0.25, 0.1)
    #: A greedy walk changes at most so many pixels, counted by full ranges.
    longest_walk: int = 400
    #: A greedy walk is given up after so many steps without coming nearer to the rule. Of 800
    #: walks on five networks of MNIST 543 found an image, none with more than 3 such steps in a
    #: row; 255 took all their hundreds or thousands of steps, together 1.5 seconds an image.
    greedy_patience: int = 20
    #: Gradients descend within boxes around the original of these shares of the range,
    #: with so many restarts and steps.
    boxes: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    restarts: int = 4
    steps: int = 30
    #: So many of the given examples are tried, the nearest first.
    examples: int = 30
    #: The way back to the original is halved so many times.
    pull_back: int = 20
    #: The walks from region to region end after so many without success.
    patience: int = 10


#: The settings of every search.
NEAREST = NearestSettings()
