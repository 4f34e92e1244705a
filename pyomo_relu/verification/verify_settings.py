"""What steers `verify`; chosen by hand where no measurement is named."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AttackSettings:
    """One attack: random points for each set, steps of each, and a share of the time."""

    restarts: int
    steps: int
    share: float = 0.1


@dataclass(frozen=True)
class VerifySettings:
    """The numbers of :func:`~pyomo_relu.verification.verify` and of its rungs."""

    #: The attacks before the bounds, after them, and after the optimized bounds.
    first_attack: AttackSettings = AttackSettings(8, 25)
    attack_after_bounds: AttackSettings = AttackSettings(4, 40)
    long_attack: AttackSettings = AttackSettings(24, 150)
    #: So many sets are attacked before the bounds, those with the least margins at a few
    #: points. (A counterexample that is easy to find is in one of them; with ten classes
    #: it costs a tenth of the bounds.)
    first_sets: int = 32
    #: All sets share their points if those are so many at most: twelve sets with a point
    #: and four corners each share theirs, so those of ten classes do.
    shared_points: int = 64
    #: The points of one block of sets may hold so many numbers (32 MiB; the attack keeps
    #: three such arrays).
    block_numbers: int = 2**22
    #: The activations of one forward pass may hold so many numbers (32 MiB; the gradient
    #: takes as much again). Larger passes are not quicker.
    pass_numbers: int = 2**22
    #: An attack's first step is this share of the region; the last one is ``last_step``
    #: of the first.
    first_step: float = 0.25
    last_step: float = 0.01
    #: An attack ends at a margin this far below zero, which survives the rounding of
    #: other programs.
    clear: float = 1e-3
    #: A reference may differ by this much at a counterexample, relative to one plus the
    #: largest output.
    agreement: float = 1e-3

    #: Rows of excluded sets are dropped where there are more rows than this, and half of
    #: the sets are excluded: fewer cost next to nothing.
    many_rows: int = 64

    #: ``relu_global`` goes to the end for at most so many inputs, and boxes are bounded in
    #: one batch for at most ``batched_inputs``.
    few_inputs: int = 8
    batched_inputs: int = 32
    #: The batches end after so many boxes of all sets together (most of ACAS Xu is decided
    #: by then, in 1 s), or this share of the time, where another rung follows.
    first_boxes: int = 4096
    boxes_share: float = 0.3
    #: A set is made larger by this, relative to its numbers, for a proof by ``relu_global``
    #: that no point is in it: more than any tolerance of that search.
    wider: float = 1e-6

    #: Optimized linear bounds may take this share of the time.
    optimized_share: float = 0.25
    #: Branch and bound on neurons needs more undecided neurons than this: a program is
    #: quicker on few (16 neurons: 6 CPU seconds in vain against 0.3).
    few_unstable: int = 40
    #: Branch and bound on neurons may take this share of the time before the programs.
    neurons_share: float = 0.9
    #: Bounds of the neurons inside are refined in rounds of so many subproblems for each
    #: neuron; a round that decides most sets is enough.
    refined_nodes: tuple[int, ...] = (0, 60, 1000)
    #: A round of refining may take this share of what is left for the neurons.
    refined_share: float = 0.5
    #: A set is searched for so many subproblems after each round.
    few_splits: int = 2000

    #: A program with larger numbers is beyond the solver's absolute tolerances.
    largest: float = 1e7
    #: Those tolerances, and the share of a program's numbers that is taken off its bound.
    feasibility: float = 1e-7
    tolerance: float = 1e-6


#: The settings of every run.
VERIFY = VerifySettings()
