"""Misclassification detection: the tables and figures of RAT §5.

`evaluate` asks every score for the errors of trained models; `tables`, `claims` and `figures` say
what came out.
"""

from rrfast.evaluate.misd.protocol import SETS, STUDY, evaluate

__all__ = ["SETS", "STUDY", "evaluate"]
