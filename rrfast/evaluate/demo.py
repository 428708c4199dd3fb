"""The page of `rrfast demo`: one table, one figure, and RAT minus standard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rrfast._tables import BETTER, CONVENTION, SHOWN, Block
from rrfast.data.splits import TUNINGS
from rrfast.evaluate import misd
from rrfast.evaluate.claims import lower_on
from rrfast.evaluate.observations import at, grouped, of, paired, seeds_said, tuning_of
from rrfast.evaluate.tables import Table, metric
from rrfast.objectives.variant_names import VARIANTS

if TYPE_CHECKING:
    from rrfast.evaluate.drawing import Drawing

#: The names in `VARIANTS` of the trainings that are compared.
TRAININGS = ("standard", "rat")


def conventions(result: dict[str, Any]) -> list[str]:
    """What a reader needs to know to read the table."""
    tuned = TUNINGS[tuning_of(result["options"])]
    same = (
        "Both trainings of a seed have the same images, noise and initial weights; see the recipe "
        f"digits_rat. Temperatures by AURC, {tuned}."
    )
    return [f"{CONVENTION} {BETTER}", *seeds_said(result["runs"], 0, ""), same]


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """Every score on both trainings."""
    keys = {"training": "training", "score": "score"}
    yield Table("Finding the errors on digits", keys, [*map(metric, SHOWN)]).block(result["runs"])


def notes(result: dict[str, Any]) -> list[str]:
    """The difference that RAT makes to each score."""
    standard, rat = (of(result["runs"], training=VARIANTS[name]) for name in TRAININGS)
    scores = zip(*(grouped(rows, "score").items() for rows in (rat, standard)), strict=True)
    return [
        "AURC × 1000, RAT minus standard on the same seed, mean ± standard error:",
        *(
            f"  {score:<13}{lower_on(paired(ours, theirs, at('aurc')))}"
            for ((score,), ours), (_, theirs) in scores
        ),
    ]


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """The radii of right and wrong predictions."""
    return (drawing for drawing in misd.STUDY.figures(result) if drawing.name == "radius")


STUDY = misd.STUDY._replace(
    stem="demo",
    title=lambda _: "Standard training and RAT on handwritten digits",
    conventions=conventions,
    blocks=blocks,
    notes=notes,
    figures=figures,
    command="demo",
)
