"""The engine: runs a model in eval mode with frozen parameters and counts passes."""

from rrfast.engine.engine import (
    Clean,
    Engine,
    Model,
    Recorded,
    SeedOf,
    check_input,
    input_gradient,
    logits,
    output_logits,
)

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
