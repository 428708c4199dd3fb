"""`rrfast evaluate`: how well every score finds the errors of trained models (RAT §5)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rrfast._checks import check_count, check_once, check_one_of
from rrfast._tables import SHOWN, settings
from rrfast.data import CORRUPTIONS, cifar10c
from rrfast.data.splits import DRAWN, PROTOCOLS, SPLITS, Division, Part, tested_on
from rrfast.data.tasks import Task
from rrfast.evaluate.cache import Cache, of_score
from rrfast.evaluate.misd.appraisal import (
    EvaluationData,
    Options,
    again,
    corrupted,
    evaluate_score,
    gradient_auroc,
    grounds,
    on_one_clock,
    standing,
    train_accuracy,
    unpacked,
)
from rrfast.evaluate.misd.curves import curves, short, summaries
from rrfast.evaluate.misd.figures import figures
from rrfast.evaluate.misd.tables import blocks, conventions, notes
from rrfast.evaluate.observations import Row, at, ends
from rrfast.evaluate.study import Context, Frame, Study, run_study
from rrfast.evaluate.trained_model import TrainedModel
from rrfast.metrics import METRICS
from rrfast.scores import SCORES, Radius
from rrfast.scores.registry import score_named
from rrfast.scores.score import Point

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Scores of the logits, at the tuned temperature; and some of them after ODIN's step.
_LOGITS = tuple(name for name in SCORES if not name.startswith("radius"))
_STEPPED = ("msr+eps", "doctor_alpha+eps", "doctor_beta+eps", "relu+eps")
#: Sets of scores by name: those of RAT's Tables 2 and 3, and those that take only a few passes.
SETS = {
    "paper": ("msr+eps", "odin", "doctor_alpha+eps", "relu+eps", "radius_fast", "radius_bs"),
    "quick": (*_LOGITS, *_STEPPED, "radius_grad", "radius_fast", "radius_search"),
    "all": (
        *_LOGITS,
        *_STEPPED,
        *(name for name in SCORES if name.startswith("radius")),
    ),
}


def evaluate(
    trained_models: Sequence[TrainedModel],
    out: Path | str,
    *,
    scores: Sequence[str] = SETS["quick"],
    protocol: str = "heldout",
    corruptions: bool | Path | str = False,
    severity: int = 3,
    draws: int = 1000,
    sensitivity: bool = True,
    batch: int = 500,
    every_run: bool = False,
    study: Study | None = None,
    **frame: Unpack[Frame],
) -> dict[str, Any]:
    """Tune every score, measure how well it finds every model's errors, and write the results.

    Temperature, step and fitted matrices are chosen by AURC on images that are not used for the
    tables (`protocol`). Finished parts are kept in out/parts, score by score, and reused: more
    scores or models can be added, and an interrupted run continues.

    Args:
        trained_models: Trained models with their data, see `rrfast.evaluate.trained_models`.
        out: Folder for evaluation.json, evaluation.csv (a row per model, division and score, with
            every metric and its interval), evaluation.md and the figures.
        scores: Names as for `rrfast.scores.score_named`: those of `SCORES`, and names such as
            "msr+eps" with input pre-processing.
        protocol: "heldout": a validation split apart from the test split. "rat": a fifth of the
            test set, three times, the same images for all models (RAT §5.1); images of the test set
            that a training used for validation are included. For best weights, the table says that
            they were chosen on these images.
        corruptions: Also evaluate the test images under the 15 corruptions of CIFAR-10-C (RAT
            §5.6): True makes them; a folder holds CIFAR-10-C's files, for models trained on
            CIFAR-10. With the protocol "rat", on the first division.
        severity: Severity of the corruptions, 1 to 5.
        draws: Number of bootstrap draws for the intervals; 0 for none.
        sensitivity: Also compute the AURC at each temperature of RAT B.1 (§5.5).
        batch: Images per forward.
        every_run: Whether rows keep the curves of every run, of which figures draw the means alone:
            with fifteen corruptions and many scores these are megabytes.
        study: How the results are written, in files of its own name; default `STUDY`, with the
            tables and figures of the paper.
        **frame: `device`, `command` and `console`, as for `rrfast.evaluate.study.run_study`.

    Returns:
        What evaluation.json holds: `command`, `date`, `device`, `versions`, `options`, `data`,
        `scores`, and `runs`: a row per model, division and score, as from
        `rrfast.evaluate.misd.appraisal.evaluate_score` and `standing`, None for NaN. A row also has
        `network`, numbers on the model: its `train_accuracy` and, with a radius among the scores,
        its `gradient_auroc`; `chosen_on`, the number of images used for tuning and testing on which
        its weights were chosen; with `corruptions` the metrics under each of them; and
        `rrfast.evaluate.misd.curves.summaries`. Data that only figures use is in `curves` of that
        module instead, unless `every_run`.

    Raises:
        OSError: A file of CIFAR-10-C is missing.
        ValueError: There is no trained model or no score; a score is unknown or repeated; the
            protocol, severity or device is unknown; `draws` is not an integer of at least 0, or
            `batch` of at least 1; data lacks the splits that the protocol needs; and all errors of
            `run_study`.

    Source: RAT §5, B.1, B.3 to B.5; errata 10 to 12.
    """
    if not scores:
        raise ValueError("scores must hold at least one name, got none")
    for name in scores:
        score_named(name)
    check_once("scores", scores)
    if severity not in range(1, 6):
        raise ValueError(f"severity must be from 1 to 5, got {severity!r}")
    check_one_of("protocol", protocol, PROTOCOLS)
    check_count("draws", draws, least=0)
    check_count("batch", batch)
    how = Options(batch=batch, draws=draws, sensitivity=sensitivity)
    asked = _Asked(tuple(scores), protocol, corruptions, severity, how)
    drawn = {"drawn": DRAWN} if protocol == "rat" else {}
    return run_study(
        study or STUDY,
        trained_models,
        out,
        partial(_evaluated, asked=asked),
        steps=(SPLITS if protocol == "rat" else 1) * len(scores)
        + len(CORRUPTIONS) * bool(corruptions),
        options={
            "protocol": protocol,
            "corruptions": bool(corruptions),
            "severity": severity,
            **how._asdict(),
        },
        depends={"protocol": protocol, **how._asdict(), **drawn},
        asked={"scores": list(scores)},
        every_run=every_run,
        **frame,
    )


class _Asked(NamedTuple):
    """Options that are the same for every model."""

    scores: tuple[str, ...]
    protocol: str
    corruptions: bool | Path | str
    severity: int
    options: Options


# -------------------------------------------------------------------------------------- one model


def _evaluated(context: Context, asked: _Asked) -> list[dict[str, Any]]:
    """The rows of one model: a row per division and score."""
    trained, task, cache = context.trained, context.task, context.cache
    if not isinstance(asked.corruptions, bool) and task.released is None:
        raise ValueError(
            f"corruptions must be made here for this data, got the folder {asked.corruptions}: "
            "CIFAR-10-C holds the test images of CIFAR-10"
        )
    if asked.protocol == "heldout" and task.validation is None:
        raise ValueError(
            "data must have a validation split to tune on, and has none; protocol='rat' "
            "(--tuning rat) tunes on a fifth of the test split"
        )
    chosen_on = tested_on(task, trained.checkpoint)[1] if asked.protocol == "rat" else 0
    task = task.undivided() if asked.protocol == "rat" else task
    rows: list[dict[str, Any]] = []
    how = (asked.protocol, trained.seed, context.device, asked.options.batch)
    for split, on in enumerate(grounds(context.model, task, *how)):
        said = {}
        for score in asked.scores:
            key = f"{split} {of_score(score)}"
            said[score] = dict(cache.get(key, evaluate_score, score, on, asked.options))
            context.advance()
        values = {score: unpacked(own.pop("values")) for score, own in said.items()}
        for own, milliseconds in zip(said.values(), on_one_clock([*said.values()]), strict=True):
            own["milliseconds"] = milliseconds
            del own["beside_msr"]
        key = f"{split} {' '.join(map(of_score, said))}: standing"
        stand = cache.get(key, standing, values, on, asked.options.draws)
        network = _network(split, on, task, asked, cache)
        who: Row = {"outliers": trained.outliers, "split": split}
        who |= {"chosen_on": chosen_on, "network": network}
        new = [{**who, "score": score, **own, **stand[score]} for score, own in said.items()]
        if asked.corruptions and split == 0:
            points = {row["score"]: row["hyperparameters"] for row in new}
            under = {}
            for kind in CORRUPTIONS:
                under[kind] = _under(kind, points, on, task, asked, cache)
                context.advance()
            for row in new:
                row["corruptions"] = {kind: found[row["score"]] for kind, found in under.items()}
        rows += new
    return [row | summaries(row) for row in rows]


def _network(
    split: int, on: EvaluationData, task: Task, asked: _Asked, cache: Cache
) -> dict[str, float | None]:
    """Numbers on the model itself; on its gradients only if a score needs them anyway."""
    batch = asked.options.batch
    accuracy = cache.get(f"{split} train_accuracy", train_accuracy, on, task.train, batch)
    found = {"train_accuracy": accuracy}
    if any(isinstance(score_named(name), Radius) for name in asked.scores):
        found["gradient_auroc"] = cache.get(f"{split} gradient_auroc", gradient_auroc, on, batch)
    return found


def _under(
    kind: str,
    points: dict[str, Point],
    on: EvaluationData,
    task: Task,
    asked: _Asked,
    cache: Cache,
) -> dict[str, Any]:
    """Every score at its point under one corruption; the missing ones are computed together."""
    # CIFAR-10-C's files hold other images than those made here.
    made_by = "" if isinstance(asked.corruptions, bool) else f" {Path(asked.corruptions).resolve()}"
    keys = {name: f"{of_score(name)} {kind} {asked.severity}{made_by}" for name in points}
    missing = [name for name in points if not cache.has(keys[name])]
    if missing:
        made = _released(kind, on.division, task, asked)
        scores = {name: again(name, points[name], on, asked.options) for name in missing}
        found = corrupted(kind, asked.severity, scores, on, asked.options, made)
        cache.put({keys[name]: said for name, said in found.items()})
    return {name: cache.get(key) for name, key in keys.items()}


def _released(kind: str, division: Division, task: Task, asked: _Asked) -> Part | None:
    """CIFAR-10-C's images of the test part; None if they are made here."""
    if isinstance(asked.corruptions, bool):
        return None
    assert task.released is not None  # checked by `_evaluated`
    places = task.released[division.test.indices]
    return Part(cifar10c(asked.corruptions, kind, asked.severity), places)


STUDY = Study(
    "evaluation",
    lambda result: f"Misclassification detection: {', '.join(result['data'])}",
    conventions,
    blocks,
    notes,
    figures,
    {
        **{name: at(name) for name in ("training", "seed", "split", "score")},
        "hyperparameters": lambda row: settings(row["hyperparameters"]),
        **{name: at(name) for name in ("images", "errors", *METRICS, "forwards", "backwards")},
        **ends(SHOWN, "intervals"),
    },
    {},
    curves,
    short,
)
