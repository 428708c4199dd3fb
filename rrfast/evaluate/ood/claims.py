"""The claims of ODIN and ACET: every comparison that decides them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from rrfast.evaluate.claims import RULE, Claim, Comparison, compared
from rrfast.evaluate.observations import Row, Value, at, grouped, of, values
from rrfast.evaluate.ood.curves import ACCEPTED, kind_of, with_not_resisted
from rrfast.evaluate.ood.effects import COLD, HOT, fpr_at
from rrfast.evaluate.run_numbers import spearman
from rrfast.objectives.variant_names import VARIANTS

LEGEND = (
    "Comparisons: differences in the same run, mean ± standard error over seeds; a lower value "
    f"confirms the claim. ✓ confirmed and ✗ contradicted: {RULE}, always for a single training "
    "seed."
)
#: The names of ACET's three trainings.
PLAIN, CEDA, ACET = VARIANTS["standard"], "CEDA", "ACET"
#: ACET's noise, and the attacks from it and from the test images, as sets begin.
NOISE, ATTACKED_NOISE, ATTACKED = "noise", "adversarial_noise", "adversarial_samples"
#: Trainings and the sets to compare them on, by App. F and G; others on all natural sets.
ORDER = {
    NOISE: ((CEDA, PLAIN), (ACET, PLAIN)),
    ATTACKED_NOISE: ((ACET, PLAIN), (ACET, CEDA)),
    ATTACKED: ((ACET, PLAIN), (ACET, CEDA)),
}
ELSEWHERE = ((CEDA, PLAIN), (ACET, PLAIN), (ACET, CEDA))
#: Sets that are not in ODIN's paper.
ATTACKED_KINDS = (ATTACKED_NOISE, ATTACKED)
#: The smallest number of sets for a rank correlation.
ENOUGH = 4


BETTER = {
    "fpr": Claim("ODIN accepts fewer out-of-distribution images than MSR", "FPR95 %"),
    "auroc": Claim("ODIN separates out-of-distribution images better than MSR", "100 − AUROC %"),
}
HOTTER = Claim(
    "A high temperature by itself helps: T = 1000 minus T = 1, both without a step", "FPR95 %"
)
STEPS = Claim(
    "A step helps further: at T = 1000, the best step on the validation set minus none", "FPR95 %"
)
SURER = Claim("CEDA and ACET are less confident on out-of-distribution images", "mean confidence %")
APART = Claim("CEDA and ACET separate out-of-distribution images better by MSR", "100 − AUROC %")
DEVIATES = Claim(
    "Test images have a larger U1, the lead of the largest logit: U1 of a set minus theirs",
    "",
    1.0,
    2,
)
STEEPER = Claim(
    "Test images have a larger gradient at T = 1000: its norm on a set minus theirs",
    "×1000",
    1000.0,
    2,
)
DISTANT = Claim(
    "Sets further away are easier: rank correlation of MMD and FPR95 of ODIN", "", 1.0, 2
)
DIFFICULT = Claim("Images rejected at 80 % TPR are harder: accuracy, rejected minus accepted", "%")


def _loss(metric: str) -> Value:
    """A metric, turned so that lower is better."""

    def value(row: Row) -> float | None:
        found: float | None = row[metric]
        return found if metric == "fpr" or found is None else 1 - found

    return value


def _fpr(**point: float) -> Value:
    """The FPR of ODIN at a fixed point."""
    return lambda row: fpr_at(row["table"], point)


def _stepped(row: Row) -> float | None:
    return fpr_at(row["table"], row["step"])


_MSR, _ODIN = {"score": "msr"}, {"score": "odin"}
_COLD, _HOT = _fpr(temperature=COLD, eps=0.0), _fpr(temperature=HOT, eps=0.0)
_ACCEPTED, _REJECTED = (at(part, ACCEPTED.index(80)) for part in ("accepted", "rejected"))

#: Claims on each training by itself: the kind of the rows, the key of the lines, the values that
#: the rows on both sides have, and the numbers of both sides. Of ODIN's Table 2, its Fig. 3 and 4,
#: and its App. F.
ALONE: tuple[tuple[Claim, str, str, Row, Row, Value, Value], ...] = (
    *((BETTER[m], "score", "set", _ODIN, _MSR, _loss(m), _loss(m)) for m in BETTER),
    (HOTTER, "effect", "set", {}, {}, _HOT, _COLD),
    (STEPS, "effect", "set", {}, {}, _stepped, _HOT),
    (DIFFICULT, "inside", "score", {}, {}, _REJECTED, _ACCEPTED),
)


def comparisons(result: dict[str, Any]) -> Iterator[Comparison]:
    """Every comparison that the rows allow, claim by claim.

    A number that is undefined for some run is NaN and decides nothing.
    """
    rows: list[Row] = result["runs"]
    yield from _alone(rows, "score", "effect")
    yield from _trained(rows)
    yield from _explained(rows)
    yield from _alone(rows, "inside")


def _alone(rows: Sequence[Row], *kinds: str) -> Iterator[Comparison]:
    for claim, kind, line, ours, theirs, value, less in ALONE:
        own_kind = _unattacked(of(rows, kind=kind)) if kind in kinds else []
        for (name, training), own in grouped(own_kind, line, "training").items():
            pair = of(own, **ours), of(own, **theirs)
            yield from compared(claim, name, training, pair, value, less, training)


def _trained(rows: Sequence[Row]) -> Iterator[Comparison]:
    """ACET Table 1, if all its trainings are there."""
    sets = list(with_not_resisted(of(rows, kind="set")))
    if not {PLAIN, CEDA, ACET} <= set(values(sets, "training")):
        return
    for claim, value in ((SURER, at("mmc")), (APART, _loss("auroc"))):
        for (name,), own in grouped(sets, "set").items():
            kind = kind_of(name)
            group = kind.replace("_", " ") if kind in ORDER else "other sets"
            for ours, other in ORDER.get(kind, ELSEWHERE) if name != "inside" else ():
                pair = of(own, training=ours), of(own, training=other)
                column = f"{ours} less\n{other}"
                yield from compared(claim, name, column, pair, value, group=group)


def _explained(rows: Sequence[Row]) -> Iterator[Comparison]:
    """ODIN §5.1 and §5.2, Fig. 2."""
    sets = [row for row in _unattacked(of(rows, kind="set")) if "diagnostics" in row]
    groups = grouped(sets, "set", "training")
    for claim, key in ((DEVIATES, "u1_mean"), (STEEPER, "norm_mean")):
        for (name, training), own in groups.items():
            if name != "inside":
                # Without an image with finite numbers, there is nothing to compare.
                pair, value = (own, groups.get(("inside", training), [])), at("diagnostics", key)
                yield from compared(claim, name, training, pair, value, group=training)
    for training in values(sets, "training"):
        ranked = [
            {"seed": seed, "rank": _ranked(of(rows, training=training, seed=seed))}
            for seed in values(of(sets, training=training), "seed")
        ]
        if any(not math.isnan(row["rank"]) for row in ranked):
            where, pair = ("over sets", training), (ranked, ranked)
            yield from compared(DISTANT, *where, pair, at("rank"), lambda _: 0.0, training)


def _unattacked(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if kind_of(row["set"]) not in ATTACKED_KINDS]


def _ranked(rows: Sequence[Row]) -> float:
    """Spearman's correlation of MMD and ODIN's FPR over the sets of a run; NaN for too few."""
    scored = {row["set"]: row["fpr"] for row in of(rows, kind="score", score="odin")}
    both = [
        (row["distances"]["mmd"], scored.get(row["set"]))
        for row in _unattacked(of(rows, kind="set"))
        if "distances" in row
    ]
    if len(both) < ENOUGH or any(None in pair for pair in both):
        return math.nan
    return spearman(*torch.tensor(both, dtype=torch.float64).T)
