"""The model and the images of a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rrfast import engine
from rrfast._checks import check_finite, check_labels, words_of
from rrfast._errors import first_line
from rrfast.bench.settings import Settings
from rrfast.data import digits, synthetic
from rrfast.data.npy import npz_rows
from rrfast.data.splits import chosen, tested_on
from rrfast.data.tasks import Task
from rrfast.evaluate.trained_model import trained_models
from rrfast.models import Normalize, load_model

#: Number of images for the batch statistics of a model with random weights.
SETTLED_ON = 64
NONE = torch.empty(0, device="cpu")  # before the images are read


class Subject(NamedTuple):
    """A model and data on one device."""

    model: nn.Module  #: in eval mode
    x: Tensor  #: [samples, ...] float32
    y: Tensor | None  #: [samples] int64, on the CPU; None without labels
    data: str  #: printed name
    checkpoint: str  #: as in `rrfast.evaluate.TrainedModel`; "given" for a specification
    seed: int  #: seed of its training, or of the settings
    task: Task | None  #: the task of x, if known


def load(settings: Settings) -> Subject:
    """The model and the requested number of test images.

    A model with random weights gets the batch statistics of the images in its BatchNorm layers;
    without them the activations of a deep network would be very different from a trained one's.

    Raises:
        ImportError, OSError: A package is not installed, or a file is missing.
        ValueError: The model is unknown, does not accept the images, or there are too few of them;
            for a folder also as `rrfast.evaluate.trained_models` and `given_model`.
    """
    device = settings.torch_device()
    given = _trained(settings) if Path(settings.model).is_dir() else _specified(settings)
    x, y = _images(settings, given)
    if len(x) < settings.samples:
        raise ValueError(
            f"samples must be at most the {len(x)} images of {given.data}, got {settings.samples}"
        )
    x, y = x[: settings.samples].to(device), None if y is None else y[: settings.samples]
    model = given.model.to(device)
    try:
        with torch.no_grad():
            if given.checkpoint == "given" and settings.weights is None:
                _settle(model, x[:SETTLED_ON])
            logits = engine.logits(model.eval(), x[:2])
    except RuntimeError as error:
        raise ValueError(
            f"model {settings.model!r} does not take the images of {given.data}, of shape "
            f"{list(x.shape[1:])}: {first_line(error)}"
        ) from error
    if y is not None:
        check_labels(f"y of {given.data}", y, logits.shape[1])
    return given._replace(model=model, x=x, y=y)


def _trained(settings: Settings) -> Subject:
    """The model of a training's folder, with its normalisation, and its data or the given data."""
    named = None if settings.data is None or settings.npz else _options(settings.data)
    found = trained_models(
        [settings.model],
        data=named,
        weights=settings.weights,
        normalize=settings.normalize,
        trust=settings.trust,
    )
    if len(found) != 1:
        raise ValueError(
            f"model must be the folder of one training, and {settings.model} holds {len(found)}"
        )
    model, task = found[0].load()
    data = settings.data if settings.data and settings.npz else found[0].data
    return Subject(model, NONE, None, data, found[0].checkpoint, found[0].seed, task)


def _specified(settings: Settings) -> Subject:
    """A model by its specification; its data are a task if necessary."""
    data = settings.data or "synthetic"
    plain = settings.npz or (data in ("synthetic", "digits") and settings.tuning is None)
    try:
        model = load_model(settings.model, weights=settings.weights, seed=settings.seed)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if settings.normalize is not None:
        model = nn.Sequential(Normalize.of(settings.normalize), model)
    task = None
    if not plain:
        from rrfast.train.recipe import named_task

        task = named_task(_options(data), settings.seed)
    return Subject(model, NONE, None, data, "given", settings.seed, task)


def _options(data: str) -> dict[str, Any]:
    from rrfast.train.recipe_file import parse_options

    return parse_options(words_of("data", data))


def _images(settings: Settings, given: Subject) -> tuple[Tensor, Tensor | None]:
    if settings.npz:
        return _npz(Path(given.data), settings.samples)
    if given.task is not None:
        return _of_task(given.task, given, settings.samples)
    if given.data == "digits":
        return digits(settings.seed).test
    return synthetic(
        settings.seed, train=0, validation=0, test=settings.samples, size=settings.size
    ).test


def _of_task(task: Task, given: Subject, samples: int) -> tuple[Tensor, Tensor]:
    """Random test images, as they may be sorted by class; without those that chose the weights."""
    if task.test is None:
        raise ValueError(f"data must have a test split, and {given.data} has none")
    test, _ = tested_on(task, given.checkpoint)
    batches = list(chosen(test, samples).batches(samples, torch.device("cpu")))
    if not batches:
        raise ValueError(f"data must have test images, and {given.data} has none")
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
    with np.errstate(over="ignore"):  # reported below, as infinite
        x = torch.from_numpy(images.astype(np.float32))
    check_finite(f"x in {path}", x)
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
