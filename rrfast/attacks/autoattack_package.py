"""The published AutoAttack package as an attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rrfast._checks import check_count, check_number, describe
from rrfast._errors import missing
from rrfast.attacks.attack import Attack, Attacked, judged, nothing, unseen
from rrfast.attacks.loss import cw
from rrfast.engine import Engine, output_logits
from rrfast.engine.in_place import output_of

#: What the package calls its ensembles, and its attacks in L-infinity.
VERSIONS = ("standard", "plus", "rand")
ATTACKS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")


@dataclass(frozen=True, eq=False)
class AutoAttackPackage(Attack):
    """AutoAttack by the package `autoattack`, for numbers that are to be compared with others'.

    It waits for the device at every step. Its passes are counted. It seeds torch, whose random
    numbers go on afterwards as if it had not been there. What is wrong is decided by one forward of
    all samples at the end.

    Source: https://github.com/fra31/auto-attack, which is not on the Python Package Index.

    Attributes:
        eps: Radius of the ball, >= 0.
        version: "standard", "plus" or "rand", as the package has them; or a tuple of its attacks:
            "apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square".
        seed: The package's, >= 0.
        batch_size: Samples that it attacks at a time; None for all.

    The box is (0, 1), and the unit of eps that of x.

    Raises, when it runs: ImportError, where the package is not installed; ValueError, where x is
    not [B, C, H, W].
    """

    eps: float = 8 / 255
    version: str | tuple[str, ...] = "standard"
    seed: int = 0
    batch_size: int | None = None

    bounds = (0.0, 1.0)
    scale = None

    def __post_init__(self) -> None:
        check_number("eps", self.eps, zero=True)
        # The package runs nothing for a name that it does not know, and finds all robust.
        if isinstance(self.version, str):
            if self.version not in VERSIONS:
                raise ValueError(
                    f"version must be one of {', '.join(VERSIONS)}, or a tuple of its attacks, got "
                    f"{self.version!r}"
                )
        elif not (
            isinstance(self.version, tuple)
            and self.version
            and all(name in ATTACKS for name in self.version)
        ):
            raise ValueError(
                f"version must be a tuple of one at least of {', '.join(ATTACKS)}, and no other, "
                f"got {self.version!r}"
            )
        check_count("seed", self.seed, least=0)
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)

    def run(  # noqa: D102 - see `Attack`
        self,
        engine: Engine,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Attacked:
        del generator
        if x.dim() != 4:
            raise ValueError(
                f"x must be images [B, C, H, W], as the package asks, got {describe(x)}"
            )
        if len(x) == 0:
            return nothing(x)
        assert labels is not None  # `Attack` has looked
        package = the_package()
        custom = {} if isinstance(self.version, str) else {"attacks_to_run": list(self.version)}
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            attack = package.AutoAttack(
                _counted(engine),
                norm="Linf",
                eps=self.eps,
                seed=self.seed,
                verbose=False,
                version=self.version if isinstance(self.version, str) else "custom",
                device=x.device,
                **custom,
            )
            z = attack.run_standard_evaluation(x, labels, bs=self.batch_size or len(x))
        z = z.detach().to(x.dtype)
        logits = engine.forward(z)
        return unseen(x).or_better(judged(z, logits, labels, cw(logits, labels)))


def the_package() -> Any:
    """The module `autoattack`; or an ImportError that names the remedy."""
    try:
        import autoattack
    except ImportError as error:
        raise missing(
            "rrfast.attacks.AutoAttackPackage",
            "the package autoattack",
            error,
            "git+https://github.com/fra31/auto-attack",
            "or take rrfast.attacks.autoattack, which needs no package",
        ) from error
    return autoattack


def _counted(engine: Engine) -> Any:
    """The engine's model, as the package calls it; its passes are the engine's."""

    def model(z: Tensor) -> Tensor:
        logits = output_logits(output_of(engine.model, z)).clone()  # as in Engine.forward
        engine.saw_classes(logits.shape[1])
        engine.forwards += 1
        engine.forward_samples += len(z)
        if logits.requires_grad:
            logits.register_hook(backward)
        return logits

    def backward(gradient: Tensor) -> None:
        engine.backwards += 1
        engine.backward_samples += len(gradient)

    return model
