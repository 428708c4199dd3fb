"""Checks the promises of "search" and "refined": `python -m benchmarks.radius_quality MODELS`.

MODELS is the folder of `python -m benchmarks.train_models MODELS --seeds 5 --threads 1`. Two tables
for both of its models, over its seeds:

- the error of "search" against 60 bisections in float64 on the same ray, and of fewer and more
  forwards than its own;
- "refined" against adv-lib's FAB with ten steps (`pip install --no-deps adv-lib==0.2.8`):
  passes, radius, AURC. Both inside the box [0, 1]. The difference of the AURC is given by its mean
  over the seeds, with an interval from resampling the images of each seed separately.

Writes results/<device>/radius.json and radius.md; about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

import rrfast
from benchmarks.__main__ import slug
from rrfast._machine import machine
from rrfast.bench.peers import Counted
from rrfast.data import digits, synthetic
from rrfast.engine import Engine
from rrfast.metrics import aurc
from rrfast.models import digits_cnn, load_model

HERE = Path(__file__).parent
#: Options of "search"; the first are its defaults.
SEARCHES: tuple[dict[str, Any], ...] = ({}, {"budget": 5}, {"budget": 7}, {"tol": 1e-3})
BATCH, DRAWS = 250, 2000
#: Number of images per model for the bisection, which takes 84 forwards in float64.
BISECTED = 200
Row = dict[str, Any]


def load(name: str, seed: int, folder: Path, samples: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A trained model and the first test images, with labels."""
    if name == "digits_cnn":
        model, test = digits_cnn(), digits(seed).test
    else:
        model = load_model("pytorchcv:resnet20_cifar10")
        test = synthetic(seed, train=1, validation=1, test=samples).test
    model.load_state_dict(torch.load(folder / f"{name}_{seed}.pt"))
    return model.eval().requires_grad_(False), test.x[:samples], test.y[:samples]


# ------------------------------------------------------------------------------------------- search


def bisected(model: nn.Module, x: Tensor) -> Tensor:
    """The radius on the ray of "search" by 60 bisections in float64, after doubling from 1e-6."""
    with Engine(model) as engine:
        clean = engine.forward_backward(x, 1.0)
    exact, x, sign = copy.deepcopy(model).double(), x.double(), clean.grad.sign().double()
    lower = torch.full((len(x),), 1e-6, dtype=torch.float64)
    upper = torch.full_like(lower, math.inf)
    for _ in range(24 + 60):
        radius = torch.minimum((lower + upper) / 2, 2 * lower)
        flipped = exact(x + radius[:, None, None, None] * sign).argmax(1) != clean.prediction
        lower, upper = torch.where(flipped, lower, radius), torch.where(flipped, radius, upper)
    return torch.where(upper.isinf(), upper, (lower + upper) / 2)


def search_errors(model: nn.Module, x: Tensor) -> list[Row]:
    """One row per setting: relative errors where the ray has a crossing, passes, how many found."""
    exact = torch.cat([bisected(model, part) for part in x.split(BATCH)])
    known = exact.isfinite()
    rows = []
    for options in SEARCHES:
        parts = [
            rrfast.radius(model, part, method="search", full_output=True, **options)
            for part in x.split(BATCH)
        ]
        radius = torch.cat([part.radius for part in parts]).double()
        found = torch.cat([part.found for part in parts])
        error = ((radius - exact) / exact).abs()[known & found]
        levels = torch.tensor([0.5, 0.95, 0.99], dtype=torch.float64)
        median, most, nearly_all = error.quantile(levels).tolist()
        samples = sum(len(part.radius) * part.forwards for part in parts)
        rows.append(
            {
                "options": options,
                "forwards": samples / len(x),
                "backwards": parts[0].backwards,
                "median": median,
                "percentile_95": most,
                "percentile_99": nearly_all,
                "not_bracketed": int((known & ~found).sum()),
                "samples": len(x),
            }
        )
    return rows


# ------------------------------------------------------------------------------------------ refined


