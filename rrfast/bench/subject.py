"""What is measured: a model in eval mode, and the images it is measured on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rrfast import engine
from rrfast._checks import check_labels
from rrfast.data import digits, synthetic
from rrfast.data.npy import npz_rows
from rrfast.models import load_model

if TYPE_CHECKING:
    from rrfast.bench.settings import Settings

#: Images whose batch statistics a model with random weights gets.
SETTLED_ON = 64


class Subject(NamedTuple):
    """A model and data on one device."""

    model: nn.Module  #: in eval mode
    x: Tensor  #: [samples, ...] float32
    y: Tensor | None  #: [samples] int64, on the CPU; None where there are no labels


def load(settings: Settings) -> Subject:
    """The model and as many test images as are asked for.

    Random weights get the batch statistics of the images into their BatchNorm layers; without them
    the activations of a deep network would be nothing like a trained one's.

    Raises:
        ImportError, OSError: Something is not installed, a file is not there.
        ValueError: The model is unknown, does not take the images, or there are too few of them.
    """
    device = settings.torch_device()
    x, y = _data(settings)
    if len(x) < settings.samples:
        raise ValueError(
            f"samples must be at most the {len(x)} images of {settings.data}, "
            f"got {settings.samples}"
        )
    x, y = x[: settings.samples].to(device), None if y is None else y[: settings.samples]
    try:
        model = load_model(settings.model, weights=settings.weights, seed=settings.seed).to(device)
    except TypeError as error:
        raise ValueError(str(error)) from error
    try:
        with torch.no_grad():
            if settings.weights is None:
                _settle(model, x[:SETTLED_ON])
            logits = engine.logits(model.eval(), x[:2])
    except RuntimeError as error:
        shape, (first, _, _) = list(x.shape[1:]), str(error).partition("\n")
        raise ValueError(
            f"model {settings.model!r} does not take the images of {settings.data}, of shape "
            f"{shape}: {first}"
        ) from error
    if y is not None:
        check_labels(f"y of {settings.data}", y, logits.shape[1])
    return Subject(model, x, y)


def _data(settings: Settings) -> tuple[Tensor, Tensor | None]:
    if settings.data == "digits":
        return digits(settings.seed).test
    if settings.data == "synthetic":
        return synthetic(
            settings.seed, train=0, validation=0, test=settings.samples, size=settings.size
        ).test
    if settings.data.endswith(".npz"):
        return _npz(Path(settings.data), settings.samples)
    return _of_task(settings)


def _of_task(settings: Settings) -> tuple[Tensor, Tensor]:
    """Test images of data that a recipe could name, at random: they may be sorted by class."""
    # Here, because it is an extra.
    from rrfast.evaluate.division import chosen
    from rrfast.train.recipe import named_task
    from rrfast.train.recipe_file import parse_options

    test = named_task(parse_options(shlex.split(settings.data)), settings.seed).undivided().test
    if test is None:
        raise ValueError(f"data must have a test split, and {settings.data} has none")
    part = chosen(test, settings.samples)
    batches = list(part.batches(settings.samples, torch.device("cpu")))
    if not batches:
        raise ValueError(f"data must have test images, and {settings.data} has none")
    return batches[0]


def _npz(path: Path, samples: int) -> tuple[Tensor, Tensor | None]:
    if not path.is_file():
        raise FileNotFoundError(f"data must be a file that exists, got {str(path)!r}")
    rows = npz_rows(path, ("x", "y"), samples)
    if "x" not in rows:
        raise ValueError(f"data must have an array x, and {path} has none")
    (images, shape), labels = rows["x"], rows.get("y")
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"x in {path} must be floating point, as the model expects it, got {images.dtype} of "
            f"shape {list(shape)}"
        )
    with np.errstate(over="ignore"):  # said below, as infinite
        x = torch.from_numpy(images.astype(np.float32))
    wrong = (~x.flatten(1).isfinite().all(dim=1)).nonzero()
    if len(wrong):
        raise ValueError(f"x in {path} must be finite, and is not in row {int(wrong[0])}")
    if labels is None:
        return x, None
    if not np.issubdtype(labels.array.dtype, np.integer) or labels.shape != shape[:1]:
        raise ValueError(
            f"y in {path} must be an integer label for each of the {shape[0]} images, got "
            f"{labels.array.dtype} of shape {list(labels.shape)}"
        )
    return x, torch.from_numpy(labels.array.astype(np.int64))


def _settle(model: nn.Module, x: Tensor) -> None:
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.momentum = 1.0
        norm.training = norm.track_running_stats
    model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
