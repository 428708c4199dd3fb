"""The settings of a training: everything but model, data and objective."""

from __future__ import annotations

from itertools import pairwise
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from rrfast._checks import (
    check_bool,
    check_count,
    check_integer,
    check_number,
    check_one_of,
    describe,
    is_integer,
    plain,
)


def _make_plain(settings: msgspec.Struct) -> None:
    """Convert NumPy's scalars, as from a sweep, to Python's: a checkpoint cannot hold others."""
    for name in settings.__struct_fields__:
        msgspec.structs.force_setattr(settings, name, plain(getattr(settings, name)))


#: The ends of a number that is not at least 0 alone.
ENDS: dict[str, dict[str, float]] = {
    "milestone_factor": {"least": 0, "most": 1},
    "clip_norm": {"above": 0},
}


def _check(name: str, kind: Any, value: Any) -> None:
    """Raise unless a setting is of its kind and in range: msgspec checks types in a file alone."""
    kinds = get_args(kind) or (kind,)
    if get_origin(kind) is Literal:
        check_one_of(name, value, kinds)
    elif bool in kinds:
        check_bool(name, value)
    elif int in kinds:
        least = 0 if name in ("workers", "seed") else 1
        # No machine has more threads or processes.
        check_integer(name, value, least=least, bits=16 if name in ("threads", "workers") else 63)
    elif float in kinds:
        check_number(name, value, **ENDS.get(name, {"least": 0}))


class Augment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of `rrfast.data.augment` for every batch.

    Attributes:
        padding: Largest shift of an image in pixels, along both axes.
        flip: Whether half of the images are mirrored.
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        _make_plain(self)
        check_count("padding", self.padding, least=0, bits=16)
        check_bool("flip", self.flip)


