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
from rrfast._checks import check_count, check_number, check_one_of
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
    """The result of the pass over the clean or mixed batch."""

    loss: Tensor  #: scalar
    logits: Tensor  #: [B, K], of the clean batch: they decide which samples are right


@dataclass(frozen=True, eq=False)
class RAT(Objective):
    """Radius Aware Training, by FGSM or PGD.

        L = loss(f(x), y) + loss(f(x'), y),    x' = x + s_b * eps * sign(grad_x loss(f(x), y))

    `mode="rat"`: s = +1 where the model is right and -1 where it is wrong. `"at"`: s = +1
    (adversarial training, here an ablation with the first term; that of Madry et al. has only x',
    see `rrfast.objectives.AdversarialTraining`). `"reverse_at"`: s = -1. One line in a training
    loop:

        loss = rrfast.RAT(eps=1e-3).backward(model, x, y)

    The objective does not change the model's mode: put it into training mode.

    With `steps` > 1 x' is found by PGD: steps of `step_size` * eps from x, each along the sign of
    the gradient at the current point with the same s_b, and each followed by a projection onto the
    ball of eps around x.

    With `mixup` the first term is that of Mixup (`rrfast.objectives.Mixup`), and the first step
    follows the gradient of this term with respect to the clean images. One more forward, of the
    clean batch, decides which samples are right. The second term is the loss of x' with its own
    label (errata 13). The paper's models are trained in this way (B.2).

    Source: RAT Eq. 9 to 12, B.2; errata 13.

    Attributes:
        eps: Length of the step in units of `scale`, >= 0. The paper's 1e-3 is for inputs in [0, 1].
        mode: "rat", "at" or "reverse_at".
        steps: Number of gradient steps to x': 1 is FGSM, more are PGD.
        step_size: Length of PGD's steps in units of eps, > 0; 1/4 as in the released code. There is
            no random start.
        mixup: The alpha of Mixup, > 0; None for no Mixup. The paper takes 1 for CIFAR and 0.2 for
            ImageNet.
        mixup_off_epochs: Number of last epochs without mixing, 10 in the released recipe. Needs
            `epochs`, and `epoch=` in every call.
        epochs: Epochs of the whole training.
        criterion: The loss of logits and labels, a scalar. Default: `cross_entropy`, the mean over
            the batch.
        bounds: The box for x', see `rrfast.ops.channel_bounds`; None for none, as in the released
            code. x must lie in it, see `rrfast.engine.box.within`.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for x's own. With inputs
            normalised by `std`, 1 / std makes eps a pixel step.
        batch_norm: "both": every pass updates the running statistics of BatchNorm, as in the
            released code. "clean": only the pass of the first term does; the others normalise by
            their own batch and do not change the statistics, nor does recomputation by
            checkpointing in `backward`. This covers only torch's BatchNorm classes, and in a
            function only the modules that `rrfast.engine.modules_inside.modules_of` finds.

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
        check_number("eps", self.eps, least=0)
        ops.check_mode(self.mode)
        check_one_of("batch_norm", self.batch_norm, ("both", "clean"))
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

        The first backward computes the gradients of the parameters and of the input together, so
        that a step takes 2 forwards and 2 backwards. With `DistributedDataParallel` gradients are
        reduced once, in the second backward. With static_graph=True, which must reduce its first
        backward, or with a wrapper without `no_sync`, they are reduced twice, with the same result.

        Args:
            model: As for `Objective.backward`, as are the others.
            x: [B, ...], floating point, without a graph.
            y: Labels [B] int64.
            epoch: The epoch, counted from 0; needed with `mixup_off_epochs`.
            backward: How to run a backward.
            no_sync: Makes the context of all passes but the last.

        Returns:
            The loss, a detached scalar.

        Raises:
            TypeError, ValueError: As `Objective.backward`; the model changes `x` in place; or an
                optimizer in a hook of the backward takes a step between the two backwards.

        Cost: 2 forwards, 2 backwards; with PGD `steps` + 1 of each, where only the first and last
            backward compute gradients of the parameters; with `mixup` one more forward. The first
            graph is freed before the second is built: peak memory is that of a standard step plus
            the input's gradient and x' (1.02 times with resnet20; benchmarks/step_memory.py).

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
            with self._statistics(model):  # recomputation must not change them
                run(clean)
            if x.grad is None:
                raise ValueError(
                    "model must be differentiable with respect to x, but the backward of its loss "
                    "left no gradient there"
                )
            if any(parameter._version != version for parameter, version in stepping):
                raise ValueError(
                    "model must keep its parameters until the second of RAT's two backwards, but a "
                    "hook in the first has changed them, as an optimizer in the backward does: "
                    "they have made half a step. Call RAT()(model, x, y).backward(), which is one "
                    "backward"
                )
            moved = self._moved(model, x, x.grad, logits, y).requires_grad_(wanted)
        with self._statistics(model):
            adversarial = self._adversarial(model, moved, y)
            run(adversarial)
        return clean.detach() + adversarial.detach()

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        """The objective as a scalar with a graph, for loops that call backward themselves.

        Cost: 2 forwards and, with the caller's backward, 3 backwards: the input gradient is needed
            before the loss exists, so the clean pass is differentiated twice. Both graphs are alive
            at once, which takes twice the memory. `backward` needs one backward and one graph less.

        Use `backward` if the graph of the first term cannot be differentiated twice: with a model
        of `torch.compile`, which frees saved tensors (donated buffers), with checkpointing by
        use_reentrant=True, and with `DistributedDataParallel(static_graph=True)`. With
        batch_norm="clean" recomputation in your own backward updates the statistics.

        Arguments and errors are those of `backward`; the model must be none of these.

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
        """The checked batch, and whether the caller's `x` requires a gradient.

        `x` is a new leaf: it gets the gradient, not the caller's tensor.
        """
        x, y = check_pair(x, y)
        wanted = x.requires_grad
        return within(x, self.bounds, self.scale, model).requires_grad_(True), y, wanted

    def _clean(self, model: Model, x: Tensor, y: Tensor, epoch: int | None) -> _Clean:
        """The first term, and the logits of the clean batch."""
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
                # The gradient of the sum: the mean's would underflow in float16.
                grad = input_gradient(loss * len(probe), probe)
            moved, _ = ops.rat_perturb(probe.detach(), grad, logits, y, *settings)
        return torch.clamp(moved, least, most)

    def _reach(self, x: Tensor) -> Tensor | float:
        """The largest distance of x' from x: eps, in units of `scale`."""
        scale = ops.channel_scale(self.scale, x)
        if scale is None:
            return self.eps
        channels = [-1, *[1] * (x.dim() - 2)] if x.dim() > 1 else [-1]
        return (self.eps * scale).to(x.dtype).reshape(channels)

    def _adversarial(self, model: Model, moved: Tensor, y: Tensor) -> Tensor:
        """The second term."""
        return loss_of(self.criterion, model_logits(model, moved), y)

    def _statistics(self, model: Model) -> contextlib.AbstractContextManager[Any]:
        """The context of all passes but the forward of the first term."""
        return _untracked(model) if self.batch_norm == "clean" else contextlib.nullcontext()


