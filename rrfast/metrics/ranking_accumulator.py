"""Metrics over batches, shards and processes."""

from __future__ import annotations

from typing import overload

import torch
import torch.distributed as dist
from torch import Tensor

from rrfast.metrics.ranking import check, rank
from rrfast.metrics.registry import METRICS, Metric, find


class RankingAccumulator:
    """Collects scores and answers batch by batch, and computes metrics of all of them at once.

    Ranking metrics cannot be averaged over batches, so it keeps every score and every answer on the
    CPU: the score's size plus one byte per sample, 5 bytes for float32 (5 MB per million),
    unrounded. Batches of different floating dtypes may be mixed, and so may integer dtypes; they
    are compared in the larger dtype. The two kinds may not be mixed, because not every int64 is a
    float64.

    Source: errata 11: the same numbers, however the data is divided.

    Example:
        >>> batches = RankingAccumulator()
        >>> batches.update([0.9, 0.4], [True, True])
        >>> batches.update([0.8, 0.3], [False, True])
        >>> len(batches), batches.compute("accuracy")
        (4, 0.75)
        >>> {name: round(value, 3) for name, value in batches.compute(["auroc", "aurc"]).items()}
        {'auroc': 0.333, 'aurc': 0.271}
    """

    def __init__(self) -> None:
        self._score: list[Tensor] = []
        self._correct: list[Tensor] = []

    def __len__(self) -> int:
        """The number of samples so far."""
        return sum(map(len, self._score))

    def update(self, score: object, correct: object) -> None:
        """Add a batch; an empty one adds nothing.

        This copies to the CPU, and so waits for the device.

        Args:
            score: [n] real numbers, larger = more confident.
            correct: [n] booleans, True where the prediction is right.

        Raises:
            TypeError: `score` is not real numbers, `correct` is not boolean, or integers come after
                floating numbers or the reverse.
            ValueError: Scores and answers not of one shape [n], or NaN among the scores.
        """
        s, c = check(score, correct, empty=True)
        if len(s) == 0:
            return
        if self._score and self._score[0].is_floating_point() != s.is_floating_point():
            was, comes = (str(x.dtype).removeprefix("torch.") for x in (self._score[0], s))
            raise TypeError(
                f"score must stay floating or stay integer over all batches, got {comes} "
                f"after {was}"
            )
        # Copies, because the caller may reuse its batch.
        self._score.append(torch.empty_like(s, device="cpu").copy_(s))
        self._correct.append(torch.empty_like(c, device="cpu").copy_(c))

    @overload
    def compute(self, metrics: str | Metric) -> float: ...
    @overload
    def compute(self, metrics: list[str] | tuple[str, ...] | None = ...) -> dict[str, float]: ...
    def compute(
        self, metrics: str | Metric | list[str] | tuple[str, ...] | None = None
    ) -> float | dict[str, float]:
        """Metrics of all samples so far, whatever the order of batches; one sort for all.

        Args:
            metrics: A name in `METRICS` or a metric, which gives a number; or several names, by
                default all of `METRICS`, which give a dictionary. A metric is called with a
                `Ranking` and None, as by `bootstrap`.

        Raises:
            ValueError: There is no sample yet, or no metric with that name.
        """
        score, correct = self._joined()
        ranking = rank(score, correct)
        if isinstance(metrics, str) or callable(metrics):
            return find(metrics)(ranking, None)
        return {
            name: find(name)(ranking, None) for name in (METRICS if metrics is None else metrics)
        }

    def merge(self, other: RankingAccumulator) -> None:
        """Add the samples of another accumulator, which keeps them too.

        Raises:
            TypeError: One has integer scores and the other floating ones.
        """
        for score, correct in zip(list(other._score), list(other._correct), strict=True):
            self.update(score, correct)

    def gather(self, group: dist.ProcessGroup | None = None) -> RankingAccumulator:
        """A new accumulator with the samples of all processes of `group`, the same on each process.

        Every process must call it; they may have different numbers of samples, or none. Without an
        initialised `torch.distributed` it is a copy. A `DistributedSampler` that pads repeats
        samples, which then count twice: give it `drop_last=True` or divide the data yourself.

        Args:
            group: The processes, all of them by default. With NCCL the samples pass over the
                current CUDA device.
        """
        whole = RankingAccumulator()
        shards = [self.state_dict()]
        if dist.is_available() and dist.is_initialized():
            # As objects, which have their own lengths and dtypes, so that shards may differ or be
            # empty.
            gathered: list[dict[str, Tensor] | None] = [None] * dist.get_world_size(group)
            dist.all_gather_object(gathered, shards[0], group=group)
            shards = [shard for shard in gathered if shard is not None]
        for shard in shards:
            whole.update(shard["score"], shard["correct"])
        return whole

    def reset(self) -> None:
        """Remove all samples."""
        self._score.clear()
        self._correct.clear()

    def state_dict(self) -> dict[str, Tensor]:
        """`score` [n] and `correct` [n] on the CPU, for saving."""
        score, correct = self._joined()
        return {"score": score, "correct": correct}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Replace the samples by those of a `state_dict`.

        Raises:
            KeyError: `state` lacks `score` or `correct`.
            TypeError: As `update`.
            ValueError: As `update`.
        """
        loaded = RankingAccumulator()
        loaded.update(state["score"], state["correct"])
        self._score, self._correct = loaded._score, loaded._correct

    def _joined(self) -> tuple[Tensor, Tensor]:
        if not self._score:
            return torch.empty(0), torch.empty(0, dtype=torch.bool)
        return torch.cat(self._score), torch.cat(self._correct)
