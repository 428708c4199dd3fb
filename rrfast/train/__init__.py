"""Training: `fit` a model with any objective, or a whole recipe from a file.

Needs `pip install rrfast[train]`: Lightning Fabric, msgspec and ruamel.yaml.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from rrfast._errors import missing
from rrfast._lazy import on_first_use

try:
    import msgspec  # noqa: F401
    import ruamel.yaml  # noqa: F401

    if find_spec("lightning_fabric") is None:  # not imported: that takes seconds
        raise ImportError("No module named 'lightning_fabric'")
except ImportError as error:
    raise missing(
        "rrfast.train", "Lightning Fabric, msgspec and ruamel.yaml", error, "'rrfast[train]'"
    ) from error

from rrfast.data.tasks import OUTLIERS, TASKS, Task
from rrfast.objectives.variant_names import VARIANTS
from rrfast.train.checks import NonFiniteLossError
from rrfast.train.fabric import is_first_process, make_fabric
from rrfast.train.loop import Fitted, fit
from rrfast.train.recipe import Trained, load_trained, train
from rrfast.train.recipe_file import Recipe, dump_recipe, load_recipe, parse_options, recipes
from rrfast.train.settings import Augment, Training, ValidationAttack
from rrfast.train.variants import Run, train_variants, variant

if TYPE_CHECKING:
    from rrfast.train.precision import AutocastPrecision

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
    "ValidationAttack",
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

if not TYPE_CHECKING:
    # It is a subclass of a class of Fabric, whose import takes seconds.
    __getattr__ = on_first_use(__name__, {"AutocastPrecision": "rrfast.train.precision"})
