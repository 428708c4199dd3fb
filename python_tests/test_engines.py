"""`rrfast.inference.Scorer`, by itself and in the engines that spread its batches."""

from __future__ import annotations

import io
import math
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")

from PIL import Image

import rrfast
from rrfast.inference import Scorer

#: Kills its process at the first image that is nearly white, and only once.
MODEL = """
import os, signal
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)
        )

    def forward(self, x):
        killed = os.environ.get("KILLED")
        if killed and x.shape[-1] == 14 and not os.path.exists(killed):
            open(killed, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        dark = x.mean(dim=(1, 2, 3)) < 0.05
        return self.net(x).masked_fill(dark[:, None], float("nan"))

def net():
    return Net()
"""
N = 40
#: The image at which a worker is killed: another size, which only this one has.
FATAL = 23


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("nets") / "net.py"
    path.write_text(MODEL, encoding="utf-8")
    return f"{path}:net"


def pixels(i: int) -> Any:
    side = 14 if i == FATAL else 12
    return np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)


def encoded() -> list[bytes]:
    images = []
    for i in range(N):
        file = io.BytesIO()
        Image.fromarray(pixels(i)).save(file, "PNG")
        images.append(file.getvalue())
    images[5] = b"no image"
    return images


def expected(net: str) -> dict[str, Any]:
    scorer = Scorer(net, score="radius_fast", threshold=0.02, device="cpu")
    return scorer.scores(encoded())


# ------------------------------------------------------------------------------- without an engine


def test_the_numbers_are_those_of_radius(net: str) -> None:
    found = expected(net)
    x = torch.stack([torch.tensor(pixels(i)).permute(2, 0, 1) / 255 for i in range(5)])
    model = rrfast.models.load_model(net)
    result = rrfast.radius(model, x, full_output=True)
    assert found["prediction"][:5].tolist() == result.prediction.tolist()
    assert found["rival"][:5].tolist() == result.rival.tolist()
    radius = torch.tensor(found["radius_fast"][:5])
    torch.testing.assert_close(radius, result.radius.double(), rtol=1e-4, atol=0)
    assert found["accept"].tolist() == (found["radius_fast"] >= 0.02).tolist()
    assert found["error"][5].startswith("the image cannot be read as an image: ")
    assert (found["prediction"][5], found["rival"][5]) == (-1, -1)
    assert np.isnan(found["radius_fast"][5])


def test_it_takes_what_engines_read(net: str) -> None:
    scorer = Scorer(net, device="cpu")
    array = pixels(0)
    chw = array.transpose(2, 0, 1).astype(np.float32) / 255
    images = [encoded()[0], {"bytes": encoded()[0], "path": None}, array, chw]
    found = scorer({"image": images, "id": np.arange(4)})
    assert list(found) == ["image", "id", "prediction", "rival", "msr", "error"]
    assert found["msr"].tolist() == [found["msr"][0]] * 4
    assert {str(column.dtype) for name, column in found.items() if name not in {"image", "id"}} == {
        "int64",
        "float64",
        "object",
    }
    wrong = [None, {"bytes": None}, array.astype(np.int64), chw * 300, np.full_like(chw, np.nan)]
    # Ray's read_images reads a picture with transparency so; it must not end its whole batch.
    transparent = np.zeros((12, 12, 4), np.uint8)
    dark = np.zeros((12, 12, 3), np.uint8)
    said = scorer.scores([*wrong, dark, transparent])["error"].tolist()
    assert said[:2] == ["the image has no bytes"] * 2
    assert said[2].startswith("the image must be bytes, uint8 [H, W], [H, W, 1] or [H, W, 3], or")
    assert said[3].startswith("the image must be in [0, 1], got pixels from 0 to 300")
    assert said[4] == "the image must be in [0, 1], got pixels from nan to nan"
    assert said[5].startswith("the model's score is NaN")
    assert said[6].endswith("or floating point [C, H, W], got uint8 of shape [12, 12, 4]")
    assert len(scorer.scores([])["msr"]) == 0


def test_what_is_wrong_with_all_is_an_error(net: str) -> None:
    with pytest.raises(KeyError, match=r"batch must have the column 'image' of images, got jpg"):
        Scorer(net)({"jpg": np.zeros(1)})
    with pytest.raises(ValueError, match=r"at most one of .* got \['threshold', 'classifier'\]"):
        Scorer(net, threshold=0.0, classifier="c.pt")
    with pytest.raises(ValueError, match="threshold must be a number, got NaN, which accepts noth"):
        Scorer(net, threshold=float("nan"))
    with pytest.raises(TypeError, match="threshold must be a number, got str 'high'"):
        Scorer(net, threshold="high")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="channels must be 1 or 3 for encoded images, got 2"):
        Scorer(net, channels=2)
    with pytest.raises(ValueError, match="size must be an integer of at least 1, got -1"):
        Scorer(net, size=-1)
    told = r"the model, with the score MSR.*, must take images of shape \[1, 12, 12\], and does"
    with pytest.raises(ValueError, match=told):
        Scorer(net).scores([np.zeros((12, 12), np.uint8)])
    with pytest.raises(ValueError, match="is neither a folder nor a model"):
        Scorer("nothing")


