"""The gallery of `rrfast score`: a page of thumbnails, least confident first, and its options."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rrfast import engine
from rrfast._checks import check_count
from rrfast._errors import require
from rrfast._page import data_url, write_page
from rrfast.data import image_folder
from rrfast.inference.inputs import Images, Shape
from rrfast.inference.parts import Row
from rrfast.inference.shards import Shards
from rrfast.selective import SelectiveClassifier

if TYPE_CHECKING:
    from rrfast.train.recipe_file import Recipe

#: Longer side of a thumbnail in pixels: twice the width of a card, for high-resolution screens.
SIDE = 320
#: Up to this longer side, an image is shown pixel by pixel, without loss.
SMALL = 64


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


class Card(NamedTuple):
    """One image on the page."""

    image: str
    rank: int | None  #: from 1, the least confident of all with a score; None without a score
    picture: str  #: a data: URL; "" if there is none
    small: bool  #: whether the picture is shown pixel by pixel
    facts: list[tuple[str, str]]  #: names and values of the facts about it
    wrong: bool
    error: str  #: why there is no score or no picture


class Section(NamedTuple):
    """A group of images, as the template takes it."""

    title: str
    images: int
    summary: str
    cards: Iterator[Card | str]  #: a text stands for images that are left out


class Gallery:
    """Chooses images from a stream of rows, and writes the page that shows them.

    It stores the rows to show but no pictures: each image shown is read again while the page is
    written. It shows the `shown` least confident of the accepted and of the rejected images and a
    tenth as many (at least one) of the most confident; of those without a score, the first `shown`.
    They are accepted or rejected if there is a threshold, that is `asked`.

    `names` are the classes in their order. An image in a folder with the name of a class has that
    label. None: classes are numbers, and no label is known.
    """

    def __init__(self, shown: int, names: Sequence[str] | None, *, asked: bool) -> None:
        self._shown = shown
        self._names = names
        self._known = frozenset(names or ())
        titles = {False: "Rejected", True: "Accepted"} if asked else {None: "All images"}
        self._groups = {accept: _Group(title, shown) for accept, title in titles.items()}
        self._failed: list[tuple[int, Row]] = []
        self._failures = 0

    def watch(self, parts: Iterator[list[Row]]) -> Iterator[list[Row]]:
        """Yield the same parts: all rows, in order."""
        place = 0
        for rows in parts:
            for row in rows:
                if row.confidence is None:
                    self._failures += 1
                    if len(self._failed) < self._shown:
                        self._failed.append((place, row))
                else:
                    label = self._label(row)
                    wrong = None if label is None else label != self._name(row.prediction)
                    self._groups[row.accept].add(place, row, row.confidence, wrong)
                place += 1
            yield rows

    def write(
        self, out: Path, images: Images | Shards, column: str, content: dict[str, Any]
    ) -> None:
        """Write the page of these images.

        `column` is the name of the confidence's column in the table; `content` are facts about the
        run: command, model, input, device, date, versions, images, threshold and how it was chosen.
        """
        sections, before = [], 0
        card = partial(self._card, images, column)
        for group in self._groups.values():
            cards = self._cards(card, group, before)
            sections.append(Section(group.title, group.count, group.summary(), cards))
            before += group.count
        if self._failures:
            cards = self._failed_cards(card)
            sections.append(Section("Without a score", self._failures, "", cards))
        threshold = content["threshold"]
        write_page(
            out,
            "gallery.html",
            title=f"{Path(content['input']).resolve().name}, least confident first",
            sections=sections,
            column=column,
            labelled=any(group.labelled for group in self._groups.values()),
            **content | {"threshold": None if threshold is None else number(threshold)},
        )

    def _cards(self, card: Callable[..., Card], group: _Group, before: int) -> Iterator[Card | str]:
        least, most = group.least, group.most
        for rank, (place, row) in enumerate(least, before + 1):
            yield card(place, row, rank)
        if left_out := group.count - len(least) - len(most):
            yield f"{left_out:,} images between these are not shown"
        for rank, (place, row) in enumerate(most, before + group.count - len(most) + 1):
            yield card(place, row, rank)

    def _failed_cards(self, card: Callable[..., Card]) -> Iterator[Card | str]:
        for place, row in self._failed:
            yield card(place, row, None)
        if more := self._failures - len(self._failed):
            yield f"{more:,} more are not shown: see the column error of the table"

    def _name(self, label: int | None) -> str:
        if label is None:
            return ""
        return str(label) if self._names is None else self._names[label]

    def _label(self, row: Row) -> str | None:
        folder, inside, _ = row.image.partition("/")
        return folder if inside and folder in self._known else None

    def _card(
        self, images: Images | Shards, column: str, place: int, row: Row, rank: int | None
    ) -> Card:
        error = row.error or ""
        picture, small = "", False
        try:
            # In a shard, an image is found by its name.
            x = images.read(row.image) if isinstance(images, Shards) else images.read(place)
            picture, small = thumbnail(x)
        except ValueError as reason:
            error = error or str(reason)
        facts, wrong = [], False
        if row.confidence is not None:
            facts.append(("prediction", self._name(row.prediction)))
            if row.rival is not None:
                facts.append(("rival", self._name(row.rival)))
            facts.append((column, number(row.confidence)))
        label = self._label(row)
        if label is not None:
            wrong = row.confidence is not None and label != self._name(row.prediction)
            said = "" if row.confidence is None else ": wrong" if wrong else ": right"
            facts.append(("label", label + said))
        return Card(row.image, rank, picture, small, facts, wrong, error)


class _Group:
    """The two ends of a ranking of rows that come in any order, and counts over all rows."""

    def __init__(self, title: str, shown: int) -> None:
        self.title = title
        self._shown, self._last = shown, max(1, shown // 10)
        self._rows: list[tuple[float, int, Row]] = []
        self.count = self.labelled = self._wrong = 0

    def add(self, place: int, row: Row, confidence: float, wrong: bool | None) -> None:
        """Add one row; `wrong` says whether its prediction is wrong, None if unknown."""
        self.count += 1
        self.labelled += wrong is not None
        self._wrong += wrong is True
        self._rows.append((confidence, place, row))
        if len(self._rows) > 2 * (self._shown + self._last):
            self._sort()

    def _sort(self) -> None:
        """Sort the rows, ties by their place in the table, and drop those between the ends."""
        self._rows.sort(key=lambda ranked: ranked[:2])
        del self._rows[self._shown : -self._last]

    @property
    def least(self) -> list[tuple[int, Row]]:
        """Places and rows of the least confident, in this order."""
        self._sort()
        return [(place, row) for _, place, row in self._rows[: self._shown]]

    @property
    def most(self) -> list[tuple[int, Row]]:
        """Places and rows of the most confident, the most confident last; none is in `least`."""
        self._sort()
        return [(place, row) for _, place, row in self._rows[self._shown :]]

    def summary(self) -> str:
        """The share of wrong predictions, if labels are known."""
        if not self.labelled:
            return ""
        share = 100 * self._wrong / self.labelled
        return f"{self._wrong:,} of {self.labelled:,} with a label are wrong, {share:.3g} %"


def thumbnail(x: Tensor) -> tuple[str, bool]:
    """A picture of the model's input [C, H, W], as a data: URL, and whether it has every pixel.

    PNG up to 64 pixels, pixel by pixel; else JPEG, scaled so that the longer side has at most 320
    pixels. Raises a ValueError if C is neither 1 nor 3.

    Example:
        >>> import torch
        >>> url, small = thumbnail(torch.rand(1, 8, 8))
        >>> url.partition(",")[0], small
        ('data:image/png;base64', True)
    """
    from PIL import Image

    if len(x) not in (1, 3):
        raise ValueError(f"there is no picture of {len(x)} channels")
    pixels = (x * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[:, :, 0] if len(x) == 1 else pixels)
    small = max(picture.size) <= SMALL
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG" if small else "JPEG", optimize=True)
    return data_url("png" if small else "jpeg", file.getvalue()), small


def number(confidence: float) -> str:
    """The number with four digits.

    Example:
        >>> number(0.000123456), number(-math.inf)
        ('0.0001235', '-∞')
    """
    if math.isinf(confidence):
        return "∞" if confidence > 0 else "-∞"
    return f"{confidence:.4g}"
