"""The study on Fashion-MNIST: what is asked of the trainings, and what is kept of the answers.

    python docs/evaluate/fashion/study.py             writes README.md from the JSON files beside it
    python docs/evaluate/fashion/study.py FOLDER      first evaluates what is trained in FOLDER/runs

The second reads FOLDER/runs/REGIME/VARIANT_SEED, as the commands of README.md leave it, passes over
trainings that are not over, and does nothing twice: run it again when there are more. A network
takes half a minute of one core, and a minute and a half where corruptions are asked of it too; a
ResNet takes one to two minutes, and seven or eight.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from answers import answers
from claims import claims
from figure import figure
from regimes import BY_NAME, REGIMES, VARIANTS
from tables import Study, blocks, summary

from rrfast._results import write_figure
from rrfast._tables import Block, markdown, markdown_table
from rrfast.evaluate import read_result
from rrfast.evaluate import study as evaluation
from rrfast.evaluate.misd.figures import radius_histograms
from rrfast.evaluate.studies import STUDIES
from rrfast.train import VARIANTS as PRINTED
from rrfast.train import load_recipe

HERE = Path(__file__).parent
SCORES = (
    *("msr", "doctor_alpha", "doctor_beta", "max_logit", "max_logit_pnorm", "msr+eps"),
    *("radius_grad", "radius_fast"),
)
#: Asked of the images under corruption and of those of no class, of these trainings and seeds.
FEW_SCORES = ("msr", "radius_fast")
FEW_VARIANTS = ("standard", "at", "rat")
FEW_SEEDS = 3
#: What is of no class: digits of scikit-learn, scaled to 28 x 28; and patches of photographs.
OUTSIDE = ("task:digits noise=0", "photos_crop")
#: The regime and the trainings whose radii are drawn, and the score.
DRAWN = ("60000-30-1e-2", ("Standard", "RAT"), "radius_fast")
METRICS = ("aurc", "auroc", "fpr_at_tpr", "augrc", "accuracy")


# ---------------------------------------------------------------------------------- what is asked


def finished(regime: Path) -> list[Path]:
    """The trainings in a folder that have gone through their last epoch, variant by variant."""
    found = []
    for log in sorted(regime.glob("*/log.csv")):
        epochs = load_recipe(log.parent / "recipe.yaml").training.epochs
        with log.open(encoding="utf-8", newline="") as file:
            gone = [int(row["epoch"]) for row in csv.DictReader(file)]
        if gone[-1:] == [epochs - 1] and (log.parent / "last.pt").is_file():
            found.append(log.parent)
    return sorted(found, key=lambda training: VARIANTS.index(training.name.rpartition("_")[0]))


def is_among_few(training: Path) -> bool:
    """Whether it is evaluated on corruptions and images of no class."""
    variant, _, seed = training.name.rpartition("_")
    return variant in FEW_VARIANTS and int(seed) < FEW_SEEDS


def commands(folder: Path, name: str) -> Iterator[list[str]]:
    """The three evaluations of a regime, as `rrfast` takes them in `folder`."""
    regime = folder / "runs" / name
    trainings = finished(regime)
    few = [training for training in trainings if is_among_few(training)]
    whole = len(trainings) == len(list(regime.glob("*/recipe.yaml")))
    options = ["--draws", "0", "--device", "cpu", "--every-run"]

    def command(chosen: Sequence[Path], out: str, scores: Sequence[str], *more: str) -> list[str]:
        sources = [regime] if whole and chosen is trainings else chosen
        models = [str(source.relative_to(folder)) for source in sources]
        asked = ["--scores", ",".join(scores), *more, *options, "--out", f"evaluated/{out}"]
        return ["evaluate", *models, *asked]

    if trainings:
        yield command(trainings, name, SCORES, "--no-sensitivity")
    if few:
        corrupted = ("--no-sensitivity", "--corruptions")
        yield command(few, f"{name}-corruptions", FEW_SCORES, *corrupted)
        outside = ("--against", ",".join(OUTSIDE), "--images", "2000", "--no-diagnostics")
        yield command(few, name, FEW_SCORES, "--protocol", "ood", *outside)


# ----------------------------------------------------------------------------------- what is kept


def kept(folder: Path, name: str) -> dict[str, Any]:
    """Of the evaluations of a regime what the page is made from: a row per network and score."""
    out = folder / "evaluated"
    main = _read(out / name / "evaluation.json")
    assert main is not None, f"{name} is not evaluated"
    corrupted = _by_network(_read(out / f"{name}-corruptions" / "evaluation.json"))
    outside = _by_network(_read(out / name / "ood.json"))
    rows = []
    for run in main["runs"]:
        network = (run["training"], run["seed"], run["score"])
        row = {key: run[key] for key in ("training", "seed", "split", "score", "data", "network")}
        row |= {key: run[key] for key in ("validation_aurc", *METRICS)}
        if (name, run["score"]) == (DRAWN[0], DRAWN[2]) and run["training"] in DRAWN[1]:
            row["histogram"] = run["histogram"]
        if network in corrupted:
            [found] = corrupted[network]
            row["corruptions"] = found["corruptions"]
        if network in outside:
            row["outside"] = {
                found["set"]: {key: found[key] for key in ("auroc", "fpr")}
                for found in outside[network]
            }
        rows.append(_rounded(row))
    head = {key: main[key] for key in ("date", "device", "versions")}
    return {"regime": name, **head, "images": main["runs"][0]["images"], "rows": rows}


def keep(folder: Path, name: str, beside: Path = HERE) -> None:
    """Write it, and the tables of the evaluations, where no network of earlier ones is lost."""
    found, path = kept(folder, name), beside / f"{name}.json"
    lost = (
        _networks(json.loads(path.read_text("utf-8"))) - _networks(found) if path.is_file() else ()
    )
    if lost:
        said = ", ".join(f"{training} {seed}" for training, seed in sorted(lost))
        sys.exit(
            f"{path} has networks that {folder} lacks ({said}): delete it to write without them."
        )
    text = json.dumps(found).replace('{"training"', '\n{"training"')
    path.write_text(text + "\n", encoding="utf-8")
    (beside / f"{name}.md").write_text(evaluated(folder, name), encoding="utf-8")


def _networks(result: dict[str, Any]) -> set[tuple[str, int]]:
    return {(row["training"], row["seed"]) for row in result["rows"]}


def evaluated(folder: Path, name: str) -> str:
    """Those of `rrfast evaluate`, without the figures, one evaluation after the other."""
    out = folder / "evaluated"
    results = (
        ("misd", _read(out / name / "evaluation.json")),
        ("misd", _read(out / f"{name}-corruptions" / "evaluation.json")),
        ("ood", _read(out / name / "ood.json")),
    )
    return "\n".join(evaluation.page(STUDIES[study], result) for study, result in results if result)


def _read(path: Path) -> dict[str, Any] | None:
    return read_result(path) if path.is_file() else None


def _by_network(result: dict[str, Any] | None) -> dict[tuple[str, int, str], list[dict[str, Any]]]:
    found: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for run in result["runs"] if result else ():
        if run.get("kind", "score") == "score":
            found.setdefault((run["training"], run["seed"], run["score"]), []).append(run)
    return found


def _rounded(value: Any) -> Any:
    """To six digits after the point, of which tables show five at most."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value


