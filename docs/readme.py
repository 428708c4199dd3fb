"""Puts the committed results into README.md, and into two pages of docs: `make readme`.

What stands between `<!-- NAME -->` and `<!-- /NAME -->` is replaced by the part of that name, so
that every number there comes from a file that a command wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: What the README shows of each op: one case that is common and does not fit into any cache.
CASES = {
    "direction_seed": "1024x1000-float32",
    "linear_radius": "1024x1000-float32",
    "bisection_step_": "1024x1000-float32",
    "search_step_": "1024x1000-float32",
    "fgsm_step": "64x3x224x224-float32",
    "perturb": "64x3x224x224-float32",
    "rat_perturb": "64x3x224x224-float32",
    "plane_distance": "64x3x224x224-float32",
    "probe_step": "64x3x224x224-float32",
    "plane_seed": "1024x1000-float32",
    "loss_seed": "1024x1000-float32",
    "redirect_": "64x3x224x224-float32",
    "probability_margin": "1024x1000-float32",
}


def demo() -> str:
    """The demo's page, its table first, without title and figure."""
    page = (ROOT / "docs" / "demo" / "demo.md").read_text(encoding="utf-8").strip()
    blocks = [block for block in page.split("\n\n") if not block.startswith(("#", "!", "**"))]
    return "\n\n".join(sorted(blocks, key=lambda block: not block.startswith("|")))


def fashion() -> str:
    """What the study on Fashion-MNIST has found, in a table."""
    return _of_the_study("summary")


def fashion_claims() -> str:
    """What became of RAT's claims in it."""
    return _of_the_study("claims")


def _of_the_study(name: str) -> str:
    path = ROOT / "docs" / "evaluate" / "fashion" / f"{name}.md"
    return path.read_text(encoding="utf-8").strip()


def radius_default() -> str:
    """What the default was chosen by, of every device that has it."""
    return "\n\n".join(
        _radius_default_of(path)
        for path in sorted(ROOT.glob("benchmarks/results/*/radius_default.md"))
    )


def _radius_default_of(path: Path) -> str:
    """All but the title, up to the fourth table."""
    _, *blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    tables = [i for i, block in enumerate(blocks) if block.startswith("## ")]
    shown = "\n\n".join(blocks[: tables[3]]).replace("## ", "### ")
    return f"{shown}\n\n[All of it](../../benchmarks/results/{path.parent.name}/{path.name})."


def ops() -> str:
    """A line per op, from every device that has results."""
    return "\n\n".join(map(_ops_of, sorted(ROOT.glob("benchmarks/results/*/ops.json"))))


def _ops_of(path: Path) -> str:
    results = json.loads(path.read_text(encoding="utf-8"))
    where = results["environment"]
    lines = [
        "{device}, {threads} threads, torch {torch}, {date}.\n".format(**where),
        "| op | case | ms | eager torch ÷ fused | `torch.compile` ÷ fused |",
        "|---|---|--:|--:|--:|",
        *(_line(entry) for entry in _shown(results["benchmarks"])),
        f"\n[All of it](benchmarks/results/{path.parent.name}/ops.md).",
    ]
    return "\n".join(lines)


def _shown(entries: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    by_case = {(entry.get("op"), entry["case"]): entry for entry in entries}
    # Results may be older than an op; of one that they have, the case must be among them.
    measured = {op for op, _ in by_case}
    return (by_case[op, case] for op, case in CASES.items() if op in measured)


def _line(entry: dict[str, Any]) -> str:
    times = entry["times"]
    fused = f"{entry['ms']['fused']:.3g}"
    rivals = f"{times['eager']:.1f} | {times['compiled']:.1f}"
    return f"| `{entry['op']}` | {entry['case']} | {fused} | {rivals} |"


#: The parts of each page.
PAGES: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {"demo": demo, "fashion": fashion, "ops": ops},
    ROOT / "docs" / "papers" / "rat.md": {"fashion_claims": fashion_claims},
    ROOT / "docs" / "radius" / "README.md": {"radius_default": radius_default},
}


def assembled(path: Path) -> str:
    """The page with every part as the committed files have it."""
    page = path.read_text(encoding="utf-8")
    for name, part in PAGES[path].items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        text = f"{begin}\n\n{part()}\n\n{end}"
        pattern = re.compile(f"{begin}.*?{end}", flags=re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise SystemExit(f"{path.name} must have {begin} ... {end} exactly once")
        page = pattern.sub(lambda _, text=text: text, page)
    return page


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(assembled(path), encoding="utf-8")
