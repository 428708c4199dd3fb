"""Radius Aware Training: right samples away from the boundary, wrong ones towards it (RAT §4)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from itertools import starmap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rrfast import ops
from rrfast._checks import check_count, check_number
from rrfast.engine import input_gradient
from rrfast.engine.box import within
from rrfast.engine.changes import Changes
from rrfast.engine.modules_inside import modules_of
from rrfast.objectives.mixing import Mixing
from rrfast.objectives.objective import (
    Backward,
    Criterion,
    NoSync,
    Objective,
    check_gradients_on,
    check_pair,
    loss_of,
    model_logits,
    run_backward,
)

if TYPE_CHECKING:
    from rrfast.engine import Model


class _Clean(NamedTuple):
    """What the pass over the batch as it is, or mixed, gives."""

    loss: Tensor  #: scalar
    logits: Tensor  #: [B, K], of the batch as it is: they say which samples are right


@dataclass(frozen=True, eq=False)
class RAT(Objective):
    """Radius Aware Training, with FGSM or PGD inside.

        L = loss(f(x), y) + loss(f(x'), y),    x' = x + s_b * eps * sign(grad_x loss(f(x), y))

    `mode="rat"`: s = +1 where the model is right and -1 where it is wrong. `"at"`: s = +1
    (adversarial training, here an ablation with the first term: that of Madry et al. has x' alone,
    see `rrfast.objectives.AdversarialTraining`). `"reverse_at"`: s = -1. One line in a training
    loop:

        loss = rrfast.RAT(eps=1e-3).backward(model, x, y)

    The model stays in the mode it is in: the passes of a training step are training passes.

    With `steps` > 1 x' is found by PGD: steps of `step_size` * eps from x, each along the sign of
    the gradient where it is and with the same s_b, and back into the box of eps around x after
    each.

    With `mixup` the first term is that of Mixup (`rrfast.objectives.Mixup`), and so is the gradient
    that the first step follows, taken with respect to the images as they are; one more forward, of
    the batch as it is, says which samples are right; the second term is that of x' and its own
    label (errata 13). This is how the paper's models are trained (B.2).

    Source: RAT Eq. 9 to 12, B.2; errata 13.

    Attributes:
        eps: Length of the step, in units of `scale`, >= 0. The paper's 1e-3 is for inputs in
            [0, 1].
        mode: "rat", "at" or "reverse_at".
        steps: Gradients that x' follows: 1 is FGSM, more are PGD.
        step_size: Of PGD's steps, in units of eps, > 0; 1/4 as released. There is no random start.
        mixup: The alpha of Mixup, > 0, or None for none. The paper takes 1 for CIFAR and 0.2 for
            ImageNet.
        mixup_off_epochs: In this many last epochs nothing is mixed, 10 in the released recipe.
            Needs `epochs`, and `epoch=` in every call.
        epochs: Of the whole training.
        criterion: The loss of logits and labels, a scalar. Default: `cross_entropy`, the mean over
            the batch.
        bounds: The box for x', see `rrfast.ops.channel_bounds`; None for none, as released. x must
            lie in it, see `rrfast.engine.box.within`.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for x's own. With inputs
            normalised by `std`, 1 / std makes eps a pixel step.
        batch_norm: "both": every pass updates the running statistics of BatchNorm, as released.
            "clean": only that of the first term does; the others normalise by their own batch and
            leave no trace, nor does what checkpointing computes again in `backward`. A
            normalisation of your own that is no torch BatchNorm is not seen, nor is a module that
            `rrfast.engine.modules_inside.modules_of` does not find in a function of yours.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> loss = RAT(eps=1e-2).backward(model, x, y)
        >>> loss.requires_grad, model.weight.grad is None
        (False, False)
    """

    eps: float = 1e-3
    mode: ops.Mode = "rat"
    criterion: Criterion = nn.functional.cross_entropy
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None
    batch_norm: Literal["both", "clean"] = "both"
    steps: int = 1
    step_size: float = 0.25
    mixup: float | None = None
    mixup_off_epochs: int = 0
    epochs: int | None = None
    _mixing: Mixing | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_number("eps", self.eps, zero=True)
        ops.check_mode(self.mode)
        if self.batch_norm not in ("both", "clean"):
            raise ValueError(f"batch_norm must be 'both' or 'clean', got {self.batch_norm!r}")
        check_count("steps", self.steps)
        check_number("step_size", self.step_size)
        if self.mixup is not None:
            check_number("mixup", self.mixup)
        if self.mixup is None and self.mixup_off_epochs:
            raise ValueError(f"mixup_off_epochs={self.mixup_off_epochs} needs mixup, its alpha")
        mixing = None
        if self.mixup is not None:
            mixing = Mixing(self.mixup, self.mixup_off_epochs, self.epochs)
        object.__setattr__(self, "_mixing", mixing)

    def backward(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        epoch: int | None = None,
        backward: Backward = None,
        no_sync: NoSync | None = None,
    ) -> Tensor:
        """Add the gradient of the objective to the parameters' `.grad`, and return its value.

        The first backward gives the gradient of the parameters and that of the input together, so
        that a step is 2 forwards and 2 backwards. With a `DistributedDataParallel` model gradients
        are reduced once, in the second; with static_graph=True, whose first step must be reduced,
        or wrapped in something else that has no `no_sync`, twice, to the same result.

        Args:
            model: Maps [B, ...] to logits [B, K], or to an object with `.logits`.
            x: Inputs [B, ...], floating point, without a graph; not modified, and its `.grad` not
                touched.
            y: Labels [B] int64.
            epoch: Of the training, from 0; needed with `mixup_off_epochs`.
            backward: How to run a backward. None: `loss.backward()`. A `torch.amp.GradScaler`:
                `scaler.scale(loss).backward()`. A callable such as `fabric.backward`: called with
                each loss.
            no_sync: Makes the context of the passes before the last, in which gradients are not
                reduced among processes; default the model's own `no_sync`, which a
                `DistributedDataParallel` model has.

        Returns:
            The loss, a detached scalar.

        Raises:
            TypeError, ValueError: As `Objective.backward`; the model changes `x` in place; or an
                optimizer in the backward, a hook after a gradient is accumulated, takes a step
                between the two.

        Cost: 2 forwards, 2 backwards; `steps` + 1 of each with PGD, whose backwards between give no
            gradient of the parameters; with `mixup` one forward more. The first graph is freed
            before the second is built: the peak of memory is that of a standard step, the input's
            gradient and x' (1.02 of it with resnet20; benchmarks/step_memory.py).

        Example:
            >>> model, x, y = torch.nn.Linear(4, 3), torch.rand(8, 4), torch.randint(3, (8,))
            >>> scaler = torch.amp.GradScaler("cpu")
            >>> RAT().backward(model, x, y, backward=scaler).shape
            torch.Size([])
        """
        run = run_backward(backward)
        x, y, wanted = self._leaf(model, x, y)
        stepping = _stepping(model)
        if no_sync is None and not getattr(model, "static_graph", False):
            no_sync = getattr(model, "no_sync", None)
        no_sync = no_sync or contextlib.nullcontext
        with no_sync():
            clean, logits = self._clean(model, x, y, epoch)
            wanted = wanted or _reentrant(clean)
            with self._statistics(model):  # what is recomputed leaves no trace
                run(clean)
            if x.grad is None:
                raise ValueError(
                    "model must be differentiable with respect to x, but the backward of its loss "
                    "left no gradient there"
                )
            if any(parameter._version != version for parameter, version in stepping):
                raise ValueError(
                    "model must keep its parameters through the first of RAT's two backwards, and "
                    "a hook in it has changed them, as an optimizer in the backward does: they "
                    "have had half a step. Call RAT()(model, x, y).backward(), which is one"
                )
            moved = self._moved(model, x, x.grad, logits, y).requires_grad_(wanted)
        with self._statistics(model):
            adversarial = self._adversarial(model, moved, y)
            run(adversarial)
        return clean.detach() + adversarial.detach()

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        """The objective as a scalar to call backward on, for loops that want to do so themselves.

        Cost: 2 forwards and, with the caller's backward, 3 backwards: the input gradient is needed
        before the loss exists, so the clean pass is differentiated twice, and both graphs are alive
        at once: twice the memory. `backward` has one backward and one live graph less.

        Use `backward` where the graph of the first term cannot be differentiated twice: with a
        model of `torch.compile`, which gives up what it saved (donated buffers), with checkpointing
        where use_reentrant=True, and with `DistributedDataParallel(static_graph=True)`. With
        batch_norm="clean" what is recomputed in your backward updates the statistics.

        Args:
            model: As for `backward`.
            x: As for `backward`.
            y: As for `backward`.
            epoch: As for `backward`.

        Returns:
            The loss, a scalar with a graph.

        Raises:
            TypeError, ValueError: As for `backward`; or the model is one of those.

        Example:
            >>> model, x, y = torch.nn.Linear(4, 3), torch.rand(8, 4), torch.randint(3, (8,))
            >>> loss = RAT()(model, x, y)
            >>> loss.backward()
            >>> model.weight.grad.shape
            torch.Size([3, 4])
        """
        check_gradients_on()
        _check_not_static(model)
        x, y, wanted = self._leaf(model, x, y)
        clean, logits = self._clean(model, x, y, epoch)
        try:
            grad = input_gradient(clean, x, retain_graph=True)
        except RuntimeError as error:
            if "donated buffers" not in str(error):
                raise
            raise ValueError(
                "model must not be one of torch.compile in RAT()(model, x, y), which takes two "
                "gradients of one graph: call RAT().backward(model, x, y), which takes one"
            ) from error
        moved = self._moved(model, x, grad, logits, y).requires_grad_(wanted)
        with self._statistics(model):
            return clean + self._adversarial(model, moved, y)

    def _leaf(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, bool]:
        """The batch, and whether the caller's `x` requires a gradient.

        `x` is a leaf of its own: its gradient lands there, not with the caller.
        """
        x, y = check_pair(x, y)
        wanted = x.requires_grad
        return within(x, self.bounds, self.scale, model).requires_grad_(True), y, wanted

    def _clean(self, model: Model, x: Tensor, y: Tensor, epoch: int | None) -> _Clean:
        """The first term, and the logits of the batch as it is."""
        if self._mixing is None or not self._mixing.on(epoch):
            logits = self._logits(model, x, y, again=True)
            return _Clean(loss_of(self.criterion, logits, y), _own(logits))
        with self._statistics(model), torch.no_grad(), _uncached():
            logits = _own(self._logits(model, x, y, again=True))
        mixed = self._mixing.mix(x)
        return _Clean(mixed.loss(self.criterion, model_logits(model, mixed.x), y), logits)

    def _moved(self, model: Model, x: Tensor, grad: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        """x', from the gradient at x."""
        x = x.detach()
        step = self.eps if self.steps == 1 else self.step_size * self.eps
        settings = (step, self.mode, self.bounds, self.scale)
        moved, _ = ops.rat_perturb(x, grad, logits, y, *settings)
        if self.steps == 1:
            return moved
        reach = self._reach(x)
        least, most = x - reach, x + reach
        for _ in range(self.steps - 1):
            probe = torch.clamp(moved, least, most).requires_grad_()
            with self._statistics(model):
                loss = loss_of(self.criterion, model_logits(model, probe, again=True), y)
                # Of the sum: the mean's gradients would leave float16's range at its lower end.
                grad = input_gradient(loss * len(probe), probe)
            moved, _ = ops.rat_perturb(probe.detach(), grad, logits, y, *settings)
        return torch.clamp(moved, least, most)

    def _reach(self, x: Tensor) -> Tensor | float:
        """How far x' may be from x: eps, in units of `scale`."""
        scale = ops.channel_scale(self.scale, x)
        if scale is None:
            return self.eps
        channels = [-1, *[1] * (x.dim() - 2)] if x.dim() > 1 else [-1]
        return (self.eps * scale).to(x.dtype).reshape(channels)

    def _adversarial(self, model: Model, moved: Tensor, y: Tensor) -> Tensor:
        """The second term."""
        return loss_of(self.criterion, model_logits(model, moved), y)

    def _statistics(self, model: Model) -> contextlib.AbstractContextManager[Any]:
        """The context of all but the forward of the first term."""
        return _untracked(model) if self.batch_norm == "clean" else contextlib.nullcontext()


def _own(logits: Tensor) -> Tensor:
    """In memory of their own: a captured model writes its next output there."""
    return logits.detach().clone()


def _uncached() -> Changes:
    """Autocast keeps no weights: those of a pass without grad have no graph in older torch.

    Passes after it would give them no gradient (https://github.com/pytorch/pytorch/pull/165068).
    """
    changes = Changes(map(torch.set_autocast_cache_enabled, [torch.is_autocast_cache_enabled()]))
    torch.set_autocast_cache_enabled(False)
    return changes


def _untracked(model: Model) -> Changes:
    """BatchNorm in training mode normalises by the batch and leaves its statistics alone.

    What it writes goes elsewhere: to it all is as ever, so that checkpointing recomputes the same.
    """
    scripted: list[tuple[Any, str, Tensor]] = []
    changes = Changes(starmap(torch._C.ScriptModule.setattr, scripted))
    for owner in modules_of(model):
        for module in owner.modules():
            if not (module.training and _is_batch_norm(module)):
                continue
            for name, statistic in list(module.named_buffers(recurse=False)):
                if name not in ("running_mean", "running_var", "num_batches_tracked"):
                    continue
                # A mean is written and never read; a count may be divided by.
                empty = torch.empty_like if statistic.is_floating_point() else torch.zeros_like
                if isinstance(module, torch.jit.ScriptModule):
                    scripted.append((module._c, name, statistic))
                    module._c.setattr(name, empty(statistic))
                else:
                    changes.write(module._buffers, name, empty(statistic))
    return changes


def _is_batch_norm(module: nn.Module) -> bool:
    """Torch's own, or what it was before it was scripted or traced."""
    if isinstance(module, torch.jit.ScriptModule):
        kind = getattr(nn, str(getattr(module, "original_name", "")), None)
        return isinstance(kind, type) and issubclass(kind, _BatchNorm)
    return isinstance(module, _BatchNorm)


def _reentrant(loss: Tensor) -> bool:
    """Whether a block is checkpointed with use_reentrant=True: it asks for a gradient at its input.

    Without one, it gives none to its weights either.
    """
    todo, seen = [loss.grad_fn], {loss.grad_fn}
    while todo:
        node = todo.pop()
        if node is None:
            continue
        if node.name() == "CheckpointFunctionBackward":
            return True
        new = {before for before, _ in node.next_functions} - seen
        seen |= new
        todo += new
    return False


def _check_not_static(model: Model) -> None:
    """Raise where the two graphs of the objective may not be differentiated at once."""
    for owner in modules_of(model):
        for module in owner.modules():
            if isinstance(module, nn.parallel.DistributedDataParallel) and module.static_graph:
                raise ValueError(
                    "model must not be DistributedDataParallel(static_graph=True) where RAT runs "
                    "it twice before a backward: its processes would have other gradients each; "
                    "call RAT().backward(model, x, y)"
                )


def _stepping(model: Model) -> list[tuple[nn.Parameter, int]]:
    """The parameters that a hook in the backward may change, and how often they were."""
    return [
        (parameter, parameter._version)
        for owner in modules_of(model)
        for module in owner.modules()
        for parameter in module._parameters.values()
        if parameter is not None
        and (parameter._post_accumulate_grad_hooks or hasattr(parameter, "_in_backward_optimizers"))
    ]
