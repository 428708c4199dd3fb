"""Tables and notes of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rrfast import _tables
from rrfast._tables import BETTER, COLUMNS, CONVENTION, Block, number
from rrfast.bench.peers import STEPS
from rrfast.bench.speed import fastest

CLEARER = {"msr": "MSR"}


def blocks(result: dict[str, Any]) -> Iterable[Block]:
    """All tables with rows."""
    for batch in dict.fromkeys(row["batch"] for row in result["throughput"]):
        yield _throughput(batch, [r for r in result["throughput"] if r["batch"] == batch])
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


def markdown(result: dict[str, Any]) -> str:
    """The tables and notes as a Markdown page."""
    title = f"# rrfast bench: {_tables.plain(result['settings']['model'])}"
    return "\n\n".join([title, notes(result), _tables.markdown(blocks(result))]) + "\n"


def notes(result: dict[str, Any]) -> str:
    """Notes on device, command and conventions."""
    s = result["settings"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    weights = f"weights {s['weights']}" if s["weights"] else "random weights"
    where = (
        f"{result['device']}, {result['threads']} thread{'s' * (result['threads'] > 1)}; "
        f"{versions}; {result['date']}, {result['seconds']:g} s. {s['model']} with {weights}, "
        f"{s['samples']} images of {s['data']}. `{result['command']}`"
    )
    columns = (
        "F, B: forwards and backwards per sample; a backward, of the input gradient alone, counts "
        "as two forwards in F-eq/s. ×MSR: time over that of the bare float32 forward and softmax, "
        "the median over interleaved turns. naive loop: RR-BS as released, which attacks afresh at "
        "each of 24 radii; no weight gradients, no clamp. bfloat16 and float16: autocast. to bs: "
        "relative difference to RR-BS in float32, where both are finite."
    )
    lines = [where, columns]
    if any(row["auroc"] is not None for row in result["worth"]):
        lines.append(f"{CONVENTION} {BETTER}")
    if not s["weights"]:
        lines.append(
            "With random weights only the speed means something: not the radii, nor what they find."
        )
    speed = result.get("speed") or []
    for method in dict.fromkeys(row["method"] for row in speed):
        if best := fastest(speed, method):
            options, gain = best
            lines.append(f"Fastest in float32, {method}: {options}, {gain:.2f} × eager.")
    chosen_on = max((row["chosen_on"] for row in result.get("tuned", ())), default=0)
    if chosen_on:
        lines.append(
            f"The best weights were chosen on {chosen_on} images of this test set, so that numbers "
            "with T tuned are too good; with last weights nothing was."
        )
    if peers := result.get("peers"):
        lines.append(
            "Other libraries, and our methods beside them, stay in the box [0, 1]; FAB, FMN and "
            f"DeepFool take {STEPS} steps at most. Their radius is the distance of the point "
            "found, none where the prediction there is the same; ÷ the shortest: over the shortest "
            "radius that anyone saw to change the prediction, the median over the images."
        )
        lines += [
            f"{row['library']}, {row['method']}: {row['error']}." for row in peers if row["error"]
        ]
    reference = [op for op, kind in result["kernels"].items() if kind != "kernel"]
    if reference:
        lines.append(f"No compiled kernel, the reference in its place: {', '.join(reference)}.")
    if not result["complete"]:
        lines.append("INCOMPLETE: the run was stopped before its end.")
    return "\n\n".join(lines)


# -------------------------------------------------------------------------------------- the tables


def _throughput(batch: int, rows: list[dict[str, Any]]) -> Block:
    head = ["method", "dtype", "images/s", "×MSR", "F", "B", "F-eq/s", "peak MB", "runs"]
    cells = []
    for row in rows:
        name = [CLEARER.get(row["method"], row["method"]), row["dtype"]]
        if row["error"]:
            cells.append([*name, row["error"], *["–"] * 6])
            continue
        memory = row["memory_bytes"]
        cells.append(
            [
                *name,
                _figures(row["images_per_second"]),
                _figures(row["times_msr"]),
                f"{row['forwards']:.4g}",
                f"{row['backwards']:.4g}",
                _figures(row["forward_equivalents_per_second"]),
                "–" if memory is None else f"{memory / 1e6:,.0f}",
                str(len(row["milliseconds"])),
            ]
        )
    return Block(f"Batch {batch}", head, cells, 2)


def _images(result: dict[str, Any]) -> tuple[int, dict[tuple[str, str], float | None]]:
    """The largest batch size, and images per second at it by method and dtype."""
    largest = max(row["batch"] for row in result["throughput"])
    return largest, {
        (row["method"], row["dtype"]): row.get("images_per_second")
        for row in result["throughput"]
        if row["batch"] == largest
    }


def _tuned(result: dict[str, Any]) -> Block:
    """RAT's Table 4."""
    # Imported here, because it is optional.
    from rrfast.data.splits import PROTOCOLS
    from rrfast.evaluate.observations import at, of, spread
    from rrfast.evaluate.tables import cell

    rows = result["tuned"]
    largest, images = _images(result)
    shown = {name: COLUMNS[name] for name in ("auroc", "fpr_at_tpr", "aurc")}
    cells = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = of(rows, method=method)
        chosen = [row["temperature"] for row in own]
        cells.append(
            [
                CLEARER.get(method, method),
                "–" if None in chosen else " ".join(f"{t:g}" for t in chosen),
                *(
                    cell(spread(own, at(name)), factor, digits)
                    for name, (_, factor, digits) in shown.items()
                ),
                _figures(images.get((method, "float32"))),
            ]
        )
    head = ["method", "T", *(label for label, _, _ in shown.values()), f"images/s\nat {largest}"]
    counts = sorted({row["images"] for row in rows})
    told = f"{' or '.join(map(str, counts))} images, T {PROTOCOLS[result['settings']['tuning']]}"
    return Block(f"What it finds of {told}", head, cells, 1)


