"""`rrfast.compare`: scores compared on labelled data of the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rrfast._checks import check_bool, check_labels, check_once, check_one_of, describe
from rrfast._processes import FromFirst, once, sharing
from rrfast._progress import batches_bar
from rrfast._seeds import seeded
from rrfast.engine import Engine, Model
from rrfast.engine.modules_inside import device_of
from rrfast.metrics import METRICS
from rrfast.metrics.resampling import check_resampling
from rrfast.scores import SCORES
from rrfast.scores.apart import Apart
from rrfast.scores.batches import of_each
from rrfast.scores.comparison_report import Comparison, Row
from rrfast.scores.cost import Cost, costs_of
from rrfast.scores.logit_score import LogitScore
from rrfast.scores.registry import as_score
from rrfast.scores.score import Point, Score
from rrfast.scores.standing import HIGHER, Candidate, Standing, standings, to_take
from rrfast.scores.tuning import best_of, grid_points

#: The scores compared by default: every score of the logits that need not be fitted, and the radii
#: that take few passes.
COMPARED = (
    *(name for name, score in SCORES.items() if isinstance(score, LogitScore) and score.fitted),
    *("radius_grad", "radius_fast", "radius_search"),
)
#: Metrics that may decide: for these the stated error rate holds. It does not for FPR95, see
#: `paired_bootstrap`.
DECIDING = ("aurc", "augrc", "auroc")
#: Seconds before a progress bar is shown.
_QUIET = 2.0
#: Rows of logits that a score is computed from at a time.
_ROWS = 4096


def compare(
    model: Model,
    loader: Iterable[Any],
    scores: Sequence[str | Score] | Mapping[str, str | Score] = COMPARED,
    *,
    tune_on: Iterable[Any] | None = None,
    metric: str = "aurc",
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    timing: bool = True,
    progress: bool = True,
    share: bool = False,
) -> Comparison:
    """Find the cheapest score that finds this model's errors as well as any other.

    Hyper-parameters (`Score.grids`) are tuned by `metric` on one half of the data, and every number
    is computed on the other half. The halves are random, with half of the errors and half of the
    right predictions each. A score's own hyper-parameters are tried too, and stay if no others are
    better. A score that must be fitted is fitted on one half of the tuning half, and tuned on the
    other half of it.

    The differences have intervals that hold for all pairs of scores at once
    (`rrfast.metrics.paired_bootstrap`): if all scores were equally good, the probability that any
    is called better or worse would be at most 1 - `level`, whatever their number. This holds for
    `metric`, which decides; each other metric has its own family of intervals. The best score is
    the one with the fewest passes among those that no other beats beyond its interval; among
    equals, the one with fewer hyper-parameters to tune, then the first given. The choice makes its
    numbers on the test half slightly too good: for a number that you promise, use a third data set,
    or `SelectiveClassifier.fit` with `confidence` on one.

    Args:
        model: Maps [B, ...] to logits [B, K >= 2], or to an object with such `.logits`. Runs in
            eval mode with frozen parameters; its state is restored.
        loader: Yields (x [B, ...], y [B]), data that the model was not trained on. It is read once,
            so it may be a generator, shuffle and augment. A sample that occurs twice may be in both
            halves.
        scores: Names as for `rrfast.scores.score_named` ("msr+eps" is MSR with input
            pre-processing) or score objects, which may be fitted; or a mapping from your own names
            to these. MSR is always added.
        tune_on: Other labelled data to tune on, of the same form; then all of `loader` tests. A
            warning says how many samples of `loader` are in it too, by their bits.
        metric: The metric for tuning, order and decision: "aurc", "augrc" or "auroc".
        draws: Number of bootstrap draws, at least 2.
        level: Level of the intervals, in (0, 1).
        seed: Seed of the halves and the draws: the same data in the same order give the same
            numbers, except times.
        timing: Also measure the time per image: the scores take turns on the first batch.
        progress: Show batches and images per second on stderr after two seconds, if that is a
            terminal.
        share: Whether the processes of torchrun, or of the existing process group, share the
            batches. Then all of them must call this function, and get the same result: that of one
            process with as many threads, except times. Only the `loader` and the `tune_on` of the
            first process are read. An error in one process ends all.

    Returns:
        A `Comparison`: it prints a sentence and a table; `best` is a fitted and tuned `Score` for
            `rrfast.SelectiveClassifier(model, result.best)`; `table` is a list of `Row`; `plot()`
            makes a figure. If there is no error, or no right prediction, undefined numbers are NaN
            and the cheapest score is the best. A score that is NaN on some sample has NaN numbers
            and is never the best.

    Raises:
        ChildProcessError: With `share`, another process was killed.
        TypeError: `loader` yields anything but pairs of tensors, or another argument has another
            type.
        ValueError: An unknown score or metric, a name twice, `draws` or `level` out of range, no
            sample, a label that is not a class, `tune_on` is `loader` or has the same samples; a
            logit is NaN or the largest logit infinite; or a score must be fitted and there
            are too few samples, or it is not a score of the logits: fit it first, on other data.

    Cost: per image of `loader` one forward for all scores of the logits together; for each other
    score its passes at its own hyper-parameters and at all points of its grid, because the halves
    are drawn at the end. With the default scores this is 102 forwards and 33 backwards. With
    `tune_on` only its images take these passes; those of `loader` take 10 forwards and 3 backwards.
    It also takes a digest of every sample, about a second per GB, and 0.1 KB of memory for each.
    Timing takes about a second more, then comes the bootstrap. Memory: a number per score,
    point and image, 0.8 KB per image with the default scores; one batch; and the logits if a score
    must be fitted. Other inputs are not kept.

    Example:
        >>> from rrfast.data import digits
        >>> from rrfast.models import digits_cnn
        >>> test = digits().test
        >>> loader = zip(test.x.split(200), test.y.split(200))
        >>> result = compare(digits_cnn(), loader, ["max_logit", "radius_grad"], draws=100)
        >>> sorted(row.name for row in result.table if row.forwards + row.backwards == 1)
        ['max_logit', 'msr']
        >>> result.best in [row.score for row in result.table]
        True
    """
    contestants = _contestants(scores)
    check_one_of("metric", metric, DECIDING)
    check_resampling(draws, level, seed, least=2)
    _check_flags(timing=timing, progress=progress, share=share)
    apart = Apart(loader, tune_on, "which is tested on")
    points = {name: _points(name, score) for name, score in contestants.items()}

    with sharing() if share else nullcontext() as group:

        def seen_on(
            name: str, scores: Mapping[str, Score], points: Mapping[str, Sequence[Point]]
        ) -> _Seen:
            read = apart.data[name] if group is None else FromFirst(apart.data[name], group)
            return _seen(model, read, name, scores, points, progress)

        two = once(apart.two)  # what other processes were given is not read
        seen = seen_on("tune_on" if two else "loader", contestants, points)
        generator = seeded(seed)
        tuning = testing = torch.arange(len(seen.correct))
        if not two:
            tuning, testing = _halves(seen.correct, tuning, generator)
        tuned = {
            name: _tuned(name, score, points[name], seen, tuning, metric, generator)
            for name, score in contestants.items()
        }
        if not two:
            values = {name: found.values[testing] for name, found in tuned.items()}
            batch, correct = seen.batch, seen.correct[testing]
        else:
            final = {name: found.score for name, found in tuned.items()}
            test = seen_on("loader", final, dict.fromkeys(final, ({},)))
            once(apart.check)
            apart.warn()  # in the first process: the others have noted nothing
            values = {name: found[0] for name, found in test.values.items()}
            batch, correct = test.batch, test.correct
        costs, noise = once(
            lambda: costs_of(model, batch, {n: t.score for n, t in tuned.items()}, timing)
        )
        stand = once(lambda: standings(values, correct, metric, draws, level, seed))
    rows = _rows(tuned, stand, costs, metric)
    standing = {row.name: row for row in rows}
    name = to_take(
        Candidate(name, row.beaten or row.nan > 0, row.passes, len(contestants[name].grids))
        for name, row in ((name, standing[name]) for name in contestants)
    )
    confidence = torch.stack([values[row.name] for row in rows])
    return Comparison(
        rows, name, metric, level, draws, len(tuning), len(batch), noise, confidence, correct
    )


def _check_flags(**flags: object) -> None:
    for name, flag in flags.items():
        check_bool(name, flag)


def _contestants(scores: object) -> dict[str, Score]:
    """The scores by name; MSR is the first."""
    if isinstance(scores, str) or not isinstance(scores, (Sequence, Mapping)):
        raise TypeError(f"scores must be several names or scores, got {describe(scores)}")
    given = list(scores.items()) if isinstance(scores, Mapping) else [(None, s) for s in scores]
    for name, _ in given:
        if name is not None and not (isinstance(name, str) and name):
            raise TypeError(f"scores must have text as keys, their names, got {describe(name)}")
    known = {repr(score): name for name, score in SCORES.items()}
    meant = [as_score(score) for _, score in given]
    names = [
        name or known.get(repr(score), told if isinstance(told, str) else repr(score))
        for score, (name, told) in zip(meant, given, strict=True)
    ]
    check_once("scores", names)
    found = dict(zip(names, meant, strict=True))
    if repr(found.get("msr", SCORES["msr"])) != repr(SCORES["msr"]):
        raise ValueError(f"the score named msr must be MSR, got {describe(found['msr'])}")
    return {"msr": SCORES["msr"], **found}


def _points(name: str, score: Score) -> list[dict[str, float]]:
    """A score's own hyper-parameters, and those of its grids."""
    if not (score.fitted or isinstance(score, LogitScore)):
        raise ValueError(
            f"{name} must be fitted before it is compared, because it is not a score of the "
            "logits: give score.fit(model, data), with data that is not in loader"
        )
    return [{}, *(grid_points(score) if score.grids else ())]


