"""Data to train and test on. `digits` is embedded: real images, no download."""

from rrfast.data.digits import Digits, Split, digits, digits_cnn

__all__ = ["Digits", "Split", "digits", "digits_cnn"]
