"""What the study answers: a sentence for each question, its words chosen by the numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from predict import Prediction
from tables import AURC, BY_HEART, RADIUS, Against, Study, predicted, under_corruption

from rrfast._tables import number
from rrfast.evaluate.observations import Paired, Value, at, spread

#: Comparisons up to which a sentence names each.
MANY = 12


def answers(study: Study) -> Iterator[str]:
    """Those that there are numbers for."""
    for answer in (_radius, _by_heart, _rat, _rat_and_at, _best_eps, _corrupted, _outside, _winner):
        yield from answer(study)


def _radius(study: Study) -> Iterator[str]:
    found = study.scores(RADIUS, "msr", at("aurc"))
    share = [one.found.mean / spread(study.of(*one.where, "msr"), at("aurc")).mean for one in found]
    yield (
        f"**Does the radius find errors better than MSR?** {_verdict(found)} "
        f"`{RADIUS}` less MSR, AURC, is {_percent(min(share))} to {_percent(max(share))} of "
        f"MSR's; AURC × 1000 {_each(found)}. (Table 2)"
    )


def _by_heart(study: Study) -> Iterator[str]:
    said = []
    for group in study.groups:
        rows = study.of(group, "Standard", RADIUS)
        found = study.score(group, "Standard", RADIUS, "msr", at("aurc"))
        if found is not None:
            learned = spread(rows, at("network", "train_accuracy")).mean
            said.append(
                f"{group} ({number(learned, 100.0, 1)} % of the training images right"
                f"{', all memorized' * (learned >= BY_HEART)}): {_said(found)}"
            )
    if said:
        yield (
            "**And after training until all images are memorized?** Standard training, "
            f"`{RADIUS}` less MSR, AURC × 1000: {'; '.join(said)}. (Tables 1 and 2)"
        )


def _rat(study: Study) -> Iterator[str]:
    for score in ("msr", RADIUS):
        found = _pairs(study, "RAT", "Standard", score, at("aurc"))
        if found:
            yield (
                f"**Does RAT help, and where, with `{score}`?** "
                f"{_verdict(found)} RAT less Standard, AURC × 1000: {_each(found)}. (Table 3)"
            )


def _rat_and_at(study: Study) -> Iterator[str]:
    for score in ("msr", RADIUS):
        found = _pairs(study, "RAT", "AT", score, at("aurc"))
        if found:
            yield (
                f"**Is RAT better than AT under the same score, `{score}`?** {_verdict(found)} RAT "
                f"less AT, AURC × 1000: {_each(found)}. (Table 3)"
            )


def _best_eps(study: Study) -> Iterator[str]:
    found = []
    for group in study.groups:
        several = study.eps(group)
        for one, other in itertools.pairwise(several):
            pair = study.training(group, f"RAT, {one}", f"RAT, {other}", "msr", at("aurc"))
            if pair is not None:
                found.append(Against((group, f"{one} less {other}"), pair))
    if found:
        lower = {-1: "the larger", 0: "neither", 1: "the smaller"}
        words = "; ".join(
            f"{one.where[0]} {lower[one.found.verdict]} ({_said(one.found)})" for one in found
        )
        yield (
            "**How does the best ε of RAT move with the data?** MSR, AURC × 1000, "
            f"{found[0].where[1]}, which is better beyond noise: {words}. (Table 4)"
        )


def _corrupted(study: Study) -> Iterator[str]:
    found = study.scores(RADIUS, "msr", under_corruption("auroc"), "corruptions")
    if found:
        yield (
            f"**Under corruption?** {_verdict(found, higher=True)} `{RADIUS}` less MSR, AUROC in "
            f"points, mean over 15 kinds: {_each(found, (100.0, 2))}. (Table 5)"
        )
    for score in ("msr", RADIUS):
        found = _pairs(study, "RAT", "Standard", score, under_corruption("aurc"), "corruptions")
        if found:
            yield (
                f"**Does RAT help there, with `{score}`?** {_verdict(found)} RAT less Standard, "
                f"AURC × 1000: {_each(found)}. (Table 5)"
            )


def _outside(study: Study) -> Iterator[str]:
    for name in study.sets:
        found = study.scores(RADIUS, "msr", at("outside", name, "auroc"), "outside")
        if found:
            yield (
                f"**Against {SETS[name]}, which belong to no class?** "
                f"{_verdict(found, higher=True)} `{RADIUS}` less MSR, AUROC in points: "
                f"{_each(found, (100.0, 2))}. (Table 6)"
            )


#: Names of images of no class in sentences.
SETS = {"task:digits noise=0": "digits", "photos_crop": "patches of photographs"}


def _winner(study: Study) -> Iterator[str]:
    always, *others = predicted(study)
    if math.isnan(always.pearson) and all(math.isnan(one.right) for one in others):
        return
    said = "; ".join(_predicted(one) for one in others if not math.isnan(one.pearson))
    yield (
        f"**What predicts which of `{RADIUS}` and MSR wins on a network?** MSR wins on "
        f"{number(always.right, 100.0, 1)} % of all networks, so that always taking it is right as "
        "often. Correlation with the AURC of the radius divided by that of MSR, and how often the "
        f"winner is predicted on networks of regimes that the line was not fitted on: {said}. "
        "(Table 7)"
    )


def _predicted(one: Prediction) -> str:
    within = f", within regimes {number(one.within, 1.0, 2)}" * (not math.isnan(one.within))
    found = f"{one.said}: r = {number(one.pearson, 1.0, 2)}{within}"
    if math.isnan(one.right):
        return found
    chosen = f"on {one.chosen} networks, rightly on {one.won}" if one.chosen else "on none"
    return f"{found}, {number(one.right, 100.0, 1)} % predicted, the radius chosen {chosen}"


# ------------------------------------------------------------------------------------------- words


def _pairs(
    study: Study, ours: str, theirs: str, score: str, value: Value, key: str = "aurc"
) -> list[Against]:
    """One training less another, in every regime and at every eps."""
    found = []
    for group in study.groups:
        for eps in study.eps(group):
            other = theirs if theirs == "Standard" else f"{theirs}, {eps}"
            pair = study.training(group, f"{ours}, {eps}", other, score, value, key)
            if pair is not None:
                found.append(Against((group, eps), pair))
    return found


def _verdict(found: Sequence[Against], *, higher: bool = False) -> str:
    """Yes or no where that much is decided, and how many comparisons say so."""
    verdicts = [one.found.verdict * (-1 if higher else 1) for one in found]
    better, worse = verdicts.count(-1), verdicts.count(1)
    word = "In part"
    if not better:
        word = "No" if worse else "Undecided"
    elif not worse:
        word = "Yes" if better == len(found) else "Yes, where decided"
    return (
        f"{word}: better beyond noise in {better} of {len(found)}, worse in {worse}, undecided in "
        f"{len(found) - better - worse}."
    )


def _each(found: Sequence[Against], unit: tuple[float, int] = AURC) -> str:
    """All of them, or the ends where they are too many to read."""
    if len(found) > MANY:
        found = sorted(found, key=lambda one: one.found.mean)
        return f"from {_each(found[:1], unit)} to {_each(found[-1:], unit)}"
    return "; ".join(f"{', '.join(one.where)} {_said(one.found, unit)}" for one in found)


def _said(found: Paired, unit: tuple[float, int] = AURC) -> str:
    mean = number(found.mean, *unit, sign="+")
    if math.isnan(found.standard_error):
        return f"{mean} (1 seed)"
    return f"{mean} ± {number(found.standard_error, *unit)}{'' if found.verdict else ' (noise)'}"


def _percent(share: float) -> str:
    return f"{number(share, 100.0, 1, sign='+')} %"
