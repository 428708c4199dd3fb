"""Distal examples and confidence-thresholded errors: the experiment of the article on them.

`evaluate` asks trained models for both; `tables` and `figures` say what came out.
"""

from rrfast.evaluate.distal.protocol import STUDY, evaluate

__all__ = ["STUDY", "evaluate"]
