"""How well a confidence score finds a classifier's errors.

Every metric is `metric(score, correct) -> float`: `score` [n], larger = more confident, and
`correct` [n], True where the prediction is right. Errors are the positive class (errata 11), ties
are averaged, arithmetic is exact in integers and float64, on the device of the score. `METRICS`
names them all.

    >>> score, correct = [0.9, 0.4, 0.8, 0.3], [True, True, False, True]
    >>> {name: round(metric(score, correct), 3) for name, metric in METRICS.items()}
    {'auroc': 0.333, 'fpr_at_tpr': 0.667, 'aurc': 0.271, 'accuracy': 0.75,
     'aupr_error': 0.333, 'aupr_success': 0.806, 'detection_error': 0.333, 'e_aurc': 0.208,
     'augrc': 0.156, 'mean_confidence': 0.6}

`risk_at_coverage` and `coverage_at_risk` need a number more; `risk_coverage_curve` and `roc_curve`
are the curves. `weights=` counts a sample more or less than once, `convention=` follows another
paper's definition, and `convention` is the sentence to print beside a number. `rank` sorts once
for many metrics, each of them called `metric(ranking, None)`.

`acceptance_threshold` is the confidence that 99 % of the right predictions reach; at it,
`thresholded_error` is the error rate under attacks, and `false_acceptance` the share of inputs that
are no inputs and pass.

`bootstrap` puts an interval around a metric, `paired_bootstrap` around the differences of several
scores, and `RankingAccumulator` collects batches, shards and processes.

    >>> convention("aurc")
    'mean of risk at the n coverages, averaged over the orders of ties'
    >>> aurc(rank(score, correct), None) == aurc(score, correct)
    True
"""

from rrfast.metrics._ranking import Ranking, rank
from rrfast.metrics.acceptance_threshold import acceptance_threshold
from rrfast.metrics.accuracy import accuracy
from rrfast.metrics.augrc import augrc
from rrfast.metrics.aupr_error import aupr_error
from rrfast.metrics.aupr_success import aupr_success
from rrfast.metrics.aurc import aurc
from rrfast.metrics.auroc import auroc
from rrfast.metrics.bootstrap import Interval, bootstrap
from rrfast.metrics.convention import convention
from rrfast.metrics.coverage_at_risk import coverage_at_risk
from rrfast.metrics.detection_error import detection_error
from rrfast.metrics.e_aurc import e_aurc
from rrfast.metrics.false_acceptance import false_acceptance
from rrfast.metrics.fpr_at_tpr import fpr_at_tpr
from rrfast.metrics.mean_confidence import mean_confidence
from rrfast.metrics.paired import Differences, paired_bootstrap
from rrfast.metrics.ranking_accumulator import RankingAccumulator
from rrfast.metrics.registry import METRICS
from rrfast.metrics.risk_at_coverage import risk_at_coverage
from rrfast.metrics.risk_coverage_curve import RiskCoverageCurve, risk_coverage_curve
from rrfast.metrics.roc_curve import RocCurve, roc_curve
from rrfast.metrics.thresholded_error import thresholded_error

__all__ = [
    "METRICS",
    "Differences",
    "Interval",
    "Ranking",
    "RankingAccumulator",
    "RiskCoverageCurve",
    "RocCurve",
    "acceptance_threshold",
    "accuracy",
    "augrc",
    "aupr_error",
    "aupr_success",
    "aurc",
    "auroc",
    "bootstrap",
    "convention",
    "coverage_at_risk",
    "detection_error",
    "e_aurc",
    "false_acceptance",
    "fpr_at_tpr",
    "mean_confidence",
    "paired_bootstrap",
    "rank",
    "risk_at_coverage",
    "risk_coverage_curve",
    "roc_curve",
    "thresholded_error",
]
