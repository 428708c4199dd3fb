"""Checks of the data that a user's function returns."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor

from rrfast._checks import (
    check_count,
    check_dense,
    check_finite,
    check_labels,
    check_one_of,
    describe,
)
from rrfast._names import FORMS
from rrfast.data import Split
from rrfast.data.tasks import TASKS, Task

#: Number of images in the split that CIFAR-10-C corrupts.
CIFAR10_TEST = 10_000


def runs_foreign_data(name: object) -> TypeGuard[str]:
    """Whether making the data runs code that the name chooses, instead of one of `TASKS`.

    A function of rrfast counts too: its arguments are given with its name, and may make it run
    foreign code, for example if it loads a model.

    Example:
        >>> runs_foreign_data("digits"), runs_foreign_data("mine.py:photos")
        (False, True)
    """
    return isinstance(name, str) and name not in TASKS and ":" in name


def check_data_name(name: object) -> None:
    """Raise a ValueError unless `name` is one of `TASKS`; the message has the other forms too."""
    check_one_of("data.name", name, [*TASKS, FORMS])


def check_task(spec: str, task: object) -> Task:
    """The result of the function `spec`, or a TypeError or ValueError unless it is a valid `Task`.

    Cost: one read of all images in memory.
    """
    of = f"of data {spec!r}"
    if not isinstance(task, Task):
        raise TypeError(
            f"data {spec!r} must return an rrfast.train.Task(train, validation, test, classes), "
            f"got {describe(task)}"
        )
    check_count(f"classes {of}", task.classes, least=2)
    parts = {name: getattr(task, name) for name in ("train", "validation", "test")}
    shapes: dict[str, list[int]] = {}
    for name, data in parts.items():
        if data is None and name != "train":
            continue
        _check_labelled(name, of, data, task.classes)
        if isinstance(data, Split):
            _check_images(f"{name}.x {of}", data.x)
            parts[name] = Split(data.x.detach().cpu(), data.y.long().cpu())
            shapes[name] = list(data.x.shape[1:])
        elif len(data):
            shapes[name] = _shape_of_first(name, of, data)
    for name, shape in shapes.items():
        first = next(iter(shapes))
        if shape != shapes[first]:
            raise ValueError(
                f"{name} {of} must have images of the shape of {first}, {shapes[first]}, got "
                f"{shape}"
            )
    _check_released(of, task)
    _check_indices(of, task.indices)
    return task._replace(classes=int(task.classes), **parts)


def _check_labelled(name: str, of: str, data: Any, classes: int) -> None:
    if not all(hasattr(data, each) for each in ("y", "__len__", "__getitem__")):
        raise TypeError(
            f"{name} {of} must be an rrfast.data.Split(x, y), or a data set with y, its labels, "
            f"and a length, got {describe(data)}"
        )
    check_labels(f"{name}.y {of}", data.y, classes)
    images = data.x if isinstance(data, Split) else data
    if isinstance(images, Tensor) and images.dim() == 0:
        raise ValueError(f"{name}.x {of} must have shape [n, ...], got {describe(images)}")
    if len(images) != len(data.y):
        raise ValueError(
            f"{name} {of} must have a label for each of its {len(images)} images, and y has "
            f"{len(data.y)}"
        )


def _check_images(name: str, x: object) -> None:
    if not isinstance(x, Tensor) or x.dtype != torch.float32:
        raise TypeError(f"{name} must be a float32 tensor, got {describe(x)}")
    check_dense(name, x)
    if x.dim() < 2:
        raise ValueError(f"{name} must have shape [n, ...], got {describe(x)}")
    check_finite(name, x)


def _shape_of_first(name: str, of: str, data: Any) -> list[int]:
    """The shape of images in a data set that is read image by image, from the first one."""
    item = data[0]
    if not isinstance(item, tuple) or len(item) != 2:
        raise TypeError(f"{name}[0] {of} must be an image and its label, got {describe(item)}")
    image, label = item
    _check_images(f"the image {name}[0] {of}", image)
    if int(label) != int(data.y[0]):
        raise ValueError(
            f"{name}[0] {of} must have the label that y has there, {int(data.y[0])}, got {label}"
        )
    return list(image.shape)


def _check_released(of: str, task: Task) -> None:
    released: object = task.released
    if released is None:
        return
    images = 0 if task.test is None else len(task.test.y)
    if (
        not isinstance(released, Tensor)
        or released.dtype != torch.int64
        or released.shape != (images,)
        or not bool(((released >= 0) & (released < CIFAR10_TEST)).all())
    ):
        raise ValueError(
            f"released {of} must be None, or int64 [{images}], the index of each test image in "
            f"CIFAR-10's test split, from 0 to {CIFAR10_TEST - 1}, got {describe(released)}"
        )


def _check_indices(of: str, indices: object) -> None:
    """Indices of other images are allowed: `Task.undivided` ignores them."""
    if indices is None:
        return
    pair = indices if isinstance(indices, tuple) else ()
    tensors = [each for each in pair if isinstance(each, Tensor) and each.dtype == torch.int64]
    if len(pair) != 2 or len(tensors) != 2 or any(each.dim() != 1 for each in tensors):
        raise TypeError(
            f"indices {of} must be None, or two int64 tensors [m] and [n], the indices of the "
            f"validation and of the test images in one test set, got {describe(indices)}"
        )
    both = torch.cat(tensors)
    if len(both.unique()) != len(both):
        raise ValueError(f"indices {of} must be of different images, and some are there twice")
