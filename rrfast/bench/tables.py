"""Tables of a benchmark, and what a reader needs to know to read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rrfast._tables import BETTER, CONVENTION, Block, number
from rrfast.bench.figures import figures
from rrfast.bench.peers import STEPS
from rrfast.bench.speed import fastest
from rrfast.data.splits import TUNINGS
from rrfast.evaluate.observations import Row, either, grouped, of, values
from rrfast.evaluate.study import Study
from rrfast.evaluate.tables import metric


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """All tables with rows."""
    for (batch,), rows in grouped(result["throughput"], "batch").items():
        yield _throughput(batch, rows)
    if result["worth"]:
        yield _worth(result)
    if result.get("tuned"):
        yield _tuned(result)
    if result.get("speed"):
        yield _speed(result["speed"])
    if result.get("pareto"):
        yield _pareto(result["pareto"])
    if result.get("peers"):
        yield _peers(result["peers"], max(result["settings"]["batch"]))


def conventions(result: dict[str, Any]) -> list[str]:
    """What was measured, and what a reader needs to know to read the tables."""
    s = result["settings"]
    weights = f"weights {s['weights']}" if s["weights"] else "random weights"
    where = (
        f"{s['model']} with {weights}, {s['samples']} images of {s['data']}, "
        f"{result['seconds']:g} s."
    )
    columns = (
        "F, B: forwards and backwards per sample; a backward, of the input gradient alone, counts "
        "as two forwards in F-eq/s. ×MSR: time over that of the bare float32 forward and softmax, "
        "the median over interleaved turns. naive loop: RR-BS as released, which attacks afresh at "
        "each of 24 radii; no weight gradients, no clamp. bfloat16 and float16: autocast. to bs: "
        "relative difference to RR-BS in float32, where both are finite."
    )
    lines = [where, columns]
    if any(row["accuracy"] is not None for row in result["worth"]):
        lines.append(f"{CONVENTION} {BETTER}")
    if not s["weights"]:
        lines.append(
            "The weights are random: only the speed is meaningful, not the radii or their metrics."
        )
    speed = result.get("speed") or []
    for method in values(speed, "method"):
        if best := fastest(speed, method):
            options, gain = best
            lines.append(f"Fastest in float32, {method}: {options}, {gain:.2f} × eager.")
    chosen_on = max((row["chosen_on"] for row in result.get("tuned", ())), default=0)
    if chosen_on:
        lines.append(
            f"The best weights were chosen on {chosen_on} images of this test set, so that numbers "
            "with T tuned are too good. The last weights are not chosen on any."
        )
    if peers := result.get("peers"):
        lines.append(
            "Other libraries, and our methods beside them, stay in the box [0, 1]; FAB, FMN and "
            f"DeepFool take at most {STEPS} steps. The radius of a library is the distance of the "
            "point it found; there is none if the prediction there is the same. ÷ the shortest: "
            "the median over images of the radius, divided by the shortest radius at which any "
            "of them saw the prediction change."
        )
        lines += [
            f"{row['library']}, {row['method']}: {row['error']}." for row in peers if row["error"]
        ]
    reference = [op for op, kind in result["kernels"].items() if kind != "kernel"]
    if reference:
        lines.append(f"No compiled kernel, the reference in its place: {', '.join(reference)}.")
    if not result["complete"]:
        lines.append("INCOMPLETE: the run was stopped before its end.")
    return lines


class Column(NamedTuple):
    """A column of a table: its head, and what a row has there."""

    head: str
    cell: Callable[[Row], str]


def _figures(value: float | None) -> str:
    """Three significant figures, thousands separated."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}" if 0 < value < 1e-3 else f"{value:.3g}"


def _median(row: Row) -> str:
    """The median; infinite if fewer than half were found, which JSON cannot represent."""
    value = row["median_radius"]
    if value is None and row["method"] != "msr" and row["found"] < 0.5:
        value = math.inf
    return "–" if value is None else f"{value:.4g}"


METHOD = Column("method", lambda row: "MSR" if row["method"] == "msr" else row["method"])
DTYPE = Column("dtype", lambda row: row["dtype"])
OPTIONS = Column("options", lambda row: row["options"])
SPEED = Column("images/s", lambda row: _figures(row["images_per_second"]))
TIMES = Column("×MSR", lambda row: _figures(row["times_msr"]))
FORWARDS = Column("F", lambda row: f"{row['forwards']:.4g}")
BACKWARDS = Column("B", lambda row: f"{row['backwards']:.4g}")
FOUND = Column("found\n%", lambda row: f"{100 * row['found']:.4g}")
MEDIAN = Column("median\nradius", _median)
AUROC = Column("AUROC\n%", lambda row: number(row["auroc"], 100, 2))
FPR = Column("FPR95\n%", lambda row: number(row["fpr_at_tpr"], 100, 2))
AURC = Column("AURC\n×1000", lambda row: number(row["aurc"], 1000, 3))


