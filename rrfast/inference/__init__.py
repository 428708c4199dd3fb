"""Scores of images without labels: what `rrfast score` does, and a scorer for engines."""

from rrfast.inference.scorer import Scorer
from rrfast.inference.scoring import Scoring, score

__all__ = ["Scorer", "Scoring", "score"]