def fab10(model: nn.Module, x: Tensor) -> tuple[Tensor, float, float]:
    """The distance of adv-lib's points, infinite without a change of prediction; the passes."""
    sys.path.append(str(HERE.parent / "python_tests"))
    from peers import distance_of, stand_ins  # how to import it without torchvision

    with stand_ins(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from adv_lib.attacks import fab
    counted = Counted(model)
    labels = torch.cat([model(part).argmax(dim=1) for part in x.split(BATCH)])
    distance = torch.cat(
        [
            distance_of(model, part, fab(counted, part, y, norm=math.inf, n_iter=10))
            for part, y in zip(x.split(BATCH), labels.split(BATCH), strict=True)
        ]
    )
    return distance, counted.forwards / len(x), counted.backwards / len(x)


def beside_fab(model: nn.Module, x: Tensor, y: Tensor, seed: int) -> Row:
    """Refined and FAB on the same images, and the difference of AURC on resampled images."""
    theirs, forwards, backwards = fab10(model, x)
    parts = [
        rrfast.radius(model, part, method="refined", bounds=(0, 1), full_output=True)
        for part in x.split(BATCH)
    ]
    ours, upper = (torch.cat([getattr(p, name) for p in parts]) for name in ("radius", "upper"))
    correct = torch.cat([part.prediction for part in parts]) == y
    generator = torch.Generator().manual_seed(seed)
    draws = []
    for _ in range(DRAWS):
        drawn = torch.randint(len(x), (len(x),), generator=generator)
        draws.append(aurc(ours[drawn], correct[drawn]) - aurc(theirs[drawn], correct[drawn]))
    both = upper.isfinite() & theirs.isfinite()
    return {
        "refined": {
            "forwards": parts[0].forwards,
            "backwards": parts[0].backwards,
            "median_radius": ours.median().item(),
            "found": ours.isfinite().float().mean().item(),
            "aurc": aurc(ours, correct),
        },
        "fab": {
            "forwards": forwards,
            "backwards": backwards,
            "median_radius": theirs.median().item(),
            "found": theirs.isfinite().float().mean().item(),
            "aurc": aurc(theirs, correct),
        },
        "median_ratio": (ours / theirs)[both].median().item(),
        "median_ratio_upper": (upper / theirs)[both].median().item(),
        "mean_ratio_upper": (upper / theirs)[both].mean().item(),
        "samples": len(x),
        "errors": int((~correct).sum()),
        "aurc_differences": draws,
    }


# ------------------------------------------------------------------------------------------- tables


def table(results: dict[str, Any]) -> str:
    where = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    command = results["command"]
    lines = [
        "# What `search` and `refined` promise of their radius",
        "",
        f"{where['device']}, {where['threads']} threads; {versions}; {where['date']}; `{command}`",
        "",
        "## search against 60 bisections in float64 on the same ray",
        "",
        (
            "Relative error over the samples that `search` finds; where a ray crosses the boundary "
            "more than once the two may have found different crossings. *left*: samples that it "
            "does not find, though their ray crosses the boundary."
        ),
        "",
        "| model | seed | options | forwards | median | 95 % | 99 % | left |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    for row in results["search"]:
        options = ", ".join(f"{k}={v:g}" for k, v in row["options"].items()) or "defaults"
        errors = " | ".join(f"{row[k]:.1e}" for k in ("median", "percentile_95", "percentile_99"))
        lines.append(
            f"| {row['model']} | {row['seed']} | {options} | {row['forwards']:.2f} | {errors} | "
            f"{row['not_bracketed']} of {row['samples']} |"
        )
    lines += [
        "",
        "## refined beside FAB with ten steps (adv-lib)",
        "",
        (
            "Inside the box [0, 1]. Radius: median over the images; *ratio*: median of refined / "
            "FAB; *upper*: median and mean of the same with the smallest step that `refined` saw "
            "flip in place of its interpolated radius. AURC x 1000, lower is better."
        ),
        "",
        "| model | seed | passes | FAB's passes | radius | FAB's | ratio | upper | AURC | FAB's |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in results["refined"]:
        ours, fab = row["refined"], row["fab"]
        passes = (f"{r['forwards']:.0f} F + {r['backwards']:.0f} B" for r in (ours, fab))
        lines.append(
            f"| {row['model']} | {row['seed']} | {' | '.join(passes)} | "
            f"{ours['median_radius']:.5f} | {fab['median_radius']:.5f} | {row['median_ratio']:.4f} "
            f"| {row['median_ratio_upper']:.4f}, {row['mean_ratio_upper']:.4f} "
            f"| {1000 * ours['aurc']:.3f} | {1000 * fab['aurc']:.3f} |"
        )
    lines.append("")
    for name, summary in results["summary"].items():
        low, high = summary["interval_95"]
        lines.append(
            f"{name}, mean over {summary['seeds']} seeds: AURC x 1000 {summary['refined']:.3f} for "
            f"refined and {summary['fab']:.3f} for FAB; the difference is "
            f"{summary['refined'] - summary['fab']:+.3f}, 95 % interval {low:+.3f} to {high:+.3f} "
            "(images drawn again within each seed; the seeds share images of digits and the "
            "training is not drawn again, so it is too narrow)."
        )
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def summarised(rows: list[Row]) -> dict[str, Any]:
    """Per model, the mean AURCs x 1000 and the interval of their mean difference."""
    summary = {}
    for name in dict.fromkeys(row["model"] for row in rows):
        of_model = [row for row in rows if row["model"] == name]
        draws = torch.tensor([row["aurc_differences"] for row in of_model], dtype=torch.float64)
        levels = torch.tensor([0.025, 0.975], dtype=torch.float64)
        summary[name] = {
            "seeds": len(of_model),
            "interval_95": (1000 * draws.mean(dim=0)).quantile(levels).tolist(),
            **{
                method: 1000 * sum(row[method]["aurc"] for row in of_model) / len(of_model)
                for method in ("refined", "fab")
            },
        }
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        "python -m benchmarks.radius_quality", description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument("models", type=Path, help="the folder of benchmarks.train_models")
    parser.add_argument("--seeds", type=int, default=5, help="0, 1, ... (5)")
    parser.add_argument("--samples", type=int, default=400, help="test images per model (400)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="a folder")
    arguments = parser.parse_args(argv)
    where = machine(torch.device("cpu"))
    results: dict[str, Any] = {"environment": where, "search": [], "refined": []}
    results["command"] = (
        "python -m benchmarks.radius_quality MODELS "
        f"--seeds {arguments.seeds} --samples {arguments.samples}"
    )
    work = [(n, s) for n in ("digits_cnn", "resnet20_synthetic") for s in range(arguments.seeds)]
    for name, seed in track(work, "models"):
        model, x, y = load(name, seed, arguments.models, arguments.samples)
        key = {"model": name, "seed": seed}
        results["search"] += [key | row for row in search_errors(model, x[:BISECTED])]
        results["refined"].append(key | beside_fab(model, x, y, seed))
    results["summary"] = summarised(results["refined"])
    for row in results["refined"]:
        del row["aurc_differences"]
    folder = arguments.results / slug(where["processor"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "radius.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "radius.md").write_text(table(results))
    print(table(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
