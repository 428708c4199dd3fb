"""Tables and figures of the papers, made from trainings."""

from rrfast.evaluate import distal, misd, ood, robust
from rrfast.evaluate.ablate import ablate
from rrfast.evaluate.subject import Subject, subjects

__all__ = [
    "Subject",
    "ablate",
    "distal",
    "misd",
    "ood",
    "robust",
    "subjects",
]