def _worth(result: dict[str, Any]) -> Block:
    largest, images = _images(result)
    head = ["method", "dtype", "AUROC\n%", "FPR95\n%", "AURC\n×1000", f"images/s\nat {largest}"]
    head += ["to bs:\nmedian", "\n95 %", "not\nfound"]
    cells = []
    for row in result["worth"]:
        off = row["against_bs"] or {}
        cells.append(
            [
                CLEARER.get(row["method"], row["method"]),
                row["dtype"],
                number(row["auroc"], 100, 2),
                number(row["fpr_at_tpr"], 100, 2),
                number(row["aurc"], 1000, 3),
                _figures(images.get((row["method"], row["dtype"]))),
                _small(off.get("median")),
                _small(off.get("percentile_95")),
                str(row["infinite"] + row["nan"]),
            ]
        )
    accuracy = result["worth"][0]["accuracy"]
    of = "" if accuracy is None else f", accuracy {100 * accuracy:.2f} %"
    return Block(f"What it finds, {result['settings']['samples']} images{of}", head, cells, 2)


def _speed(rows: list[dict[str, Any]]) -> Block:
    head = ["method", "options", "images/s", "×MSR", "AURC\n×1000", "less\neager's", "Spearman"]
    cells = []
    for row in rows:
        name = [row["method"], row["options"]]
        if row["error"]:
            cells.append([*name, row["error"], *["–"] * 4])
            continue
        cells.append(
            [
                *name,
                _figures(row["images_per_second"]),
                _figures(row["times_msr"]),
                number(row["aurc"], 1000, 3),
                number(row["aurc_difference"], 1000, 3, sign="+"),
                f"{row['spearman']:.5f}",
            ]
        )
    return Block(f"What speed costs, batch {rows[0]['batch']}", head, cells, 2)


def _pareto(rows: list[dict[str, Any]]) -> Block:
    head = ["method", "options", "F", "B", "median\nradius", "found\n%", "AUROC\n%", "AURC\n×1000"]
    cells = [
        [
            CLEARER.get(row["method"], row["method"]),
            ", ".join(f"{key}={value}" for key, value in row["options"].items()),
            f"{row['forwards']:.4g}",
            f"{row['backwards']:.4g}",
            _median(row),
            f"{100 * row['found']:.4g}",
            number(row["auroc"], 100, 2),
            number(row["aurc"], 1000, 3),
        ]
        for row in rows
    ]
    return Block("What more passes buy", head, cells, 2)


def _peers(rows: list[dict[str, Any]], batch: int) -> Block:
    head = ["library", "method", "images/s", "×MSR", "F", "B", "found\n%", "median\nradius"]
    head.append("÷ the\nshortest")
    cells = []
    for row in rows:
        name = [f"{row['library']} {row['version']}".strip(), row["method"]]
        if row["error"]:
            cells.append([*name, *["–"] * 7])
            continue
        cells.append(
            [
                *name,
                _figures(row["images_per_second"]),
                _figures(row["times_msr"]),
                f"{row['forwards']:.4g}",
                f"{row['backwards']:.4g}",
                f"{100 * row['found']:.4g}",
                _median(row),
                number(row["beside_shortest"], 1, 3),
            ]
        )
    return Block(f"Beside other libraries, {batch} images, in the box [0, 1]", head, cells, 2)


def _median(row: dict[str, Any]) -> str:
    """The median; infinite if fewer than half were found, which JSON cannot represent."""
    value = row["median_radius"]
    if value is None and row["method"] != "msr" and row["found"] < 0.5:
        value = math.inf
    return "–" if value is None else f"{value:.4g}"


def _figures(value: float | None) -> str:
    """Three significant figures, thousands separated."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}" if 0 < value < 1e-3 else f"{value:.3g}"
