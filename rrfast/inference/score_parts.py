"""The parts of a table of scores that one process makes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from rrfast._errors import first_line
from rrfast._processes import Processes
from rrfast._progress import bars
from rrfast.inference.inputs import Chunk, Images, Read, Reads, Shape, ShardReads, collate
from rrfast.inference.parts import Parts, Row
from rrfast.inference.shards import Shards
from rrfast.selective import SelectiveClassifier

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

    from rrfast.train.recipe_file import Recipe

#: Images for which processes that read them are worth their start.
MANY = 2000
#: Seconds below which there is nothing to say of speed.
BRIEF = 2.0
NAN = "the model's score is NaN: a logit or a gradient is NaN or has overflowed"


@dataclass(frozen=True)
class Job:
    """The inputs of every process."""

    images: Images | Shards
    shape: Shape | None
    classifier: SelectiveClassifier
    device: torch.device
    recipe: Recipe | None
    parts: Parts
    pinned: dict[str, Any]
    names: list[str] | None  #: names of the classes, for a gallery


def score_parts(
    job: Job,
    group: Processes,
    batch: int,
    workers: int | None,
    threshold: float | None,
    console: Console,
) -> None:
    """Score and write the parts of this process that are missing.

    `batch` are the images per call of the score, `workers` the processes that read them, by
    `_readers` if None. The classifier of the job has its `threshold`, None for no decision.
    """
    mine = [part for part in job.parts.missing() if part % group.world == group.rank]
    images: int | None = None  # of shards nobody knows how many
    if isinstance(job.images, Shards):
        if workers is None:
            workers = min(_readers(MANY, group.world), len(mine)) if len(mine) > 1 else 0
        chunks = _of_shards(job, job.images, mine, batch, workers)
    else:
        images = sum(len(job.parts.indices(part)) for part in mine)
        workers = _readers(images, group.world) if workers is None else workers
        chunks = _of_images(job, job.images, mine, batch, workers)
    rows: dict[int, list[Row]] = {part: [] for part in mine}
    with _Bar(console, group, images) as bar:
        while rows:
            chunk = bar.read(chunks)
            rows[chunk.part] += _rows(job, chunk.names, chunk.read, threshold is not None)
            if chunk.last:
                job.parts.write(chunk.part, rows.pop(chunk.part))
            bar.advance(len(chunk.names))


def _of_images(
    job: Job, images: Images, mine: list[int], batch: int, workers: int
) -> Iterator[Chunk]:
    """The images of these parts. No batch crosses the end of one: a row does not depend on them."""
    plan = []
    for part in mine:
        indices = job.parts.indices(part)
        every = (indices[i : i + batch] for i in range(0, len(indices), batch))
        plan += [(part, few, few.stop == indices.stop) for few in every]
    reads = iter(
        DataLoader(
            Reads(images, job.shape),
            batch_sampler=[list(few) for _, few, _ in plan],
            collate_fn=collate,
            num_workers=workers,
            # Its own generator: the loader draws a seed for the workers, and must not change the
            # caller's random state.
            generator=torch.Generator(),
        )
    )
    return (
        Chunk(part, [images.name(i) for i in few], read, last)
        for (part, few, last), read in zip(plan, reads, strict=True)
    )


def _of_shards(
    job: Job, shards: Shards, mine: list[int], batch: int, workers: int
) -> Iterator[Chunk]:
    """The images of these shards, each of which is a part."""
    loader = DataLoader(
        ShardReads(shards, mine, batch, job.shape),
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator(),  # as above
    )
    return iter(loader)


def _readers(images: int, processes: int) -> int:
    """Processes that read images; none where few images or cores do not repay starting them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return 0 if images < MANY or (cores or 1) <= 2 else min(8, (cores or 1) // (2 * processes))


def decided(classifier: SelectiveClassifier, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """[B] each: prediction, rival or -1, confidence in float64, and whether it is accepted."""
    scored = classifier.score.measure(classifier.model, x, ({},))
    prediction, confidence, accept = classifier.selection(scored)
    rivals = scored.rivals()
    rival = torch.full_like(prediction, -1) if rivals is None else rivals[0]
    return prediction, rival, confidence.double(), accept


def tried(classifier: SelectiveClassifier, x: Tensor, like: str = "") -> tuple[Tensor, ...]:
    """As `decided`; an error is a ValueError that says it is with images of this shape, `like`."""
    try:
        return decided(classifier, x)
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"the model, with the score {classifier.score!r}, must take images of shape "
            f"{list(x.shape[1:])}{like}, and does not: {first_line(error)}"
        ) from error


def _rows(job: Job, names: list[str], read: Read, asked: bool) -> Iterator[Row]:
    values: Iterator[tuple[int, int, float, bool]] = iter(())
    if read.x is not None:
        found = decided(job.classifier, read.x.to(job.device))
        values = zip(*(part.tolist() for part in found), strict=True)
    no = False if asked else None
    for name, error in zip(names, read.errors, strict=True):
        if error is not None:
            yield Row(name, None, None, None, no, error)
            continue
        predicted, other, trust, accepted = next(values)
        if math.isnan(trust):
            # Not NaN, which databases sort as the largest number.
            yield Row(name, None, None, None, no, NAN)
        else:
            known = None if other < 0 else other
            yield Row(name, predicted, known, trust, accepted if asked else None, None)


class _Bar:
    """Images, images per second and the time left, of the first process; and what bounds them."""

    def __init__(self, console: Console, group: Processes, images: int | None) -> None:
        total = "" if images is None else " of {task.total}"
        state = f"{{task.completed}}{total} images{{task.fields[rate]}}"
        self._progress = bars(console, state, shown=group.rank == 0)
        name = f"process 1 of {group.world}" if group.world > 1 else "score"
        self._task = self._progress.add_task(name, total=images, rate="")
        self._since = time.perf_counter()
        self._done, self._waited = 0, 0.0
        self._console = console if group.rank == 0 else None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        seconds = time.perf_counter() - self._since
        if self._console is not None and seconds > BRIEF and self._done:
            self._console.print(
                f"{self._done:,} images in {seconds:.0f} s: {self._done / seconds:.3g} images/s, "
                f"{100 * self._waited / seconds:.0f} % of the time waiting for images to be read"
            )

    def read(self, chunks: Iterator[Chunk]) -> Chunk:
        """The next batch, and how long it was waited for."""
        begun = time.perf_counter()
        chunk = next(chunks)
        self._waited += time.perf_counter() - begun
        return chunk

    def advance(self, images: int) -> None:
        """After a batch."""
        self._done += images
        rate = self._done / (time.perf_counter() - self._since)
        self._progress.update(self._task, completed=self._done, rate=f", {rate:.3g} images/s")
