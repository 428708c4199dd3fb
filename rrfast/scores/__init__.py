"""Confidence scores: functions that rate how far each prediction can be trusted.

Every score is a frozen dataclass whose fields are its hyper-parameters, called as
`score(model, x) -> Tensor [B]`, larger = more confident, detached, NaN where a logit is NaN.
`SCORES` has one of each by name with its paper's defaults; `dataclasses.replace` changes them, and
`tune` chooses them on labelled data from the score's `grids`. A new score is a file and a line in
`registry.py`.

Scores of the logits are computed in float64, in forms that rank like the papers' formulas but do
not tie where the softmax saturates: MSR and ODIN are log-odds, entropy, DOCTOR and RelU negative
logarithms. `of_logits` takes existing logits, and `Preprocessed(score, eps)` applies ODIN's step to
the input first. RelU learns from data: `fit` returns a fitted one. Each method of the radius is a
score too. `predict` measures a whole loader, and `rrfast.compare` finds the score to use.

    >>> import torch
    >>> model, x = torch.nn.Linear(4, 3), torch.rand(2, 4)
    >>> list(SCORES)[:4]
    ['msr', 'max_logit', 'max_logit_pnorm', 'margin']
    >>> SCORES["msr"](model, x).shape
    torch.Size([2])
    >>> ODIN(temperature=10.0)(model, x).shape
    torch.Size([2])
"""

from __future__ import annotations

from rrfast.scores.doctor import DoctorAlpha, DoctorBeta
from rrfast.scores.energy import Energy
from rrfast.scores.entropy import Entropy
from rrfast.scores.grids import EPSILONS, NORMS, ODIN_GRIDS, TEMPERATURES
from rrfast.scores.logit_score import LogitScore
from rrfast.scores.margin import Margin
from rrfast.scores.max_logit import MaxLogit
from rrfast.scores.max_logit_pnorm import MaxLogitPNorm
from rrfast.scores.msr import MSR
from rrfast.scores.odin import ODIN
from rrfast.scores.predictions import Predictions, predict
from rrfast.scores.preprocessed import Preprocessed
from rrfast.scores.radius import Radius
from rrfast.scores.registry import DEFAULT, SCORES, as_score, score_named
from rrfast.scores.relu import RelU
from rrfast.scores.score import Score
from rrfast.scores.tuning import GridScores, Tuned, score_grid, tune, tune_apart

__all__ = [
    "DEFAULT",
    "EPSILONS",
    "MSR",
    "NORMS",
    "ODIN",
    "ODIN_GRIDS",
    "SCORES",
    "TEMPERATURES",
    "DoctorAlpha",
    "DoctorBeta",
    "Energy",
    "Entropy",
    "GridScores",
    "LogitScore",
    "Margin",
    "MaxLogit",
    "MaxLogitPNorm",
    "Predictions",
    "Preprocessed",
    "Radius",
    "RelU",
    "Score",
    "Tuned",
    "as_score",
    "predict",
    "score_grid",
    "score_named",
    "tune",
    "tune_apart",
]
