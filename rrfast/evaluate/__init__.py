"""Tables and figures of the papers, made from trainings; and scores of images without labels."""

from rrfast.evaluate.ablate import ablate
from rrfast.evaluate.score import Scoring, score

__all__ = ["Scoring", "ablate", "score"]
