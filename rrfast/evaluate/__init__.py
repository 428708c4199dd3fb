"""Tables and figures of the papers, made from trainings."""

from rrfast._results import read_result
from rrfast.evaluate import distal, misd, ood, robust
from rrfast.evaluate.ablation import ablate
from rrfast.evaluate.trained_model import TrainedModel, trained_models

__all__ = [
    "TrainedModel",
    "ablate",
    "distal",
    "misd",
    "ood",
    "read_result",
    "robust",
    "trained_models",
]