def _table(title: str, rows: list[Row], *columns: Column, words: int = 2) -> Block:
    """A table, whose first columns are words; a row with an error has that behind these."""
    cells = []
    for row in rows:
        known = columns[:words] if row.get("error") else columns
        told = [column.cell(row) for column in known]
        if row.get("error"):
            told.append(row["error"])
        cells.append(told + ["–"] * (len(columns) - len(told)))
    return Block(title, [column.head for column in columns], cells, words)


def _throughput(batch: int, rows: list[Row]) -> Block:
    def memory(row: Row) -> str:
        peak = row["memory_bytes"]
        return "–" if peak is None else f"{peak / 1e6:,.0f}"

    return _table(
        f"Batch {batch}",
        rows,
        *(METHOD, DTYPE, SPEED, TIMES, FORWARDS, BACKWARDS),
        Column("F-eq/s", lambda row: _figures(row["forward_equivalents_per_second"])),
        Column("peak MB", memory),
        Column("runs", lambda row: str(len(row["milliseconds"]))),
    )


def _at_largest(result: dict[str, Any]) -> Column:
    """Images per second at the largest batch size, by method and dtype (float32)."""
    largest = max(row["batch"] for row in result["throughput"])
    images = {
        (row["method"], row["dtype"]): row.get("images_per_second")
        for row in result["throughput"]
        if row["batch"] == largest
    }

    def speed(row: Row) -> str:
        return _figures(images.get((row["method"], row.get("dtype", "float32"))))

    return Column(f"images/s\nat {largest}", speed)


def _tuned(result: dict[str, Any]) -> Block:
    """RAT's Table 4."""
    rows = result["tuned"]
    each = {method: of(rows, method=method) for method in values(rows, "method")}

    def temperatures(row: Row) -> str:
        chosen = [one["temperature"] for one in each[row["method"]]]
        return "–" if None in chosen else " ".join(f"{t:g}" for t in chosen)

    def over_runs(name: str) -> Column:
        column = metric(name)
        return Column(column.heading, lambda row: column.cell(each[row["method"]]))

    return _table(
        f"What it finds of {either(rows, 'images')} images, T "
        f"{TUNINGS[result['settings']['tuning']]}",
        [own[0] for own in each.values()],
        METHOD,
        Column("T", temperatures),
        *map(over_runs, ("auroc", "fpr_at_tpr", "aurc")),
        _at_largest(result),
        words=1,
    )


def _worth(result: dict[str, Any]) -> Block:
    def off(name: str) -> Callable[[Row], str]:
        return lambda row: _small((row["against_bs"] or {}).get(name))

    accuracy = result["worth"][0]["accuracy"]
    of = "" if accuracy is None else f", accuracy {100 * accuracy:.2f} %"
    return _table(
        f"What it finds, {result['settings']['samples']} images{of}",
        result["worth"],
        *(METHOD, DTYPE, AUROC, FPR, AURC),
        _at_largest(result),
        Column("to bs:\nmedian", off("median")),
        Column("\n95 %", off("percentile_95")),
        Column("not\nfound", lambda row: str(row["infinite"] + row["nan"])),
    )


def _speed(rows: list[Row]) -> Block:
    return _table(
        f"What speed costs, batch {rows[0]['batch']}",
        rows,
        *(METHOD, OPTIONS, SPEED, TIMES, AURC),
        Column("less\neager's", lambda row: number(row["aurc_difference"], 1000, 3, sign="+")),
        Column("Spearman", lambda row: f"{row['spearman']:.5f}"),
    )


def _pareto(rows: list[Row]) -> Block:
    told = [
        {**row, "options": ", ".join(f"{key}={value}" for key, value in row["options"].items())}
        for row in rows
    ]
    columns = (METHOD, OPTIONS, FORWARDS, BACKWARDS, MEDIAN, FOUND, AUROC, AURC)
    return _table("What more passes buy", told, *columns)


def _peers(rows: list[Row], batch: int) -> Block:
    return _table(
        f"Beside other libraries, {batch} images, in the box [0, 1]",
        [{**row, "error": "–" if row["error"] else None} for row in rows],
        Column("library", lambda row: f"{row['library']} {row['version']}".strip()),
        *(METHOD, SPEED, TIMES, FORWARDS, BACKWARDS, FOUND, MEDIAN),
        Column("÷ the\nshortest", lambda row: number(row["beside_shortest"], 1, 3)),
    )


STUDY = Study(
    "bench",
    lambda result: f"Speed and worth: {result['settings']['model']}",
    conventions,
    blocks,
    lambda _: [],
    figures,
    command="bench",
)
