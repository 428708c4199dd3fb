"""Tables and figures of the papers, made from trainings."""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

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

#: Modules of the names. Each is loaded on first use, since the command line reads only the options.
_ELSEWHERE = {
    "TrainedModel": "rrfast.evaluate.trained_model",
    "ablate": "rrfast.evaluate.ablation",
    "read_result": "rrfast._results",
    "trained_models": "rrfast.evaluate.trained_model",
}


def __getattr__(name: str) -> Any:
    """Load the name or the module on first use."""
    if name in _ELSEWHERE:
        found = getattr(importlib.import_module(_ELSEWHERE[name]), name)
    elif importlib.util.find_spec(f"{__name__}.{name}"):
        found = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found
