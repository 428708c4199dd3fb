"""Selective classification: classifiers that reject, thresholds and guarantees."""

from rrfast.selective.aoti_file import save_aoti
from rrfast.selective.classifier import Selection, SelectiveClassifier
from rrfast.selective.exported import export
from rrfast.selective.guarantee import Guarantee, NoThresholdError, guaranteed_risk, risk_bound
from rrfast.selective.onnx_file import save_onnx
from rrfast.selective.threshold import coverage_threshold, error_threshold, risk_threshold

__all__ = [
    "Guarantee",
    "NoThresholdError",
    "Selection",
    "SelectiveClassifier",
    "coverage_threshold",
    "error_threshold",
    "export",
    "guaranteed_risk",
    "risk_bound",
    "risk_threshold",
    "save_aoti",
    "save_onnx",
]
