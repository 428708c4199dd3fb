"""Distal examples: noise images moved to where the network is most confident."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, get_args

import torch
from torch import Tensor

from rrfast._checks import check_count, check_one_of, describe
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
    """Noise that a model was made sure of."""

    x: Tensor  #: [n, ...] float32, in [0, 1] and within eps of `noise`
    confidence: Tensor  #: [n] float64, log-odds of the predicted class there
    noise: Tensor  #: [n, ...] float32, what the attack began with
    before: Tensor  #: [n] float64, log-odds of the predicted class there


@dataclass(frozen=True, eq=False)
class Distal(PGD):
    """The most confident point near a noise image: PGD on the largest probability, without labels.

        max_{|delta|_inf <= eps} max_k log f_k(x + delta)

    It is climbed as log(p / (1 - p)), which grows with it and does not round (`LOSSES`). The image
    itself is an iterate, and the best iterate is the result: no image ends less confident than it
    began.

    Attributes:
        eps: The papers also have 0.3.
        steps: ACET's and CCAT's in training. CCAT tests with
            `Distal(steps=1000, step_size=1 / 30, backtracking=1.1, restarts=10)`. The article's own
            attack is `rrfast.attacks.DISTAL["article"]()`, with 10.
        step_size: CCAT's 0.005 at eps = 0.03.
        start: "uniform_norm"; "smoothed", the article's Listing 1 in units of the ball; "article",
            the listing as its code has it.
        loss, keep, restarts, origin, momentum, backtracking, bounds, scale: As of `PGD`.

    Cost per restart: `steps` + 1 forwards, `steps` backwards; one forward more, once.

    Source: The distal article, Eq. (1), and the code it names, which climbs max p in place of its
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
#: without backtracking, from a perturbation smoothed as Listing 1 has it, and keeps the best.
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
    """Noise images: every value uniform in [0, 1), and smoothed where that is asked for.

    The article's Listing 1 smooths the perturbation that an attack starts from, not the image. As
    it is printed it does next to nothing there: the perturbation is between -eps and eps, 1/2 is
    far above it, and what comes out is nearly a constant, 1/(1 + exp(gamma/2)). The text beside it
    smooths the image, which lies around 1/2, as ACET does; so does `smooth` here. The listing's
    perturbation is the start "smoothed", in units in which the ball is from 0 to 1 like an image.

    Args:
        n: Images, at least 1.
        shape: Of one image, such as [C, H, W].
        smooth: As `rrfast.attacks.smoothing.smoothed`, each image with a sigma and a gamma of its
            own; the listing draws them once for a batch.
        border: Of the smoothing: "shared", or "article" for its layer, see there.
        seed: Any integer. Global random state is neither used nor changed.

    Returns:
        [n, *shape] float32 in [0, 1], on the CPU, where the same seed gives the same images for
        every device and every size of batches.

    Raises:
        TypeError: `seed` is no integer, or `shape` no list.
        ValueError: `n` or a length is no integer of at least 1, or `shape` has none.

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
    """Noise images, each moved to where the model is most confident.

    Args:
        model: Maps [B, *shape] to logits [B, K]. Runs in eval mode, and is left as it was.
        n: Images, at least 1.
        shape: Of one image, such as [C, H, W].
        attack: On the confidence; None: `Distal()`.
        smooth: As of `distal_noise`.
        border: As of `distal_noise`.
        seed: Of the noise, as of `distal_noise`, and of the attack's starts, which also depend on
            `batch` and on the device.
        batch: Images at once, at least 1.

    Returns:
        `DistalExamples`, on the device of the model's first parameter (else on the CPU).
        Confidences are log-odds, as `rrfast.scores.MSR`: `sigmoid` gives the probability. NaN where
        a logit is or has overflowed.

    Raises:
        TypeError: `shape` or `seed` as `distal_noise`, or `attack` is none.
        ValueError: As `distal_noise`; `batch` is no integer of at least 1; `attack` needs labels;
            the noise does not lie within the bounds of `attack`.

    Cost: of the attack, and 2 forwards per image.

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
    # Not the seed of the noise: on a CPU the starts would be the noise again.
    starts = torch.Generator(device)
    starts.manual_seed(int(torch.randint(2**62, (), generator=drawn, device="cpu")))
    parts = []
    with Engine(model) as engine:
        for x in noise.split(batch):
            found = attack.run(engine, x, generator=starts).x
            # In float64, where more of them differ than in the attack's dtype.
            odds = (confidence(engine.forward(z).double(), None) for z in (found, x))
            parts.append((found, *odds))
    found, after, before = (torch.cat(part) for part in zip(*parts, strict=True))
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
