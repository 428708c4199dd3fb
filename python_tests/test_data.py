"""The tasks that need no download, and their networks."""

from __future__ import annotations

import sys

import pytest
import torch
from sklearn.datasets import load_digits

from rrfast import data as package
from rrfast.data import (
    CORRUPTIONS,
    Outliers,
    SmoothedNoise,
    augment,
    corrupt,
    digits,
    gaussian_noise,
    random_crops,
    random_textures,
    resized,
    sample_photos,
    smoothed_noise,
    synthetic,
    uniform_noise,
)
from rrfast.models import digits_cnn, synthetic_cnn


def test_shapes_and_ranges():
    data = digits(seed=3)
    assert [len(split.y) for split in data] == [400, 200, 1197]
    for x, y in data:
        assert x.shape == (len(y), 1, 8, 8)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert x.is_contiguous()
        assert 0 <= x.min() < x.max() <= 1
        assert set(y.tolist()) == set(range(10))


def test_the_splits_are_the_data_set_once():
    data = digits(seed=1, noise=0)
    bunch = load_digits()
    key = torch.cat([torch.cat([x.flatten(1) * 16, y[:, None]], dim=1) for x, y in data])
    expected = torch.tensor(bunch.data, dtype=torch.float32)
    expected = torch.cat([expected, torch.tensor(bunch.target)[:, None]], dim=1)
    assert sorted(key.tolist()) == sorted(expected.tolist())


def test_the_seed_decides_and_nothing_else():
    state = torch.get_rng_state()
    first = digits(seed=5)
    torch.rand(7)
    second = digits(seed=5)
    other = digits(seed=6)
    for a, b, c in zip(first, second, other, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)
        assert not torch.equal(a.y, c.y)
    torch.set_rng_state(state)
    digits(seed=5)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_noise_is_what_was_asked_for():
    clean, noisy = digits(seed=0, noise=0).test, digits(seed=0, noise=0.15).test
    assert torch.equal(clean.y, noisy.y)
    inside = (clean.x > 0.49) & (clean.x < 0.51)  # where clipping at 3.3 sigma hardly counts
    assert (noisy.x - clean.x)[inside].std() == pytest.approx(0.15, rel=0.05)
    assert (noisy.x - clean.x)[inside].mean() == pytest.approx(0, abs=0.01)


def test_sizes():
    data = digits(train=0, validation=1796)
    assert [len(split.y) for split in data] == [0, 1796, 1]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
        ({"train": "400"}, TypeError, "train must be an integer, got '400'"),
        ({"validation": True}, TypeError, "validation must be an integer, got True"),
        ({"noise": -0.1}, ValueError, "noise must be .* at least 0, got -0.1"),
        ({"noise": float("nan")}, ValueError, "noise must be .* got nan"),
        ({"noise": float("inf")}, ValueError, "noise must be .* got inf"),
        ({"train": -1}, ValueError, "train must be an integer of at least 0, got -1"),
        ({"train": 1500, "validation": 297}, ValueError, "some of the 1797 .* got 1500 and 297"),
    ],
)
def test_invalid(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        digits(**arguments)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"scikit-learn.*pip install scikit-learn"):
        digits()


def test_the_network():
    state = torch.get_rng_state()
    a, b, c = digits_cnn(seed=1), digits_cnn(seed=1), digits_cnn(seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(p.numel() for p in a.parameters()) == 13_754
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a[0].weight, c[0].weight)
    assert a.training
    assert a(torch.rand(3, 1, 8, 8)).shape == (3, 10)


# ------------------------------------------------------------------------------------- synthetic


def test_synthetic_shapes_and_ranges():
    data = synthetic(seed=3, train=300, validation=0, test=200, classes=7, size=12)
    assert [len(split.y) for split in data] == [300, 0, 200]
    for x, y in data:
        assert x.shape == (len(y), 3, 12, 12)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert x.is_contiguous()
    assert 0 <= data.train.x.min() < data.train.x.max() <= 1
    assert set(data.train.y.tolist()) == set(range(7))


def test_synthetic_the_seed_decides_and_nothing_else():
    state = torch.get_rng_state()
    first = synthetic(seed=5, train=20, validation=20, test=20)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    second = synthetic(seed=5, train=20, validation=20, test=20)
    other = synthetic(seed=6, train=20, validation=20, test=20)
    for a, b, c in zip(first, second, other, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)
        assert not torch.equal(a.x, c.x)
    assert not torch.equal(first.train.x, first.test.x)


def test_synthetic_a_split_does_not_depend_on_the_others():
    alone = synthetic(seed=1, train=0, validation=0, test=10)
    beside = synthetic(seed=1, train=30, validation=5, test=10)
    assert torch.equal(alone.test.x, beside.test.x)
    assert torch.equal(alone.test.y, beside.test.y)


