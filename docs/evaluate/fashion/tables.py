"""The tables of the study, from the rows of every regime."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from predict import Prediction, networks, predictions
from regimes import BY_NAME

from rrfast._tables import Block, number
from rrfast.evaluate.misd import curves
from rrfast.evaluate.observations import Paired, Row, Value, at, in_common, of, paired, spread
from rrfast.evaluate.tables import difference

#: The radius that the sentences speak of; what stands beside it in the tables.
RADIUS = "radius_fast"
RADII = ("radius_grad", RADIUS)
#: Tables have AURC in thousandths.
AURC = (1000.0, 2)
#: Training accuracy from which a network has memorized its images.
BY_HEART = 0.999


class Against(NamedTuple):
    """A difference, and where it was found."""

    where: tuple[str, str]  #: regime, and training or eps
    found: Paired


class Study:
    """The rows of every regime, with a `group` that those share which differ in eps alone.

    Trainings with a step have its eps in their name.
    """

    def __init__(self, results: Sequence[dict[str, Any]]) -> None:
        self.rows: list[Row] = []
        for result in results:
            regime = BY_NAME[result["regime"]]
            for row in result["rows"]:
                plain = row["training"] in ("Standard", "Mixup", "RegMixup", "OpenMix")
                training = row["training"] + f", ε = {float(regime.eps):g}" * (not plain)
                self.rows.append(row | {"training": training, "group": regime.data})
        #: Images of no class that were asked for.
        self.sets = list(dict.fromkeys(name for r in self.rows for name in r.get("outside", ())))
        self.groups = list(dict.fromkeys(row["group"] for row in self.rows))

    def trainings(self, group: str) -> list[str]:
        """In the order they come."""
        return list(dict.fromkeys(row["training"] for row in of(self.rows, group=group)))

    def of(self, group: str, training: str, score: str, key: str = "aurc") -> list[Row]:
        """Rows that have `key`, as those have that are asked for corruptions."""
        own = of(self.rows, group=group, training=training, score=score)
        return [row for row in own if key in row]

    def scores(self, ours: str, theirs: str, value: Value, key: str = "aurc") -> list[Against]:
        """One score less another, of every training."""
        return [
            Against((group, training), found)
            for group in self.groups
            for training in self.trainings(group)
            if (found := self.score(group, training, ours, theirs, value, key)) is not None
        ]

    def score(
        self, group: str, training: str, ours: str, theirs: str, value: Value, key: str = "aurc"
    ) -> Paired | None:
        """One score less another, of the same networks."""
        return self.less(group, (training, ours), (training, theirs), value, key)

    def training(
        self, group: str, ours: str, theirs: str, score: str, value: Value, key: str = "aurc"
    ) -> Paired | None:
        """One training less another, under the same score."""
        return self.less(group, (ours, score), (theirs, score), value, key)

    def less(
        self,
        group: str,
        ours: tuple[str, str],
        theirs: tuple[str, str],
        value: Value,
        key: str = "aurc",
    ) -> Paired | None:
        """One training and score less another, over the runs that both have; None without any."""
        rows, others = in_common(*(self.of(group, *pair, key) for pair in (ours, theirs)))
        return paired(rows, others, value) if rows else None

    def eps(self, group: str) -> list[str]:
        """As they stand in the names of trainings, from the largest on."""
        said = [t.partition(", ")[2] for t in self.trainings(group) if t.startswith("RAT, ")]
        return sorted(said, key=lambda text: -float(text.split()[-1]))

    def compared(self, group: str) -> list[str]:
        """The three that figures and the summary show, RAT and AT at their largest eps."""
        largest = self.eps(group)[:1]
        wanted = ["Standard", *(f"{name}, {eps}" for name in ("AT", "RAT") for eps in largest)]
        return [training for training in wanted if training in self.trainings(group)]


# ------------------------------------------------------------------------------------------ tables


def summary(study: Study) -> Block:
    """What README.md of the project shows."""
    cells = [
        [
            group,
            training,
            _mean(study.of(group, training, "msr"), at("accuracy"), digits=1),
            *(_mean(study.of(group, training, s), at("aurc"), *AURC) for s in ("msr", RADIUS)),
            cell(study.score(group, training, RADIUS, "msr", at("aurc")), *AURC),
        ]
        for group in study.groups
        for training in study.compared(group)
    ]
    head = ["images × epochs", "training", "accuracy ↑, %"]
    head += ["AURC ↓ of MSR, × 1000", "of the radius", "radius less MSR"]
    return Block("", head, cells, 2)


def blocks(study: Study) -> Iterator[Block]:
    """Every table, its number in its title."""
    made = (_levels, _against_msr, _trainings, _best_eps, _corrupted, _outside, _predicted)
    for i, make in enumerate(made, 1):
        block = make(study)
        if block.rows:
            yield block._replace(title=f"Table {i}: {block.title}")


def _levels(study: Study) -> Block:
    head = ["regime", "training", "seeds", "accuracy %", "on training images %"]
    head += [f"AURC × 1000, {score}" for score in ("msr", *RADII)]
    cells = [
        [
            group,
            training,
            str(len(study.of(group, training, "msr"))),
            _mean(study.of(group, training, "msr"), at("accuracy")),
            _mean(study.of(group, training, "msr"), at("network", "train_accuracy")),
            *(_mean(study.of(group, training, s), at("aurc"), *AURC) for s in ("msr", *RADII)),
        ]
        for group in study.groups
        for training in study.trainings(group)
    ]
    return Block("every regime (training images × epochs) and training", head, cells, 2)


def _against_msr(study: Study) -> Block:
    others = [*RADII, "doctor_beta", "max_logit_pnorm", "msr+eps"]
    cells = [
        [
            group,
            training,
            _mean(study.of(group, training, RADIUS), at("network", "gradient_auroc")),
            *(cell(study.score(group, training, s, "msr", at("aurc")), *AURC) for s in others),
        ]
        for group in study.groups
        for training in study.trainings(group)
    ]
    head = ["regime", "training", "AUROC of small gradients %", *others]
    return Block("AURC × 1000 less that of MSR on the same network", head, cells, 2)


def _trainings(study: Study) -> Block:
    head = ["regime", "ε", "seeds of each pair"]
    head += [
        f"{pair}, {s}"
        for pair in ("RAT − Standard", "AT − Standard", "RAT − AT")
        for s in ("msr", RADIUS)
    ]
    head += ["accuracy, RAT − Standard", "accuracy, RAT − AT"]
    cells = []
    for group in study.groups:
        for eps in study.eps(group):
            rat, adversarial = f"RAT, {eps}", f"AT, {eps}"
            pairs = ((rat, "Standard"), (adversarial, "Standard"), (rat, adversarial))
            found = [
                study.training(group, *pair, score, at("aurc"))
                for pair in pairs
                for score in ("msr", RADIUS)
            ]
            points = [study.training(group, *pairs[i], "msr", at("accuracy")) for i in (0, 2)]
            counts = [0 if one is None else one.runs for one in found[::2]]
            n = " / ".join(map(str, counts if len(set(counts)) > 1 else counts[:1]))
            cells.append(
                [group, eps.split()[-1], n, *(cell(one, *AURC) for one in found)]
                + [cell(one, 100.0, 2, higher=True) for one in points]
            )
    return Block("AURC × 1000 and accuracy (points) of one training less another", head, cells, 1)


def _best_eps(study: Study) -> Block:
    names = ("RAT", "AT")
    head = ["regime", "less", *(f"{name}, {s}" for name in names for s in ("msr", RADIUS))]
    cells = []
    for group in study.groups:
        several = study.eps(group)
        for one, other in itertools.pairwise(several):
            pairs = [(f"{name}, {one}", f"{name}, {other}") for name in names]
            cells.append(
                [group, f"{one} less {other}"]
                + [
                    cell(study.training(group, *pair, s, at("aurc")), *AURC)
                    for pair in pairs
                    for s in ("msr", RADIUS)
                ]
            )
    return Block("AURC × 1000 with one ε less that with another", head, cells, 2)


def under_corruption(metric: str) -> Value:
    """The mean of a metric over the corruptions of a row; None where there are none."""
    return lambda row: curves.under_corruption(row).get(metric)


def _corrupted(study: Study) -> Block:
    auroc, aurc = under_corruption("auroc"), under_corruption("aurc")
    head = ["regime", "training", "accuracy %", "AUROC %, msr", f"AUROC %, {RADIUS}"]
    head += [f"{RADIUS} − msr", "training − Standard, msr", f"training − Standard, {RADIUS}"]
    cells = []
    for group in study.groups:
        for training in study.trainings(group):
            own = [study.of(group, training, s, "corruptions") for s in ("msr", RADIUS)]
            if own[0]:
                radius = study.score(group, training, RADIUS, "msr", auroc, "corruptions")
                cells.append(
                    [group, training, _mean(own[0], under_corruption("accuracy"))]
                    + [_mean(rows, auroc) for rows in own]
                    + [cell(radius, 100.0, 2, higher=True)]
                    + [
                        "–"
                        if training == "Standard"
                        else cell(
                            study.training(group, training, "Standard", s, aurc, "corruptions"),
                            *AURC,
                        )
                        for s in ("msr", RADIUS)
                    ]
                )
    title = (
        "under corruption, mean over 15 kinds: AUROC for errors, and AURC × 1000 less Standard's"
    )
    return Block(title, head, cells, 2)


def _outside(study: Study) -> Block:
    head = ["regime", "training", "set", "AUROC %, msr", f"AUROC %, {RADIUS}"]
    head += [f"{RADIUS} − msr", "training − Standard, msr", f"training − Standard, {RADIUS}"]
    cells = []
    for group in study.groups:
        for training in study.trainings(group):
            for name in study.sets:
                value = at("outside", name, "auroc")
                own = [study.of(group, training, s, "outside") for s in ("msr", RADIUS)]
                if not own[0]:
                    continue
                radius = study.score(group, training, RADIUS, "msr", value, "outside")
                cells.append(
                    [group, training, name.split()[0].removeprefix("task:")]
                    + [_mean(rows, value) for rows in own]
                    + [cell(radius, 100.0, 2, higher=True)]
                    + [
                        "–"
                        if training == "Standard"
                        else cell(
                            study.training(group, training, "Standard", s, value, "outside"),
                            100.0,
                            2,
                            higher=True,
                        )
                        for s in ("msr", RADIUS)
                    ]
                )
    title = "test images against images of no class: AUROC, and points less Standard's"
    return Block(title, head, cells, 3)


def _predicted(study: Study) -> Block:
    cells = [
        [
            one.said,
            *(_known(r, 1.0, 2) for r in (one.pearson, one.spearman, one.within)),
            _known(one.right, 100.0, 1),
            "–" if one.chosen < 0 else f"{one.chosen}, {one.won}",
            _known(one.lost, 100.0, 1),
        ]
        for one in predicted(study)
    ]
    head = ["by", "Pearson's r", "Spearman's r", "Pearson's r within regimes"]
    head += ["winner predicted %", "radius chosen, rightly", "AURC lost %"]
    return Block(f"which of {RADIUS} and MSR has the lower AURC", head, cells, 1)


def predicted(study: Study) -> list[Prediction]:
    """Over all networks."""
    return predictions(networks(study.rows, RADIUS))


def _mean(rows: Sequence[Row], value: Value, factor: float = 100.0, digits: int = 2) -> str:
    """Mean ± standard error over seeds."""
    found = spread(rows, value)
    mean = _known(found.mean, factor, digits)
    error = found.std / math.sqrt(max(found.runs, 1))
    return mean if math.isnan(error) else f"{mean} ± {number(error, factor, digits)}"


def _known(value: float, factor: float, digits: int) -> str:
    return number(None if math.isnan(value) else value, factor, digits)


def cell(found: Paired | None, factor: float, digits: int, *, higher: bool = False) -> str:
    """A difference as tables show it, – without one."""
    return "–" if found is None else difference(found, factor, digits, higher=higher)
