"""Distal examples: noise images moved to where the network is most confident."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, get_args

import torch
from torch import Tensor

from rrfast._checks import check_count, check_one_of, describe
from rrfast._processes import shared
from rrfast._seeds import seeded
from rrfast.attacks.attack import Attack
from rrfast.attacks.loss import Loss, confidence
from rrfast.attacks.pgd import PGD, Keep
from rrfast.attacks.smoothing import Border, smoothed
from rrfast.engine import Engine
from rrfast.engine.box import within
from rrfast.engine.modules_inside import device_of

if TYPE_CHECKING:
    from rrfast.engine import Model


class DistalExamples(NamedTuple):
    """Noise images that were changed so that a model is confident of them."""

    x: Tensor  #: [n, ...] float32, in [0, 1] and within eps of `noise`
    confidence: Tensor  #: [n] float64, log-odds of the predicted class there
    noise: Tensor  #: [n, ...] float32, the starting images
    before: Tensor  #: [n] float64, log-odds of the predicted class there


@dataclass(frozen=True, eq=False)
class Distal(PGD):
    """The most confident point near a noise image: PGD on the largest probability, without labels.

        max_{|delta|_inf <= eps} max_k log f_k(x + delta)

    It maximises log(p / (1 - p)), which increases with p and does not saturate (`LOSSES`). The
    image itself counts as an iterate, and the best iterate is the result, so that no image ends
    less confident than it started.

    Attributes:
        eps: Radius of the ball; the papers also use 0.3.
        steps: 40 as in ACET's and CCAT's training. CCAT tests with
            `Distal(steps=1000, step_size=1 / 30, backtracking=1.1, restarts=10)`. The article's own
            attack is `rrfast.attacks.DISTAL["article"]()`, with 10.
        step_size: As CCAT's 0.005 at eps = 0.03.
        start: "uniform_norm"; "smoothed", the article's Listing 1 in units of the ball; "article",
            the listing as in the article's code.
        loss, keep, restarts, origin, momentum, backtracking, bounds, scale: As for `PGD`.

    Cost per restart: `steps` + 1 forwards, `steps` backwards; one forward more, once.

    Source: The distal article, Eq. (1), and its code, which maximises max p instead of its
    logarithm: the same signs, until p rounds to 1. Hein et al. (2019); Stutz et al. (2020), App. B;
    errata 19, 21 and 39.

    Example:
        >>> model, noise = torch.nn.Linear(4, 3), torch.rand(8, 4)
        >>> found = Distal(steps=5)(model, noise)
        >>> bool((found.loss >= confidence(model(noise), None)).all())
        True
    """

    eps: float = 0.03
    steps: int = 40
    step_size: float = 1 / 6
    loss: str | Loss = "confidence"
    start: str = "uniform_norm"
    keep: Keep = "loss"
    origin: bool = True
    momentum: float = 0.9
    backtracking: float | None = 1.5


#: The attack by name: ours, and the article's, whose code takes 10 steps of 0.005 with momentum and
#: without backtracking, from a perturbation smoothed by Listing 1, and keeps the best.
DISTAL: dict[str, Callable[..., Distal]] = {
    "rrfast": Distal,
    "article": partial(Distal, steps=10, start="article", origin=False, backtracking=None),
}


def distal_noise(
    n: int,
    shape: Sequence[int],
    *,
    smooth: bool = False,
    border: Border = "shared",
    seed: int = 0,
) -> Tensor:
    """Noise images: every value uniform in [0, 1), and optionally smoothed.

    The article's Listing 1 smooths the start of an attack, not the image. As printed this has
    little effect: the perturbation is between -eps and eps, far below 1/2, so that the result is
    nearly constant, 1/(1 + exp(gamma/2)). The article's text smooths the image, whose values lie
    around 1/2, as ACET does, and so does `smooth` here. The listing's perturbation is the start
    "smoothed", in units in which the ball reaches from 0 to 1 like an image.

    Args:
        n: Number of images, at least 1.
        shape: Shape of one image, such as [C, H, W].
        smooth: Whether to apply `rrfast.attacks.smoothing.smoothed`, with sigma and gamma drawn per
            image; the listing draws them once per batch.
        border: Border of the smoothing, "shared" or "article", see there.
        seed: Any integer. The global random state is neither used nor changed.

    Returns:
        [n, *shape] float32 in [0, 1], on the CPU, so that the same seed gives the same images for
        every device and batch size.

    Raises:
        TypeError: `seed` is not an integer, or `shape` not a list.
        ValueError: `n` or a length is not an integer of at least 1, or `shape` is empty.

    Source: The distal article, §2 and Listing 1; errata 21.

    Example:
        >>> distal_noise(100, (3, 32, 32), smooth=True).shape
        torch.Size([100, 3, 32, 32])
    """
    return _noise(n, shape, smooth, border, seeded(seed))


def distal_examples(
    model: Model,
    n: int,
    shape: Sequence[int],
    *,
    attack: Attack | None = None,
    smooth: bool = False,
    border: Border = "shared",
    seed: int = 0,
    batch: int = 250,
) -> DistalExamples:
    """Noise images, each moved to the most confident point found in its ball.

    Args:
        model: Maps [B, *shape] to logits [B, K]. Runs in eval mode; its state is restored.
        n: Number of images, at least 1.
        shape: Shape of one image, such as [C, H, W].
        attack: An attack on the confidence; None: `Distal()`.
        smooth: As for `distal_noise`.
        border: As for `distal_noise`.
        seed: Seed of the noise, as for `distal_noise`, and of the attack's starts, which also
            depend on `batch` and on the device.
        batch: Images at a time, at least 1.

    Returns:
        `DistalExamples`, on the device of the model's first parameter (else on the CPU).
        Confidences are log-odds, as in `rrfast.scores.MSR`: `sigmoid` gives the probability. NaN
        where a logit is NaN or has overflowed.

    Raises:
        TypeError: As `distal_noise`, or `attack` is not an attack.
        ValueError: As `distal_noise`; `batch` is not an integer of at least 1; `attack` needs
            labels; the noise lies outside the bounds of `attack`.

    Cost: that of the attack, and 2 forwards per image.

    Source: The distal article; errata 21.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        >>> found = distal_examples(model, 10, (1, 8, 8), attack=Distal(eps=0.3, steps=5))
        >>> found.x.shape, bool((found.confidence >= found.before).all())
        (torch.Size([10, 1, 8, 8]), True)
    """
    attack = Distal() if attack is None else attack
    if not isinstance(attack, Attack):
        raise TypeError(f"attack must be an attack, such as Distal(), got {describe(attack)}")
    if attack.labelled:
        raise ValueError(f"attack must be on the confidence, such as Distal(), got {attack!r}")
    check_count("batch", batch)
    drawn = seeded(seed)
    device = device_of(model) or torch.device("cpu")
    noise = _noise(n, shape, smooth, border, drawn).to(device)
    noise = within(noise, attack.bounds, attack.scale, None, name="noise")
    parts = noise.split(batch)
    # Not the seed of the noise: on a CPU the starts would repeat the noise. One for each batch,
    # whichever process attacks it.
    starts = torch.randint(2**62, (len(parts),), generator=drawn, device="cpu").tolist()

    def one(i: int, x: Tensor) -> tuple[Tensor, ...]:
        found = attack.run(engine, x, generator=torch.Generator(device).manual_seed(starts[i])).x
        # In float64, where fewer of them tie than in the attack's dtype.
        odds = (confidence(engine.forward(z).double(), None) for z in (found, x))
        return found, *odds

    with Engine(model) as engine:
        done = shared(one, parts)
    found, after, before = (torch.cat(part).to(device) for part in zip(*done, strict=True))
    return DistalExamples(found, after, noise, before)


def _noise(
    n: int, shape: Sequence[int], smooth: bool, border: Border, generator: torch.Generator
) -> Tensor:
    check_count("n", n)
    check_one_of("border", border, get_args(Border))
    if not isinstance(shape, Sequence):
        raise TypeError(f"shape must be lengths, such as [C, H, W], got {describe(shape)}")
    if len(shape) == 0:
        raise ValueError("shape must have a length at least, such as [C, H, W], got none")
    for length in shape:
        check_count("every length in shape", length)
    noise = torch.rand((n, *shape), generator=generator, device="cpu", dtype=torch.float32)
    return smoothed(noise, generator, border=border) if smooth else noise
