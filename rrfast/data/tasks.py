"""Tasks by name: training, validation and test splits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from rrfast._checks import check_count, check_path, check_seed, is_integer, is_number
from rrfast._seeds import Stream, derive_seed, seeded
from rrfast.data import (
    EMNIST_CLASSES,
    Digits,
    Outliers,
    Released,
    SmoothedNoise,
    Split,
    Synthetic,
    cifar10,
    cifar100,
    digits,
    emnist,
    fashion_mnist,
    folder_images,
    image_folder,
    mnist,
    random_images,
    random_textures,
    svhn,
    synthetic,
)
from rrfast.data.folder import ImageFolder
from rrfast.data.loader import Data, length

Images = TypeVar("Images", Split, ImageFolder)


class Task(NamedTuple):
    """Data for training and evaluation; the result of a function named in `data:` of a recipe.

    Each split is an `rrfast.data.Split` of x, float32 [n, ...], all of one shape and finite, images
    in [0, 1], and y, labels [n] from 0 to `classes` - 1. Or it is a data set that is read image by
    image: it has `y`, all labels [n] without reading images, a length, and an index gives the tuple
    of an image and its label. No image may be in two splits.
    """

    train: Data
    validation: Data | None  #: for choosing weights and settings
    test: Data | None
    classes: int
    #: [n] indices of the test images in CIFAR-10's test split, for CIFAR-10-C.
    released: Tensor | None = None
    #: If validation images were held out from a test set: the indices in it, int64, of the
    #: validation images [m] and of the test images [n].
    indices: tuple[Tensor, Tensor] | None = None

    def undivided(self) -> Task:
        """The task with its whole test set as test split, in its order, and no validation split.

        So tests on a release use the same images, whichever of them a seed held out. The task is
        unchanged if `indices` is None, or does not fit the splits.
        """
        if self.indices is None or self.test is None:
            return self
        held = 0 if self.validation is None else length(self.validation)
        if [held, length(self.test)] != [len(each) for each in self.indices]:
            return self
        parts = [part for part in (self.validation, self.test) if part is not None]
        there, order = torch.cat(self.indices).sort()
        released = None
        if self.released is not None and torch.equal(self.released, self.indices[1]):
            released = there
        whole = _joined(parts, order)
        return self._replace(validation=None, test=whole, released=released, indices=None)


def made_task(make: Callable[..., Digits | Synthetic]) -> Callable[..., Task]:
    """Data that a seed makes, as a task with the same arguments."""

    @functools.wraps(make)
    def task(*seed: int, **options: Any) -> Task:
        check_count("train", options.get("train", 0), least=0)
        train, validation, test = make(*seed, **options)
        return Task(train, validation, test, options.get("classes", 10))

    return task


def release_task(
    read: Callable[..., Released], classes: int | Callable[..., int], *, released: bool = False
) -> Callable[..., Task]:
    """A release as a task, with validation images from its test split.

    This follows the paper, which tunes on a fifth of the test images (RAT §5.1), so that all
    training images are used for training. `Task.indices` has the indices of the held-out images.

    Args:
        read: Reads the release in a `folder`, its first argument; it may have others.
        classes: Number of classes, or a function of those others.
        released: Whether CIFAR-10-C has the test images.

    Returns:
        A function with the arguments of `read` and these:
        seed: Decides which test images are for validation, and which training images are used.
        train: Number of training images, drawn at random by the seed, whatever their labels (so
        that classes are not balanced), in their original order; a larger number contains a smaller
        one. None: all.
        validation: Number of validation images; 0 for none.
    """

    def task(
        folder: str | None = None,
        seed: int = 0,
        *,
        train: int | None = None,
        validation: int = 2000,
        **own: Any,
    ) -> Task:
        data = read(folder, **own)
        check_seed("seed", seed)
        held, rest = _held_out(len(data.test.y), validation, seed)
        return Task(
            _share("train", data.train, train, seed),
            _part(data.test, held) if validation else None,
            _part(data.test, rest),
            classes(**own) if callable(classes) else classes,
            rest if released else None,
            (held, rest),
        )

    where, *others = inspect.signature(read).parameters.values()
    first, *drawn, _ = inspect.signature(task).parameters.values()
    options = [first.replace(default=where.default), *drawn]
    options += [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in others]
    # A recipe's options, and errors about them, come from the signature.
    task.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return task


def _held_out(images: int, validation: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the validation images among the test images, drawn by the seed, and the rest."""
    check_count("validation", validation, least=0)
    if validation >= images:
        raise ValueError(
            f"validation must leave some of the {images} test images to test on, got {validation}"
        )
    order = torch.randperm(images, generator=seeded(seed))
    return order[:validation], order[validation:]


def _part(data: Images, indices: Tensor) -> Images:
    if isinstance(data, ImageFolder):
        return data.part(indices)
    return Split(data.x[indices], data.y[indices])