def test_synthetic_difficulty_is_overlap_and_noise():
    easy, hard = (
        synthetic(seed=0, train=50, validation=0, test=0, difficulty=d).train for d in (0.0, 1.0)
    )
    assert torch.equal(easy.y, hard.y)
    # Waves of at most four periods per image leave the highest frequencies to the noise.
    high = [torch.fft.rfft2(split.x)[..., 12:20, 12:].abs().mean() for split in (easy, hard)]
    assert high[1] > 20 * high[0]


def test_synthetic_no_linear_classifier_is_better_than_chance():
    train, _, test = synthetic(seed=0, train=1500, validation=0, test=1000, size=16)
    x, t = (torch.cat([s.x.flatten(1), torch.ones(len(s.y), 1)], dim=1) for s in (train, test))
    weight = torch.linalg.solve(
        x.T @ x + 10 * torch.eye(x.shape[1]), x.T @ torch.nn.functional.one_hot(train.y).float()
    )
    right = ((t @ weight).argmax(dim=1) == test.y).float().mean()
    assert right < 0.1 + 3 * (0.1 * 0.9 / 1000) ** 0.5  # three standard deviations


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
        ({"train": True}, TypeError, "train must be an integer, got True"),
        ({"test": -1}, ValueError, "test must be an integer of at least 0, got -1"),
        ({"classes": 1}, ValueError, "classes must be an integer of at least 2, got 1"),
        ({"size": 7}, ValueError, "size must be an integer of at least 8, got 7"),
        ({"difficulty": "hard"}, TypeError, "difficulty must be a number, got str 'hard'"),
        ({"difficulty": 1.5}, ValueError, "difficulty must be from 0 to 1, got 1.5"),
        ({"difficulty": float("nan")}, ValueError, "difficulty must be from 0 to 1, got nan"),
    ],
)
def test_synthetic_invalid(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        synthetic(**arguments)


def test_synthetic_network():
    state = torch.get_rng_state()
    a, b, c = synthetic_cnn(seed=1), synthetic_cnn(seed=1), synthetic_cnn(seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a[0].weight, c[0].weight)
    assert synthetic_cnn(classes=4)(torch.rand(2, 3, 16, 16)).shape == (2, 4)


# ----------------------------------------------------------------------------- torch's defaults

#: Images of the sizes that the makers below are given.
BATCH = torch.rand(4, 3, 16, 12, generator=torch.Generator().manual_seed(0))
#: What makes images, of a dtype and on a device.
MAKERS = {
    "Outliers": lambda: Outliers(BATCH)(BATCH),
    "SmoothedNoise": lambda: SmoothedNoise(BATCH)(BATCH),
    "augment": lambda: augment(BATCH, torch.Generator("cpu").manual_seed(0)),
    "corrupt": lambda: [corrupt(BATCH, name, 3) for name in CORRUPTIONS],
    "digits": digits,
    "gaussian_noise": lambda: gaussian_noise(5, (3, 4, 4)),
    "random_crops": lambda: random_crops(list(BATCH), (1, 8, 8)),
    "random_textures": lambda: random_textures(5, size=12),
    "resized": lambda: resized(list(BATCH), (1, 8, 8)),
    "sample_photos": lambda: sample_photos((3, 8, 8), 5),
    "smoothed_noise": lambda: smoothed_noise(5, BATCH),
    "synthetic": lambda: synthetic(train=20, validation=10, test=10),
    "uniform_noise": lambda: uniform_noise(5, (3, 4, 4)),
}
#: What needs files, with the same test beside its others; and what holds images.
ELSEWHERE = {
    *("cifar10", "cifar100", "cifar10c", "emnist", "fashion_mnist", "image_folder", "mnist"),
    *("svhn", "random_images", "folder_images"),
    *("Digits", "ImageFolder", "Released", "Split", "Synthetic"),
}


def tensors(made) -> list[torch.Tensor]:
    return [made] if isinstance(made, torch.Tensor) else [t for part in made for t in tensors(part)]


@pytest.mark.parametrize("name", MAKERS)
def test_defaults_of_torch_do_not_matter(name, request):
    torch.manual_seed(1)
    expected = tensors(MAKERS[name]())
    request.getfixturevalue("defaults_of_another_kind")
    torch.manual_seed(1)
    for a, b in zip(tensors(MAKERS[name]()), expected, strict=True):
        assert (a.dtype, a.device.type) == (b.dtype, "cpu")
        assert torch.equal(a, b)


def test_every_maker_is_among_them():
    public = {n for n in package.__all__ if callable(getattr(package, n))}
    assert public == MAKERS.keys() | ELSEWHERE
