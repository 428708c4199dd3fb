"""The gallery options of `rrfast score`: file, number of images, class names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rrfast import engine
from rrfast._checks import check_count
from rrfast._errors import require
from rrfast.data import image_folder
from rrfast.inference.inputs import Shape
from rrfast.selective import SelectiveClassifier

if TYPE_CHECKING:
    from rrfast.train.recipe_file import Recipe


@dataclass(frozen=True, kw_only=True)
class GivenGallery:
    """The gallery options.

    Attributes:
        out: An HTML file; None for none.
        shown: Number of images to show per section, as for `rrfast.inference.gallery.Gallery`.
        class_names: The names of the classes, in the order of the logits; or a UTF-8 file with one
            name per line. None: for a training on a folder of images, the names of its sub-folders.

    Raises:
        TypeError, ValueError: `out` does not end in .html, `shown` is not a positive integer, or
            there are `class_names` but no `out`.
    """

    out: Path | None
    shown: int = 100
    class_names: str | Path | Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_count("gallery_images", self.shown)
        if self.out is None and self.class_names is not None:
            raise ValueError("class_names needs a gallery: the table has the numbers of classes")
        if self.out is not None and self.out.suffix not in (".html", ".htm"):
            raise ValueError(f"gallery must end in .html, got {self.out}")

    def require(self) -> None:
        """Raise an ImportError before hours of work if a gallery is requested but not possible."""
        if self.out is not None:
            require("a gallery", "PIL.Image", "Pillow")
            require("a gallery", "jinja2")

    def names(
        self, classifier: SelectiveClassifier, shape: Shape | None, recipe: Recipe | None
    ) -> list[str] | None:
        """Names of the classes; None if there is no page, no source of names, or no image.

        For a training on a folder of images they are the names of its sub-folders, if the folder
        still exists and has as many as the model has logits.

        Raises:
            FileNotFoundError: There is no such file of names.
            ValueError: The file is not text, or there are not as many names as logits.
        """
        if self.out is None or shape is None:
            return None
        x = torch.full((1, *shape), 0.5, device=classifier.threshold.device)
        classes = engine.logits(classifier.model, x).shape[1]
        if self.class_names is None:
            return _of_training(recipe, classes)
        if isinstance(self.class_names, (str, Path)):
            where, names = f" in {self.class_names}", _lines(Path(self.class_names))
        else:
            where, names = "", list(self.class_names)
        if len(names) != classes:
            raise ValueError(
                f"class_names must be as many as the model has logits, {classes}, got "
                f"{len(names)}{where}"
            )
        return names


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise FileNotFoundError(f"class_names must be a file with a name per line, got {file}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"class_names must be text in UTF-8, {file} is not: {error}") from error
    return text.removesuffix("\n").split("\n")


def _of_training(recipe: Recipe | None, classes: int) -> list[str] | None:
    if recipe is None or recipe.data.get("name") != "image_folder":
        return None
    try:
        names = image_folder(recipe.data["train"]).classes
    except OSError:  # moved, or on another machine: numbers are used
        return None
    return names if len(names) == classes else None
