"""Validation: accuracy, AURC and accuracy under attack on held-out images."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rrfast import engine
from rrfast.attacks import PGD
from rrfast.data import Split
from rrfast.data.loader import Data, length
from rrfast.engine.box import within
from rrfast.metrics import aurc
from rrfast.ops import is_undefined
from rrfast.scores import SCORES
from rrfast.train.batches import Loader, Share
from rrfast.train.fabric import Fabric
from rrfast.train.settings import Training


class Validation(NamedTuple):
    """Results of one state of the weights on one split."""

    accuracy: float
    aurc: float  #: of `Training.validation_score`; NaN if some score is NaN
    attacked: float  #: accuracy under `Training.validation_attack`; NaN if it was not run


class Validator:
    """Scores a split in equal parts on all processes; each gets the whole result."""

    def __init__(self, data: Data, training: Training, fabric: Fabric) -> None:
        self._fabric = fabric
        self._score = SCORES[training.validation_score]
        self._attack: PGD | None = None
        if training.validation_attack is not None:
            asked = training.validation_attack
            self._attack = PGD(asked.eps, asked.steps, asked.step_size)
            if isinstance(data, Split):  # images of a folder always lie in the box
                within(data.x, self._attack.bounds, None, None, name="validation.x")
        self._images = length(data)
        if self._images == 0:
            raise ValueError("validation must hold at least one image, got none")
        plain = training.__class__(epochs=1, workers=training.workers)  # no augmentation
        self.loader = Loader(data, plain, fabric.device, fabric.global_rank)
        # The first images fill the parts up to equal size, and are removed again.
        world = fabric.world_size
        filled = torch.arange(-(-self._images // world) * world) % self._images
        mine = filled[fabric.global_rank :: world]
        # One share per batch, because a whole share is in memory at once.
        self._shares = [
            Share(0, step, (indices,))
            for step, indices in enumerate(mine.split(training.validation_batch))
        ]

    def __call__(self, model: nn.Module, *, attacked: bool = False) -> Validation:
        """Cost: the score and 1 forward per image; the attack for each image that is right."""
        scores, correct, stood = [], [], []
        for [(x, y)] in self.loader(self._shares):
            scores.append(self._score(model, x).double())
            logits = engine.logits(model, x)
            correct.append(logits.argmax(dim=1) == y)
            if attacked:
                stood.append(self._stands(model, x, y, correct[-1] & ~is_undefined(logits)))
        score, right = self._all(torch.cat(scores)), self._all(torch.cat(correct))
        return Validation(
            accuracy=float(right.double().mean()),
            aurc=math.nan if score.isnan().any() else aurc(score, right),
            attacked=float(self._all(torch.cat(stood)).double().mean()) if stood else math.nan,
        )

    def _stands(self, model: nn.Module, x: Tensor, y: Tensor, right: Tensor) -> Tensor:
        """[B] bool: right before and after the attack, which only attacks right images."""
        assert self._attack is not None
        left = right.clone()
        left[right] = ~self._attack(model, x[right], y[right]).wrong
        return left

    def _all(self, part: Tensor) -> Tensor:
        """Gather the parts of all processes, in the order of the images, on the CPU."""
        parts = torch.as_tensor(self._fabric.all_gather(part)).reshape(self._fabric.world_size, -1)
        return parts.T.flatten()[: self._images].cpu()
