"""Data to train and test on, without a download: `digits` is real, `synthetic` any size."""

from rrfast.data.digits import Digits, Split, digits, digits_cnn
from rrfast.data.synthetic import Synthetic, synthetic, synthetic_cnn

__all__ = ["Digits", "Split", "Synthetic", "digits", "digits_cnn", "synthetic", "synthetic_cnn"]
