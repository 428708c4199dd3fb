"""Starting points of attacks: the input itself, or random around it.

`STARTS` has them by name; a new one is a function and a line there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rrfast._checks import check_count, check_one_of
from rrfast.attacks.ball import Ball
from rrfast.attacks.smoothing import DEVIATIONS, SLOPES, smoothed

#: Maps a ball and a generator to a point in the ball.
Start = Callable[[Ball, torch.Generator | None], Tensor]


def at_input(ball: Ball, generator: torch.Generator | None) -> Tensor:
    """The input itself."""
    del generator
    return ball.nearest(ball.x)


def uniform(ball: Ball, generator: torch.Generator | None) -> Tensor:
    """Every element uniform within eps of the input (Madry et al., 2018)."""
    return ball.anywhere(_uniform(ball.x, generator))


def uniform_norm(ball: Ball, generator: torch.Generator | None) -> Tensor:
    """As `uniform`, in a ball of radius u eps, with u uniform in [0, 1] per sample.

    This is ACET's start; CCAT also divides by the largest element, which for an image is nearly
    eps.
    """
    radius = torch.rand(
        (len(ball.x), *[1] * (ball.x.dim() - 1)),
        generator=generator,
        device=ball.x.device,
        dtype=torch.float32,
    )
    return ball.anywhere(_uniform(ball.x, generator) * radius)


def gaussian(ball: Ball, generator: torch.Generator | None) -> Tensor:
    """The input plus noise with standard deviation 0.001 in its own units (TRADES, MAIL, WMMR)."""
    noise = _undrawn(ball.x).normal_(generator=generator)
    return ball.nearest(ball.x + noise.mul_(1e-3).to(ball.x.dtype))


def smooth(ball: Ball, generator: torch.Generator | None) -> Tensor:
    """As `uniform`, smoothed and with its contrast raised (`rrfast.attacks.smoothing`).

    This is Listing 1 of the distal article, in units in which the ball reaches from 0 to 1, like an
    image: in the input's units its result is nearly constant (`rrfast.attacks.distal_noise`).
    """
    noise = _uniform(ball.x, generator).add_(1).div_(2)
    return ball.anywhere(2 * smoothed(noise, generator) - 1)


def article(ball: Ball, generator: torch.Generator | None) -> Tensor:
    """As in the distal article's code: Listing 1 applied to `uniform_norm`, in the input's units.

    One sigma and one gamma per batch. The result is nearly a constant between 0 and eps.
    """
    perturbation = uniform_norm(ball, generator) - ball.x
    drawn = torch.rand(2, 1, generator=generator, device=ball.x.device, dtype=torch.float32)
    sigma, gamma = (
        (low + (high - low) * share).expand(len(ball.x))
        for (low, high), share in zip((DEVIATIONS, SLOPES), drawn, strict=True)
    )
    moved = smoothed(perturbation, deviation=sigma, slope=gamma, border="article")
    return ball.nearest(ball.x + moved.to(ball.x.dtype))


def _uniform(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Random numbers [B, ...], uniform in [-1, 1]."""
    return _undrawn(x).uniform_(-1, 1, generator=generator)


def _undrawn(x: Tensor) -> Tensor:
    """An empty contiguous [B, ...]: numbers are drawn in the order of memory, so fix it."""
    return torch.empty(x.shape, dtype=torch.float32, device=x.device)


def check_start(start: object) -> None:
    """Raise a ValueError unless `start` is in `STARTS`."""
    check_one_of("start", start, STARTS)


def check_restarts(restarts: object, start: str) -> None:
    """Raise a ValueError unless `restarts` is a count, and 1 if all runs would be the same."""
    check_count("restarts", restarts)
    if start == "input" and restarts != 1:
        raise ValueError(
            "restarts must be 1 with start='input', where all runs are the same; take "
            f"start='uniform', got {restarts!r}"
        )


STARTS: dict[str, Start] = {
    "input": at_input,
    "uniform": uniform,
    "uniform_norm": uniform_norm,
    "gaussian": gaussian,
    "smoothed": smooth,
    "article": article,
}
