"""Tables and figures of the papers, made from trainings; and scores of images without labels."""

from rrfast.evaluate import misd, ood
from rrfast.evaluate.ablate import ablate
from rrfast.evaluate.report import report
from rrfast.evaluate.score import Scoring, score
from rrfast.evaluate.subject import Subject, subjects

__all__ = ["Scoring", "Subject", "ablate", "misd", "ood", "report", "score", "subjects"]
