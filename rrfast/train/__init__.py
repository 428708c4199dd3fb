"""Training: `fit` a model with any objective, or a whole recipe from a file.

Needs `pip install rrfast[train]`: Lightning Fabric, msgspec and ruamel.yaml.
"""

try:
    import lightning_fabric  # noqa: F401
    import msgspec  # noqa: F401
    import ruamel.yaml  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rrfast.train needs Lightning Fabric, msgspec and ruamel.yaml: {error}. "
        "Install them with: pip install 'rrfast[train]'"
    ) from error

from rrfast.train.fit import Fitted, NonFiniteLossError, fit, is_first_process, make_fabric
from rrfast.train.precision import AutocastPrecision
from rrfast.train.recipe import (
    Recipe,
    Trained,
    dump_recipe,
    load_recipe,
    load_trained,
    parse_options,
    recipes,
    train,
)
from rrfast.train.settings import Augment, Training
from rrfast.train.tasks import OUTLIERS, TASKS, Task
from rrfast.train.variants import VARIANTS, Run, train_variants, variant

__all__ = [
    "OUTLIERS",
    "TASKS",
    "VARIANTS",
    "Augment",
    "AutocastPrecision",
    "Fitted",
    "NonFiniteLossError",
    "Recipe",
    "Run",
    "Task",
    "Trained",
    "Training",
    "dump_recipe",
    "fit",
    "is_first_process",
    "load_recipe",
    "load_trained",
    "make_fabric",
    "parse_options",
    "recipes",
    "train",
    "train_variants",
    "variant",
]
