"""rrfast inside other libraries: one file each, which is imported by its name.

    from rrfast.integrations.lightning import RadiusMonitor
    from rrfast.integrations.pytorch_ood import ScoreDetector
    from rrfast.integrations.sklearn import RejectingClassifier
    from rrfast.integrations.torchmetrics import RankingMetric
    from rrfast.integrations.transformers import ObjectiveTrainer

Each file needs its library, and says so where that is missing. rrfast itself needs none of them.
docs/integrations.md has an example of each.
"""
