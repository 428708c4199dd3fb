"""`rrfast evaluate --protocol misd`: errors of trained models, found by every score (RAT §5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rrfast._tables import SHOWN, settings
from rrfast.data import CORRUPTIONS, cifar10c
from rrfast.data.splits import DRAWN, SPLITS, Division, Part, tested_on
from rrfast.data.tasks import Task
from rrfast.evaluate.cache import Cache, of_score, unpacked
from rrfast.evaluate.misd.curves import curves, short, summaries
from rrfast.evaluate.misd.figures import figures
from rrfast.evaluate.misd.measurements import (
    compared_with_msr,
    corrupted,
    evaluate_score,
    gradient_auroc,
    on_one_clock,
    train_accuracy,
)
from rrfast.evaluate.misd.tables import blocks, conventions, notes
from rrfast.evaluate.observations import Row, at, ends
from rrfast.evaluate.options import MisdOptions, with_options
from rrfast.evaluate.run_study import Context, run_study
from rrfast.evaluate.scored_model import ScoredModel, on_divisions, scores_named
from rrfast.evaluate.study import Study
from rrfast.evaluate.trained_model import TrainedModel
from rrfast.metrics import METRICS
from rrfast.scores import SCORES, Radius
from rrfast.scores.registry import score_named
from rrfast.scores.score import Point

#: Scores of the logits, at the tuned temperature; and some of them after ODIN's step.
_LOGITS = tuple(name for name in SCORES if not name.startswith("radius"))
_STEPPED = ("msr+eps", "doctor_alpha+eps", "doctor_beta+eps", "relu+eps")
#: Sets of scores by name: those of RAT's Tables 2 and 3, and those that take only a few passes.
SETS = {
    "paper": ("msr+eps", "odin", "doctor_alpha+eps", "relu+eps", "radius_fast", "radius_bs"),
    "quick": (*_LOGITS, *_STEPPED, "radius_grad", "radius_fast", "radius_search"),
    "all": (*_LOGITS, *_STEPPED, *(name for name in SCORES if name.startswith("radius"))),
}


@with_options(MisdOptions)
def evaluate(
    trained_models: Sequence[TrainedModel], out: Path | str, options: MisdOptions
) -> dict[str, Any]:
    """Tune every score, measure how well it finds every model's errors, and write the results.

    Temperature, step and fitted matrices are chosen by AURC on images that are not used for the
    tables (`tuning`). Finished parts are kept in out/parts, score by score, and reused: more scores
    or models can be added, and an interrupted run continues.

    Args:
        trained_models: Trained models with their data, see `rrfast.evaluate.trained_models`.
        out: Folder for evaluation.json, evaluation.csv (a row per model, division and score, with
            every metric and its interval), evaluation.md and the figures.
        options: The fields of `rrfast.evaluate.options.MisdOptions`, as keyword arguments.

    Returns:
        What evaluation.json holds: `command`, `date`, `device`, `versions`, `options`, `data`,
        `scores`, and `runs`: a row per model, division and score, as from `evaluate_score` and
        `compared_with_msr` of `rrfast.evaluate.misd.measurements`, None for NaN. A row also has
        `network`, numbers on the model: its `train_accuracy` and, with a radius among the scores,
        its `gradient_auroc`; `chosen_on`, the number of images used for tuning and testing on which
        its weights were chosen; with `corruptions` the metrics under each of them; and
        `rrfast.evaluate.misd.curves.summaries`. Data that only figures use is in `curves` of that
        module instead, unless `every_run`.

    Raises:
        OSError: A file of CIFAR-10-C is missing.
        TypeError, ValueError: As for the options; there is no trained model, a score is unknown, or
            data lacks the splits that the tuning needs; and all errors of `run_study`.

    Source: RAT §5, B.1, B.3 to B.5; errata 10 to 12.
    """
    return evaluate_as(STUDY, trained_models, out, options)


def evaluate_as(
    study: Study, trained_models: Sequence[TrainedModel], out: Path | str, options: MisdOptions
) -> dict[str, Any]:
    """As `evaluate`, with the results in files, tables and figures of another study."""
    options = replace(options, scores=scores_named(options.scores, SETS))
    tuning, scores = options.tuning, options.scores
    drawn = {"drawn": DRAWN} if tuning == "rat" else {}
    how = {name: getattr(options, name) for name in ("batch", "draws", "sensitivity")}
    return run_study(
        study,
        trained_models,
        out,
        partial(_evaluated, options=options),
        options,
        steps=(SPLITS if tuning == "rat" else 1) * len(scores)
        + len(CORRUPTIONS) * bool(options.corruptions),
        depends={"protocol": tuning, **how, **drawn},
        entries={"scores": list(scores)},
    )


# -------------------------------------------------------------------------------------- one model


def _evaluated(context: Context, options: MisdOptions) -> list[dict[str, Any]]:
    """The rows of one model: a row per division and score."""
    trained, task, cache = context.trained, context.task, context.cache
    if not isinstance(options.corruptions, bool) and task.released is None:
        raise ValueError(
            f"corruptions must be made here for this data, got the folder {options.corruptions}: "
            "CIFAR-10-C holds the test images of CIFAR-10"
        )
    if options.tuning == "heldout" and task.validation is None:
        raise ValueError(
            "data must have a validation split to tune on, and has none; tuning='rat' "
            "(--tuning rat) tunes on a fifth of the test split"
        )
    chosen_on = tested_on(task, trained.checkpoint)[1] if options.tuning == "rat" else 0
    task = task.undivided() if options.tuning == "rat" else task
    rows: list[dict[str, Any]] = []
    how = options.tuning, trained.seed, options.batch, context.device
    for split, on in enumerate(on_divisions(context.model, task, *how)):
        said = {}
        for score in options.scores:
            key = f"{split} {of_score(score)}"
            said[score] = dict(context.step(key, evaluate_score, score, on, options))
        values = {score: unpacked(own.pop("values")) for score, own in said.items()}
        for own, milliseconds in zip(said.values(), on_one_clock([*said.values()]), strict=True):
            own["milliseconds"] = milliseconds
            del own["beside_msr"]
        key = f"{split} {' '.join(map(of_score, said))}: standing"
        stand = cache.get(key, compared_with_msr, values, on, options.draws)
        network = _network(split, on, task, options, cache)
        who: Row = {"outliers": trained.outliers, "split": split}
        who |= {"chosen_on": chosen_on, "network": network}
        new = [{**who, "score": score, **own, **stand[score]} for score, own in said.items()]
        if options.corruptions and split == 0:
            points = {row["score"]: row["hyperparameters"] for row in new}
            under = {}
            for kind in CORRUPTIONS:
                under[kind] = _under(kind, points, on, task, options, cache)
                context.advance()
            for row in new:
                row["corruptions"] = {kind: found[row["score"]] for kind, found in under.items()}
        rows += new
    return [row | summaries(row) for row in rows]


def _network(
    split: int, on: ScoredModel, task: Task, options: MisdOptions, cache: Cache
) -> dict[str, float | None]:
    """Numbers on the model itself; on its gradients only if a score needs them anyway."""
    accuracy = cache.get(f"{split} train_accuracy", train_accuracy, on, task.train)
    found = {"train_accuracy": accuracy}
    if any(isinstance(score_named(name), Radius) for name in options.scores):
        found["gradient_auroc"] = cache.get(f"{split} gradient_auroc", gradient_auroc, on)
    return found


def _under(
    kind: str,
    points: dict[str, Point],
    on: ScoredModel,
    task: Task,
    options: MisdOptions,
    cache: Cache,
) -> dict[str, Any]:
    """Every score at its point under one corruption; the missing ones are computed together."""
    # CIFAR-10-C's files hold other images than those made here.
    made_by = (
        "" if isinstance(options.corruptions, bool) else f" {Path(options.corruptions).resolve()}"
    )
    keys = {name: f"{of_score(name)} {kind} {options.severity}{made_by}" for name in points}

    def make(missing: list[str]) -> dict[str, dict[str, float]]:
        scores = {name: on.at(name, points[name]) for name in missing}
        made = _released(kind, on.division, task, options)
        return corrupted(kind, options.severity, scores, on, made)

    return cache.together(keys, make)


def _released(kind: str, division: Division, task: Task, options: MisdOptions) -> Part | None:
    """CIFAR-10-C's images of the test part; None if they are made here."""
    if isinstance(options.corruptions, bool):
        return None
    assert task.released is not None  # checked by `_evaluated`
    places = task.released[division.test.indices]
    return Part(cifar10c(options.corruptions, kind, options.severity), places)


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
