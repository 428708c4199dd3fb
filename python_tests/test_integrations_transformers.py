"""`ObjectiveTrainer` in transformers itself trains bit for bit as a hand-written training step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast.objectives import GAIRAT, Mixup, Objective

pytest.importorskip("transformers", reason="needs transformers")
pytest.importorskip("accelerate", reason="needs accelerate")

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from rrfast.integrations.transformers import ObjectiveMixin, ObjectiveTrainer

# What these libraries say about torch and about a machine without a GPU.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
EPS, WORDS, WIDTH = 0.05, 5, 8


def bert(dropout: float = 0.1) -> BertForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 16, "max_position_embeddings": WORDS}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2}
    layers |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return BertForSequenceClassification(BertConfig(num_labels=3, vocab_size=7, **sizes, **layers))


def texts(n: int = 48, *, mask: bool) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, WORDS, WIDTH, generator=generator)
    y = (x.mean(dim=(1, 2)) > 0).long() + (x[:, 0, 0] > 0.5).long()
    masks = (torch.rand(n, WORDS, generator=generator) > 0.3).long() | torch.eye(WORDS)[0].long()
    rows = zip(x, y, masks, strict=True)
    return [
        {"inputs_embeds": e, "labels": k} | ({"attention_mask": m} if mask else {})
        for e, k, m in rows
    ]


def settings(folder: Path, **kwargs: Any) -> TrainingArguments:
    return TrainingArguments(
        str(folder),
        **{
            "num_train_epochs": 2,
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-2,
            "use_cpu": True,
            "save_strategy": "no",
            "logging_strategy": "steps",
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
        }
        | kwargs,
    )


def losses(trainer: Trainer) -> list[float]:
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


class Written(Trainer):
    """The nine lines of a user, for a batch with a mask too."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        batch, n = self._prepare_inputs(inputs), self.current_gradient_accumulation_steps
        rat = rrfast.RAT(EPS, criterion=lambda h, y: nn.functional.cross_entropy(h, y) / n)
        x, y, mask = batch["inputs_embeds"], batch["labels"], batch.get("attention_mask")

        def of_embeddings(x: Tensor) -> Any:
            return model(inputs_embeds=x, attention_mask=mask)

        return rat.backward(of_embeddings, x, y, backward=self.accelerator.backward)


@pytest.mark.parametrize(("mask", "accumulated"), [(False, 1), (True, 1), (True, 2)])
def test_losses_and_weights_are_those_of_the_lines_written_by_hand(
    tmp_path: Path, mask: bool, accumulated: int
) -> None:
    data, models = texts(mask=mask), (bert(), bert())
    args = settings(tmp_path, gradient_accumulation_steps=accumulated)
    own = losses(ObjectiveTrainer(models[0], args, train_dataset=data, objective=rrfast.RAT(EPS)))
    assert own == losses(Written(models[1], args, train_dataset=data))
    assert len(own) == 12 // accumulated
    for name, weight in models[0].state_dict().items():
        assert torch.equal(weight, models[1].state_dict()[name]), name
    plain = losses(Trainer(bert(), args, train_dataset=data))
    assert own != plain
    if mask:  # it does reach the model
        without = [{k: v for k, v in row.items() if k != "attention_mask"} for row in data]
        bare = ObjectiveTrainer(bert(), args, train_dataset=without, objective=rrfast.RAT(EPS))
        assert losses(bare) != own


class Noting(Objective):
    """It notes the epochs and whether the model is one object."""

    def __init__(self) -> None:
        self.epochs: list[int | None] = []
        self.models: list[object] = []

    def __call__(self, model, x, y, *, epoch=None):
        self.epochs.append(epoch)
        self.models.append(model)
        return nn.functional.cross_entropy(model(x).logits, y)


@pytest.mark.parametrize("accumulated", [1, 3])
def test_standard_training_as_an_objective_is_the_trainers_own(
    tmp_path: Path, accumulated: int
) -> None:
    """Also over several batches, whose mean is that of one large batch."""
    data, models, noting = texts(mask=True), (bert(dropout=0.0), bert(dropout=0.0)), Noting()
    args = settings(tmp_path, optim="sgd", gradient_accumulation_steps=accumulated)
    whole = settings(tmp_path, optim="sgd", per_device_train_batch_size=8 * accumulated)
    own = losses(ObjectiveTrainer(models[0], args, train_dataset=data, objective=noting))
    assert own == pytest.approx(losses(Trainer(models[1], whole, train_dataset=data)), rel=1e-5)
    assert noting.epochs == [0] * 6 + [1] * 6
    assert len(set(map(id, noting.models))) == 1  # labels on a GPU are checked once
    for name, weight in models[0].state_dict().items():
        torch.testing.assert_close(weight, models[1].state_dict()[name])


def test_other_objectives_and_trainers(tmp_path: Path) -> None:
    class Own(ObjectiveMixin, Trainer):
        pass

    data = texts(mask=True)
    for objective in (GAIRAT(eps=EPS, steps=2, bounds=None), Mixup(1.0)):
        values = losses(Own(bert(), settings(tmp_path), train_dataset=data, objective=objective))
        assert len(values) == 12


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"inputs_embeds": 1}, "a batch must have labels, and has inputs_embeds"),
        (
            {"input_ids": 1, "labels": 1},
            r"has input_ids, labels; for input_ids give model",
        ),
        ({"pixels": 1, "labels": 1}, r"has pixels, labels; or name it: input_name="),
    ],
)
def test_a_batch_without_what_it_needs_gets_a_sentence(tmp_path: Path, row, sentence) -> None:
    trainer = ObjectiveTrainer(bert(), settings(tmp_path))
    trainer.current_gradient_accumulation_steps = 1
    batch = {name: torch.zeros(2, dtype=torch.int64) for name in row}
    with pytest.raises(ValueError, match=sentence):
        trainer.training_step(trainer.model, batch)


def test_settings_that_would_be_ignored_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label_smoothing_factor must be 0 with an objective"):
        ObjectiveTrainer(bert(), settings(tmp_path, label_smoothing_factor=0.1))
    with pytest.raises(ValueError, match="compute_loss_func must be None with an objective"):
        ObjectiveTrainer(bert(), settings(tmp_path), compute_loss_func=print)
    with pytest.raises(TypeError, match=r"objective must be .*, got str"):
        ObjectiveTrainer(bert(), settings(tmp_path), objective="rat")
