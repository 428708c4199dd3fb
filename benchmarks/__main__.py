"""Run the benchmarks and write what they gave.

    python -m benchmarks [--device cuda] [--results FOLDER] [--seconds S] [options of pytest]

FOLDER/<device>/ops.json holds every measurement and where it was taken; ops.md beside it is made
from it, and `python -m benchmarks --table FOLDER/<device>/ops.json` makes it again. A part, such as
`-k linear_radius`, replaces the whole: give it a name of its own, `--name linear_radius`, or
`--update` the whole, which keeps what is not measured again.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Entry = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=HERE / "results", help="a folder")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--name", default="ops", help="of the files (ops)")
    parser.add_argument("--update", action="store_true", help="keep what is not measured again")
    parser.add_argument("--limit", type=float, help="stop after so many seconds, keep what is done")
    parser.add_argument("--table", type=Path, help="only make the table of this ops.json again")
    arguments, of_pytest = parser.parse_known_args(argv)
    if arguments.table:
        write_table(arguments.table)
        return 0
    where = environment(arguments.device)
    options = sys.argv[1:] if argv is None else argv
    where["command"] = " ".join(["python -m benchmarks", *without_results(options)])
    path = arguments.results / slug(where["device"]) / f"{arguments.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text()) if arguments.update else None
    if before:
        check_same(before["environment"], where)
    with tempfile.TemporaryDirectory() as scratch:
        records = Path(scratch, "records")
        records.touch()
        try:
            return run(arguments.device, records, arguments.limit, of_pytest)
        finally:  # also where it is interrupted
            entries = [json.loads(line) for line in records.read_text().splitlines()]
            write(path, *(updated(before, where, entries) if before else (where, entries)))
            print(path.with_suffix(".md").read_text())


def write(path: Path, where: Entry, entries: Sequence[Entry]) -> None:
    """Everything that was recorded, and the table of it."""
    results = {
        "environment": where,
        "yardsticks": {e["yardstick"]: e for e in entries if "yardstick" in e},
        "benchmarks": [e for e in entries if "yardstick" not in e],
    }
    path.write_text(json.dumps(results, indent=1) + "\n")
    write_table(path)


def check_same(before: Entry, where: Entry) -> None:
    """Raise a SystemExit for different devices or versions, which no table tells apart."""
    for key in ("device", "threads", "torch", "cuda", "python", "kernels"):
        if before[key] != where[key]:
            raise SystemExit(f"--update needs the same {key}, {before[key]}, got {where[key]}")


def updated(before: Entry, where: Entry, entries: Sequence[Entry]) -> tuple[Entry, list[Entry]]:
    """What was measured before, with what was measured again in its place."""
    named = {
        measured(entry): entry for entry in (*before["yardsticks"].values(), *before["benchmarks"])
    }
    named |= {measured(entry): entry for entry in entries}
    commands = dict.fromkeys((*before["environment"]["command"].split("; "), where["command"]))
    return where | {"command": "; ".join(commands)}, list(named.values())


def measured(entry: Entry) -> tuple[Any, ...]:
    """What an entry is of; the case of an attack also says what it achieved."""
    case = re.sub(r"(\d+ of \d+ )?flipped.*", "", entry.get("case", ""))
    return (*(entry.get(key) for key in ("yardstick", "op", "model")), case)


def run(device: str, records: Path, limit: float | None, of_pytest: Sequence[str]) -> int:
    # In a process of its own: one that hangs in a kernel can only be killed.
    command = [
        *(sys.executable, "-m", "pytest", str(HERE), "-p", "no:cacheprovider"),
        *("--device", device, "--records", str(records)),
        *("--benchmark-disable-gc", "--benchmark-quiet", *of_pytest),
    ]
    try:
        return subprocess.run(command, check=False, timeout=limit).returncode
    except subprocess.TimeoutExpired:
        print(f"stopped after {limit:g} s: what follows is not complete", file=sys.stderr)
        return 1


def without_results(options: Sequence[str]) -> Iterable[str]:
    """The options but for where the results went, which is nobody else's business."""
    skip = False
    for option in options:
        if not (skip or option.startswith("--results")):
            yield option
        skip = option == "--results"


# -------------------------------------------------------------------------------------- environment


def environment(device: str) -> Entry:
    import torch

    import rrfast
    from rrfast._machine import processor

    cuda = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if cuda else processor(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "rrfast": rrfast.__version__,
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda if cuda else None,
        "python": platform.python_version(),
        "build": rrfast.config()["build"],
        "kernels": rrfast.config()["libraries"]["cuda" if cuda else "cpu"]["state"],
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
    }


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


# -------------------------------------------------------------------------------------------- table


