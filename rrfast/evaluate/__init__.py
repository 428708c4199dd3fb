"""Tables and figures of the papers, made from trainings; and scores of images without labels."""

from rrfast.evaluate import distal, misd, ood, robust
from rrfast.evaluate.ablate import ablate
from rrfast.evaluate.report import report
from rrfast.evaluate.score import Scoring, score
from rrfast.evaluate.subject import Subject, subjects

__all__ = [
    "Scoring",
    "Subject",
    "ablate",
    "distal",
    "misd",
    "ood",
    "report",
    "robust",
    "score",
    "subjects",
]
