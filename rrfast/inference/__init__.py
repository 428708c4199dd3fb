"""Scores of images without labels: what `rrfast score` does."""

from rrfast.inference.scoring import Scoring, score

__all__ = ["Scoring", "score"]
