"""The inner maximisation of adversarial training: an attack within a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from rrfast._seeds import own_generator
from rrfast.engine import Engine, check_input
from rrfast.engine.box import within

if TYPE_CHECKING:
    from rrfast.attacks import PGD
    from rrfast.engine import Model


def worst(
    attack: PGD,
    model: Model,
    x: Tensor,
    y: Tensor | None,
    *,
    each: Callable[[Tensor], object] | None = None,
    name: str = "x",
) -> Tensor:
    """What the attack finds, as a constant of the step.

    The model is attacked as it is used, in eval mode and with its parameters frozen, and is left as
    it was. A random start is drawn on the device of x, from a generator that is seeded with a
    number from torch's default generator on the CPU: `torch.manual_seed` decides it, on one kind of
    device. Processes of a distributed training that are seeded alike have a number each.

    Args:
        attack: What is run.
        model: Maps [B, ...] to logits [B, K].
        x: [B, ...], within the bounds of the attack, as `rrfast.engine.box.within` has it.
        y: Labels [B]; None for an attack without.
        each: As of `rrfast.attacks.PGD.run`.
        name: What a sentence calls x.

    Returns:
        [B, ...], detached.

    Raises:
        ValueError: `x` lies outside the bounds; a label is no class of the model. On a GPU both are
            seen in the first call with the model.
    """
    generator = None
    if attack.start != "input":
        generator = own_generator(x.device)
    x = within(check_input(x), attack.bounds, attack.scale, model, name=name)
    with Engine(model, y) as engine:
        return attack.run(engine, x, y, generator=generator, each=each).x
