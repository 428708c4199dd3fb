"""Scores of images without labels: what `rrfast score` does."""

from rrfast.inference.scoring import score
from rrfast.inference.tally import Scoring

__all__ = ["Scoring", "score"]
