"""`rrfast score`: prediction, confidence and acceptance of every image, in a file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from rrfast._checks import check_count
from rrfast._device import chosen_device
from rrfast._machine import machine
from rrfast._processes import processes
from rrfast._results import write_json
from rrfast.inference.gallery import Gallery, GivenGallery
from rrfast.inference.given_model import channels_of, given_model
from rrfast.inference.given_threshold import (
    GivenThreshold,
    classifier_of,
    score_name,
    training_size,
)
from rrfast.inference.inputs import first_shape, is_encoded, open_images
from rrfast.inference.parts import Parts, Row
from rrfast.inference.score_parts import Job, score_parts, tried
from rrfast.inference.shards import Shards
from rrfast.inference.table_file import require_format, write_rows
from rrfast.scores import Score
from rrfast.selective.classifier import weights_hash

#: Number of failed images to name; the file lists all of them.
NAMED = 10


class Scoring(NamedTuple):
    """The result of `score`, including earlier runs that it continued."""

    images: int  #: number of rows
    failed: int  #: number of rows with an error
    errors: dict[str, str]  #: errors of the first ten of them, by image
    accepted: int | None  #: number of accepted rows; None without a threshold
    threshold: float | None
    how: str  #: how the threshold was chosen, in words


def score(
    model: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    weights: str | Path | None = None,
    classes: int | None = None,
    normalize: str | None = None,
    trust: bool = False,
    score: Score | str | None = None,
    threshold: float | None = None,
    coverage: float | None = None,
    reject_errors: float | None = None,
    target_risk: float | None = None,
    confidence: float | None = None,
    classifier: str | Path | None = None,
    batch: int = 128,
    part: int = 1000,
    size: int | None = None,
    channels: int | None = None,
    device: str | torch.device | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    gallery: str | Path | None = None,
    gallery_images: int = 100,
    class_names: str | Path | Sequence[str] | None = None,
    command: str = "",
    console: Console | None = None,
) -> Scoring:
    """Score a folder of images, shards or the rows of a .npy file into a table, a row per image.

    ==========  ====================================================================================
    column      content
    ==========  ====================================================================================
    image       relative path, or number of the row from 0; in a shard, SHARD/KEY.jpg or SHARD/ROW
    prediction  class; empty with an error
    rival       class that the prediction changes to, as in `rrfast.RadiusResult`; for a score of
                the logits the runner-up; empty with an error, and if no change was found
    NAME        the score, by its name in `rrfast.scores.SCORES`, with "+eps" behind it if it is
                within `rrfast.scores.Preprocessed`; larger = more confident; a radius in units of
                pixels in [0, 1], inf if no change of the prediction was found; empty with an error,
                and never NaN
    accept      whether the score is at least the threshold, false with an error; empty without a
                threshold
    error       empty, or a sentence: an image that cannot be read, has another shape than the
                first readable one, or has pixels outside [0, 1] (.npy); or the model's score is
                NaN; of a shard that cannot be read to its end, in a row named after the shard
    ==========  ====================================================================================

    Rows are made in parts, in the folder OUT.parts; each part is written completely or not at all.
    An interrupted run continues when called with the same arguments, in any number of processes.
    The file is then the same to the byte, if the device's results are reproducible (a CPU's are,
    with the same number of threads). Under torchrun, part i is computed by process i mod the number
    of processes. When all parts are there, the first process writes `out`, and OUT.json next to it:
    device, versions, model, score, threshold and how it was chosen.

    Args:
        model: The folder of a training, or a specification of `rrfast.models.load_model`.
        source: A folder, a .npy file or shards, as for `rrfast.inference.inputs.open_images`.
        out: A file that ends in .csv or .parquet (`rrfast.inference.table_file`); its folder is
            created.
        weights: As for `given_model`.
        classes: As for `given_model`.
        normalize: As for `given_model`.
        trust: As for `given_model`.
        score: A score, or a name in `SCORES`; None: the score of `classifier`, or MSR. With
            `classifier` it must be of the same kind; the hyper-parameters come from the file.
        threshold: Accept if the score is at least this.
        coverage: As for `SelectiveClassifier.fit`, on the validation split of the model's training.
            At most one of `threshold`, `coverage`, `reject_errors`, `target_risk` and `classifier`
            may be given. A continued run keeps its threshold.
        reject_errors: As `coverage`.
        target_risk: As `coverage`.
        confidence: As `coverage`, for `target_risk`. It does not hold for weights "best", which
            were chosen on the same split, and the result says so.
        classifier: A file with the state_dict of an `rrfast.SelectiveClassifier`: its weights, its
            score and its threshold are used (`given_threshold.load_classifier`).
        batch: Images per call of the score.
        part: Images per part: the most that is lost when a process is killed. Of shards, each is a
            part, whatever this is.
        size: Side in pixels to which encoded images are scaled; None: the side of the
            training if that used a folder of images, else their own. A threshold holds only for
            images of the shape on which it was chosen. Another shape is refused if that shape is
            known, from a target or from the provenance of a `classifier`.
        channels: Channels of encoded images, 1 or 3; None: 3 if the training used a folder
            of images, else those of the model's normalization or first convolution, and 3 if it has
            neither.
        device: Default: CUDA if available, one GPU per process.
        workers: Processes that read images, each a shard at a time; 0: this one. None: 0 for fewer
            than 2,000 images, for one shard, or on one or two cores, else half of the cores of each
            process, at most 8.
        overwrite: Replace an existing `out`, which stays until the new one is complete. The same
            holds for `gallery`.
        gallery: An HTML file to write in addition to the table: thumbnails of the model's inputs,
            least confident first, with accepted and rejected images in separate sections. It needs
            no other file.
        gallery_images: The number of least confident images that the page shows of the accepted and
            of the rejected ones, with a tenth as many of the most confident; also the number of
            images without a score. The page says how many it leaves out. Only the images shown are
            read a second time.
        class_names: Names of the classes on the page: a list, or a file with one name per line (see
            `rrfast.inference.gallery.GivenGallery`). An image in a sub-folder of `source`
            with the name of a class has that label, and the page marks predictions that differ from
            it.
        command: The command that OUT.json names as its origin.
        console: For the progress bar; default standard output.

    Returns:
        Scoring(images, failed, errors, accepted, threshold, how), the same in every process.

    Raises:
        BlockingIOError: Another run is writing `out`.
        ChildProcessError: Another process was killed.
        FileExistsError: `out` or `gallery` exists, and `overwrite` is False.
        FileNotFoundError: `source` has no image, or a file is missing.
        ImportError: Pillow, pyarrow, webdataset, safetensors or jinja2 is needed and not installed.
        TypeError, ValueError: An argument is invalid; the model does not take such images; the work
            in OUT.parts was begun with other arguments, images or weights; or the processes' inputs
            differ.

    Cost: the score per image. Each image is read once, the first one again in every process, and
    those of the gallery once more. Memory: of shards, per process that reads, two batches of images
    and the rows of its shard, whatever their number; of a folder, also the names of all files.

    Example:
        >>> import tempfile, numpy as np
        >>> from rrfast.data import digits
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/x.npy", digits().test.x[:3].numpy())
        ...     done = score(
        ...         "rrfast.models:digits_cnn", f"{folder}/x.npy", f"{folder}/scores.csv",
        ...         threshold=2.0, console=Console(quiet=True),
        ...     )
        ...     print(Path(folder, "scores.csv").read_text().splitlines()[0])
        image,prediction,rival,msr,accept,error
        >>> done.images, done.failed
        (3, 0)
    """
    began, out, console = time.perf_counter(), Path(out), console or Console()
    check_count("batch", batch)
    check_count("part", part)
    check_count("workers", 0 if workers is None else workers, least=0)
    file = None if gallery is None else Path(gallery)
    page = GivenGallery(out=file, shown=gallery_images, class_names=class_names)
    given = GivenThreshold(
        threshold=threshold,
        coverage=coverage,
        reject_errors=reject_errors,
        target_risk=target_risk,
        confidence=confidence,
        classifier=classifier,
    )
    load = {"weights": weights, "classes": classes, "normalize": normalize, "trust": trust}
    asked = _Asked(
        str(model), load, source, size, channels, score, device, batch, part, given, page
    )
    with processes() as group, contextlib.ExitStack() as held:
        job = group.everywhere(partial(asked.prepared, out, overwrite=overwrite))
        group.agree(job.pinned)
        group.first(lambda: held.enter_context(job.parts.alone(overwrite=overwrite)))
        choose = partial(
            given.choose, job.classifier, job.recipe, str(weights or "last"), job.shape
        )
        begun = group.first(lambda: job.parts.begin(job.pinned, choose))
        value = _set_threshold(job, begun, console if group.rank == 0 else None)
        group.everywhere(lambda: score_parts(job, group, batch, workers, value, console))
        run = {"command": command, **machine(job.device), "processes": group.world}
        return group.first(lambda: _finish(job, out, asked, begun, run, began))


@dataclass(frozen=True)
class _Asked:
    """The arguments of `score` that decide what stands in a row, in their order there."""

    model: str
    load: dict[str, Any]  #: further arguments of `given_model`
    source: str | Path
    size: int | None
    channels: int | None
    score: Score | str | None
    device: str | torch.device | None
    batch: int
    part: int
    given: GivenThreshold
    page: GivenGallery

    def prepared(self, out: Path, *, overwrite: bool) -> Job:
        """Model, images and parts, all that is wrong said before hours of work."""
        require_format(out)
        self.page.require()
        # The number of images is not known yet, and does not matter here.
        Parts(out, 0, self.part, self.page.out).check_out(overwrite=overwrite)
        net, recipe = given_model(self.model, **self.load)
        self.given.check_recipe(recipe, Path(self.model), trust=self.load["trust"])
        encoded = is_encoded(Path(self.source))
        trained = training_size(recipe) if encoded else None
        side = trained if self.size is None else self.size
        # First the channels, then the images, then everything that takes seconds.
        wanted = self.channels
        if wanted is None and encoded:
            wanted = channels_of(net) if trained is None else 3
        images = open_images(self.source, channels=wanted, size=side)
        where = chosen_device(self.device)
        chosen = classifier_of(net, self.score, self.given.classifier).to(where)
        shape = first_shape(images)
        if shape is not None:  # an error with the first image would occur with all
            x = torch.full((1, *shape), 0.5, device=where)
            tried(chosen, x, like=", like the first image of the input")
        self.given.check_shape(chosen, shape)
        shards = isinstance(images, Shards)
        kind = "shards of" if shards else "of"
        pinned = {
            "images": f"{len(images)} {kind} fingerprint {images.fingerprint()}",
            "model": [self.model, self.load["classes"], self.load["normalize"]],
            "weights": weights_hash(chosen.model),
            "score": repr(chosen.score),
            # With everything that the score consists of, and the threshold of a file.
            "classifier": weights_hash(chosen),
            "threshold": self.given.pinned(),
            "columns": list(Row._fields),
            "shape": shape,
            "size": side,
            "batch": self.batch,
            "part": self.part,
            "device": where.type,
            "versions": {name: version(name) for name in ("rrfast", "torch")},
        }
        size = 1 if shards else self.part
        parts = Parts(out, len(images), size, self.page.out, shards=shards)
        names = self.page.names(chosen, shape, recipe)
        return Job(images, shape, chosen, where, recipe, parts, pinned, names)


def _set_threshold(job: Job, begun: dict[str, Any], console: Console | None) -> float | None:
    """The threshold as a number, in the classifier too, and said on a console."""
    if begun["threshold"] is None:
        return None
    value = float(begun["threshold"])
    job.classifier.threshold.fill_(value)
    if console is not None:
        told = f"Threshold {value:.6g}: {begun['how']}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)
    return value


def _finish(
    job: Job, out: Path, asked: _Asked, begun: dict[str, Any], run: dict[str, Any], began: float
) -> Scoring:
    """Write the table, gallery and OUT.json from the complete parts, then delete the parts."""
    page, run = asked.page, run | {"model": asked.model, "input": str(asked.source)}
    value = None if begun["threshold"] is None else float(begun["threshold"])
    column = score_name(job.classifier.score)
    tally = _Tally()
    shown = Gallery(page.shown, job.names, asked=value is not None)
    rows = tally.watch(job.parts.rows())
    write_rows(out, column, rows if page.out is None else shown.watch(rows))
    done = tally.scoring(value, begun["how"])
    if page.out is not None:
        shown.write(page.out, job.images, column, run | done._asdict())
    result = {
        **run,
        "column": column,
        "threshold": begun,
        **{name: getattr(done, name) for name in ("images", "failed", "accepted")},
        # Time of this run only, without the runs that it continued.
        "seconds": time.perf_counter() - began,
        "pinned": job.pinned,
    }
    write_json(out.with_name(f"{out.name}.json"), result)
    job.parts.remove()
    return done


class _Tally:
    """Counts over the rows on their way to the file."""

    def __init__(self) -> None:
        self._images = self._failed = self._accepted = 0
        self._errors: dict[str, str] = {}

    def watch(self, parts: Iterator[list[Row]]) -> Iterator[list[Row]]:
        """Yield the same parts."""
        for rows in parts:
            for row in rows:
                self._images += 1
                self._accepted += row.accept is True
                if row.error is not None:
                    self._failed += 1
                    if len(self._errors) < NAMED:
                        self._errors[row.image] = row.error
            yield rows

    def scoring(self, threshold: float | None, how: str) -> Scoring:
        """The counts."""
        accepted = None if threshold is None else self._accepted
        return Scoring(self._images, self._failed, self._errors, accepted, threshold, how)
