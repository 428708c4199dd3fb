"""Metrics of misclassification detection.

Every metric is `metric(score, correct) -> float`: `score` [n], larger = more confident, and
`correct` [n], True where the prediction is right. Errors are the positive class (errata 11), ties
are averaged, arithmetic is exact in integers and float64, on the device of the score. `METRICS` has
all by name.

    >>> score, correct = [0.9, 0.4, 0.8, 0.3], [True, True, False, True]
    >>> {name: round(METRICS[name](score, correct), 3) for name in ("auroc", "fpr_at_tpr", "aurc")}
    {'auroc': 0.333, 'fpr_at_tpr': 0.667, 'aurc': 0.271}

`risk_at_coverage` and `coverage_at_risk` take one more number; `risk_coverage_curve` and
`roc_curve` give the curves. `weights=` gives each sample a weight, `convention=` follows another
paper's definition, and `convention` is the sentence to print beside a number. `rank` sorts once for
many metrics, each called as `metric(ranking, None)`.

`acceptance_threshold` is the confidence that 99 % of the right predictions reach. At this threshold
`thresholded_error` is the error rate under attacks, and `false_acceptance` the share of
out-of-distribution inputs that are accepted.

`bootstrap` gives an interval of a metric, `paired_bootstrap` intervals of the differences of
several scores, and `RankingAccumulator` collects batches, shards and processes.

    >>> convention("aurc")
    'mean of risk at the n coverages, averaged over the orders of ties'
    >>> aurc(rank(score, correct), None) == aurc(score, correct)
    True
"""

from rrfast.metrics.conventions import convention
from rrfast.metrics.paired import Differences, paired_bootstrap
from rrfast.metrics.precision_recall import aupr_error, aupr_success
from rrfast.metrics.ranking import Ranking, rank
from rrfast.metrics.ranking_accumulator import RankingAccumulator
from rrfast.metrics.registry import METRICS
from rrfast.metrics.resampling import Interval, bootstrap
from rrfast.metrics.risk_coverage import (
    RiskCoverageCurve,
    augrc,
    aurc,
    coverage_at_risk,
    e_aurc,
    risk_at_coverage,
    risk_coverage_curve,
)
from rrfast.metrics.roc import RocCurve, auroc, detection_error, fpr_at_tpr, roc_curve
from rrfast.metrics.thresholded import (
    acceptance_threshold,
    accuracy,
    false_acceptance,
    mean_confidence,
    thresholded_error,
)

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
