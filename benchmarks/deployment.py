"""By how much the confidence of a deployed classifier differs, per network, score and runtime.

    python -m benchmarks.deployment [--rows NETWORK ...] [--results FOLDER]

What `save_onnx` and `save_aoti` return, for random weights, running statistics of their own, and
random inputs of which half are accepted. Writes results/<device>/deployment.md. A minute per row.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import deployed_networks
from benchmarks.__main__ import slug
from rrfast import engine
from rrfast._machine import machine
from rrfast.selective import SelectiveClassifier, save_aoti, save_onnx

HERE = Path(__file__).parent
ROWS = (
    ("Convolutions", "radius_grad"),
    ("Convolutions", "radius_fast"),
    ("ResNet", "radius_grad"),
    ("ResNet", "odin"),
    ("ViT", "radius_grad"),
    ("ViT", "radius_fast"),
    ("Recurrent", "radius_grad"),
    ("Encoder", "msr"),
)
SHAPES = {"Convolutions": (3, 33, 33), "Recurrent": (6, 8), "Encoder": (6, 8)}
SAMPLES = 64


def fitted(network: str, score: str) -> tuple[SelectiveClassifier, Tensor]:
    """A classifier that accepts half of some inputs, and these."""
    torch.manual_seed(0)
    model: nn.Module = getattr(deployed_networks, network)()
    x = torch.rand(SAMPLES, *SHAPES.get(network, (3, 16, 16)))
    for _ in range(3):
        model.train()(x)  # running statistics of its own
    loader = [(x, engine.logits(model, x).argmax(dim=1))]
    return SelectiveClassifier(model.eval(), score).fit(loader, coverage=0.5), x


def row(network: str, score: str) -> str:
    """What a file of each kind differs by."""
    classifier, x = fitted(network, score)
    with tempfile.TemporaryDirectory() as folder:
        onnx = save_onnx(classifier, x, Path(folder, "classifier.onnx"))
        aoti = save_aoti(classifier, x, Path(folder, "classifier.pt2"))
    return f"| `{network}` | `{score}` | {onnx:.1e} | {aoti:.1e} |\n"


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        "python -m benchmarks.deployment", description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--rows", nargs="+", metavar="NETWORK", help="only these networks")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="a folder")
    arguments = parser.parse_args(argv)
    where = machine(torch.device("cpu"))
    text = (
        "# Deployed classifiers\n\nThe largest relative difference of a confidence from the "
        f"classifier's, over {SAMPLES} inputs of small networks. {where['device']}; torch "
        f"{where['versions']['torch']}, onnxruntime {version('onnxruntime')}; {where['date']}. "
        "`python -m benchmarks.deployment`\n\n"
        "| network | score | onnxruntime | AOTInductor |\n|---|---|--:|--:|\n"
    )
    path = arguments.results / slug(where["device"].removeprefix("CPU (").rstrip(")"))
    path.mkdir(parents=True, exist_ok=True)
    for network, score in ROWS:
        if network in (arguments.rows or [network]):
            text += row(network, score)
            (path / "deployment.md").write_text(
                text
            )  # so that an interrupted run keeps its results
            print(text.splitlines()[-1], flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