# -------------------------------------------------------------------------------------------- page


#: For README.md of the project, and for docs/papers/rat.md.
SHOWN = {"summary": summary, "claims": claims}
CONVENTION = (
    "Mean ± standard error over seeds, of one seed without; the difference is paired by seed, ✓ "
    "better and ✗ worse beyond the noise of Student's t at 95 %, · undecided. The radius is "
    "`radius_fast`."
)
INTRODUCTION = """
A small CNN (three strided convolutions with BatchNorm) and a ResNet-20 on real images, from few
epochs to the point where training accuracy is 100 %, by eight objectives, over five seeds (the
ResNet three). A regime is written as training images × epochs; ε is the step of RAT, AT and
ReverseAT in units of [0, 1]. Temperature and step of every score are chosen by AURC on 2,000 images
of the test split, and the other 8,000 are tested on; each seed has another division. So all seeds
are tested on the same 10,000 images, and the errors are of other trainings: for other images they
are too small.

All numbers are the mean ± standard error over seeds. Differences are paired by seed; ✓ better and ✗
worse: 0 is outside the 95 % interval of Student's t (by chance in one of twenty comparisons without
a difference); · is undecided, "(noise)" in a sentence. Lower AURC is better, and higher AUROC and
accuracy. Every sentence and table of this page is made from the JSON files next to it. An answer is
yes if all comparisons are better, and no if some are worse and none is better.
"""
COMMANDS = """
The last line runs `rrfast evaluate` on every finished training, repeats no work, and writes this
page. Corruptions (severity 3) and images of no class are evaluated for the first three seeds of
Standard, AT and RAT. The tables of `rrfast evaluate`, with
its commands below them:
"""