class _Seen(NamedTuple):
    """All results of one pass over a data set."""

    values: dict[str, Tensor]  #: [P, n] float64, for each fitted score
    correct: Tensor  #: [n] bool
    labels: Tensor  #: [n] int64
    logits: Tensor | None  #: [n, K], if a score must be fitted
    batch: Tensor  #: [B, ...], the first one, on the model's device


def _seen(
    model: Model,
    loader: Iterable[Any],
    name: str,
    scores: Mapping[str, Score],
    points: Mapping[str, Sequence[Point]],
    progress: bool,
) -> _Seen:
    """Measure every fitted score at all of its points; those of the logits share one forward."""
    keep = not all(score.fitted for score in scores.values())
    ready = {name: score for name, score in scores.items() if score.fitted}
    started = False

    def one(x: Tensor, y: Tensor | None) -> tuple[Any, ...]:
        nonlocal started
        assert y is not None  # of a pair
        # The first batch of each process; one of them is the first of all.
        first, started = (None if started else x.clone()), True
        with Engine(model) as engine:
            # A copy, because a compiled model may reuse the memory of its logits.
            logits = engine.forward(x).clone()
        values = {}
        for called, score in ready.items():
            values[called] = _at(score, model, x, logits, points[called])
            advance(len(x) / len(ready), 1 / len(ready))
        found = [value.cpu().double() for value in values.values()]
        labels = y.cpu()
        check_labels("y", labels, logits.shape[1])
        bad = int(values["msr"].isnan().sum())
        if bad:
            raise ValueError(
                "model must give logits without NaN whose largest is finite, but did not on "
                f"{bad} of {len(logits)} samples of a batch: these cannot be ranked"
            )
        right = (logits.argmax(dim=1) == y).cpu()
        return found, right, labels, logits.cpu() if keep else None, first

    with batches_bar(loader, progress, _QUIET) as advance:
        parts = of_each(one, model, loader, pairs=True, name=name)
    values, correct, labels, kept, (first, *_) = zip(*parts, strict=True)
    found = (torch.cat(part, dim=1) for part in zip(*values, strict=True))
    return _Seen(
        dict(zip(ready, found, strict=True)),
        torch.cat(correct),
        torch.cat(labels),
        torch.cat(kept) if keep else None,
        first.to(device_of(model) or first.device),
    )


