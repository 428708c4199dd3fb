"""Scores by name."""

from __future__ import annotations

import ast
from typing import Any

from rrfast._checks import check_one_of, describe
from rrfast.methods import METHODS, Method
from rrfast.scores.doctor import DoctorAlpha, DoctorBeta
from rrfast.scores.energy import Energy
from rrfast.scores.entropy import Entropy
from rrfast.scores.logit_score import LogitScore
from rrfast.scores.margin import Margin
from rrfast.scores.max_logit import MaxLogit
from rrfast.scores.max_logit_pnorm import MaxLogitPNorm
from rrfast.scores.msr import MSR
from rrfast.scores.odin import ODIN
from rrfast.scores.preprocessed import Preprocessed
from rrfast.scores.radius import Radius
from rrfast.scores.relu import RelU
from rrfast.scores.score import Score

#: One score of each kind by name, with its paper's defaults.
SCORES: dict[str, Score] = {
    "msr": MSR(),
    "max_logit": MaxLogit(),
    "max_logit_pnorm": MaxLogitPNorm(),
    "margin": Margin(),
    "entropy": Entropy(),
    "energy": Energy(),
    "doctor_alpha": DoctorAlpha(),
    "doctor_beta": DoctorBeta(),
    "relu": RelU(),
    "odin": ODIN(),
    **{f"radius_{method}": Radius(method) for method in METHODS},
}
#: The default score of `SelectiveClassifier` and `rrfast score`; docs/radius says why.
DEFAULT = "msr"
#: Suffix of a name: with input pre-processing, whose eps is tuned.
STEP = "+eps"
#: In a name, before each option of a radius: "radius_bs:budget=10:r_min=1e-6".
OPTION = ":"


def as_score(score: str | Score | Method) -> Score:
    """The score that an argument stands for.

    Args:
        score: A score, which is returned; a name for `score_named`; or a method of the radius, by
            its name in `rrfast.methods.METHODS`, with options behind it or none, or as an object.

    Raises:
        TypeError: It is anything else.
        ValueError: There is no such name.

    Example:
        >>> from rrfast.methods import BS
        >>> as_score("msr"), as_score(BS(budget=10))
        (MSR(temperature=1.0), Radius(method='bs', temperature=None, options={'budget': 10}))
    """
    if isinstance(score, Score):
        return score
    if isinstance(score, str):
        if score in METHODS:
            return Radius(score)
        base = _base(score)
        check_one_of("score", base, [*SCORES, *METHODS])
        return score_named(f"radius_{score}" if base in METHODS else score)
    if callable(score) and not isinstance(score, type):
        return Radius(score)
    raise TypeError(
        "score must be a name, a rrfast.scores.Score or a method of rrfast.methods, got "
        f"{describe(score)}"
    )


def score_named(name: str) -> Score:
    """The score with this name.

    Args:
        name: A key of `SCORES`. A score of the logits may be followed by "+eps": the score within
            `Preprocessed`, with eps = 0 until it is tuned. RAT B.3 does so with MSR, DOCTOR and
            RelU. A radius may be followed by options of `rrfast.radius`, as ":alpha=0.01".

    Raises:
        TypeError: It is no text, or the method of the radius has no such option.
        ValueError: There is no such score, "+eps" follows one that is not a score of the logits,
            options follow one that is not a radius, or one of them is out of range.

    Example:
        >>> score_named("msr+eps").grids.keys()
        dict_keys(['eps'])
        >>> score_named("radius_fast:alpha=0.01")
        Radius(method='fast', temperature=None, options={'alpha': 0.01})
    """
    if not isinstance(name, str):
        raise TypeError(f"score must be a name, got {describe(name)}")
    if OPTION in name:
        return _radius_named(name)
    base = _base(name)
    check_one_of("score", base, SCORES)
    score = SCORES[base]
    if base == name:
        return score
    if not isinstance(score, LogitScore):
        logit = [key for key, value in SCORES.items() if isinstance(value, LogitScore)]
        raise ValueError(
            f"{STEP} can only follow a score of the logits, {', '.join(logit)}, got {name!r}"
        )
    return Preprocessed(score, 0.0)


def _base(name: str) -> str:
    """The name without options, or without "+eps"."""
    return name.partition(OPTION)[0].removesuffix(STEP)


def _radius_named(name: str) -> Radius:
    """A radius with options."""
    base, *given = name.split(OPTION)
    check_one_of("score", base, SCORES)
    score = SCORES[base]
    if not isinstance(score, Radius):
        raise ValueError(f"options must follow a radius, such as radius_fast, got {name!r}")
    options: dict[str, Any] = {}
    for option in given:
        key, equals, value = option.partition("=")
        if not (key and equals and value) or key in options:
            raise ValueError(
                "options of a radius must be NAME=VALUE, each once, as in "
                f"radius_fast:alpha=0.01, got {name!r}"
            )
        if key in score.grids:
            raise ValueError(f"{key} is tuned, so a name cannot give it, got {name!r}")
        try:
            options[key] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            options[key] = value  # a word, such as that of compat
    return Radius(score.method, options=options)
