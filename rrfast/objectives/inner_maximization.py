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
    batch_y: Tensor | None = None,
    each: Callable[[Tensor], object] | None = None,
    name: str = "x",
) -> Tensor:
    """The point that the attack finds, as a constant for the gradient.

    The model is attacked in eval mode, as it will be used, with frozen parameters; its state is
    restored. A random start is drawn on the device of x, from a generator seeded by torch's default
    generator on the CPU: `torch.manual_seed` decides it, for one kind of device. Processes of a
    distributed training with the same seed get different starts.

    Args:
        attack: The attack.
        model: Maps [B, ...] to logits [B, K].
        x: [B, ...], within the bounds of the attack (`rrfast.engine.box.within`).
        y: Labels [B]; None for an attack without labels.
        batch_y: Those of the whole batch, if x is a part of it: an error message counts its rows.
        each: As for `rrfast.attacks.PGD.run`.
        name: What an error message calls x.

    Returns:
        [B, ...], detached.

    Raises:
        ValueError: `x` lies outside the bounds; a label is not a class of the model. On a GPU only
            the first call with a model checks this.
    """
    generator = None
    if attack.start != "input":
        generator = own_generator(x.device)
    x = within(check_input(x), attack.bounds, attack.scale, model, name=name)
    with Engine(model, y if batch_y is None else batch_y, called="y") as engine:
        return attack.run(engine, x, y, generator=generator, each=each).x
