"""The published AutoAttack package as an attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rrfast._checks import check_count, check_number, check_one_of, describe
from rrfast._errors import missing
from rrfast.attacks.attack import Attack, Attacked, judged, nothing, unseen
from rrfast.attacks.loss import cw
from rrfast.engine import Engine, output_logits
from rrfast.engine.in_place import output_of

#: The package's names of its ensembles, and of its L-infinity attacks.
VERSIONS = ("standard", "plus", "rand")
PUBLISHED = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")


@dataclass(frozen=True, eq=False)
class AutoAttackPackage(Attack):
    """AutoAttack by the package `autoattack`, for numbers comparable with published ones.

    It waits for the device at every step. Its passes are counted. It seeds torch; the random state
    is restored afterwards. One forward of all samples at the end decides which are wrong.

    Source: https://github.com/fra31/auto-attack, which is not on the Python Package Index.

    Attributes:
        eps: Radius of the ball, >= 0.
        version: "standard", "plus" or "rand", as in the package; or a tuple of its attacks:
            "apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square".
        seed: The package's seed, >= 0.
        batch_size: Number of samples to attack at a time; None for all.

    The box is (0, 1), and eps is in units of x.

    When it runs, it raises an ImportError if the package is not installed, and a ValueError if x is
    not [B, C, H, W].
    """

    eps: float = 8 / 255
    version: str | tuple[str, ...] = "standard"
    seed: int = 0
    batch_size: int | None = None

    bounds = (0.0, 1.0)
    scale = None

    def __post_init__(self) -> None:
        check_number("eps", self.eps, least=0)
        # For an unknown name the package runs no attack and reports all samples as robust.
        if isinstance(self.version, str):
            check_one_of("version, unless it is a tuple of attacks,", self.version, VERSIONS)
        elif not (
            isinstance(self.version, tuple)
            and self.version
            and all(name in PUBLISHED for name in self.version)
        ):
            raise ValueError(
                f"version must be a tuple of one at least of {', '.join(PUBLISHED)}, and no other, "
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
        assert labels is not None  # checked by `Attack`
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
    """The module `autoattack`, or an ImportError with the install command."""
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
    """The engine's model in the package's form, with its passes counted by the engine."""

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
