"""The metrics of `rrfast.metrics` as a metric of torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rrfast._checks import check_one_of, describe
from rrfast._errors import require
from rrfast.metrics import METRICS, RankingAccumulator
from rrfast.metrics.ranking import check

require("rrfast.integrations.torchmetrics", "torchmetrics")

from torchmetrics import Metric  # noqa: E402 - after the message if it is missing

__all__ = ["RankingMetric"]

#: Whether a larger value is better; a larger mean confidence is neither better nor worse.
HIGHER = dict.fromkeys(("auroc", "accuracy", "aupr_error", "aupr_success"), True)
HIGHER |= dict.fromkeys(("fpr_at_tpr", "aurc", "detection_error", "e_aurc", "augrc"), False)


class RankingMetric(Metric):
    """A metric of `rrfast.metrics` for torchmetrics: update, compute, reset, sync over processes.

    `compute` gives what the function gives for all samples at once, bit for bit, however they are
    divided into batches and over processes. The state is every score and every answer, as ranking
    metrics cannot be averaged over batches: the score's size plus one byte per sample, on the
    device of the metric; `compute_on_cpu=True` keeps it on the CPU. In a
    `torchmetrics.MetricCollection` all such metrics share one state.

    Args:
        metric: A name in `rrfast.metrics.METRICS`.
        **kwargs: Of `torchmetrics.Metric`, such as `process_group`.

    Raises:
        ImportError: torchmetrics is not installed.
        ValueError: There is no metric with that name, or an unknown argument.

    Source: errata 11: the same numbers, however the data is divided.

    Example:
        >>> metric = RankingMetric("aurc")
        >>> metric.update(torch.tensor([0.9, 0.4]), torch.tensor([True, True]))
        >>> metric.update(torch.tensor([0.8, 0.3]), torch.tensor([False, True]))
        >>> metric.compute()
        tensor(0.2708, dtype=torch.float64)
    """

    is_differentiable = False
    full_state_update = False
    score: Any  # a list of batches; joined by torchmetrics while it is synced
    correct: Any

    def __init__(self, metric: str = "aurc", **kwargs: Any) -> None:
        check_one_of("metric", metric, METRICS)
        super().__init__(**{"dist_sync_fn": gather, **kwargs})
        self.metric = metric
        self.add_state("score", [], dist_reduce_fx="cat")
        self.add_state("correct", [], dist_reduce_fx="cat")

    def update(self, score: Tensor, correct: Tensor) -> None:
        """Add a batch; an empty one adds nothing.

        It is checked for NaN, and so this waits for the device.

        Args:
            score: [n] floating point, larger = more confident.
            correct: [n] booleans, True where the prediction is right.

        Raises:
            TypeError: `score` is not floating point, or `correct` is not boolean.
            ValueError: Scores and answers not of one shape [n], or NaN among the scores.
        """
        s, c = check(score, correct, empty=True)
        if not s.is_floating_point():
            raise TypeError(f"score must be a floating-point tensor, got {describe(score)}")
        if len(s):
            # Copies, because the caller may reuse its batch.
            self.score.append(s.detach().clone())
            self.correct.append(c.clone())

    def compute(self) -> Tensor:
        """The metric of all samples so far, of all processes, a float64 scalar on the CPU.

        Raises:
            ValueError: There is no sample yet.
        """
        samples = RankingAccumulator()
        for s, c in zip(_parts(self.score), _parts(self.correct), strict=True):
            samples.update(s, c.bool())
        return torch.tensor(samples.compute(self.metric), dtype=torch.float64)

    @property
    def higher_is_better(self) -> bool | None:
        """Whether a larger value is better; None for the mean confidence."""
        return HIGHER.get(self.metric)

    def extra_repr(self) -> str:
        """The metric's name."""
        return repr(self.metric)


def gather(part: Tensor, group: dist.ProcessGroup | None = None) -> list[Tensor]:
    """The parts of all processes, on the device of `part`.

    torchmetrics' own function needs one dtype in all processes, and a process without a sample has
    none. Here parts may differ in dtype and length.
    """
    parts: list[Tensor | None] = [None] * dist.get_world_size(group)
    dist.all_gather_object(parts, part.detach().cpu(), group=group)
    return [one.to(part.device) for one in parts if one is not None]


def _parts(state: Any) -> list[Tensor]:
    """The batches; after a sync torchmetrics has joined them into one tensor."""
    return [state] if isinstance(state, Tensor) else list(state)
