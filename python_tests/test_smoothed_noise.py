"""The noise of ACET against a loop in float64 that is given the same draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from rrfast.data import Outliers, SmoothedNoise, smoothed_noise

REACH = 7
Array = npt.NDArray[np.float64]


def smoothed(u: Array, std: float) -> tuple[Array, float]:
    """One image [C, H, W] under the filter and stretched, pixel by pixel; and how far right it is.

    In eps: two passes of at most 15 products each, with weights that are right to 16 eps and add up
    to 1, leave v right to 64 eps; z is a difference over a difference, each right to 128 eps.
    """
    steps = range(-REACH, REACH + 1)
    kernel = np.array(
        [[math.exp(-(i * i + j * j) / (2 * std * std)) for j in steps] for i in steps]
    )
    v = np.zeros_like(u)
    for channel, plane in enumerate(u):
        around = np.pad(plane, REACH, mode="symmetric")
        for row in range(u.shape[1]):
            for column in range(u.shape[2]):
                window = around[row : row + len(steps), column : column + len(steps)]
                v[channel, row, column] = (kernel / kernel.sum() * window).sum()
    if u.min() == u.max():
        return u, 0.0
    return (v - v.min()) / (v.max() - v.min()), 256 / float(v.max() - v.min())


def check_literally(
    z: Tensor, images: Array, rows: list[int], generator: torch.Generator, dtype: torch.dtype
) -> None:
    """The noise is what a loop makes of the images [n, C, H, W] and the documented draws."""
    _, channels, height, width = images.shape
    keys = torch.randint(2**62, (len(rows), 1, height * width), generator=generator)
    shape = (len(z) - len(rows), channels, height, width)
    uniform = torch.rand(shape, generator=generator, dtype=dtype).double().numpy()
    std = 1 + 1.5 * float(torch.rand((), generator=generator, dtype=dtype))
    sources = []
    for row, key in zip(rows, keys[:, 0].tolist(), strict=True):
        order = sorted(range(height * width), key=key.__getitem__)
        u = np.stack([[plane.ravel()[at] for at in order] for plane in images[row]])
        sources.append(u.reshape(channels, height, width))
    for got, source in zip(z, [*sources, *uniform], strict=True):
        expected, error = smoothed(source, std)
        assert np.abs(got.double().numpy() - expected).max() <= error * torch.finfo(dtype).eps


def draws(n: int, half: int, seed: int) -> tuple[list[int], torch.Generator]:
    """What the default generator decides: rows, and the seed of the rest."""
    torch.manual_seed(seed)
    rows = torch.randint(n, (1, half))[0].tolist()
    return rows, torch.Generator().manual_seed(int(torch.randint(2**62, (1, 1))))


# 8 x 8 is mirrored once and less than once, 3 x 5 and 1 x 2 more than once.
SHAPES = [(1, 28, 28), (3, 16, 20), (1, 8, 8), (2, 7, 15), (1, 3, 5), (3, 1, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_against_the_loop(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    images = torch.rand(5, *shape, dtype=torch.float64)
    rows, generator = draws(5, 3, seed=4)
    torch.manual_seed(4)
    z = SmoothedNoise(images)(torch.zeros(7, *shape, dtype=dtype))
    assert (z.shape, z.dtype) == ((7, *shape), dtype)
    check_literally(z, images.to(dtype).double().numpy(), rows, generator, dtype)


def test_bytes_are_over_255() -> None:
    images = torch.randint(256, (9, 2, 8, 8), dtype=torch.uint8)
    x = torch.zeros(6, 2, 8, 8)
    results = []
    for source in (images, images.numpy(), images / 255):
        torch.manual_seed(2)
        results.append(SmoothedNoise(source)(x))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_permuted_image_has_its_pixels_and_channels_stay_together() -> None:
    """Of one pixel that is not black: a single bell, at one place for all channels."""
    images = torch.zeros(1, 3, 32, 32)
    images[0, :, 0, 0] = torch.tensor([1.0, 0.5, 0.25])
    z = SmoothedNoise(images)(torch.zeros(40, 3, 32, 32))[:20]
    peaks = z.flatten(2).argmax(2)
    assert torch.equal(peaks[:, 0], peaks[:, 1])
    assert torch.equal(peaks[:, 0], peaks[:, 2])
    assert len(peaks[:, 0].unique()) > 10  # and every image has a permutation of its own
    assert torch.allclose(z[:, 1], z[:, 0] / 2, atol=1e-6)
    assert torch.allclose(z[:, 2], z[:, 0] / 4, atol=1e-6)


def test_the_filter_varies_from_batch_to_batch_within_its_bounds() -> None:
    """The bell of a pixel far from the borders: its neighbour is exp(-1 / (2 s^2)) as high."""
    images = torch.zeros(1, 1, 64, 64)
    images[0, 0, 0, 0] = 1
    noise, stds = SmoothedNoise(images), []
    for _ in range(40):
        top = noise(torch.zeros(2, 1, 64, 64, dtype=torch.float64))[0, 0]
        row, column = divmod(int(top.argmax()), 64)
        if not (8 <= row < 56 and 8 <= column < 56):
            continue
        stds.append((-0.5 / math.log(float(top[row, column + 1]))) ** 0.5)
    assert len(stds) > 10
    assert 1 <= min(stds) < 1.5
    assert 2 < max(stds) <= 2.5


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_image_of_one_value_stays(value: float) -> None:
    """Rounding in the filter would otherwise be stretched to black and white."""
    z = SmoothedNoise(torch.full((1, 3, 16, 16), value))(torch.zeros(4, 3, 16, 16))
    assert torch.equal(z[:2], torch.full((2, 3, 16, 16), value))
    assert z[2:].amin() == 0
    assert z[2:].amax() == 1
    one = SmoothedNoise(torch.full((1, 1, 1, 1), value))(torch.zeros(2, 1, 1, 1))
    assert one[0] == value
    assert 0 <= one[1] < 1


def test_an_image_that_the_filter_leaves_without_contrast_stays() -> None:
    """The least float32 above 0 is 0 after the filter, and 0 / 0 is no pixel."""
    images = torch.zeros(1, 1, 8, 8)
    images[0, 0, 0, 0] = 1e-45
    z = SmoothedNoise(images)(torch.zeros(2, 1, 8, 8))
    assert z[0].flatten().sort().values.tolist() == images.flatten().sort().values.tolist()


def test_an_image_of_one_colour_keeps_its_colour() -> None:
    """Its channels differ, so that it has a range: over the channels, not in each."""
    images = torch.tensor([0.2, 0.4, 0.6]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)
    z = SmoothedNoise(images)(torch.zeros(2, 3, 8, 8, dtype=torch.float64))
    expected = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64).reshape(3, 1, 1).expand(3, 8, 8)
    assert torch.allclose(z[0], expected, atol=1e-6)  # 0.2 in float32 is right to 1e-8


@pytest.mark.parametrize("batch", [0, 1, 2, 5])
def test_every_batch(batch: int) -> None:
    """Of an odd number the smaller half is permuted; the images are white, the rest is not."""
    z = SmoothedNoise(torch.ones(3, 1, 8, 8))(torch.rand(batch, 1, 8, 8))
    assert z.shape == (batch, 1, 8, 8)
    assert (z == 1).all((1, 2, 3)).tolist() == [place < batch // 2 for place in range(batch)]


def test_the_result_is_like_x(dtype: torch.dtype) -> None:
    images = torch.rand(5, 3, 8, 8)
    x = torch.full((6, 3, 8, 8), torch.nan, requires_grad=True).to(dtype)
    results = []
    for like in (x, x.contiguous(memory_format=torch.channels_last)):
        torch.manual_seed(0)
        results.append(SmoothedNoise(images)(like))
    assert results[0].is_contiguous()
    assert results[1].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(*results)
    assert (results[0].dtype, results[0].requires_grad) == (dtype, False)
    # float32 inside, and rounded once.
    torch.manual_seed(0)
    wide = torch.promote_types(dtype, torch.float32)
    assert torch.equal(results[0], SmoothedNoise(images)(x.to(wide)).to(dtype))


def test_autocast_changes_nothing() -> None:
    noise, x = SmoothedNoise(torch.rand(5, 1, 8, 8)), torch.zeros(4, 1, 8, 8)
    torch.manual_seed(0)
    plain = noise(x)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(noise(x), plain)


def test_processes_have_noise_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    images, x = torch.rand(500, 1, 8, 8), torch.zeros(8, 1, 8, 8)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    shares, states = [], []
    drawn: list[list[int]] = []
    fill = Outliers.fill

    def spy(self: Outliers, result: Tensor, index: Tensor) -> Tensor:
        drawn.append(index.tolist())
        return fill(self, result, index)

    monkeypatch.setattr(Outliers, "fill", spy)
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        shares.append(SmoothedNoise(images)(x))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)  # the processes stay alike
    torch.manual_seed(0)
    assert drawn[0] + drawn[1] == torch.randint(500, (2, 4)).flatten().tolist()
    assert not (shares[0][4:] == shares[1][4:]).flatten(1).all(1).any()
    fixed = [smoothed_noise(4, images, seed=3)]
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    assert torch.equal(fixed[0], smoothed_noise(4, images, seed=3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_waits_for_the_device() -> None:
    images = torch.randint(256, (50, 3, 32, 32), dtype=torch.uint8, device="cuda")
    noise, x = SmoothedNoise(images), torch.zeros(64, 3, 32, 32, device="cuda")
    noise(x)  # cuBLAS is loaded
    torch.cuda.set_sync_debug_mode("error")
    try:
        z = noise(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert z.is_cuda
    assert z.amin() == 0
    assert z.amax() == 1


# ------------------------------------------------------------------------------------ a fixed set


def test_a_fixed_set_is_batches_of_128() -> None:
    images = torch.rand(20, 1, 4, 4)
    z = smoothed_noise(300, images, seed=5)
    assert (z.shape, z.dtype, z.device.type) == ((300, 1, 4, 4), torch.float32, "cpu")
    generator, at = torch.Generator().manual_seed(5), 0
    for batch in (128, 128, 44):
        rows = torch.randint(20, (batch // 2,), generator=generator).tolist()
        part = z[at : at + batch]
        check_literally(part, images.double().numpy(), rows, generator, torch.float32)
        at += batch


def test_the_seed_decides_and_nothing_else() -> None:
    images = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    state = torch.get_rng_state()
    first = smoothed_noise(9, images, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(smoothed_noise(9, images.numpy(), seed=5), first)
    assert not torch.equal(smoothed_noise(9, images, seed=6), first)
    assert smoothed_noise(1, images).shape == (1, 3, 8, 8)


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("x", "error", "sentence"),
    [
        (torch.rand(2, 3, 2, 2), ValueError, r"x must have shape \[B, 1, 2, 2\], as the outliers"),
        (torch.rand(()), ValueError, r"x must have shape \[B, 1, 2, 2\]"),
        (torch.zeros(2, 1, 2, 2).byte(), TypeError, "x must be a tensor of float64"),
        (3, TypeError, "x must be a tensor of float64, .* got int 3"),
    ],
)
def test_another_shape(x: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        SmoothedNoise(torch.rand(3, 1, 2, 2))(x)


def test_bad_arguments() -> None:
    images: Any = torch.rand(3, 1, 2, 2)
    with pytest.raises(ValueError, match=r"images must be in \[0, 1\], got pixels from"):
        SmoothedNoise(images * 255)
    with pytest.raises(ValueError, match="n must be an integer of at least 1, got 0"):
        smoothed_noise(0, images)
    with pytest.raises(TypeError, match=r"seed must be an integer, got 0.5"):
        smoothed_noise(1, images, seed=0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="images must be a tensor or a uint8 array, got list"):
        smoothed_noise(1, [1])  # type: ignore[arg-type]
