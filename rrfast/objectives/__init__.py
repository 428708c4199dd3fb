"""Training objectives, one file each.

Contract: `objective.backward(model, x, y)`, or `objective(model, x, y).backward()`.
"""

from rrfast.objectives.rat import RAT

__all__ = ["RAT"]
