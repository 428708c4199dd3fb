"""Scores by name, with ODIN's step before them or without."""

from __future__ import annotations

from collections.abc import Mapping

from rrfast._checks import meant
from rrfast.scores.logit_score import LogitScore
from rrfast.scores.preprocessed import Preprocessed
from rrfast.scores.score import Score

#: Behind a name: with input pre-processing, whose eps is tuned.
STEP = "+eps"


def named(name: str, scores: Mapping[str, Score]) -> Score:
    """The score of a name.

    Args:
        name: A key of `scores`, or one of a score of the logits with "+eps" behind it: the score
            within `Preprocessed`, at eps = 0 until it is tuned. RAT B.3 does so with MSR, DOCTOR
            and RelU.
        scores: `rrfast.scores.SCORES`.

    Raises:
        ValueError: There is no such score, or it is not one of the logits.

    Example:
        >>> from rrfast.scores import SCORES
        >>> named("msr+eps", SCORES).grids.keys()
        dict_keys(['eps'])
    """
    base = name.removesuffix(STEP)
    if base not in scores:
        raise ValueError(
            f"score must be one of {', '.join(scores)}, got {name!r}{meant(base, scores)}"
        )
    score = scores[base]
    if base == name:
        return score
    if not isinstance(score, LogitScore):
        logit = [key for key, value in scores.items() if isinstance(value, LogitScore)]
        raise ValueError(
            f"{STEP} goes behind a score of the logits, {', '.join(logit)}, got {name!r}"
        )
    return Preprocessed(score, 0.0)
