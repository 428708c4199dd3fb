"""Distal examples and confidence-thresholded errors: the experiment of the article on them.

`evaluate` tests trained models on both; `tables` and `figures` present the results.
"""

from rrfast.evaluate.distal.protocol import STUDY, evaluate

__all__ = ["STUDY", "evaluate"]
