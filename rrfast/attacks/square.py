"""Square: random search with squares at the corners of the ball, without gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count, check_number, describe
from rrfast.attacks.attack import Attack, Attacked, judged, nothing, unseen
from rrfast.attacks.ball import Ball
from rrfast.attacks.loss import cw
from rrfast.engine import Engine

#: Queries, out of 10 000, after which a square's share of the image is halved, as in the released
#: code.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True, eq=False)
class Square(Attack):
    """The Square Attack in L-infinity on images: `queries` forwards, no backward.

    It starts with vertical stripes one pixel wide, each at +eps or -eps in each channel. Then every
    query sets one square, at a random place per sample, to +eps or -eps in each channel; the change
    stays if the margin max_{k != y} h_k - h_y has grown. Nothing waits for the device: samples that
    are already wrong are queried further, for a larger margin.

    Source: Andriushchenko, Croce, Flammarion & Hein, "Square Attack: a query-efficient black-box
    adversarial attack via random search" (ECCV 2020), Alg. 1 and 2. The halvings are in proportion
    to `queries`; the "standard" version of the package `autoattack` always uses those of 10 000
    queries. The package changes the same square for all samples of a batch, stops at a sample's
    first error, and never lets a square reach the last row or column, unless it is as large as the
    image, which makes it weaker on small images.

    Attributes:
        eps: Radius of the ball, in units of `scale`, >= 0.
        queries: Number of forwards, including that of the start, >= 1.
        share: Share of the image's area that a square covers at first, in (0, 1]; p in the paper.
        bounds: The box, see `rrfast.ops.channel_bounds`; None for none.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for x's own.

    When it runs, it raises a ValueError if x is not [B, C, H, W].

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
        >>> x, y = torch.rand(8, 3, 4, 4), torch.randint(3, (8,))
        >>> found = Square(eps=0.1, queries=20)(model, x, y)
        >>> bool(((found.x - x).abs() <= 0.1).all()), found.wrong.shape
        (True, torch.Size([8]))
    """

    eps: float = 8 / 255
    queries: int = 5000
    share: float = 0.8
    bounds: ops.Bounds | None = (0.0, 1.0)
    scale: ops.Scale | None = None

    def __post_init__(self) -> None:
        check_number("eps", self.eps, least=0)
        check_count("queries", self.queries)
        check_number("share", self.share, most=1)

    def run(  # noqa: D102 - see `Attack`
        self,
        engine: Engine,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Attacked:
        if x.dim() != 4:
            raise ValueError(
                f"x must be images [B, C, H, W], which Square moves squares of, got {describe(x)}"
            )
        if len(x) == 0:
            return nothing(x)
        assert labels is not None  # checked by `Attack`
        ball = Ball(x, self.eps, self.bounds, self.scale)
        batch, channels, height, width = x.shape

        def drawn(*shape: int) -> Tensor:
            """Random numbers, uniform in [0, 1)."""
            return torch.rand(shape, generator=generator, device=x.device, dtype=torch.float32)

        def looked_at(z: Tensor) -> Attacked:
            logits = engine.forward(z)
            return judged(z, logits, labels, cw(logits, labels))

        stripes = drawn(batch, channels, 1, width) < 0.5
        best = unseen(ball.nearest(x))
        best = best.or_better(looked_at(torch.where(stripes, ball.least, ball.most)))
        rows, columns = (torch.arange(n, device=x.device) for n in (height, width))
        for query in range(1, self.queries):
            side = self.side(query, height, width)
            places, signs = drawn(batch, 2, 1), drawn(batch, channels, 1, 1)
            square = (
                _within(places[:, 0], side, rows)[:, None, :, None]
                & _within(places[:, 1], side, columns)[:, None, None, :]
            )
            moved = torch.where(signs < 0.5, ball.least, ball.most)
            best = best.or_better(looked_at(torch.where(square, moved, best.x)))
        return best

    def side(self, query: int, height: int, width: int) -> int:
        """The side of a query's square in pixels, for an image of that size.

        Example:
            >>> attack = Square(queries=10_000)
            >>> [attack.side(query, 32, 32) for query in (1, 10, 11, 51, 8001)]
            [29, 29, 20, 14, 1]
        """
        halvings = sum(query * 10_000 > after * self.queries for after in HALVINGS)
        side = round(math.sqrt(self.share * 2.0**-halvings * height * width))
        return min(max(side, 1), height, width)


def _within(place: Tensor, side: int, positions: Tensor) -> Tensor:
    """[B, n]: whether positions lie in the square that starts at `place` [B, 1] of its range."""
    first = (place * (len(positions) - side + 1)).long()
    return (positions >= first) & (positions < first + side)