def page(results: Sequence[dict[str, Any]]) -> str:
    """All of README.md."""
    study = Study(results)
    trained = [regime for regime in REGIMES if regime.name in {r["regime"] for r in results}]
    where = "; ".join(sorted({f"{r['device']}, torch {r['versions']['torch']}" for r in results}))
    dates = sorted(result["date"] for result in results)
    commands = "\n".join(f"{regime.command}" for regime in REGIMES)
    missing = list(_missing(results))
    open_ = f"\nNot trained, or not evaluated, yet: {', '.join(missing)}.\n" if missing else ""
    each = "\n".join(f"* {answer}" for answer in answers(study))
    full = ", ".join(f"[{regime.name}]({regime.name}.md)" for regime in trained)
    return f"""# Fashion-MNIST, the reference study

{INTRODUCTION.strip()}
{open_}
## What came out

{each}

![AURC by regime, and what goes with it](fashion.png)

Left: MSR filled, the radius hollow. Right: a point for each network, above the line MSR wins.

{markdown(blocks(study))}

## The commands

```text
{commands}
python docs/evaluate/fashion/study.py .
```

{COMMANDS.strip()} {full}.

{where}; {dates[0]} to {dates[-1]}. Written by `python docs/evaluate/fashion/study.py`.
"""


def _missing(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Regimes without results, and others with the trainings and seeds that they lack."""
    there = {result["regime"]: result for result in results}
    for regime in REGIMES:
        if regime.name not in there:
            yield regime.name
            continue
        seeds = Counter(training for training, _ in _networks(there[regime.name]))
        lacking = [
            f"{name}, {seeds[name]} of {regime.seeds} seeds" if seeds[name] else name
            for name in (PRINTED[variant] for variant in regime.variants)
            if seeds[name] < regime.seeds
        ]
        if lacking:
            yield f"{regime.name} ({'; '.join(lacking)})"


def load(folder: Path) -> list[dict[str, Any]]:
    """The results that are in a folder, in the order of `REGIMES`."""
    paths = [folder / f"{regime.name}.json" for regime in REGIMES]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def write(folder: Path) -> None:
    """README.md and its figures, and the tables that other pages show."""
    results = load(folder)
    study = Study(results)
    (folder / "README.md").write_text(page(results), encoding="utf-8")
    for name, table in SHOWN.items():
        (folder / f"{name}.md").write_text(shown(table(study)), encoding="utf-8")
    write_figure(folder / "fashion.png", figure(study), dpi=100)
    drawn = [row for result in results for row in result["rows"] if "histogram" in row]
    if drawn:
        write_figure(folder / "radius.png", radius_histograms(drawn), dpi=100)


def shown(table: Block) -> str:
    """A table for another page, without a title."""
    return f"{markdown_table(table)}\n\n{CONVENTION}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="with runs/, for evaluated/")
    parser.add_argument("regimes", nargs="*", help="names of folders in runs/ (all that are there)")
    arguments = parser.parse_args()
    if arguments.folder and not (arguments.folder / "runs").is_dir():
        parser.error(f"folder must have the folder runs in it, got {arguments.folder}")
    strange = sorted(set(arguments.regimes) - set(BY_NAME))
    if strange:
        parser.error(f"regimes must be of {', '.join(BY_NAME)}, got {strange[0]}")
    for name in (arguments.regimes or BY_NAME) if arguments.folder else ():
        asked = list(commands(arguments.folder, name))
        for command in asked:
            print("rrfast", *command, flush=True)
            subprocess.run(
                [sys.executable, "-m", "rrfast", *command], cwd=arguments.folder, check=True
            )
        if asked:
            keep(arguments.folder, name)
    write(HERE)


if __name__ == "__main__":
    main()
