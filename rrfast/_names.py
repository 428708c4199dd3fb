"""Names that help texts list. They are known without torch, so that `rrfast --help` is quick."""

from __future__ import annotations

#: Every method of `rrfast.radius` by name: the class in `rrfast/methods/NAME.py`.
METHOD_CLASSES = {
    "fast": "Fast",
    "bs": "BS",
    "search": "Search",
    "refined": "Refined",
    "grad": "Grad",
    "pgd": "PGD",
    "deepfool": "DeepFool",
    "fab": "FAB",
    "fmn": "FMN",
}
#: The forms of a function's name in a recipe or on a command line; see `_named_function.py`.
FORMS = "importable.module:function, path/to/file.py:function"
#: The forms of a model's specification; see `rrfast.models.load_model`.
SPECIFICATIONS = f"pytorchcv:NAME, torchvision:NAME, timm:NAME, {FORMS}"
#: The ways to tune a temperature; `rrfast/data/splits.py` has their descriptions.
TUNINGS = ("heldout", "rat")
