"""What a training is: a checkpoint of another one is not resumed, and what is not seen is said."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

pytest.importorskip("lightning_fabric")

from rrfast.data import Outliers, SmoothedNoise, Split, image_folder
from rrfast.objectives import ACET, CCAT, RAT, Objective, OpenMix, Standard
from rrfast.train import Augment, Training, fit
from rrfast.train.identity import Identity, _Told, identity


def images(seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    return Split(torch.rand(8, 1, 4, 4, generator=generator), torch.arange(8) % 3)


def of(objective: Objective, data: Any = None, **settings: Any) -> Identity:
    training = Training(**{"epochs": 1, "batch_size": 4, **settings})
    return identity(training, objective, images() if data is None else data, None)


def smoothed(amount: float) -> functools.partial[Tensor]:
    return functools.partial(cross_entropy, label_smoothing=amount)


class Focal(nn.Module):
    def __init__(self, gamma: float, weight: Tensor) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weight", weight)
        self.inner = nn.CrossEntropyLoss(label_smoothing=gamma)


@dataclasses.dataclass
class Noise:
    share: float

    def __call__(self, x: Tensor) -> Tensor:
        return self.share * x


def other(h: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(h, y)


pixels = torch.rand(30, 1, 4, 4)
#: A value, the same again, and another one, for a field of an objective.
PAIRS: dict[str, tuple[Objective, Objective, Objective]] = {
    "python": (RAT(0.1), RAT(0.1), RAT(0.9)),
    "float32": (RAT(np.float32(0.1)), RAT(float(np.float32(0.1))), RAT(0.1)),
    "float64": (RAT(np.float64(0.1)), RAT(0.1), RAT(np.float64(0.1 + 1e-16 * 2))),
    "int64": (RAT(steps=np.int64(2)), RAT(steps=2), RAT(steps=np.int64(3))),
    "integer": (RAT(eps=1), RAT(eps=1.0), RAT(eps=2)),
    "bounds": (
        RAT(bounds=(np.float32(0), np.float32(1))),
        RAT(bounds=(0, 1)),
        RAT(bounds=(np.float32(0), np.float32(0.5))),
    ),
    "tensor": (
        RAT(scale=torch.tensor([1.00001])),
        RAT(scale=torch.tensor([1.00001])),
        RAT(scale=torch.tensor([1.00004])),
    ),
    "large tensor": tuple(  # type: ignore[dict-item]
        RAT(bounds=(torch.zeros(50), torch.arange(50.0) + step)) for step in (1, 1, 1.00001)
    ),
    "list": (CCAT(starts=["input"]), CCAT(starts=("input",)), CCAT(starts=["gaussian"])),
    "partial": (
        Standard(smoothed(0.1)),
        Standard(smoothed(np.float64(0.1))),
        Standard(smoothed(0.5)),
    ),
    "partial of another": (
        Standard(functools.partial(cross_entropy)),
        Standard(functools.partial(cross_entropy)),
        Standard(functools.partial(other)),
    ),
    "function": (Standard(), Standard(cross_entropy), Standard(other)),
    "module": (
        Standard(Focal(0.5, torch.ones(20))),
        Standard(Focal(0.5, torch.ones(20))),
        Standard(Focal(0.5, torch.arange(20.0))),
    ),
    "module within": (
        Standard(nn.Sequential(Focal(0.5, torch.ones(2)))),
        Standard(nn.Sequential(Focal(np.float32(0.5), torch.ones(2)))),
        Standard(nn.Sequential(Focal(0.25, torch.ones(2)))),
    ),
    "outliers": (
        OpenMix(Outliers(pixels)),
        OpenMix(Outliers(pixels.clone())),
        OpenMix(Outliers(pixels / 2)),
    ),
    "noise": (
        ACET(SmoothedNoise(pixels)),
        ACET(SmoothedNoise(pixels.clone())),
        ACET(SmoothedNoise(pixels / 2)),
    ),
    "dataclass": (OpenMix(Noise(0.5)), OpenMix(Noise(0.5)), OpenMix(Noise(0.6))),
    "method": (
        OpenMix(Noise(0.5).__call__),
        OpenMix(Noise(0.5).__call__),
        OpenMix(Noise(0.6).__call__),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_values_are_compared(name: str) -> None:
    one, same, another = map(of, PAIRS[name])
    assert one.differences(same.parts) == []
    assert len(another.differences(one.parts)) == 1
    assert one.unseen == another.unseen == []


def test_data_are_compared(tmp_path: Path) -> None:
    one = of(RAT())
    assert one.differences(of(RAT(), images()).parts) == []
    (said,) = of(RAT(), images(1)).differences(one.parts)
    assert said.startswith("train.pixels is sha256:")
    relabelled = Split(images().x, 2 - images().y)
    assert of(RAT(), relabelled).differences(one.parts)[0].startswith("train.labels is")
    validated = identity(Training(epochs=1, batch_size=4), RAT(), images(), images(2))
    assert len(validated.differences(one.parts)) == len(one.differences(validated.parts)) == 3

    pytest.importorskip("PIL")
    from PIL import Image

    for root in ("here", "there"):
        for label in ("cat", "dog"):
            (tmp_path / root / label).mkdir(parents=True)
            Image.new("RGB", (9, 9)).save(tmp_path / root / label / "1.png")
    here = of(RAT(), image_folder(tmp_path / "here", size=8))
    assert here.differences(of(RAT(), image_folder(tmp_path / "there", size=8)).parts) == []
    assert len(here.differences(of(RAT(), image_folder(tmp_path / "there", size=7)).parts)) == 1
    Image.new("RGB", (90, 9)).save(tmp_path / "there" / "dog" / "1.png")
    (said,) = here.differences(of(RAT(), image_folder(tmp_path / "there", size=8)).parts)
    assert said.startswith("train.files is sha256:")
    assert here.unseen == []


class Read(torch.utils.data.Dataset[tuple[Tensor, int]]):
    def __init__(self) -> None:
        self.data, self.y = images(), images().y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.data.x[index], int(self.y[index])


def test_what_is_not_seen_is_named() -> None:
    class Local(Standard):
        pass

    for objective, said in (
        (Standard(lambda h, y: 2 * cross_entropy(h, y)), "objective.criterion, the function test_"),
        (Standard(functools.partial(lambda h, _: h.sum())), "objective.criterion, the function "),
        (OpenMix(type("Opaque", (), {"__call__": lambda _, x: x})()), "objective.outliers, of the"),
    ):
        (unseen,) = of(objective).unseen
        assert unseen.startswith(said)
    (unseen,) = of(Local(), Read()).unseen
    assert unseen.startswith("train, whose images are read by test_identity.Read")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def trained(out: Path, objective: Objective, **options: Any) -> None:
    training = options.pop("training", Training(epochs=1, batch_size=4))
    fit(
        network(), images(), training=training, objective=objective, out=out,
        console=Console(quiet=True), **options,
    )  # fmt: skip


def test_a_resumed_training_says_what_it_did_not_see(tmp_path: Path) -> None:
    trained(tmp_path / "lambda", Standard(lambda h, y: 3 * cross_entropy(h, y)))
    with pytest.warns(RuntimeWarning, match=r"without knowing .*: objective.criterion, the funct"):
        trained(tmp_path / "lambda", Standard(lambda h, y: 2 * cross_entropy(h, y)), resume=True)
    trained(tmp_path / "partial", Standard(smoothed(0.1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(tmp_path / "partial", Standard(smoothed(0.1)), resume=True)
    with pytest.raises(
        ValueError, match=r"objective.criterion is .*=0.1\) there and .*=0.5\) here"
    ):
        trained(tmp_path / "partial", Standard(smoothed(0.5)), resume=True)


def test_arrays_that_torch_does_not_take() -> None:
    numbers, words = np.arange(40.0), np.array(["a"] * 40)
    reverse, told = numbers.astype(numbers.dtype.newbyteorder()), _Told()
    assert told.of(reverse, "x") == told.of(numbers, "x") == told.of(torch.tensor(numbers), "x")
    assert told.of(reverse + 1, "x") != told.of(numbers, "x")
    assert not told.unseen
    told.of(words, "x")
    assert told.unseen == ["x, an array of str32"]


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, Standard())
    state = torch.load(tmp_path / "checkpoint.pt")
    del state["format"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint.pt is of another version of rrfast, which"):
        trained(tmp_path, Standard(), resume=True)


#: NumPy's scalars, as a sweep over np.linspace gives them.
NUMPY: dict[str, Any] = {
    "epochs": np.int64(1),
    "batch_size": np.int32(4),
    "optimizer": np.str_("sgd"),
    "learning_rate": np.float32(0.01),
    "momentum": np.float64(0.5),
    "nesterov": np.bool_(True),
    "weight_decay": np.float16(0.25),
    "warmup_epochs": np.float64(1.0),
    "accumulate": np.int64(1),
    "clip_norm": np.float64(1.0),
    "checkpoint_steps": np.int8(1),
    "seed": np.uint64(3),
    "augment": Augment(padding=np.int64(1), flip=np.bool_(True)),
}


def test_numpy_scalars_are_settings(tmp_path: Path) -> None:
    """They are Python's numbers from there on: a checkpoint takes them, and goes on with them."""
    training = Training(**NUMPY)
    assert type(training.learning_rate) is float
    assert type(training.seed) is int
    assert training.learning_rate == float(np.float32(0.01))
    trained(tmp_path, RAT(eps=np.float32(0.1)), training=training)
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in NUMPY.items()}
    plain["augment"] = Augment(padding=1, flip=True)
    eps = float(np.float32(0.1))
    trained(tmp_path, RAT(eps=eps), training=Training(**plain), resume=True)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", torch.tensor(0.1)),
        ("learning_rate", "0.1"),
        ("learning_rate", None),
        ("clip_norm", np.ones(1)),
        ("epochs", torch.tensor(1)),
        ("seed", 1.0),
        ("nesterov", 1),
        ("tensorboard", torch.tensor(True)),
    ],
)
def test_settings_of_another_type(setting: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"^{setting} must be (a number|an integer|a bool),"):
        Training(**{"epochs": 1, setting: value})
    with pytest.raises(ValueError, match=r"padding must be an integer of at least 0"):
        Augment(padding=torch.tensor(1))  # type: ignore[arg-type]
