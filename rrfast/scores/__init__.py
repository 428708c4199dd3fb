"""Confidence scores: how much to trust each prediction.

Every score is a frozen dataclass of its hyper-parameters, called as
`score(model, x) -> Tensor [B]`, larger = more confident, detached, NaN where a logit is NaN.
`SCORES` names one of each with its paper's defaults; `dataclasses.replace` changes them, and
`tune` chooses them on labelled data from the `grids` that a score declares. A new score is a file
and a line in `registry.py`.

Scores of the logits are computed in float64, in forms that rank as the papers' formulas do and do
not tie where the softmax saturates: MSR and ODIN are log-odds, entropy, DOCTOR and RelU negative
logarithms. `of_logits` takes logits that are already there, and `Preprocessed(score, eps)` puts
ODIN's step in the input before any of them. RelU learns from data: `fit` gives one that can be
used. The radius is a score too, once per method. `predict` measures a whole loader, and
`rrfast.compare` says which score to take.

    >>> import torch
    >>> model, x = torch.nn.Linear(4, 3), torch.rand(2, 4)
    >>> sorted(SCORES)
    ['doctor_alpha', 'doctor_beta', 'energy', 'entropy', 'margin', 'max_logit', 'max_logit_pnorm',
     'msr', 'odin', 'radius_bs', 'radius_deepfool', 'radius_fab', 'radius_fast', 'radius_grad',
     'radius_pgd', 'radius_refined', 'radius_search', 'relu']
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
