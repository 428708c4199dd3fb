"""Classifiers that reject: thresholds, and what they promise."""

from rrfast.selective.bound import risk_bound
from rrfast.selective.guarantee import Guarantee, NoThresholdError, guaranteed_risk

__all__ = ["Guarantee", "NoThresholdError", "guaranteed_risk", "risk_bound"]
