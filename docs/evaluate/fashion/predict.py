"""What predicts, on a given network, whether the radius or MSR finds its errors better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import pearsonr, spearmanr

from rrfast.evaluate.observations import Row, of

Numbers = npt.NDArray[np.float64]


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
    right: float  #: share of the networks whose winner is predicted
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
    """Two numbers of a network, and beside them MSR always and the AURC of validation images.

    What a number says of a network is a straight line through the networks of the other regimes:
    NaN with one regime.
    """
    columns = {key: np.array([getattr(one, key) for one in found]) for key in Network._fields[1:]}
    gain, groups = columns["gain"], np.array([one.group for one in found])
    nothing = np.full_like(gain, np.nan)
    return [
        _judged("MSR always", nothing, np.ones_like(gain), gain),
        *(
            _judged(said, columns[key], _fitted(columns[key], gain, groups), gain)
            for said, key in (
                ("AUROC of small gradients", "gradient"),
                ("accuracy on training images", "learned"),
            )
        ),
        _judged("the same on the validation images", columns["seen"], columns["seen"], gain),
    ]


def _fitted(x: Numbers, y: Numbers, groups: npt.NDArray[np.str_]) -> Numbers:
    """y of each network by those of the other groups."""
    guess = np.full_like(y, np.nan)
    for group in set(groups.tolist()):
        inside = groups == group
        others = x[~inside]
        if len(set(others.tolist())) > 1:
            guess[inside] = np.polyval(np.polyfit(others, y[~inside], 1), x[inside])
    return guess


def _judged(said: str, number: Numbers, guess: Numbers, gain: Numbers) -> Prediction:
    """`guess` below 0 chooses the radius."""
    known = not np.isnan(guess).any()
    lost = (1 + np.where(guess < 0, gain, 0.0)) / (1 + np.minimum(gain, 0.0)) - 1
    several = len(gain) > 2 and float(np.ptp(number)) > 0 and float(np.ptp(gain)) > 0
    return Prediction(
        said,
        pearsonr(number, gain).statistic if several else np.nan,
        spearmanr(number, gain).statistic if several else np.nan,
        float(((guess < 0) == (gain < 0)).mean()) if known else np.nan,
        float(lost.mean()) if known else np.nan,
    )