# ------------------------------------------------------------------------ the page, in real engines

PAGE = (Path(rrfast.__file__).parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")


def example(title: str, net: str, shards: Path, out: Path) -> str:
    """The example of a section, on this network and these files, on the CPU."""
    [code] = re.findall(
        rf"^## {title}\n.*?```python\n(.*?)```", PAGE, flags=re.DOTALL | re.MULTILINE
    )
    changes = {
        '"torchvision:resnet50"': repr(net),
        '"weights": "resnet50.pt", "normalize": "imagenet", "size": 224': '"device": "cpu"',
        'weights="resnet50.pt", normalize="imagenet", size=224': 'device="cpu"',
        '"shards"': repr(str(shards)),
        '"scores"': repr(str(out)),
        "size=8": "size=2",
        "    num_gpus=1,\n": "",
        "batch_size=128": "batch_size=4",
    }
    for old, new in changes.items():
        code = code.replace(old, new)
    assert "resnet50" not in code
    return code


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Eight Parquet files."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    images = encoded()
    (tmp_path / "shards").mkdir()
    for first in range(0, N, 5):
        ids = list(range(first, first + 5))
        table = pa.table({"id": ids, "image": pa.array([images[i] for i in ids], pa.binary())})
        pq.write_table(table, tmp_path / "shards" / f"{first:02}.parquet")
    return tmp_path / "shards"


def assert_each_once(out: Path, net: str) -> None:
    """Each image has one row, with the numbers of one process."""
    import pyarrow.parquet as pq

    rows = sorted(pq.read_table(out).to_pylist(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == list(range(N))
    wanted = expected(net)
    for name in {"prediction", "rival", "accept", "error"} & set(rows[0]):
        assert [row[name] for row in rows] == wanted[name].tolist(), name
    radius = [math.nan if row["radius_fast"] is None else row["radius_fast"] for row in rows]
    # In other batches it is rounded otherwise, which in float32 is 1e-5 of it at most.
    torch.testing.assert_close(
        torch.tensor(radius, dtype=torch.float64),
        torch.tensor(wanted["radius_fast"]),
        rtol=1e-4,
        atol=0,
        equal_nan=True,
    )


def importable() -> str:
    return os.pathsep.join(
        [str(Path(rrfast.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )


@pytest.mark.filterwarnings("ignore")
def test_ray_data_loses_and_doubles_nothing_when_a_worker_is_killed(
    net: str, shards: Path, tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray", exc_type=ImportError)
    told = {"KILLED": str(tmp_path / "killed"), "PYTHONPATH": importable(), "OMP_NUM_THREADS": "1"}
    ray.init(
        num_cpus=4,  # two for the scorers, and those that read and write need some too
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": told},
    )
    try:
        exec(example("Ray Data", net, shards, tmp_path / "scores"), {})
    finally:
        ray.shutdown()
    assert (tmp_path / "killed").exists()
    assert_each_once(tmp_path / "scores", net)


@pytest.mark.filterwarnings("ignore")
def test_spark_loses_and_doubles_nothing_when_a_worker_is_killed(
    net: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = pytest.importorskip("pyspark.sql", exc_type=ImportError)
    pytest.importorskip("pandas", exc_type=ImportError)
    if shutil.which("java") is None:
        pytest.skip("needs Java")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    # Two workers, and three more tries of a task, of which a machine alone would have none.
    builder = sql.SparkSession.builder.master("local[2,4]").config("spark.ui.enabled", "false")
    told = {"KILLED": str(tmp_path / "killed"), "PYTHONPATH": importable(), "OMP_NUM_THREADS": "1"}
    for name, value in told.items():
        builder = builder.config(f"spark.executorEnv.{name}", value)
    spark = builder.getOrCreate()
    try:
        spark.sparkContext.setLogLevel("OFF")
        exec(example("Spark", net, shards, tmp_path / "scores"), {"spark": spark})
    finally:
        spark.stop()
    assert (tmp_path / "killed").exists()
    assert_each_once(tmp_path / "scores", net)
