"""The settings of `rrfast bench`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import torch

from rrfast._checks import check_count, check_number, check_once, check_one_of, meant, words_of
from rrfast._device import chosen_device
from rrfast._names import FORMS, TUNINGS
from rrfast.data.own_data import runs_foreign_data
from rrfast.data.tasks import TASKS
from rrfast.methods import METHODS

DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
#: Largest total number of pixels of the synthetic images: 48 GiB.
MOST_PIXELS = 2**32


def _check_task(data: str) -> None:
    """Raise unless `data` begins with a name that a recipe allows."""
    words = words_of("data", data)
    name = words[0] if words else ""
    if name not in TASKS and not runs_foreign_data(name):
        raise ValueError(
            f"data must be {', '.join(TASKS)}, {FORMS}, each with its options behind it, or a file "
            f"NAME.npz, got {data!r}{meant(name, TASKS)}"
        )


@dataclass(frozen=True)
class Settings:
    """The settings of a benchmark.

    Attributes:
        model: A specification, see `rrfast.models.load_model`; or the folder of a training, with
            its normalisation and, if `data` is None, its data. A folder needs `rrfast[train]`.
        weights: A file with a state_dict; None for random weights, for which only speeds are
            meaningful. For a folder "last" (the default) or "best".
        normalize: As for `rrfast.evaluate.trained_models`; only for a specification.
        trust: As for `rrfast.evaluate.trained_models`; only for a folder.
        methods: Names in `rrfast.methods.METHODS`; None for all of them.
        batch: Batch sizes to time.
        dtype: "float32" is plain; "bfloat16" and "float16" are autocast, with inputs in float32.
        device: "cpu", "cuda", "cuda:1"; None for CUDA if available.
        data: "synthetic" (the default for a specification), "digits", or a file NAME.npz with x
            and, for the metrics, y. Or the test images of other data that a recipe can name, with
            options after the name, as in "cifar10 folder=data/cifar-10-batches-bin"; these need
            `rrfast[train]`.
        size: Side of the images of "synthetic" without options.
        samples: Number of images for the metrics and comparisons.
        seconds: Time to spend on every method, batch size and dtype; at least three runs, or one
            run of a method that takes longer than this.
        seed: Seed of the data, and of random weights.
        speed: Also measure the effect of each option of `rrfast.RadiusEstimator`.
        pareto: Also vary the settings of every method.
        peers: Also measure attack libraries that are installed, on images in [0, 1].
        tuning: Also measure each method with its temperature tuned by AURC on other images: "rat"
            or "heldout", as for `rrfast evaluate`. This uses all test images, not only `samples`.
            None: no tuning.
    """

    model: str = "rrfast.models:synthetic_cnn"
    weights: str | None = None
    normalize: str | None = None
    trust: bool = False
    methods: tuple[str, ...] | None = None
    batch: tuple[int, ...] = (16, 128)
    dtype: tuple[str, ...] = ("float32",)
    device: str | None = None
    data: str | None = None
    size: int = 32
    samples: int = 512
    seconds: float = 2.0
    seed: int = 0
    speed: bool = False
    pareto: bool = False
    peers: bool = False
    tuning: str | None = None

    def __post_init__(self) -> None:
        several = {"batch": self.batch, "dtype": self.dtype}
        if self.methods is not None:
            several["methods"] = self.methods
        for name, values in several.items():
            check_once(name, values)
            if not values:
                raise ValueError(f"{name} must name at least one, got none")
        for method in self.methods or ():
            check_one_of("methods", method, METHODS)
        for dtype in self.dtype:
            check_one_of("dtype", dtype, DTYPES)
        for size in self.batch:
            check_count("batch", size)
        check_count("samples", self.samples)
        check_count("size", self.size)
        if self.samples * self.size**2 > MOST_PIXELS:
            raise ValueError(
                f"samples * size**2 must be at most {MOST_PIXELS}, got samples {self.samples} and "
                f"size {self.size}"
            )
        if self.samples < max(self.batch):
            raise ValueError(
                f"samples must be at least the largest batch, {max(self.batch)}, got {self.samples}"
            )
        check_number("seconds", self.seconds)
        self._check_data()
        self.torch_device()

    def _check_data(self) -> None:
        if self.data is not None and self.data not in ("synthetic", "digits") and not self.npz:
            _check_task(self.data)
        if self.tuning is not None:
            check_one_of("tuning", self.tuning, TUNINGS)
            if self.npz:
                raise ValueError(
                    f"data must have images to tune on and others to test on for tuning "
                    f"{self.tuning!r}, as those of a training or a recipe have, got {self.data!r}"
                )

    @property
    def npz(self) -> bool:
        """Whether the data are a .npz file."""
        return self.data is not None and self.data.endswith(".npz")

    def contestants(self) -> tuple[str, ...]:
        """The requested methods; by default all."""
        return tuple(METHODS) if self.methods is None else self.methods

    def torch_device(self) -> torch.device:
        """The requested device, or a ValueError that says why it is not available."""
        device = chosen_device(self.device)
        if device.type not in ("cpu", "cuda"):  # on others nothing waits until a run has ended
            raise ValueError(f"device must be cpu, cuda or cuda:N, got {self.device!r}")
        return device

    def command(self) -> str:
        """The command line for the same measurement."""
        words = ["rrfast", "bench"]
        for name, default in vars(Settings()).items():
            value: Any = getattr(self, name)
            if value is True:
                words.append(f"--{name}")
            elif value != default:
                values = [",".join(value)] if name == "methods" else value
                many = isinstance(values, (tuple, list))
                words += [f"--{name}", *map(str, values if many else [values])]
        return shlex.join(words)


#: Settings for a test run of seconds; its numbers mean nothing.
SMOKE = Settings(
    batch=(4,), dtype=("float32", "bfloat16"), samples=16, seconds=0.005, size=16, device="cpu"
)
