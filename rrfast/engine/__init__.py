"""The engine: runs a model in eval mode with frozen parameters and counts passes."""

from rrfast._checks import output_logits
from rrfast.engine.engine import (
    Clean,
    Engine,
    Model,
    Recorded,
    SeedOf,
    check_input,
    logits,
)
from rrfast.engine.gradient import input_gradient

__all__ = [
    "Clean",
    "Engine",
    "Model",
    "Recorded",
    "SeedOf",
    "check_input",
    "input_gradient",
    "logits",
    "output_logits",
]
