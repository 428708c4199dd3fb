"""Accuracy under attack: the tables of instance-reweighted adversarial training.

`evaluate` attacks the test images of trained models; `tables` and `figures` present the results.
"""

from rrfast.evaluate.robust.protocol import STUDY, evaluate

__all__ = ["STUDY", "evaluate"]