def _at(score: Score, model: Model, x: Tensor, logits: Tensor, points: Sequence[Point]) -> Tensor:
    """[P, B]. The own point is measured separately: only points of a grid share passes."""
    if isinstance(score, LogitScore):
        return score.measure(_themselves, logits, points).values
    own = score.measure(model, x, points[:1]).values
    if len(points) == 1:
        return own
    return torch.cat([own, score.measure(model, x, points[1:]).values])


def _themselves(logits: Tensor) -> Tensor:
    """A model whose input is logits, which it returns."""
    return logits


def _halves(correct: Tensor, places: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two random halves with equally many errors and right ones; an odd one is in the second."""
    halves: tuple[list[Tensor], list[Tensor]] = ([], [])
    for kind in (places[correct[places]], places[~correct[places]]):
        order = kind[torch.randperm(len(kind), generator=generator)]
        halves[0].append(order[: len(kind) // 2])
        halves[1].append(order[len(kind) // 2 :])
    first, second = (torch.cat(half).sort().values for half in halves)
    return first, second


class _Tuned(NamedTuple):
    """A tuned score."""

    score: Score
    point: dict[str, float]  #: the tuned hyper-parameters; {} if its own stayed
    values: Tensor  #: [n], on all samples, also those for tuning


def _tuned(
    name: str,
    score: Score,
    points: Sequence[dict[str, float]],
    seen: _Seen,
    tuning: Tensor,
    metric: str,
    generator: torch.Generator,
) -> _Tuned:
    """Fit the score if necessary, and take its best point on the tuning samples."""
    if score.fitted:
        values = seen.values[name]
    else:
        assert seen.logits is not None  # `_seen` keeps them in this case
        fit, tuning = _halves(seen.correct, tuning, generator)
        if not len(fit):
            raise ValueError(
                f"{name} must be fitted to one half of the tuning samples, got {len(tuning)} of "
                "them in all"
            )
        score = score.fit(_themselves, [(seen.logits[fit], seen.labels[fit])])
        rows = seen.logits.split(_ROWS)
        values = torch.cat([score.measure(_themselves, h, points).values for h in rows], dim=1)
    right = int(seen.correct[tuning].sum())
    tried = values[:, tuning]
    if right in {0, len(tuning)} or tried.isnan().any(dim=1).all():
        return _Tuned(score, {}, values[0])  # the metric is undefined
    sign = -1 if metric in HIGHER else 1
    best = best_of(
        score, points, tried, seen.correct[tuning], lambda s, c: sign * METRICS[metric](s, c)
    )
    place = points.index(best.best.point)
    return _Tuned(best.score, points[place], values[place])


def _rows(
    tuned: Mapping[str, _Tuned],
    stand: Mapping[str, Standing],
    costs: Mapping[str, Cost],
    metric: str,
) -> list[Row]:
    """The rows of all scores, the best first."""
    rows = [
        Row(
            name,
            tuned[name].score,
            tuned[name].point,
            **own.value,
            less_msr=own.less_msr,
            beaten=own.beaten,
            **costs[name]._asdict(),
            nan=own.nan,
        )
        for name, own in stand.items()
    ]
    sign = -1 if metric in HIGHER else 1
    # NaN last; among equals the cheapest first.
    rows.sort(key=lambda row: (row.nan > 0, sign * getattr(row, metric), row.passes))
    return rows
