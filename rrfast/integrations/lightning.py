"""A callback of Lightning that watches the radius during a training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rrfast._checks import check_count, check_labels, describe
from rrfast._errors import require
from rrfast.engine import check_input
from rrfast.metrics import RankingAccumulator, aurc
from rrfast.scores import Radius

require("rrfast.integrations.lightning", "lightning.pytorch", "lightning")

from lightning.pytorch import Callback  # noqa: E402 - after the message if it is missing

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from rrfast.methods import Method

__all__ = ["RadiusMonitor"]


class RadiusMonitor(Callback):
    """The radius of right and wrong predictions and its AURC, after every validation epoch.

        trainer = lightning.Trainer(callbacks=[RadiusMonitor()])

    It logs three numbers to every logger of the trainer, which other callbacks such as
    `ModelCheckpoint` find by name too:

    * `radius/median_right`, `radius/median_wrong`: the median radius of right and of wrong
      predictions; of an even number the lower of the two in the middle. NaN if there is none.
    * `radius/aurc`: the AURC of the radius, `rrfast.metrics.aurc`; lower is better.

    With several validation loaders each name ends in `/loader_0` and so on. Numbers are NaN if a
    radius is, as where a logit is NaN. The sanity check before the training is not measured. Over
    several processes the numbers are those of all samples together, but a sampler that pads, as
    Lightning's does for validation, repeats some.

    Args:
        method: As of `rrfast.radius`: a name, or an object of `rrfast.methods`.
        model: What maps x to logits: the name of an attribute of the module, such as "network".
            None: the module itself, by its `forward`.
        pair: Makes (x, y) of a batch: x [B, ...] floating point, y [B] integers. None: the batch is
            a tuple or list of the two.
        batches: Measures only the first so many batches of each loader in each process; None for
            all.
        prefix: Begins the names.
        **options: Of `rrfast.radius`, such as `bounds` and `scale`.

    Raises:
        ImportError: lightning is not installed.
        TypeError: In validation, a batch is no such pair; otherwise as `rrfast.radius`.
        ValueError: As `rrfast.radius`; in validation, a label is not a class of the model.

    Cost: that of the method for each validation sample, "fast" 2 forwards and 1 backward.

    Example:
        >>> RadiusMonitor("grad", scale=[4.0]).names
        ('radius/median_right', 'radius/median_wrong', 'radius/aurc')
    """

    def __init__(
        self,
        method: str | Method = "fast",
        *,
        model: str | None = None,
        pair: Callable[[Any], tuple[Tensor, Tensor]] | None = None,
        batches: int | None = None,
        prefix: str = "radius/",
        **options: Any,
    ) -> None:
        super().__init__()
        if batches is not None:
            check_count("batches", batches)
        self._score = Radius(method, options.pop("temperature", None), options)
        self._model, self._pair, self._batches = model, pair, batches
        self.names = tuple(prefix + name for name in ("median_right", "median_wrong", "aurc"))
        self._samples: dict[int, RankingAccumulator] = defaultdict(RankingAccumulator)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Forget the samples of the epoch before, also of one that was interrupted."""
        self._samples.clear()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,  # noqa: ARG002
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure the radius of a batch."""
        if trainer.sanity_checking or (self._batches is not None and batch_idx >= self._batches):
            return
        x, y = _checked(batch if self._pair is None else self._pair(batch))
        model = pl_module if self._model is None else pl_module.get_submodule(self._model)
        scored = self._score.measure(model, check_input(x), ({},))
        check_labels("y", y, scored.classes)
        # -1 stands for NaN, which a ranking cannot hold.
        radius = scored.values[0].nan_to_num(nan=-1.0, posinf=math.inf)
        self._samples[dataloader_idx].update(radius, scored.prediction == y)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the numbers of all samples of all processes."""
        if trainer.sanity_checking:
            return
        loaders = len(trainer.num_val_batches)
        for i in range(loaders):
            samples = self._samples[i].gather().state_dict()
            if len(samples["score"]) == 0:
                continue
            end = f"/loader_{i}" if loaders > 1 else ""
            values = _numbers(samples["score"], samples["correct"])
            # Every process has the same numbers, so that nothing is reduced.
            names = (name + end for name in self.names)
            pl_module.log_dict(dict(zip(names, values, strict=True)), rank_zero_only=False)
        self._samples.clear()


def _checked(pair: object) -> tuple[Tensor, Tensor]:
    if (
        not isinstance(pair, (tuple, list))
        or len(pair) != 2
        or not all(isinstance(part, Tensor) for part in pair)
    ):
        raise TypeError(
            "a validation batch must be a pair of tensors (x [B, ...], y [B]) for RadiusMonitor, "
            f"got {describe(pair)}; give pair=, which makes such a pair of a batch"
        )
    x, y = pair
    if len(x) != len(y):
        raise ValueError(f"y must have one label per sample of x, {len(x)}, got {describe(y)}")
    return x, y


def _numbers(radius: Tensor, correct: Tensor) -> tuple[float, float, float]:
    """The medians of right and wrong predictions, and the AURC."""
    if bool((radius < 0).any()):
        return math.nan, math.nan, math.nan
    right, wrong = (
        float(group.median()) if len(group) else math.nan
        for group in (radius[correct], radius[~correct])
    )
    return right, wrong, aurc(radius, correct)