def _joined(parts: list[Data], order: Tensor) -> Data:
    """Join parts of a test set, and put the images into an order."""
    y = torch.cat([part.y for part in parts])
    splits = [part for part in parts if isinstance(part, Split)]
    if len(splits) == len(parts):
        return _part(Split(torch.cat([split.x for split in splits]), y), order)
    folders = [part for part in parts if isinstance(part, ImageFolder)]
    if len(folders) == len(parts) and len({folder.root for folder in folders}) == 1:
        files = [file for folder in folders for file in folder.files]
        return _part(replace(folders[0], files=files, y=y), order)
    raise ValueError(
        "indices must be None, or of validation and test images that are each an "
        "rrfast.data.Split, or both of one rrfast.data.image_folder, got "
        f"{' and '.join(type(p).__name__ for p in parts)}"
    )


def _share(name: str, data: Images, n: int | None, seed: int) -> Images:
    """Draw n training images as `release_task` does; `name` is the option's name for errors."""
    if n is None:
        return data
    check_count(name, n, least=0)
    if n > len(data.y):
        raise ValueError(f"{name} must be at most the {len(data.y)} images there are, got {n}")
    # Every seed of torch is accepted, and `derive_seed` takes none below 0.
    generator = torch.Generator().manual_seed(derive_seed(seed % 2**64, Stream.SHARE))
    return _part(data, torch.randperm(len(data.y), generator=generator)[:n].sort().values)


def image_folder_task(
    train: str,
    validation: str | int | None = None,
    test: str | None = None,
    seed: int = 0,
    *,
    size: int = 224,
    train_images: int | None = None,
) -> Task:
    """`rrfast.data.image_folder`: one folder per split, with the same classes.

    Args:
        train: The folder of training images.
        validation: The folder of validation images; None for none. Or a number of images, drawn
            from `test` at random by the seed; the rest is the test split, as in `release_task`.
        test: The folder of test images; None for none.
        seed: Decides which training images are used, and which of `test` are for validation.
        size: Side of the images, in pixels.
        train_images: Number of training images, as `train` of `release_task`; here `train` is the
            folder. None: all.
    """
    check_seed("seed", seed)
    if is_number(train):
        raise TypeError(
            f"train must be the folder of images to train on, got {train}; to train on {train} of "
            f"its images, say train_images={train}"
        )
    count = validation if is_integer(validation) else None  # a number of images of test
    if count is not None and test is None:
        raise ValueError(
            f"validation must be a folder, got {validation}: a number of images is drawn from "
            "test, and test is not given"
        )
    roots = {"train": train, "validation": None if is_integer(validation) else validation}
    given = {k: root for k, root in (roots | {"test": test}).items() if root is not None}
    for name, root in given.items():
        check_path(name, root)
    folders = {name: image_folder(str(root), size=size) for name, root in given.items()}
    classes = folders["train"].classes
    for name, folder in folders.items():
        if folder.classes != classes:
            raise ValueError(
                f"{name} must have the classes of train, {len(classes)} in {train}, and has "
                f"{len(folder.classes)} in {folder.root}; only one of them has "
                f"{', '.join(sorted(set(classes) ^ set(folder.classes))[:5])}"
            )
    trained = _share("train_images", folders["train"], train_images, seed)
    held, rest = folders.get("validation"), folders.get("test")
    if rest is None or count is None:
        return Task(trained, held, rest, len(classes))
    indices = _held_out(len(rest), count, seed)
    held, rest = (_part(rest, each) for each in indices)
    return Task(trained, held if count else None, rest, len(classes), None, indices)


#: Names for `data: {name: ...}`; the options are the function's arguments.
TASKS: dict[str, Callable[..., Task]] = {
    "digits": made_task(digits),
    "synthetic": made_task(synthetic),
    "cifar10": release_task(cifar10, 10, released=True),
    "cifar100": release_task(cifar100, lambda fine=True: 100 if fine else 20),
    "mnist": release_task(mnist, 10),
    "fashion_mnist": release_task(fashion_mnist, 10),
    "emnist": release_task(emnist, lambda split="letters": EMNIST_CLASSES[split]),
    "svhn": release_task(svhn, 10),
    "image_folder": image_folder_task,
}


def random_images_outliers(path: str) -> Outliers:
    """`rrfast.data.random_images`."""
    return random_images(path)


def image_folder_outliers(
    folder: str,
    workers: int = 0,
    *,
    n: int | None = None,
    size: int = 224,
    shorter: int | None = None,
) -> Outliers:
    """`rrfast.data.folder_images`, whose `workers` are by default those of the training.

    `n` is the required number of images, because the draws depend on it; None: any number, which
    `train` records.
    """
    outliers = folder_images(folder, size=size, shorter=shorter, workers=workers)
    if n is not None and len(outliers) != n:
        raise ValueError(
            f"folder must have n={n} images below it, as in the training that wrote this down, "
            f"and {folder} has {len(outliers)}"
        )
    return outliers


def textures_outliers(
    seed: int = 0, *, n: int = 10_000, size: int = 32, channels: int = 3
) -> Outliers:
    """`rrfast.data.random_textures`."""
    return Outliers(random_textures(n, size=size, channels=channels, seed=seed))


#: Names for `objective: {outliers: {name: ...}}`.
OUTLIERS: dict[str, Callable[..., Outliers]] = {
    "random_images": random_images_outliers,
    "image_folder": image_folder_outliers,
    "textures": textures_outliers,
}

#: Names for `objective: {noise: {name: ...}}`; `images` are the training images.
NOISE: dict[str, Callable[..., Callable[[Tensor], Tensor]]] = {"smoothed_noise": SmoothedNoise}