def _own(logits: Tensor) -> Tensor:
    """A copy, because a captured model overwrites its output in the next call."""
    return logits.detach().clone()


def _uncached() -> Changes:
    """Stop autocast from caching weights: in older torch those cached under no_grad have no graph.

    Later passes would give them no gradient (https://github.com/pytorch/pytorch/pull/165068).
    """
    changes = Changes(map(torch.set_autocast_cache_enabled, [torch.is_autocast_cache_enabled()]))
    torch.set_autocast_cache_enabled(False)
    return changes


def _untracked(model: Model) -> Changes:
    """Let BatchNorm in training mode normalise by the batch without changing its statistics.

    Its statistics are replaced by copies that it updates as usual, so that checkpointing recomputes
    the same.
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
                # A mean is only written; a count may be a divisor.
                empty = torch.empty_like if statistic.is_floating_point() else torch.zeros_like
                if isinstance(module, torch.jit.ScriptModule):
                    scripted.append((module._c, name, statistic))
                    module._c.setattr(name, empty(statistic))
                else:
                    changes.write(module._buffers, name, empty(statistic))
    return changes


def _is_batch_norm(module: nn.Module) -> bool:
    """Whether it is torch's BatchNorm, also after scripting or tracing."""
    if isinstance(module, torch.jit.ScriptModule):
        kind = getattr(nn, str(getattr(module, "original_name", "")), None)
        return isinstance(kind, type) and issubclass(kind, _BatchNorm)
    return isinstance(module, _BatchNorm)


def _reentrant(loss: Tensor) -> bool:
    """Whether a block is checkpointed with use_reentrant=True, which needs a gradient at its input.

    Without it, the weights get no gradient either.
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
    """Raise if the model does not allow two graphs to be differentiated at once."""
    for owner in modules_of(model):
        for module in owner.modules():
            if isinstance(module, nn.parallel.DistributedDataParallel) and module.static_graph:
                raise ValueError(
                    "model must not be DistributedDataParallel(static_graph=True) where RAT runs "
                    "it twice before a backward: each process would get other gradients. Call "
                    "RAT().backward(model, x, y)"
                )


def _stepping(model: Model) -> list[tuple[nn.Parameter, int]]:
    """The parameters that a hook in the backward may change, and their version counters."""
    return [
        (parameter, parameter._version)
        for owner in modules_of(model)
        for module in owner.modules()
        for parameter in module._parameters.values()
        if parameter is not None
        and (parameter._post_accumulate_grad_hooks or hasattr(parameter, "_in_backward_optimizers"))
    ]
