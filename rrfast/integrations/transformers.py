"""Hugging Face's `Trainer` with a training objective of rrfast, such as RAT."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rrfast._checks import describe
from rrfast._errors import require
from rrfast.objectives import RAT, Objective

require("rrfast.integrations.transformers", "transformers")
require("rrfast.integrations.transformers", "accelerate")

from transformers import Trainer  # noqa: E402 - after the message if it is missing

__all__ = ["ObjectiveMixin", "ObjectiveTrainer"]

#: What models of transformers call a floating-point input.
INPUTS = ("inputs_embeds", "pixel_values", "input_values", "input_features")


class ObjectiveMixin:
    """Makes a `Trainer` train with an objective of `rrfast.objectives`; put it before the trainer.

        class MyTrainer(ObjectiveMixin, Seq2SeqTrainer): ...

    `ObjectiveTrainer` is this mixin before `transformers.Trainer`. Mixed precision, accumulation of
    gradients and `DistributedDataParallel` work as in `Trainer`; evaluation is unchanged.

    A batch needs `labels`, [B] int64, and one floating-point input, which the objective steps in:
    `inputs_embeds`, `pixel_values`, `input_values` or `input_features`. Everything else in the
    batch, such as `attention_mask`, goes to the model as it is. Token ids have no gradient: give
    `model.get_input_embeddings()(input_ids)` as `inputs_embeds`; the embeddings are then not
    trained.

    The loss is the objective's mean over the samples of a batch, divided by the number of batches
    that are accumulated into one step.

    Args:
        *args: Of the trainer.
        objective: Such as `rrfast.RAT(eps=1e-3)`, which is the default. With another `criterion`
            it has label smoothing or class weights. It gets the epoch, counted from 0.
        input_name: The key of the input in a batch; None: the one of the four names that is there.
        **kwargs: Of the trainer.

    Raises:
        ImportError: transformers or accelerate is not installed.
        TypeError: `objective` is not an objective.
        ValueError: A setting of the trainer that would be ignored: label smoothing, a
            `compute_loss_func`, DeepSpeed; in training, a batch without labels or input.
    """

    def __init__(
        self,
        *args: Any,
        objective: Objective | None = None,
        input_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if objective is not None and not isinstance(objective, Objective):
            raise TypeError(
                "objective must be an objective of rrfast.objectives, such as rrfast.RAT(), got "
                f"{describe(objective)}"
            )
        self.objective = RAT() if objective is None else objective
        self.input_name = input_name
        self._bound: _OfOneInput | None = None
        super().__init__(*args, **kwargs)
        _check_settings(self)

    def training_step(
        self: Any,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: object = None,  # noqa: ARG002 - the mean is over samples
    ) -> Tensor:
        """The objective's backward in place of the loss's; called by `Trainer`.

        Returns:
            The loss over the number of accumulated batches, a detached scalar.
        """
        model.train()
        if callable(getattr(self.optimizer, "train", None)):  # schedule-free optimizers
            self.optimizer.train()
        others = dict(self._prepare_inputs(inputs))
        x, y, name = _taken(others, self.input_name)
        if self._bound is None or self._bound.model is not model:
            self._bound = _OfOneInput(model)
        self._bound.name, self._bound.others = name, others
        static = getattr(model, "static_graph", False)
        steps = self.current_gradient_accumulation_steps
        loss: Tensor = self.objective.backward(
            self._bound,
            x,
            y,
            epoch=int(self.state.epoch or 0),
            backward=lambda loss: self.accelerator.backward(loss / steps),
            no_sync=None if static else getattr(model, "no_sync", None),
        )
        self._bound.others = {}
        reported: Tensor = loss / steps
        return reported


class ObjectiveTrainer(ObjectiveMixin, Trainer):
    """`transformers.Trainer` with an objective of rrfast; see `ObjectiveMixin` for all of it.

    trainer = ObjectiveTrainer(model, args, train_dataset=data, objective=rrfast.RAT(eps=0.05))
    """


class _OfOneInput:
    """The model as a function of its input alone; the rest of the batch is kept beside it.

    One object for all batches: on a GPU an objective checks labels only in its first call with a
    model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.name = ""
        self.others: dict[str, Any] = {}

    def __call__(self, x: Tensor) -> Any:
        return self.model(**{self.name: x}, **self.others)


def _taken(batch: dict[str, Any], name: str | None) -> tuple[Tensor, Tensor, str]:
    """Input and labels, taken out of the batch, and the input's name."""
    if "labels" not in batch:
        raise ValueError(f"a batch must have labels, and has {', '.join(batch) or 'nothing'}")
    known = INPUTS if name is None else (name,)
    there = [key for key in known if batch.get(key) is not None]
    if len(there) != 1:
        hint = "; for input_ids give model.get_input_embeddings()(input_ids) as inputs_embeds"
        raise ValueError(
            f"a batch must have one input of {', '.join(known)}, which the objective steps in, and "
            f"has {', '.join(batch)}{hint if 'input_ids' in batch else '; or name it: input_name='}"
        )
    return batch.pop(there[0]), batch.pop("labels"), there[0]


def _check_settings(trainer: Any) -> None:
    """Raise if the trainer has a setting that the objective would ignore."""
    instead = (
        "give the objective a criterion, such as torch.nn.CrossEntropyLoss(label_smoothing=0.1)"
    )
    if trainer.args.label_smoothing_factor:
        raise ValueError(f"label_smoothing_factor must be 0 with an objective: {instead}")
    if trainer.compute_loss_func is not None:
        raise ValueError(f"compute_loss_func must be None with an objective: {instead}")
    if trainer.is_deepspeed_enabled:
        raise ValueError(
            "deepspeed must be off with an objective: its engine takes one backward per step"
        )