def write_table(path: Path) -> None:
    path.with_suffix(".md").write_text(table(json.loads(path.read_text())))


def table(results: Entry) -> str:
    """The Markdown of one ops.json."""
    where, entries = results["environment"], results["benchmarks"]
    sticks = results.get("yardsticks", {})
    ops = [entry for entry in entries if "op" in entry]
    models = [entry for entry in entries if "model" in entry]
    return (
        "\n\n".join(
            [
                *head(where, sticks),
                *op_tables(ops, sticks),
                *model_tables(models),
                *targets(ops, sticks),
            ]
        )
        + "\n"
    )


def head(where: Entry, sticks: Entry) -> Iterable[str]:
    yield f"# {where['device']}"
    software = f"rrfast {where['rrfast']}, torch {where['torch']}, Python {where['python']}"
    if where["cuda"]:
        yield f"{software}, CUDA {where['cuda']}; {where['date']}; `{where['command']}`"
    else:
        yield f"{where['threads']} threads; {software}; {where['date']}; `{where['command']}`"
    if where["kernels"] != "loaded":
        yield f"**The compiled kernels were {where['kernels']}: *fused* is the reference.**"
    gives = (
        "*copy*: that rate as a part of what `clone` of the first input reached in the same rounds"
    )
    if sticks:
        rates = " and ".join(f"{name} {stick_rate(stick):.0f}" for name, stick in sticks.items())
        gives = (
            f"*copy*: that rate as a part of what memory gives, GB/s: {rates}, measured once on "
            f"{max(s['bytes'] for s in sticks.values()) / 1e9:.1f} GB; the sum for ops that only "
            "read. Where *calls* has a number, so many were timed as one CUDA graph, and after the "
            "first the cache may hold what they read"
        )
    yield (
        "Medians over interleaved rounds, in brackets the quartiles; ratios are medians of the "
        "ratios within a round. GB/s counts the least traffic of the op: every input read and "
        "every result written once. "
        f"{gives}. *×eager*, *×reference*, *×compiled*: how many times the op's time idiomatic "
        "torch, the specification, and `torch.compile` of the specification take."
    )


def op_tables(entries: Sequence[Entry], sticks: Entry) -> Iterable[str]:
    if any(is_reused(entry) for entry in entries):
        yield (
            "In cases *-reused* every contender writes into the results of its first call, in the "
            "others into memory that it allocates."
        )
    calls = " calls |" if sticks else ""
    for op in dict.fromkeys(entry["op"] for entry in entries):
        lines = [
            f"## {op}\n",
            f"| case | MB | ms | GB/s | copy | ×eager | ×reference | ×compiled |{calls}",
            f"|---|--:|--:|--:|--:|--:|--:|--:|{'--:|' if calls else ''}",
        ]
        for entry in entries:
            if entry["op"] == op:
                times = entry["times"]
                rivals = (
                    f"{times[name]:.2f}" if name in times else "–"
                    for name in ("eager", "reference", "compiled")
                )
                cells = (
                    entry["case"],
                    f"{entry['traffic_bytes'] / 1e6:.2f}",
                    f"{entry['ms']['fused']:.4g}",
                    f"{rate(entry):.1f}",
                    f"{of_copy(entry, sticks):.0%}",
                    *rivals,
                    *([str(entry.get("calls", "–"))] if calls else []),
                )
                lines.append(f"| {' | '.join(cells)} |")
        yield "\n".join(lines)


def is_reused(entry: Entry) -> bool:
    """Whether every contender wrote into memory that was there."""
    return str(entry["case"]).endswith("-reused")


def rate(entry: Entry) -> float:
    """GB/s."""
    return float(entry["traffic_bytes"] / entry["ms"]["fused"] / 1e6)


def stick_rate(stick: Entry) -> float:
    """GB/s."""
    return float(stick["bytes"] / stick["ms"] / 1e6)


def of_copy(entry: Entry, sticks: Entry) -> float:
    """What part of the memory's rate the op reaches."""
    if sticks:
        return rate(entry) / stick_rate(sticks["sum" if entry["op"] in READING else "copy"])
    return float(entry["times"]["copy"] * entry["traffic_bytes"] / entry["copy_bytes"])