class ValidationAttack(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """PGD on the validation images: the best weights are the most accurate ones under it.

    It maximises the cross-entropy from the image itself, within [0, 1]; an image is robust if no
    iterate is wrong. It is `pgd` of `rrfast evaluate --protocol robust` with other steps.

    Cost: in every run `steps` + 1 forwards and `steps` backwards for each image that is right.

    Attributes:
        eps: Radius of the ball, in units of the inputs.
        steps: Number of steps; IRAT has 20.
        step_size: Length of a step, in units of `eps`.
        every: Epochs from one run to the next; it also runs after the last epoch.
        first: The epoch of the first run, counted from 0. Give the objective's warm-up, so that no
            weights of the warm-up become the best.
    """

    eps: float = 8 / 255
    steps: int = 20
    step_size: float = 0.25
    every: int = 1
    first: int = 0

    def __post_init__(self) -> None:
        _make_plain(self)
        for name in ("eps", "step_size"):
            check_number(name, getattr(self, name))
        check_count("steps", self.steps)
        check_count("every", self.every)
        check_count("first", self.first, least=0)

    def looks(self, epoch: int, epochs: int) -> bool:
        """Whether it runs after an epoch, counted from 0, of `epochs`."""
        return epoch == epochs - 1 or (
            epoch >= self.first and (epoch - self.first) % self.every == 0
        )


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of a training; the part `training:` of a recipe.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step, over all processes and accumulated batches together.
        optimizer: "sgd", "adam" (its weight decay is an L2 term of the loss) or "adamw".
        learning_rate: The rate at the end of the warm-up, from where `schedule` lowers it.
        momentum: For "sgd": the momentum.
        nesterov: For "sgd": whether the momentum is Nesterov's.
        weight_decay: Weight decay of the optimizer.
        weight_decay_on: "all" parameters, or "weights": all but biases and BatchNorm's parameters
            (those with fewer than two dimensions).
        warmup_epochs: Epochs over which the learning rate rises linearly from (almost) 0, step by
            step; it may be a fraction. None: a tenth of the epochs, at most 5.
        schedule: "cosine": the learning rate falls to 0 along a cosine, step by step; "steps": it
            is multiplied by `milestone_factor` at each of the `milestones`.
        milestones: For "steps": the rate is lowered after these numbers of epochs; None: after
            every epoch.
        milestone_factor: For "steps": the factor, at most 1.
        accumulate: Number of batches into which a process divides its share of a step, if the whole
            does not fit into memory. An objective's draws per batch (the share of Mixup) are made
            for each of them.
        clip_norm: Largest norm of the gradient; None for no limit.
        precision: Precision of Lightning Fabric: "32-true", "bf16-mixed", "16-mixed", "64-true",
            ... The mixed ones keep the images in float32; "bf16-true" and "16-true" round them,
            which spoils a step of RAT that is not much longer than the rounding (2^-9 near 1 in
            bfloat16).
        channels_last: Keep weights and images in channels-last layout: often faster convolutions.
        augment: Random crops and flips; None for none.
        validation_score: The score in `rrfast.scores.SCORES` whose AURC on the validation split
            decides which weights are best: those with the lowest, unless there is a
            `validation_attack`.
        validation_attack: PGD on the validation split: the best weights are the most accurate under
            it, as in IRAT. None: no attack, and the lowest AURC decides.
        validation_batch: Images per forward in validation.
        checkpoint_steps: Also save the state after this many steps; None: only at the end of every
            epoch.
        tensorboard: Write events for TensorBoard besides log.csv.
        workers: Processes that read images from files, and threads of each process that read
            outliers; 0: no additional ones.
        threads: CPU threads of torch; None: unchanged. The last bits of a sum depend on it.
        seed: Decides the order of the images, augmentation and the objective's draws.
    """

    epochs: int
    batch_size: int = 128
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    weight_decay_on: Literal["all", "weights"] = "all"
    warmup_epochs: float | None = None
    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: tuple[int, ...] | None = None
    milestone_factor: float = 0.1
    accumulate: int = 1
    clip_norm: float | None = None
    precision: str = "32-true"
    channels_last: bool = False
    augment: Augment | None = None
    validation_score: str = "msr"
    validation_attack: ValidationAttack | None = None
    validation_batch: int = 500
    checkpoint_steps: int | None = None
    tensorboard: bool = False
    workers: int = 0
    threads: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        from rrfast.scores import SCORES

        _make_plain(self)
        for name, kind in get_type_hints(Training).items():
            value = getattr(self, name)
            if value is not None or NoneType not in get_args(kind):
                _check(name, kind, value)
        self._check_optimizer()
        self._check_schedule()
        for name, kind in (("augment", Augment), ("validation_attack", ValidationAttack)):
            value = getattr(self, name)
            if not isinstance(value, (kind, NoneType)):
                article = "an" if kind is Augment else "a"
                raise TypeError(
                    f"{name} must be {article} {kind.__name__} or None, got {describe(value)}"
                )
        # A score that must be fitted would need its own labelled data at every epoch.
        ready = [name for name, score in SCORES.items() if score.fitted]
        check_one_of("validation_score", self.validation_score, ready)

    @property
    def best(self) -> str:
        """The criterion of best.pt on the validation split, in words."""
        attack = self.validation_attack
        if attack is None:
            return "the lowest AURC"
        return f"the highest accuracy under PGD-{attack.steps} with eps = {attack.eps:g}"

    def _check_optimizer(self) -> None:
        if self.optimizer != "sgd" and (self.momentum, self.nesterov) != (0.9, False):
            raise ValueError(
                f"momentum and nesterov are of optimizer='sgd', got {self.optimizer!r}"
            )

    def _check_schedule(self) -> None:
        if self.schedule == "cosine" and (self.milestones, self.milestone_factor) != (None, 0.1):
            raise ValueError(
                "milestones and milestone_factor are of schedule='steps', got 'cosine'"
            )
        if self.milestones is None:
            return
        if type(self.milestones) is not tuple or not all(map(is_integer, self.milestones)):
            raise TypeError(
                f"milestones must be a tuple of integers or None, got {describe(self.milestones)}"
            )
        if not all(a < b for a, b in pairwise((0, *self.milestones))):
            raise ValueError(f"milestones must rise, from at least 1, got {self.milestones}")
