"""A faster form of a model that is made again when the model has changed."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from rrfast.engine.engine import Model
from rrfast.engine.prepared import prepared


class Following:
    """`prepared(model, **options)`, made again after the model's weights or buffers have changed.

    What is replaced, changed in place, or stepped by an optimizer is noticed; what is written
    through `.data` is not. A copy or a pickle of it has made nothing yet.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 3)
        >>> following = Following(dtype=torch.bfloat16)
        >>> first = following.of(model)
        >>> following.of(model) is first
        True
        >>> _ = model.requires_grad_(False).weight.zero_()
        >>> following.of(model) is first
        False
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.forget()

    def __reduce__(self) -> tuple[partial[Following], tuple[()]]:
        return partial(Following, **self._options), ()

    def forget(self) -> None:
        """Free what was made."""
        self._made: tuple[Model, dict[int, Tensor], list[int]] | None = None

    def of(self, model: Model) -> Model:
        """The model to run; with no options the model itself.

        Cost: a look at each tensor of the model.
        """
        if not self._options:
            return model
        if not isinstance(model, nn.Module):
            return prepared(model, **self._options)
        tensors = {id(tensor): tensor for tensor in _tensors(model)}
        versions = [0 if t.is_inference() else t._version for t in tensors.values()]
        made = self._made
        # The tensors are kept, so that no new one can have the id of one that is gone.
        if made is None or versions != made[2] or tensors.keys() != made[1].keys():
            made = prepared(model, **self._options), tensors, versions
            self._made = made
            _watch().add(self)
        return made[0]

    def saw_step(self, optimizer: Optimizer) -> None:
        """Forget what was made of weights that were stepped: fused steps count no version."""
        made = self._made
        stepped = (p for group in optimizer.param_groups for p in group["params"])
        if made is not None and any(id(parameter) in made[1] for parameter in stepped):
            self.forget()


@cache
def _watch() -> weakref.WeakSet[Following]:
    """Those that are told of the steps of optimizers; none is looked at before the first is."""
    watched: weakref.WeakSet[Following] = weakref.WeakSet()

    def tell(optimizer: Optimizer, *_: object) -> None:
        for following in list(watched):
            following.saw_step(optimizer)

    register_optimizer_step_post_hook(tell)
    return watched


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """All parameters and buffers; by hand, as `parameters()` takes several times as long."""
    ahead: list[nn.Module | None] = [model]
    while ahead:
        module = ahead.pop()
        if module is not None:
            held = *module._parameters.values(), *module._buffers.values()
            yield from (tensor for tensor in held if tensor is not None)
            ahead.extend(module._modules.values())
