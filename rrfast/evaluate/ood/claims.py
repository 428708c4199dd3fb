"""What an evaluation says of the claims of ODIN and ACET: every comparison, and a sentence each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from rrfast._tables import Block
from rrfast.evaluate.cell import difference
from rrfast.evaluate.ood.appraisal import ACCEPTED
from rrfast.evaluate.ood.effects import COLD, HOT, fpr_at
from rrfast.evaluate.ood.resisted import kind_of, with_not_resisted
from rrfast.evaluate.summary import Paired, Row, Value, at, counted, of, paired, runs_of
from rrfast.objectives.variant_names import VARIANTS

#: Of a verdict of -1, 0 and 1.
MARKS = "✓·✗"
LEGEND = (
    "Comparisons: differences of the same run, mean ± standard error over seeds, lower confirms "
    "the claim in all of them. ✓ confirmed and ✗ contradicted: 0 is outside the 95 % interval of "
    "Student's t, as it is in one of twenty comparisons without a difference; · undecided, as a "
    "single training seed always is."
)
#: Of ACET's three trainings.
PLAIN, CEDA, ACET = VARIANTS["standard"], "CEDA", "ACET"
#: ACET's noise, and the attacks from it and from the test images, as sets begin.
NOISE, ATTACKED_NOISE, ATTACKED = "noise", "adversarial_noise", "adversarial_samples"
#: Which trainings are compared on what, as App. F and G say it; others are on all natural sets.
ORDER = {
    NOISE: ((CEDA, PLAIN), (ACET, PLAIN)),
    ATTACKED_NOISE: ((ACET, PLAIN), (ACET, CEDA)),
    ATTACKED: ((ACET, PLAIN), (ACET, CEDA)),
}
ELSEWHERE = ((CEDA, PLAIN), (ACET, PLAIN), (ACET, CEDA))
#: Sets that ODIN's paper does not speak of.
ATTACKS = (ATTACKED_NOISE, ATTACKED)
#: Sets from which on a rank correlation over them is looked at.
ENOUGH = 4


class Claim(NamedTuple):
    """A claim of a paper, as a number that is to be lower."""

    sentence: str
    unit: str
    factor: float = 100.0
    digits: int = 1


class Comparison(NamedTuple):
    """Two numbers of the same runs."""

    claim: Claim
    row: str  #: of its table
    column: str
    found: Paired


BETTER = {
    "fpr": Claim("ODIN accepts less of what is outside than MSR", "FPR95 %"),
    "auroc": Claim("ODIN tells more apart than MSR", "100 − AUROC %"),
}
HOTTER = Claim(
    "A high temperature by itself helps: T = 1000 less T = 1, both without a step", "FPR95 %"
)
STEPS = Claim(
    "A step helps further: at T = 1000, the step that is best on the validation set less none",
    "FPR95 %",
)
SURER = Claim("CEDA and ACET are less sure of what is outside", "mean confidence %")
APART = Claim("CEDA and ACET tell more apart by MSR", "100 − AUROC %")
DEVIATES = Claim(
    "The largest logit is further from the others inside: U1, outside less inside", "", 1.0, 2
)
STEEPER = Claim(
    "The gradient at T = 1000 is larger inside: its norm, outside less inside", "×1000", 1000.0, 2
)
DISTANT = Claim(
    "What is further away is easier: rank correlation of MMD and FPR95 of ODIN", "", 1.0, 2
)
DIFFICULT = Claim("What is rejected at 80 % TPR is harder: accuracy, rejected less accepted", "%")


def comparisons(result: dict[str, Any]) -> Iterator[Comparison]:
    """Every comparison that the rows allow, claim by claim.

    A number that is undefined for some run is NaN, and decides nothing.
    """
    rows: list[Row] = result["runs"]
    yield from _odin(rows)
    yield from _parts(rows)
    yield from _trained(rows)
    yield from _explained(rows)
    yield from _harder(rows)


def _odin(rows: Sequence[Row]) -> Iterator[Comparison]:
    """ODIN Table 2."""
    scored = _unattacked(of(rows, kind="score"))
    for metric, claim in BETTER.items():
        for name, training in _pairs(scored):
            own = of(scored, set=name, training=training)
            found = _paired(of(own, score="odin"), of(own, score="msr"), _loss(metric))
            if found is not None:
                yield Comparison(claim, name, training, found)


def _parts(rows: Sequence[Row]) -> Iterator[Comparison]:
    """ODIN Fig. 3 and 4: the temperature alone, and what the step adds."""
    asked = _unattacked(of(rows, kind="effect"))
    cold, hot = ({"temperature": t, "eps": 0.0} for t in (COLD, HOT))
    for claim in (HOTTER, STEPS):
        for name, training in _pairs(asked):
            own = of(asked, set=name, training=training)
            pairs = [(hot, cold) if claim is HOTTER else (row["step"], hot) for row in own]
            better, worse = (
                [
                    {**row, "found": fpr_at(row["table"], pair[i])}
                    for row, pair in zip(own, pairs, strict=True)
                ]
                for i in (0, 1)
            )
            found = _paired(better, worse, at("found"))
            if found is not None:
                yield Comparison(claim, name, training, found)


def _trained(rows: Sequence[Row]) -> Iterator[Comparison]:
    """ACET Table 1, where all its trainings are there."""
    sets = list(with_not_resisted(of(rows, kind="set")))
    if not {PLAIN, CEDA, ACET} <= {row["training"] for row in sets}:
        return
    for claim, value in ((SURER, at("mmc")), (APART, _loss("auroc"))):
        for name in _names(sets):
            for ours, other in ORDER.get(kind_of(name), ELSEWHERE):
                own = of(sets, set=name)
                found = _paired(of(own, training=ours), of(own, training=other), value)
                if found is not None:
                    yield Comparison(claim, name, f"{ours} less\n{other}", found)


def _explained(rows: Sequence[Row]) -> Iterator[Comparison]:
    """ODIN §5.1 and §5.2, Fig. 2."""
    sets = [row for row in _unattacked(of(rows, kind="set")) if "diagnostics" in row]
    for claim, key in ((DEVIATES, "u1_mean"), (STEEPER, "norm_mean")):
        for name, training in _pairs(sets):
            own = of(sets, training=training)
            found = _paired(of(own, set=name), of(own, set="inside"), _diagnosed(key))
            if found is not None:
                yield Comparison(claim, name, training, found)
    for training in dict.fromkeys(row["training"] for row in sets):
        ranked = [
            {"seed": seed, "split": 0, "found": _ranked(of(rows, training=training, seed=seed))}
            for seed in dict.fromkeys(row["seed"] for row in of(sets, training=training))
        ]
        nothing = [{**row, "found": 0.0} for row in ranked]
        if any(not math.isnan(row["found"]) for row in ranked):
            yield Comparison(DISTANT, "over sets", training, paired(ranked, nothing, at("found")))


def _harder(rows: Sequence[Row]) -> Iterator[Comparison]:
    """ODIN App. F, Fig. 11."""
    inside, place = of(rows, kind="inside"), ACCEPTED.index(80)
    for training in dict.fromkeys(row["training"] for row in inside):
        for score in dict.fromkeys(row["score"] for row in inside):
            own = of(inside, training=training, score=score)
            rejected = [{**row, "found": row["rejected"][place]} for row in own]
            accepted = [{**row, "found": row["accepted"][place]} for row in own]
            found = _paired(rejected, accepted, at("found"))
            if found is not None:
                yield Comparison(DIFFICULT, score, training, found)


def _names(rows: Sequence[Row]) -> list[str]:
    """The sets, in the order they come."""
    return [name for name in dict.fromkeys(row["set"] for row in rows) if name != "inside"]


def _unattacked(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if kind_of(row["set"]) not in ATTACKS]


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    for name in _names(rows):
        for training in dict.fromkeys(row["training"] for row in rows):
            yield name, training


def _paired(rows: Sequence[Row], less: Sequence[Row], value: Value) -> Paired | None:
    """None where they are not of the same runs."""
    runs = runs_of(rows)
    return paired(rows, less, value) if runs and runs == runs_of(less) else None


def _loss(metric: str) -> Value:
    """A metric of which lower is better."""

    def value(row: Row) -> float | None:
        found: float | None = row[metric]
        return found if metric == "fpr" or found is None else 1 - found

    return value


def _diagnosed(key: str) -> Value:
    # Without an image whose numbers are finite, nothing is known.
    return lambda row: row["diagnostics"].get(key)


def _ranked(rows: Sequence[Row]) -> float:
    """Spearman's correlation of MMD and ODIN's FPR over the sets of a run; NaN for too few."""
    scored = {row["set"]: row["fpr"] for row in of(rows, kind="score", score="odin")}
    both = [
        (row["distances"]["mmd"], scored.get(row["set"]))
        for row in _unattacked(of(rows, kind="set"))
        if "distances" in row
    ]
    if len(both) < ENOUGH or any(value is None for pair in both for value in pair):
        return math.nan
    ranks = torch.stack([_places(torch.tensor(values)) for values in zip(*both, strict=True)])
    return torch.corrcoef(ranks)[0, 1].item()


def _places(x: torch.Tensor) -> torch.Tensor:
    """Ranks, those of ties averaged."""
    below = (x[:, None] > x).sum(dim=1)
    same = (x[:, None] == x).sum(dim=1)
    return below.double() + (same.double() - 1) / 2


# ------------------------------------------------------------------------------------- as printed


def claim_blocks(result: dict[str, Any]) -> Iterator[Block]:
    """A table for each claim."""
    found = list(comparisons(result))
    for sentence in dict.fromkeys(c.claim.sentence for c in found):
        own = [c for c in found if c.claim.sentence == sentence]
        columns = list(dict.fromkeys(c.column for c in own))
        cells = {
            (c.row, c.column): difference(c.found, MARKS, c.claim.factor, c.claim.digits)
            for c in own
        }
        table = [
            [row, *(cells.get((row, column), "–") for column in columns)]
            for row in dict.fromkeys(c.row for c in own)
        ]
        unit = f" ({own[0].claim.unit})" if own[0].claim.unit else ""
        yield Block(f"{sentence}{unit}", ["", *columns], table, 1)


def sentences(result: dict[str, Any]) -> Iterator[str]:
    """One for each claim, or for each training that has it: how many comparisons bear it out."""
    found = [c for c in comparisons(result) if not math.isnan(c.found.mean)]
    for sentence in dict.fromkeys(c.claim.sentence for c in found):
        own = [c for c in found if c.claim.sentence == sentence]
        for group in dict.fromkeys(_group(c) for c in own):
            part = [c.found for c in own if _group(c) == group]
            yield f"{sentence}; {group}: {counted(part)}."


def _group(found: Comparison) -> str:
    """A training for ODIN; for ACET the kind of a set, of which the paper says different things."""
    if found.claim not in (SURER, APART):
        return found.column
    kind = kind_of(found.row)
    return kind.replace("_", " ") if kind in ORDER else "other sets"
