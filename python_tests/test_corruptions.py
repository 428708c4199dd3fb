"""The common corruptions: contract of all 15 at five severities, and the closed formulas."""

from __future__ import annotations

import io
import itertools
import math
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rrfast.data import CORRUPTIONS, corrupt, digits, synthetic
from rrfast.data.corruptions.blur import disc, line
from rrfast.data.corruptions.digital import blocks
from rrfast.data.corruptions.filters import displaced, filtered, gaussian_filtered, kernel_of
from rrfast.data.corruptions.noise import Draws
from rrfast.data.corruptions.table import TABLE

SHAPES = [(4, 1, 8, 8), (4, 3, 32, 32), (2, 3, 40, 24)]
FIXED = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
RANDOM = tuple(name for name in CORRUPTIONS if name not in FIXED)
BLURS = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
DOUBLE = torch.float64


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE).to(dtype)


@pytest.fixture(scope="module")
def task() -> Tensor:
    return synthetic(0, train=0, validation=0, test=200).test.x


def strength(corruption: str, name: str, severity: int) -> float:
    return TABLE[corruption][1][name][severity - 1]


def test_the_table_has_the_corruptions_in_their_order() -> None:
    assert tuple(TABLE) == CORRUPTIONS


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_the_docstring_has_the_strengths(corruption: str) -> None:
    rows = re.split(
        rf"^ +(?=(?:{'|'.join(CORRUPTIONS)})  )", str(corrupt.__doc__), flags=re.MULTILINE
    )
    (row,) = (" ".join(row.split()) for row in rows if row.startswith(f"{corruption} "))
    for five in TABLE[corruption][1].values():
        assert ", ".join(f"{value:g}" for value in five) in row


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_contract(corruption, severity, shape, dtype) -> None:
    x = images(*shape, dtype=dtype)
    kept, state = x.clone(), torch.get_rng_state()
    y = corrupt(x, corruption, severity, seed=3)
    assert (y.shape, y.dtype, y.device) == (x.shape, x.dtype, x.device)
    assert y.is_contiguous()
    assert y.isfinite().all()
    assert y.min() >= 0
    assert y.max() <= 1
    assert torch.equal(x, kept)
    assert not torch.equal(y, x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(corrupt(x, corruption, severity, seed=3), y)
    # Impulses in so few values of 8 x 8 pixels may fall on none of four images: more seeds.
    others = [corrupt(x, corruption, severity, seed=seed) for seed in (4, -5, 2**63)]
    assert any(not torch.equal(y, other) for other in others) == (corruption in RANDOM)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_severities_grow(corruption, task) -> None:
    moved = [float((corrupt(task, corruption, s) - task).square().mean()) for s in range(1, 6)]
    assert moved[0] > 0
    assert all(weaker < stronger for weaker, stronger in itertools.pairwise(moved))


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_digits_are_corrupted_at_every_severity(corruption) -> None:
    x = digits().test.x[:100]
    moved = [float((corrupt(x, corruption, s) - x).square().mean()) for s in range(1, 6)]
    assert moved[0] > 1e-4
    if corruption != "pixelate":  # 7, 6, 6, 5 and 4 blocks a side: which pixels they join decides
        assert all(weaker < stronger for weaker, stronger in itertools.pairwise(moved))


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_layout_and_gradients_do_not_matter(corruption) -> None:
    x = images(4, 3, 16, 20)
    expected = corrupt(x, corruption, 3)
    assert torch.equal(
        corrupt(x.contiguous(memory_format=torch.channels_last), corruption, 3), expected
    )
    tracked = corrupt(x.clone().requires_grad_(), corruption, 3)
    assert torch.equal(tracked, expected)
    assert not tracked.requires_grad


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_16_bits_are_float32_rounded(corruption, dtype) -> None:
    x = images(3, 1, 16, 16, dtype=torch.bfloat16).to(dtype)
    y = corrupt(x, corruption, 4)
    assert y.dtype == dtype
    if dtype != DOUBLE:
        assert torch.equal(y, corrupt(x.float(), corruption, 4).to(dtype))


# 8-bit rounding jumps where float32 falls on the other side.
@pytest.mark.parametrize("corruption", sorted({*CORRUPTIONS} - {"jpeg_compression"}))
def test_float32_is_float64_but_for_rounding(corruption) -> None:
    x = images(5, 3, 32, 32)
    # Coordinates of 32 pixels are rounded by 32 * 2^-24 times a few operations, and values differ
    # by at most 1 from pixel to pixel.
    torch.testing.assert_close(
        corrupt(x, corruption, 4).double(), corrupt(x.double(), corruption, 4), rtol=0, atol=1e-4
    )


def test_poisson_counts_do_not_depend_on_the_dtype() -> None:
    """A mean that differs in its last place would change a count, and those drawn after it."""
    x = torch.rand(300, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    one, other = (corrupt(x.to(dtype), "shot_noise", 5, seed=1) for dtype in (x.dtype, DOUBLE))
    assert torch.equal((50 * one).round(), (50 * other).round())


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_device_changes_no_more_than_rounding(corruption, device) -> None:
    x = images(5, 3, 32, 32)
    y = corrupt(x.to(device), corruption, 4)
    assert y.device.type == device.type
    # 1e-4 as above; one count of Poisson or one byte of JPEG may fall on the other side.
    far = (y.cpu() - corrupt(x, corruption, 4)).abs() > 1e-4
    assert far.double().mean() < (
        0.01 if corruption in ("shot_noise", "jpeg_compression") else 1e-9
    )


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("channels", [2, 5])
def test_any_channels_but_for_jpeg(channels, corruption) -> None:
    x = images(3, channels, 11, 9)
    if corruption == "jpeg_compression":
        with pytest.raises(
            ValueError, match=rf"x must have 1 channel or 3 .*\[3, {channels}, 11, 9\]"
        ):
            corrupt(x, corruption, 1)
    else:
        assert corrupt(x, corruption, 5).shape == x.shape


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_images(value, corruption) -> None:
    y = corrupt(torch.full((2, 3, 8, 8), value), corruption, 5)
    assert y.isfinite().all()
    assert ((y >= 0) & (y <= 1)).all()


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_empty_batch_and_single_image(corruption) -> None:
    empty = torch.rand(0, 3, 32, 32)
    y = corrupt(empty, corruption, 2)
    assert (y.shape, y.dtype) == (empty.shape, empty.dtype)
    assert corrupt(images(1, 1, 8, 8), corruption, 2).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("corruption", FIXED)
def test_what_is_not_random_is_per_image(corruption) -> None:
    x = images(5, 3, 16, 16, dtype=DOUBLE)
    alone = torch.cat([corrupt(image[None], corruption, 3, seed=9) for image in x])
    # A sum in another order: 1e-12 is thousands of float64's roundings of values below 1.
    torch.testing.assert_close(corrupt(x, corruption, 3), alone, rtol=0, atol=1e-12)


# ---- closed formulas, float64 -------------------------------------------------------------------


@pytest.mark.parametrize("severity", range(1, 6))
def test_gaussian_noise(severity) -> None:
    x = torch.full((1, 1, 400, 400), 0.5, dtype=DOUBLE)
    noise = corrupt(x, "gaussian_noise", severity) - x
    sigma, n = strength("gaussian_noise", "deviation", severity), x.numel()
    # Five standard errors; 1/2 is five deviations from where it would be clipped.
    assert abs(float(noise.mean())) < 5 * sigma / math.sqrt(n)
    assert abs(float(noise.std()) / sigma - 1) < 5 / math.sqrt(2 * n)


@pytest.mark.parametrize("severity", range(1, 6))
def test_shot_noise(severity) -> None:
    x = torch.full((1, 1, 400, 400), 0.3, dtype=DOUBLE)
    y = corrupt(x, "shot_noise", severity)
    photons, n = strength("shot_noise", "photons", severity), x.numel()
    torch.testing.assert_close(y * photons, (y * photons).round(), rtol=0, atol=1e-9)
    assert abs(float(y.mean()) - 0.3) < 5 * math.sqrt(0.3 / photons / n)
    # A Poisson variance estimate has relative variance (2 + 1 / mean) / n; five standard errors.
    error = 5 * math.sqrt((2 + 1 / (0.3 * photons)) / n)
    assert abs(float(y.var()) / (0.3 / photons) - 1) < error
    black = torch.zeros(1, 1, 8, 8, dtype=DOUBLE)
    assert torch.equal(corrupt(black, "shot_noise", severity), black)


@pytest.mark.parametrize("severity", range(1, 6))
def test_impulse_noise(severity) -> None:
    x = torch.full((1, 1, 400, 400), 0.5, dtype=DOUBLE)
    y = corrupt(x, "impulse_noise", severity)
    half, n = strength("impulse_noise", "share", severity) / 2, x.numel()
    assert ((y == 0) | (y == 0.5) | (y == 1)).all()
    for end in (0, 1):  # five standard errors of a binomial share
        assert abs(float((y == end).double().mean()) - half) < 5 * math.sqrt(half / n)


@pytest.mark.parametrize("severity", range(1, 6))
def test_contrast(severity) -> None:
    x = torch.tensor([[0.0, 0.2], [0.4, 1.0]], dtype=DOUBLE).repeat(1, 1, 4, 4)  # mean 0.4
    kept = strength("contrast", "kept", severity)
    expected = 0.4 + kept * (x - 0.4)
    torch.testing.assert_close(corrupt(x, "contrast", severity), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("severity", range(1, 6))
def test_brightness(severity) -> None:
    more = strength("brightness", "more", severity)
    pixels = torch.tensor([[0.5, 0.25, 0.0], [0.0, 0.0, 0.0], [0.9, 0.9, 0.45]], dtype=DOUBLE)
    top = min(0.9 + more, 1.0)
    brighter = torch.tensor(
        [[0.5 + more, 0.25 + more / 2, 0.0], [more] * 3, [top, top, top / 2]], dtype=DOUBLE
    )
    for pixel, expected in zip(pixels, brighter, strict=True):
        x = pixel.view(1, 3, 1, 1).repeat(1, 1, 8, 8)
        y = expected.view(1, 3, 1, 1).repeat(1, 1, 8, 8)
        torch.testing.assert_close(corrupt(x, "brightness", severity), y, rtol=0, atol=1e-14)
    grey = images(2, 1, 8, 8, dtype=DOUBLE)
    expected = (grey + more).clamp(max=1)
    torch.testing.assert_close(corrupt(grey, "brightness", severity), expected, rtol=0, atol=1e-14)


def test_pixelate_is_block_means() -> None:
    x = images(2, 3, 40, 24, dtype=DOUBLE)
    means = x.reshape(2, 3, 20, 2, 12, 2).mean(dim=(3, 5))
    expected = means.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(corrupt(x, "pixelate", 5), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kept", [0.9, 0.8, 0.7, 0.6, 0.5])
@pytest.mark.parametrize("side", [8, 9, 32, 224])
def test_blocks(side, kept) -> None:
    mean = blocks(side, kept)
    assert torch.equal(mean, mean.T)
    assert len(mean.unique(dim=0)) == round(kept * side)
    one = torch.ones(side, dtype=DOUBLE)
    torch.testing.assert_close(mean @ one, one, rtol=0, atol=1e-14)
    torch.testing.assert_close(mean @ mean, mean, rtol=0, atol=1e-14)


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("corruption", [*BLURS, "elastic_transform", "pixelate", "contrast"])
def test_a_constant_image_stays(corruption, severity) -> None:
    x = torch.tensor([0.0, 0.3, 1.0], dtype=DOUBLE).view(1, 3, 1, 1).repeat(2, 1, 40, 24)
    torch.testing.assert_close(corrupt(x, corruption, severity), x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("radius", [0.1, 0.5, 1.0, 1.6, 11.2])
def test_disc(radius) -> None:
    (kernel,) = disc(radius)
    assert abs(float(kernel.sum()) - 1) < 1e-14
    assert (kernel >= 0).all()
    for other in (kernel.T, kernel.flip(0), kernel.flip(1)):
        torch.testing.assert_close(kernel, other, rtol=0, atol=1e-15)
    # A disc has r^2 / 4 on each axis, its grid of points 2 per cent less, and the bilinear weights
    # of a point p, 0 <= p < 1 beyond a pixel, add p (1 - p) <= 1/4.
    steps = torch.arange(len(kernel), dtype=DOUBLE) - len(kernel) // 2
    second = float((kernel.sum(dim=0) * steps.square()).sum())
    assert 0.95 * radius**2 / 4 <= second <= 1.05 * radius**2 / 4 + 0.25


def test_lines() -> None:
    kernels = line(4.0, torch.tensor([0.0, math.pi / 2, math.pi / 4], dtype=DOUBLE))
    assert kernels.shape == (3, 5, 5)
    torch.testing.assert_close(kernels.sum(dim=(1, 2)), torch.ones(3, dtype=DOUBLE))
    # Length 4 along a row, density 1/4: it covers the hats of three pixels, and of the two at its
    # ends one half.
    row = torch.tensor([0.125, 0.25, 0.25, 0.25, 0.125], dtype=DOUBLE)
    expected = torch.zeros(5, 5, dtype=DOUBLE)
    expected[2] = row
    torch.testing.assert_close(kernels[0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(kernels[1], expected.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(kernels[2], kernels[2].T, rtol=0, atol=1e-12)
    assert kernels[2][0, 4] == 0
    assert kernels[2][3, 3] > 0


def test_kernel_of_a_point_shifts() -> None:
    x = images(2, 3, 9, 8, dtype=DOUBLE)
    shifted = filtered(x, kernel_of(torch.tensor([[[1.0, -0.25]]], dtype=DOUBLE)))
    expected = 0.75 * x[:, :, 1:, 1:] + 0.25 * x[:, :, 1:, :-1]
    torch.testing.assert_close(shifted[:, :, :-1, 1:], expected, rtol=0, atol=1e-14)


def test_a_filter_per_image_is_the_filter_of_each() -> None:
    x = images(6, 3, 12, 9, dtype=DOUBLE)
    kernels = line(3.3, torch.linspace(-1, 1, 6, dtype=DOUBLE))
    alone = torch.cat([filtered(x[i : i + 1], kernels[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(filtered(x, kernels), alone, rtol=0, atol=1e-14)


def test_gaussian_filter() -> None:
    impulse = torch.zeros(1, 1, 31, 31, dtype=DOUBLE)
    impulse[..., 15, 15] = 1
    response = gaussian_filtered(impulse, 2.0)[0, 0]
    steps = torch.arange(31, dtype=DOUBLE) - 15
    ratio = response[15, 15 + 4] / response[15, 15]
    assert abs(float(ratio) - math.exp(-2)) < 1e-14
    assert abs(float(response.sum()) - 1) < 1e-14
    # Cut at three deviations, a Gaussian keeps 0.97 of its variance.
    variance = float((response.sum(dim=0) * steps.square()).sum())
    assert 0.96 * 4 < variance < 4.1


def test_displacement() -> None:
    x = images(2, 3, 9, 13, dtype=DOUBLE)
    zero = torch.zeros(2, 9, 13, dtype=DOUBLE)
    torch.testing.assert_close(displaced(x, zero, zero), x, rtol=0, atol=1e-13)
    moved = displaced(x, zero + 2, zero - 0.5)
    expected = (x[:, :, 2:, 1:] + x[:, :, 2:, :-1]) / 2
    torch.testing.assert_close(moved[:, :, :-2, 1:], expected, rtol=0, atol=1e-13)
    # Beyond the border an image is mirrored in its last row.
    torch.testing.assert_close(moved[:, :, -1, 1:], moved[:, :, 4, 1:], rtol=0, atol=1e-13)


def test_zoom_blur_keeps_the_centre() -> None:
    x = torch.zeros(1, 1, 33, 33, dtype=DOUBLE)
    x[..., 16, 16] = 1
    y = corrupt(x, "zoom_blur", 5)[0, 0]
    assert abs(float(y[16, 16]) - 1) < 1e-12
    torch.testing.assert_close(y, y.T, rtol=0, atol=1e-13)
    torch.testing.assert_close(y, y.flip(0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("severity", range(1, 6))
def test_elastic_displacement_is_as_long_as_said(severity) -> None:
    """Of a ramp along an axis, the change is the displacement, wherever the border is far."""
    side = 128
    ramp = (torch.arange(side, dtype=DOUBLE) / (side - 1)).expand(8, 1, side, side)
    moved = ((corrupt(ramp, "elastic_transform", severity) - ramp) * (side - 1) / side).square()
    inside = moved[..., side // 5 : -side // 5].mean().sqrt()
    # The mean square over part of the columns; over the whole it is exact. Of a smooth field with
    # some 25 independent patches in each of eight images it varies by a tenth: three of them.
    assert abs(float(inside) / strength("elastic_transform", "displacement", severity) - 1) < 0.3


@pytest.mark.parametrize("severity", range(1, 6))
def test_glass_blur_reaches_no_further_than_said(severity) -> None:
    x = torch.zeros(4, 1, 128, 128, dtype=DOUBLE)
    x[..., 64:] = 1
    y = corrupt(x, "glass_blur", severity)
    reach = 128 * strength("glass_blur", "reach", severity)
    gaussian = math.ceil(3 * 128 * strength("glass_blur", "deviation", severity))
    far = math.ceil(reach) + 2 * gaussian + 1
    torch.testing.assert_close(y[..., : 64 - far], x[..., : 64 - far], rtol=0, atol=1e-12)
    torch.testing.assert_close(y[..., 64 + far :], x[..., 64 + far :], rtol=0, atol=1e-12)
    assert y[..., 64 - far : 64 + far].std() > 0


@pytest.mark.parametrize("severity", range(1, 6))
def test_fog_and_snow_lie_between_the_image_and_their_light(severity) -> None:
    x = images(4, 3, 32, 32, dtype=DOUBLE)
    foggy = corrupt(x, "fog", severity)
    least = math.exp(-strength("fog", "density", severity))
    through = (foggy - 0.8) / (x - 0.8)
    assert through.min() > least - 1e-9
    assert through.max() < 1 + 1e-9
    # One transmission for all channels.
    torch.testing.assert_close(through[:, 0], through[:, 2], rtol=1e-9, atol=1e-9)
    haze = strength("snow", "haze", severity)
    assert (corrupt(x, "snow", severity) >= 1 - (1 - haze) * (1 - x) - 1e-14).all()


@pytest.mark.parametrize("severity", range(1, 6))
def test_frost_is_densest_at_the_borders(severity) -> None:
    black = torch.zeros(64, 1, 32, 32, dtype=DOUBLE)
    ice = corrupt(black, "frost", severity)
    most = strength("frost", "ice", severity)
    torch.testing.assert_close(
        ice.amax(dim=(1, 2, 3)), torch.full((64,), most, dtype=DOUBLE), rtol=0, atol=1e-14
    )
    assert ice[..., :4, :].mean() > 1.5 * ice[..., 12:20, 12:20].mean()


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels) -> None:
    x = images(3, channels, 24, 17)
    y = corrupt(x, "jpeg_compression", 2)
    for image, coded in zip(x, y, strict=True):
        pixels = (255 * image).round().to(torch.uint8).permute(1, 2, 0).numpy()
        file = io.BytesIO()
        picture = Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels)
        assert picture.mode == {1: "L", 3: "RGB"}[channels]
        picture.save(file, "JPEG", quality=65)
        decoded = np.asarray(Image.open(file)).reshape(24, 17, channels).astype("float32") / 255
        assert np.array_equal(coded.permute(1, 2, 0).numpy(), decoded)


def test_streams_are_apart() -> None:
    """No corruption's noise is another's, or what torch draws from the same seed."""
    x = torch.full((1, 1, 64, 64), 0.5, dtype=DOUBLE)
    noise = (corrupt(x, "gaussian_noise", 5, seed=7) - x) / 0.1
    same = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(7)).double()
    # Five standard errors of a correlation of 4096 values.
    assert abs(float((noise * same).mean())) < 5 / 64
    weaker = (corrupt(x, "gaussian_noise", 1, seed=7) - x) / 0.04
    torch.testing.assert_close(weaker, noise, rtol=0, atol=1e-12)


def test_draws_are_of_the_batch() -> None:
    x = torch.zeros(2, dtype=DOUBLE)
    assert Draws(3, x).normal(4).dtype == DOUBLE
    assert torch.equal(Draws(3, x).uniform(5), Draws(3, x.float()).uniform(5).double())


# ---- errors ------------------------------------------------------------------------------------

GOOD = torch.full((2, 3, 8, 8), 0.5)
NAN = GOOD.clone()
NAN[1, 2, 3, 4] = math.nan


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((GOOD, "mist", 1), ValueError, "corruption must be one of gaussian_noise, .*, got 'mist'"),
        ((GOOD, 3, 1), ValueError, "corruption must be one of .*, got 3"),
        ((GOOD, ["fog"], 1), ValueError, r"corruption must be one of .*, got \['fog'\]"),
        ((GOOD, "spatter", 1), ValueError, "corruption must be one of .*, got 'spatter'"),
        ((GOOD, "fog", 0), ValueError, "severity must be from 1 to 5, got 0"),
        ((GOOD, "fog", 6), ValueError, "severity must be from 1 to 5, got 6"),
        ((GOOD, "fog", True), TypeError, "severity must be an integer, got bool True"),
        ((GOOD, "fog", 2.0), TypeError, "severity must be an integer, got float 2.0"),
        ((GOOD, "fog", 1, 0.5), TypeError, "seed must be an integer, got 0.5"),
        ((GOOD, "fog", 1, None), TypeError, "seed must be an integer, got None"),
        (
            (GOOD, "fog", 1, 2**64),
            ValueError,
            r"seed must be from -2\*\*63 to 2\*\*64 - 1, got 1844",
        ),
        ((GOOD + 1, "fog", 1), ValueError, r"x must be in \[0, 1\], got pixels from 1.5 to 1.5"),
        ((GOOD - 1, "fog", 1), ValueError, r"x must be in \[0, 1\], got pixels from -0.5 to -0.5"),
        ((NAN, "fog", 1), ValueError, r"x must be in \[0, 1\], got pixels from nan to nan"),
        ((GOOD.byte(), "fog", 1), TypeError, "x must be a tensor of float64, .*, got a uint8"),
        ((GOOD.numpy(), "fog", 1), TypeError, "x must be a tensor of float64, .*, got ndarray"),
        ((GOOD[0], "fog", 1), ValueError, r"x must have shape \[n, C, H, W\], got .* \[3, 8, 8\]"),
        (
            (GOOD[..., :7], "fog", 1),
            ValueError,
            r"x must have images of at least 8 x 8 pixels, got",
        ),
        ((GOOD[:, :, :7], "fog", 1), ValueError, r"x must have images of at least 8 x 8 .* 7, 8\]"),
        (
            (GOOD[:, :0], "fog", 1),
            ValueError,
            r"x must have at least one channel, got .* 0, 8, 8\]",
        ),
    ],
)
def test_errors(arguments, error, sentence) -> None:
    with pytest.raises(error, match=sentence):
        corrupt(*arguments)


def test_without_pillow(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"'jpeg_compression' needs Pillow.*pip install pillow"):
        corrupt(GOOD, "jpeg_compression", 1)
    corrupt(GOOD, "fog", 1)
