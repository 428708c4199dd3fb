"""Scores of images without labels: what `rrfast score` does, and a scorer for engines."""

from rrfast.inference.scorer import Scorer
from rrfast.inference.scoring import score
from rrfast.inference.tally import Scoring

__all__ = ["Scorer", "Scoring", "score"]
