"""RAT's claims, regime by regime: the table that docs/papers/rat.md shows."""

from __future__ import annotations

from tables import AURC, RADIUS, Study, cell, under_corruption

from rrfast._tables import Block, number
from rrfast.evaluate.observations import Value, at

POINTS = (100.0, 2)
EPS = ("ε = 0.01", "ε = 0.001")
#: The score of RAT, and another training with its score.
PAIRS = {
    **{
        f"RAT, radius − {other}, MSR": (RADIUS, other, "msr")
        for other in ("Standard", "Mixup", "RegMixup", "OpenMix", "AT")
    },
    **{
        f"RAT − {other}, {said}": (score, other, score)
        for other in ("Standard", "AT")
        for score, said in (("msr", "MSR"), (RADIUS, "radius"))
    },
}


def claims(study: Study) -> Block:
    """A row for each comparison, a column for each regime."""
    aurc, auroc, accuracy = at("aurc"), under_corruption("auroc"), at("accuracy")
    rows = [
        ["radius − MSR, of all trainings"]
        + [_all(study, group, aurc, AURC, "aurc") for group in study.groups],
        ["the same under corruption, points of AUROC"]
        + [_all(study, group, auroc, POINTS, "corruptions", True) for group in study.groups],
        *(
            [f"{name}, {eps}", *(_pair(study, group, eps, pair, aurc) for group in study.groups)]
            for name, pair in PAIRS.items()
            for eps in EPS
        ),
        *(
            [f"RAT − Standard, points of accuracy, {eps}"]
            + [
                cell(
                    study.training(group, f"RAT, {eps}", "Standard", "msr", accuracy),
                    *POINTS,
                    higher=True,
                )
                for group in study.groups
            ]
            for eps in EPS
        ),
    ]
    return Block("", ["AURC × 1000", *study.groups], rows, 1)


def _all(
    study: Study,
    group: str,
    value: Value,
    unit: tuple[float, int],
    key: str,
    higher: bool = False,
) -> str:
    """In how many trainings the radius is better and worse beyond noise, of how many; the ends."""
    every = (study.score(group, t, RADIUS, "msr", value, key) for t in study.trainings(group))
    found = [one for one in every if one is not None]
    if not found:
        return "–"
    verdicts = [one.verdict * (-1 if higher else 1) for one in found]
    ends = (number(end(one.mean for one in found), *unit, sign="+") for end in (min, max))
    counts = f"✓ {verdicts.count(-1)}, ✗ {verdicts.count(1)} of {len(found)}"
    return f"{counts}: {' to '.join(ends)}"


def _pair(study: Study, group: str, eps: str, pair: tuple[str, str, str], value: Value) -> str:
    ours, other, theirs = pair
    rival = f"{other}, {eps}" if other == "AT" else other
    return cell(study.less(group, (f"RAT, {eps}", ours), (rival, theirs), value), *AURC)
