"""`corrupt`, and the table of parameters for all severities."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rrfast._checks import (
    check_floating,
    check_number,
    check_one_of,
    check_pixels,
    check_seed,
    describe,
    is_integer,
)
from rrfast._seeds import seeded
from rrfast.data.corruptions.blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from rrfast.data.corruptions.digital import contrast, elastic_transform, jpeg_compression, pixelate
from rrfast.data.corruptions.noise import Draws, gaussian_noise, impulse_noise, shot_noise
from rrfast.data.corruptions.weather import brightness, fog, frost, snow

SEVERITIES = 5
#: Least height and width in pixels at which every corruption still has an effect.
LEAST_SIDE = 8
Strengths = dict[str, tuple[float, float, float, float, float]]

#: Function, and its parameters at the five severities. Lengths are in sides, the shorter of H and
#: W: at 32 pixels about those of CIFAR-10-C.
TABLE: dict[str, tuple[Callable[..., Tensor], Strengths]] = {
    "gaussian_noise": (gaussian_noise, {"deviation": (0.04, 0.055, 0.07, 0.085, 0.1)}),
    "shot_noise": (shot_noise, {"photons": (500, 250, 120, 75, 50)}),
    "impulse_noise": (impulse_noise, {"share": (0.01, 0.02, 0.03, 0.05, 0.07)}),
    "defocus_blur": (defocus_blur, {"radius": (0.016, 0.023, 0.031, 0.04, 0.05)}),
    "glass_blur": (
        glass_blur,
        {
            "deviation": (0.008, 0.01, 0.012, 0.014, 0.016),
            "reach": (0.015, 0.022, 0.03, 0.038, 0.046),
        },
    ),
    "motion_blur": (motion_blur, {"length": (0.06, 0.085, 0.11, 0.135, 0.16)}),
    "zoom_blur": (zoom_blur, {"zoom": (1.06, 1.11, 1.16, 1.21, 1.26)}),
    "snow": (snow, {"haze": (0.1, 0.15, 0.2, 0.25, 0.3), "threshold": (2.0, 1.8, 1.6, 1.45, 1.3)}),
    "frost": (frost, {"kept": (0.95, 0.9, 0.85, 0.8, 0.75), "ice": (0.25, 0.35, 0.45, 0.55, 0.65)}),
    "fog": (fog, {"density": (0.3, 0.6, 0.9, 1.3, 1.8)}),
    "brightness": (brightness, {"more": (0.05, 0.1, 0.15, 0.2, 0.3)}),
    "contrast": (contrast, {"kept": (0.75, 0.55, 0.4, 0.3, 0.15)}),
    "elastic_transform": (elastic_transform, {"displacement": (0.01, 0.017, 0.024, 0.032, 0.04)}),
    "pixelate": (pixelate, {"kept": (0.9, 0.8, 0.7, 0.6, 0.5)}),
    "jpeg_compression": (jpeg_compression, {"quality": (80, 65, 55, 45, 35)}),
}


def corrupt(x: Tensor, corruption: str, severity: int, seed: int = 0) -> Tensor:
    """Apply one of the 15 common corruptions to a batch of images of any task.

    They are the corruptions of CIFAR-10-C (`cifar10c`), each implemented from its description, with
    similar strengths. Numbers from them are comparable with each other, but not with numbers from
    the released files. With V = max_c x_c, s the shorter side of the image in pixels, U uniform on
    [-1, 1] and z normal, an image becomes, clipped to [0, 1]:

        gaussian_noise      x + d z; d = 0.04, 0.055, 0.07, 0.085, 0.1
        shot_noise          Poisson(p x) / p; p = 500, 250, 120, 75, 50
        impulse_noise       0 or 1 in a share of the values, half of them each;
                            share 0.01, 0.02, 0.03, 0.05, 0.07
        defocus_blur        the mean over a disc; radius / s = 0.016, 0.023, 0.031, 0.04, 0.05
        glass_blur          a Gaussian, every pixel replaced by what lies r s U from it along each
                            axis, the Gaussian again; r = 0.015, 0.022, 0.03, 0.038, 0.046,
                            deviation / s = 0.008, 0.01, 0.012, 0.014, 0.016
        motion_blur         the mean along a line, up to 45 degrees from the rows;
                            length / s = 0.06, 0.085, 0.11, 0.135, 0.16
        zoom_blur           the mean over zooms from 1 to 1.06, 1.11, 1.16, 1.21, 1.26
        snow                1 - (1 - h) (1 - x) (1 - flakes), flakes where noise exceeds t, drawn
                            out along their fall; haze h = 0.1, 0.15, 0.2, 0.25, 0.3,
                            t = 2, 1.8, 1.6, 1.45, 1.3
        frost               k x + i needles, a net of ridges in noise, denser at the borders;
                            k = 0.95, 0.9, 0.85, 0.8, 0.75, i = 0.25, 0.35, 0.45, 0.55, 0.65
        fog                 x t + 0.8 (1 - t), t = exp(-b cloud), a cloud in [0, 1] of noise at
                            several scales; b = 0.3, 0.6, 0.9, 1.3, 1.8
        brightness          x min(V + b, 1) / V, HSV's value raised, and b where V = 0;
                            b = 0.05, 0.1, 0.15, 0.2, 0.3
        contrast            m + k (x - m), m the channel's mean; k = 0.75, 0.55, 0.4, 0.3, 0.15
        elastic_transform   pixels moved by a smooth random field, whose root mean square along
                            each axis is, over s, 0.01, 0.017, 0.024, 0.032, 0.04
        pixelate            means over blocks: round(k H) x round(k W) of them;
                            k = 0.9, 0.8, 0.7, 0.6, 0.5
        jpeg_compression    Pillow's encoder and back; quality 80, 65, 55, 45, 35

    Images are mirrored at their borders, and bilinear between pixels. Apart from the strengths this
    differs from the release as follows: frost (photographs in the release) and snow are procedural;
    glass blur displaces all pixels at once instead of swapping neighbours one after the other;
    motion blur is uniform along its line, not Gaussian; fog follows Koschmieder's law; the elastic
    transform has no affine part; and only JPEG rounds to bytes. At 8 pixels pixelate has 7, 6, 6, 5
    and 4 blocks per side: with so few, the grouping of pixels matters, and the effect may not
    increase with the severity.

    The seed decides every draw: all severities share the draws, and every corruption has its own
    stream. Dtype and device only change rounding, which may change a byte of JPEG or, for values
    that float32 cannot represent, some Poisson counts. An image's draws depend on its place in the
    batch and on the number of images: corrupt a data set in one call, or always in the same batches
    with one seed each. The global random state is neither used nor changed.

    Args:
        x: [n, C, H, W] float64, float32, bfloat16 or float16 in [0, 1], H and W at least 8, on any
            device; not changed. 16 bits are computed in float32.
        corruption: One of `CORRUPTIONS`.
        severity: From 1, the weakest, to 5.
        seed: An integer from -2**63 to 2**64 - 1.

    Returns:
        [n, C, H, W] in [0, 1], a new contiguous tensor of the dtype and on the device of x. No
        gradient flows through it.

    Raises:
        ImportError: Pillow is not installed, for jpeg_compression.
        TypeError: x is not a floating-point tensor, or `severity` or `seed` not an integer.
        ValueError: x is not [n, C >= 1, H >= 8, W >= 8], has values outside [0, 1] or NaN, or,
            for jpeg_compression, neither 1 channel nor 3; `corruption`, `severity` or `seed` is
            out of range.

    Cost: no loop over the images except for jpeg_compression. On the CPU it takes, besides x, up to
    eleven times the memory of x in float32, fifteen times for glass_blur and elastic_transform, and
    25 times for these two with one channel.

    Source: Hendrycks & Dietterich (2019), "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations", https://arxiv.org/abs/1903.12261, section 3. RAT draws its
    Figure 4 over them (section 5.6).

    Example:
        >>> x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> foggy = corrupt(x, "fog", severity=5)
        >>> foggy.shape, bool(foggy.std() < x.std())
        (torch.Size([4, 3, 32, 32]), True)
    """
    _check_images(x)
    check_one_of("corruption", corruption, TABLE)
    check_severity(severity)
    check_seed("seed", seed)
    if not len(x):
        return x.detach().clone()
    function, strengths = TABLE[corruption]
    # A seed of its own, so that it does not repeat noise that its user drew from the same seed.
    generator = seeded(seed)
    seeds = torch.randint(2**62, (len(TABLE),), generator=generator, device="cpu").tolist()
    drawn = seeds[list(TABLE).index(corruption)]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    images = x.detach().to(dtype).contiguous()
    strength = {name: five[severity - 1] for name, five in strengths.items()}
    result = function(images, Draws(drawn, images), **strength)
    return result.clamp(0, 1).to(x.dtype).contiguous()


def check_severity(severity: object) -> None:
    """Raise unless it is an integer from 1 to 5."""
    if not is_integer(severity):
        raise TypeError(f"severity must be an integer, got {describe(severity)}")
    check_number("severity", severity, least=1, most=SEVERITIES)


def _check_images(x: object) -> None:
    check_floating("x", x)
    assert isinstance(x, Tensor)
    if x.dim() != 4:
        raise ValueError(f"x must have shape [n, C, H, W], got {describe(x)}")
    if not x.shape[1]:
        raise ValueError(f"x must have at least one channel, got {describe(x)}")
    if min(x.shape[2:]) < LEAST_SIDE:
        raise ValueError(
            f"x must have images of at least {LEAST_SIDE} x {LEAST_SIDE} pixels, got {describe(x)}"
        )
    check_pixels("x", x)
