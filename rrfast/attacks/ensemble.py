"""Ensembles of attacks, each run on the samples that are still right after the ones before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import describe
from rrfast.attacks.apgd import APGD
from rrfast.attacks.attack import Attack, Attacked, judged, nothing
from rrfast.attacks.fab import FAB
from rrfast.attacks.loss import cw
from rrfast.attacks.square import Square
from rrfast.engine import Engine


@dataclass(frozen=True, eq=False)
class Ensemble(Attack):
    """The worst case of several attacks: a sample is wrong if x or any point found is wrong.

    Each attack runs on the samples that are right at x and after all attacks before it. The result
    is an error if any was found, else the point found with the largest margin max_{k != y} h_k -
    h_y; its loss is that margin.

    The host waits for the device only once before each attack, to leave out samples.

    Cost: one forward of all samples; for each attack its own cost and one forward, on the samples
    that are left.

    Attributes:
        attacks: At least one attack; all use labels and have the same `eps`, `bounds` and `scale`.

    Example:
        >>> from rrfast.attacks import PGD
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> attack = Ensemble([PGD(eps=0.1), APGD(eps=0.1, loss="cw")])
        >>> attack(model, x, y).wrong.shape
        torch.Size([8])
    """

    attacks: Sequence[Attack]
    eps: float = field(init=False)
    bounds: ops.Bounds | None = field(init=False)
    scale: ops.Scale | None = field(init=False)

    def __post_init__(self) -> None:
        several = isinstance(self.attacks, Sequence)
        if not several or not all(isinstance(attack, Attack) for attack in self.attacks):
            raise TypeError(
                "attacks must be a list of attacks, such as [PGD(), Square()], got "
                f"{describe(self.attacks)}"
            )
        if not self.attacks:
            raise ValueError("attacks must hold at least one attack, got none")
        radii = {attack.eps for attack in self.attacks}
        if len(radii) > 1:
            raise ValueError(f"attacks must have one eps, got {sorted(radii)}")
        for attack in self.attacks:
            if not attack.labelled:
                raise ValueError(f"attacks must use labels, got {attack!r}")
        first = self.attacks[0]
        object.__setattr__(self, "attacks", tuple(self.attacks))
        for name in ("eps", "bounds", "scale"):
            object.__setattr__(self, name, getattr(first, name))
        for attack in self.attacks:
            for name in ("bounds", "scale"):
                if not _alike(getattr(attack, name), getattr(first, name)):
                    raise ValueError(
                        f"attacks must have one {name}, got {getattr(first, name)!r} and "
                        f"{getattr(attack, name)!r}"
                    )

    def run(
        self,
        engine: Engine,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        each: Callable[[Attack | None, Tensor], object] | None = None,
    ) -> Attacked:
        """Run the attacks; see `Attack`.

        Args:
            engine: An open engine.
            x: As for `Attack.__call__`.
            labels: As for `Attack.__call__`.
            generator: As for `Attack.__call__`.
            each: Called with None and the samples [B] that are wrong at x, then with each attack
                that ran and the samples that are wrong after it.
        """
        if len(x) == 0:
            return nothing(x)
        assert labels is not None  # checked by `Attack`
        logits = engine.forward(x)
        best = judged(x, logits, labels, cw(logits, labels))
        if each is not None:
            each(None, best.wrong)
        for attack in self.attacks:
            left = (~best.wrong).nonzero().squeeze(1)
            if len(left) == 0:
                break
            y = labels[left]
            z = attack.run(engine, x[left], y, generator=generator).x
            # Losses of different attacks are not comparable; margins are.
            logits = engine.forward(z)
            there = Attacked(*(part[left] for part in best))
            there = there.or_better(judged(z, logits, y, cw(logits, y)))
            best = Attacked(*(a.index_copy(0, left, b) for a, b in zip(best, there, strict=True)))
            if each is not None:
                each(attack, best.wrong)
        return best


def _alike(one: ops.Bounds | ops.Scale | None, other: ops.Bounds | ops.Scale | None) -> bool:
    """Whether both are None, or the same numbers, also as tensors with one value per channel."""
    if one is None or other is None:
        return one is other
    if isinstance(one, tuple) or isinstance(other, tuple):
        return all(_alike(*ends) for ends in zip(one, other, strict=True))  # type: ignore[arg-type]
    a, b = (torch.as_tensor(value, dtype=torch.float64, device="cpu") for value in (one, other))
    return torch.equal(a, b)


def autoattack(
    eps: float = 8 / 255,
    *,
    steps: int = 100,
    targets: int = 9,
    queries: int = 5000,
    bounds: ops.Bounds | None = (0.0, 1.0),
    scale: ops.Scale | None = None,
) -> Ensemble:
    """The four attacks of AutoAttack's "standard" version, by rrfast's own implementation.

    APGD-CE, APGD-T on the targeted DLR, FAB-T, Square, in this order. This is not the published
    package, which `AutoAttackPackage` runs: each attack's docstring says what differs. Do not
    report these numbers as those of the package.

    Args:
        eps: Radius of the ball, in units of `scale`.
        steps: Steps of APGD-CE, and of APGD-T and FAB-T for each target.
        targets: Targets of APGD-T and FAB-T, at most K - 1.
        queries: Queries of Square.
        bounds: The box, see `rrfast.ops.channel_bounds`; None for none.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for x's own.

    Returns:
        An attack on images [B, C, H, W] and models of at least four classes. For others, take those
        that apply: `Ensemble([APGD(eps), APGD(eps, loss="cw"), FAB(eps)])`.

    When it runs, an attack raises a ValueError if x is not a batch of images or there are fewer
    than four classes, provided that samples are left when its turn comes.

    Cost for a sample that stays right, with the defaults, T = 9: 7820 forwards and 1900 backwards.

    Source: Croce & Hein (ICML 2020), Sec. 5.

    Example:
        >>> [type(attack).__name__ for attack in autoattack(8 / 255).attacks]
        ['APGD', 'APGD', 'FAB', 'Square']
    """
    return Ensemble(
        [
            APGD(eps, steps, bounds=bounds, scale=scale),
            APGD(eps, steps, loss="dlr", targets=targets, bounds=bounds, scale=scale),
            FAB(eps, steps, targets=targets, bounds=bounds, scale=scale),
            Square(eps, queries, bounds=bounds, scale=scale),
        ]
    )
