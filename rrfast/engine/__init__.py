"""The one place that runs a model, and what it needs for that."""

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
