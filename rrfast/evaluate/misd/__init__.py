"""Misclassification detection: the tables and figures of RAT §5.

`evaluate` measures how well every score finds the errors of trained models; `tables`, `claims` and
`figures` present the results.
"""

from rrfast.evaluate.misd.protocol import SETS, STUDY, evaluate

__all__ = ["SETS", "STUDY", "evaluate"]
