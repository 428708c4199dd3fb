"""RAT's claims, regime by regime: the table that docs/papers/rat.md shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tables import AURC, RADIUS, Study, cell, under_corruption

from rrfast._tables import Block, number
from rrfast.evaluate.observations import at

SCORES = {"msr": "MSR", RADIUS: "radius"}
EPS = ("ε = 0.01", "ε = 0.001")
#: AUROC and accuracy are in points.
POINTS = (100.0, 2)


def claims(study: Study) -> Block:
    """A row for each comparison, a column for each regime."""
    cells = [[name, *map(found, study.groups)] for name, found in _comparisons(study)]
    return Block("", ["AURC × 1000", *study.groups], cells, 1)


def _comparisons(study: Study) -> Iterator[tuple[str, Callable[[str], str]]]:
    """The name of each, and what is found in a regime."""
    yield "radius − MSR", lambda group: _every_training(study, group, corrupted=False)
    yield (
        "the same under corruption, points of AUROC",
        lambda group: _every_training(study, group, corrupted=True),
    )
    for other in ("Standard", "Mixup", "RegMixup", "OpenMix", "AT"):
        yield (
            f"RAT, radius − {other}, MSR",
            lambda group, other=other: _less(study, group, EPS[0], (RADIUS, other, "msr")),
        )
    for other in ("Standard", "AT"):
        for score, said in SCORES.items():
            for eps in EPS:
                yield (
                    f"RAT − {other}, {said}, {eps}",
                    lambda group, eps=eps, pair=(score, other, score): _less(
                        study, group, eps, pair
                    ),
                )
    for eps in EPS:
        yield (
            f"RAT − Standard, points of accuracy, {eps}",
            lambda group, eps=eps: cell(
                study.training(group, f"RAT, {eps}", "Standard", "msr", at("accuracy")),
                *POINTS,
                higher=True,
            ),
        )


def _every_training(study: Study, group: str, *, corrupted: bool) -> str:
    """How many are better and worse beyond noise, of how many, and the ends."""
    value, key = (under_corruption("auroc"), "corruptions") if corrupted else (at("aurc"), "aurc")
    several = [study.score(group, t, RADIUS, "msr", value, key) for t in study.trainings(group)]
    found = [one for one in several if one is not None]
    better, worse = (
        sum(one.verdict == sign for one in found) for sign in ((1, -1) if corrupted else (-1, 1))
    )
    unit = POINTS if corrupted else AURC
    ends = (number(end(one.mean for one in found), *unit, sign="+") for end in (min, max))
    return f"✓ {better}, ✗ {worse} of {len(found)}: {' to '.join(ends)}"


def _less(study: Study, group: str, eps: str, pair: tuple[str, str, str]) -> str:
    """RAT with a score less another training with another."""
    ours, other, theirs = pair
    rival = f"{other}, {eps}" if other == "AT" else other
    return cell(study.less(group, (f"RAT, {eps}", ours), (rival, theirs), at("aurc")), *AURC)