def model_tables(entries: Sequence[Entry]) -> Iterable[str]:
    """One table for each model and each set of contenders."""
    for model in dict.fromkeys(entry["model"] for entry in entries):
        of_model = [entry for entry in entries if entry["model"] == model]
        tables = []
        for names in dict.fromkeys(tuple(entry["ms"]) for entry in of_model):
            rows = [entry for entry in of_model if tuple(entry["ms"]) == names]
            columns = [*names, *(f"{n} ÷ {rows[0]['floor']}" for n in subjects(rows[0]))]
            lines = [f"| case | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
            for entry in rows:
                cells = entry["case"], *(milliseconds(entry, n) for n in names), *ratios(entry)
                lines.append(f"| {' | '.join(cells)} |")
            tables.append("\n".join(lines))
        yield "\n\n".join([f"## {model}", *tables])


def milliseconds(entry: Entry, name: str) -> str:
    """The median, and the quartiles."""
    low, high = entry["quartiles_ms"][name]
    return f"{entry['ms'][name]:.4g} ({low:.4g} to {high:.4g}) ms"


def subjects(entry: Entry) -> list[str]:
    return [name for name in entry["ms"] if name != entry["floor"]]


def ratios(entry: Entry) -> list[str]:
    first, floor = next(iter(entry["ms"])), 1 / entry["times"][entry["floor"]]
    return [f"{floor * (1 if n == first else entry['times'][n]):.3f}" for n in subjects(entry)]


def targets(entries: Sequence[Entry], sticks: Entry) -> Iterable[str]:
    """What the project promises of these figures, and where it is not kept."""
    large = [e for e in entries if e["copy_bytes"] / 2 > 1e6 and not is_reused(e)]
    reused = [e for e in entries if e["copy_bytes"] / 2 >= 8e6 and is_reused(e)]
    wide = [entry for entry in entries if entry["op"] in ROWS and classes(entry) >= 1000]
    eager, above = ("eager", "reference"), "on inputs of more than 1 MB"
    promises: list[tuple[str, Sequence[Entry], Sequence[str], float]] = [
        (f"Faster than eager torch {above}", large, eager, 1.0),
        (
            "`linear_radius`, `direction_seed` three times as fast from K = 1000 on",
            [entry for entry in wide if entry["op"] in ("linear_radius", "direction_seed")],
            eager,
            3.0,
        ),
        (f"No slower than `torch.compile` {above}", large, ("compiled",), 1.0),
        (
            "1.3 times as fast as eager torch and `torch.compile` with reused results from 8 MB on",
            reused,
            ("eager", "compiled"),
            1.3,
        ),
    ]
    lines = []
    for sentence, cases, rivals, least in promises:
        missed = [
            f"{entry['op']} {entry['case']} ({rival} {entry['times'][rival]:.2f})"
            for entry in cases
            for rival in rivals
            if entry["times"].get(rival, least) < least
        ]
        if any(rival in entry["times"] for entry in cases for rival in rivals):
            lines.append(f"* {sentence}: {verdict(missed, cases)}.")
    if sticks:
        lines += bandwidths(entries, wide, sticks)
    if lines:
        yield "## Targets\n\n" + "\n".join(lines)


#: Kernels of one pass over elements, and over rows of logits.
ELEMENTWISE = ("fgsm_step", "perturb", "rat_perturb")
ROWS = (
    *("direction_seed", "linear_radius", "bisection_step_", "search_step_"),
    *("plane_seed", "loss_seed", "probability_margin"),
)
#: Those of rows that write as much as they read.
SEEDS = {"direction_seed", "plane_seed", "loss_seed"}
#: Those that only read what is large.
READING = {*ROWS, "plane_distance", "probe_step"} - SEEDS


def classes(entry: Entry) -> int:
    return int(entry["case"].split("-")[0].split("x")[1])


def bandwidths(entries: Sequence[Entry], wide: Sequence[Entry], sticks: Entry) -> Iterable[str]:
    """What a GPU's memory is used for."""
    elementwise = [
        entry for entry in entries if entry["op"] in ELEMENTWISE and entry["copy_bytes"] / 2 >= 64e6
    ]
    rows = [entry for entry in wide if elements(entry) >= 16e6]
    for sentence, cases, least in (
        ("90 % of a copy's bandwidth, elementwise, from 64 MB on", elementwise, 0.9),
        (
            "80 % of a sum's or a copy's, rows, from K = 1000 and 16 million logits on",
            rows,
            0.8,
        ),
    ):
        missed = [
            f"{entry['op']} {entry['case']} ({of_copy(entry, sticks):.0%})"
            for entry in cases
            if of_copy(entry, sticks) < least
        ]
        if cases:
            yield f"* {sentence}: {verdict(missed, cases)}."


def elements(entry: Entry) -> int:
    return math.prod(map(int, entry["case"].split("-")[0].split("x")))


def verdict(missed: Sequence[str], cases: Sequence[Entry]) -> str:
    return f"not in {', '.join(missed)}" if missed else f"in all {len(cases)} cases"


if __name__ == "__main__":
    raise SystemExit(main())
