"""What predicts, on a given network, whether the radius or MSR finds its errors better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import pearsonr, spearmanr

from rrfast.evaluate.observations import Row, of

Numbers = npt.NDArray[np.float64]
Groups = npt.NDArray[np.str_]


class Network(NamedTuple):
    """One trained network: what is predicted, and from what."""

    group: str  #: its regime
    gain: float  #: AURC of the radius over that of MSR, less 1: below 0 the radius wins
    gradient: float  #: AUROC of a small gradient alone
    learned: float  #: accuracy on training images
    seen: float  #: as `gain`, of the validation images


class Prediction(NamedTuple):
    """How well a number tells which of the two wins."""

    said: str
    pearson: float  #: of the number and the gain, over all networks
    spearman: float
    within: float  #: Pearson's, of the differences from the mean of each regime
    right: float  #: share of the networks whose winner is predicted
    chosen: int  #: networks on which the radius is predicted to win; -1 without a prediction
    won: int  #: those of them on which it does
    lost: float  #: mean of the AURC of what is chosen over that of the better one, less 1


def networks(rows: Sequence[Row], radius: str) -> list[Network]:
    """One for each row of the radius."""
    found = []
    for ours in of(rows, score=radius):
        same = {key: ours[key] for key in ("group", "training", "seed")}
        [theirs] = of(rows, score="msr", **same)
        found.append(
            Network(
                ours["group"],
                ours["aurc"] / theirs["aurc"] - 1,
                ours["network"]["gradient_auroc"],
                ours["network"]["train_accuracy"],
                ours["validation_aurc"] / theirs["validation_aurc"] - 1,
            )
        )
    return found


def predictions(found: Sequence[Network]) -> list[Prediction]:
    """Two numbers of a network, and beside them MSR always and the AURCs on validation images.

    What a number says of a network is a straight line through the networks of the other regimes:
    NaN with one regime.
    """
    columns = {key: np.array([getattr(one, key) for one in found]) for key in Network._fields[1:]}
    gain, seen = columns["gain"], columns["seen"]
    groups = np.array([one.group for one in found])
    nothing = np.full_like(gain, np.nan)
    return [
        _judged("MSR always", nothing, np.ones_like(gain), gain, groups),
        *(
            _judged(said, columns[key], _fitted(columns[key], gain, groups), gain, groups)
            for said, key in (
                ("AUROC of small gradients", "gradient"),
                ("accuracy on training images", "learned"),
            )
        ),
        _judged("the ratio of the two AURCs on validation images", seen, seen, gain, groups),
    ]


def _fitted(x: Numbers, y: Numbers, groups: Groups) -> Numbers:
    """y of each network by those of the other groups."""
    guess = np.full_like(y, np.nan)
    for group in set(groups.tolist()):
        inside = groups == group
        others = x[~inside]
        if len(set(others.tolist())) > 1:
            guess[inside] = np.polyval(np.polyfit(others, y[~inside], 1), x[inside])
    return guess


def _judged(
    said: str, number: Numbers, guess: Numbers, gain: Numbers, groups: Groups
) -> Prediction:
    """`guess` below 0 chooses the radius."""
    known = not np.isnan(guess).any()
    lost = (1 + np.where(guess < 0, gain, 0.0)) / (1 + np.minimum(gain, 0.0)) - 1
    return Prediction(
        said,
        _correlation(number, gain),
        spearmanr(number, gain).statistic if _vary(number, gain) else np.nan,
        _correlation(_centred(number, groups), _centred(gain, groups)),
        float(((guess < 0) == (gain < 0)).mean()) if known else np.nan,
        int((guess < 0).sum()) if known else -1,
        int(((guess < 0) & (gain < 0)).sum()) if known else -1,
        float(lost.mean()) if known else np.nan,
    )


def _correlation(x: Numbers, y: Numbers) -> float:
    return float(pearsonr(x, y).statistic) if _vary(x, y) else np.nan


def _vary(x: Numbers, y: Numbers) -> bool:
    return len(x) > 2 and min(float(np.ptp(x)), float(np.ptp(y))) > 1e-12  # beyond rounding


def _centred(x: Numbers, groups: Groups) -> Numbers:
    """What is left of each number after the mean of its group."""
    return x - np.array([x[groups == group].mean() for group in groups])
