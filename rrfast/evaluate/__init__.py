"""Tables and figures of the papers, made from trainings."""

from typing import TYPE_CHECKING

from rrfast._lazy import on_first_use

if TYPE_CHECKING:
    from rrfast._results import read_result
    from rrfast.evaluate import distal, misd, ood, robust
    from rrfast.evaluate.ablation import ablate
    from rrfast.evaluate.trained_model import TrainedModel, trained_models

__all__ = [
    "TrainedModel",
    "ablate",
    "distal",
    "misd",
    "ood",
    "read_result",
    "robust",
    "trained_models",
]

if not TYPE_CHECKING:
    # The command line reads only the options.
    __getattr__ = on_first_use(
        __name__,
        {
            "TrainedModel": "rrfast.evaluate.trained_model",
            "ablate": "rrfast.evaluate.ablation",
            "read_result": "rrfast._results",
            "trained_models": "rrfast.evaluate.trained_model",
        },
    )
