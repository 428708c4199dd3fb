"""`rrfast score` on shards: WebDataset's tar files, and Parquet with encoded images."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from forked import Done, run
from rich.console import Console
from torch import Tensor

pytest.importorskip("lightning_fabric")
pytest.importorskip("webdataset")
pytest.importorskip("pyarrow")
pytest.importorskip("PIL")

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rrfast.inference import score
from rrfast.inference.inputs import open_images
from rrfast.inference.shards import Shards

MODEL = """
from torch import nn

def net():
    pool = nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), pool, nn.Flatten(), nn.Linear(16, 5))
"""
#: Images of each shard.
SIZES = (7, 1, 9, 6)
OPTIONS = ["--batch", "4", "--device", "cpu", "--score", "radius_fast", "--threshold", "0.02"]


def png(seed: int, side: int = 12) -> bytes:
    array = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def table(path: Path, images: list[bytes | None], group: int = 3, page: int = 1024) -> None:
    """As the library datasets writes it: a struct of bytes and path."""
    values = [{"bytes": data, "path": None} for data in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    labels = pa.array(range(len(images)), type=pa.int64())
    columns = {"image": pa.array(values, type=kind), "label": labels}
    size = {"row_group_size": group, "write_batch_size": page, "data_page_size": 1 << 16}
    pq.write_table(pa.table(columns), path, **size)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images as files, in tar files and in Parquet files."""
    root = tmp_path_factory.mktemp("inputs")
    for kind in ("files", "tar", "parquet"):
        (root / kind).mkdir()
    (root / "net.py").write_text(MODEL, encoding="utf-8")
    seed = 0
    for shard, size in enumerate(SIZES):
        images = [png(seed + i) for i in range(size)]
        seed += size
        (root / "files" / f"{shard}").mkdir()
        for i, data in enumerate(images):
            (root / "files" / f"{shard}" / f"{i:03}.png").write_bytes(data)
        members = [
            (f"{i:03}.{end}", value)
            for i, data in enumerate(images)
            for end, value in (("cls", b"0"), ("png", data), ("seg.png", b"no image of a sample"))
        ]
        tar(root / "tar" / f"{shard}.tar", members)
        table(root / "parquet" / f"{shard}.parquet", images)
    return root


def scored(inputs: Path, source: Path, out: Path, **options: Any) -> list[dict[str, str]]:
    quiet = {"device": "cpu", "console": Console(quiet=True), "batch": 4, "score": "radius_fast"}
    score(f"{inputs}/net.py:net", source, out, **{**quiet, **options})
    return rows(out)


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def named(shard: int, i: int, kind: str) -> str:
    inside = {"files": f"/{i:03}.png", "tar": f".tar/{i:03}.png", "parquet": f".parquet/{i}"}
    return f"{shard}{inside[kind]}"


@pytest.mark.parametrize("kind", ["tar", "parquet"])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_rows_are_those_of_the_files(
    inputs: Path, tmp_path: Path, kind: str, workers: int
) -> None:
    files = scored(inputs, inputs / "files", tmp_path / "f.csv", part=1, batch=1)
    found = scored(inputs, inputs / kind, tmp_path / "s.csv", workers=workers, batch=1)
    places = [(shard, i) for shard, size in enumerate(SIZES) for i in range(size)]
    assert [row["image"] for row in files] == [named(*place, "files") for place in places]
    assert [row["image"] for row in found] == [named(*place, kind) for place in places]
    assert {row["error"] for row in found} == {""}
    assert [{**row, "image": ""} for row in found] == [{**row, "image": ""} for row in files]


class Ends(NamedTuple):
    folder: Path
    done: list[Done]


@pytest.fixture(scope="module")
def ends(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Ends:
    folder = tmp_path_factory.mktemp("ends")

    def job(kind: str, name: str, **more: Any) -> dict[str, Any]:
        given = ["score", f"{inputs}/net.py:net", str(inputs / kind), *OPTIONS, "--out"]
        return {"argv": [*given, str(folder / name / "s.csv")], **more}

    jobs: list[dict[str, Any]] = []
    for kind in ("tar", "parquet"):
        again = f"{kind} killed"
        jobs += [
            job(kind, f"{kind} one"),
            # In the third shard's part: a part takes two, its file and its folder.
            job(kind, again, kill_at_fsync=7),
            {"copy": [str(folder / again), str(folder / f"{again} as it was")]},
            job(kind, again, world=3),
            job(kind, f"{kind} three", torchrun=3),
        ]
    return Ends(folder, run(folder, jobs))


@pytest.mark.parametrize(("kind", "first"), [("tar", 0), ("parquet", 5)])
def test_a_killed_run_goes_on_by_shard_in_any_number_of_processes(
    ends: Ends, kind: str, first: int
) -> None:
    one, killed, _, again, three = ends.done[first : first + 5]
    assert [done.code for done in (one, killed, again, three)] == [0, -9, 0, 0], again.err
    left = [path.name for path in (ends.folder / f"{kind} killed as it was/s.csv.parts").iterdir()]
    # Whole shards are kept, and nothing of the one in which it was killed.
    kept = sorted(name for name in left if not name.endswith(".partial"))
    assert kept == ["000000.json", "000001.json", "manifest.json"]
    whole = (ends.folder / f"{kind} one" / "s.csv").read_bytes()
    assert whole.count(b"\n") == 1 + sum(SIZES)
    for name in ("killed", "three"):
        assert (ends.folder / f"{kind} {name}" / "s.csv").read_bytes() == whole
        assert sorted(path.name for path in (ends.folder / f"{kind} {name}").iterdir()) == [
            "s.csv",
            "s.csv.json",
        ]


def test_a_part_is_written_with_its_shard_and_the_next_run_does_the_rest(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, read = Shards.stream, []

    def watched(self: Shards, shard: int) -> Iterator[tuple[str, Tensor | str]]:
        read.append(shard)
        if read.count(2) == 1 and shard == 2:
            raise KeyboardInterrupt
        return stream(self, shard)

    monkeypatch.setattr(Shards, "stream", watched)
    with pytest.raises(KeyboardInterrupt):
        scored(inputs, inputs / "tar", tmp_path / "s.csv")
    read[:] = [2]
    assert len(scored(inputs, inputs / "tar", tmp_path / "s.csv")) == sum(SIZES)
    assert read == [2, 0, 2, 3]  # the first image again, for its shape
    told = json.loads((tmp_path / "s.csv.json").read_text(encoding="utf-8"))
    assert told["pinned"]["images"].startswith("4 shards of fingerprint ")
    # Another shard is another input.
    with pytest.raises(FileExistsError, match="is there already, and complete"):
        scored(inputs, inputs / "tar", tmp_path / "s.csv")


# ------------------------------------------------------------------------------- what can be wrong


def errors(found: list[dict[str, str]]) -> dict[str, str]:
    return {row["image"]: row["error"] for row in found if row["error"]}


def test_a_tar_file_that_is_damaged_loses_no_other_row(inputs: Path, tmp_path: Path) -> None:
    shards = tmp_path / "in"
    shards.mkdir()
    good = [(f"{i}.png", png(i)) for i in range(3)]
    tar(shards / "0.tar", good)
    tar(shards / "1.tar", [good[0], ("bad.png", b"no image"), good[2]])
    # Cut in the second image, behind it, in the third header; compressed in the middle.
    tar(shards / "2.tar", good)
    whole = (shards / "2.tar").read_bytes()
    second, third = whole.index(b"1.png"), whole.index(b"2.png")
    for name, end in (("2.tar", second + 700), ("2b.tar", third), ("2c.tar", third + 100)):
        (shards / name).write_bytes(whole[:end])
    (shards / "2d.tgz").write_bytes(gzip.compress(whole)[:-500])
    (shards / "2e.tar.gz").write_bytes(gzip.compress(whole))
    (shards / "3.tar").write_bytes(b"")
    tar(shards / "4.tar", [("0.txt", b"text"), (".0.png", png(0))])
    (shards / "5.tar").symlink_to(tmp_path / "gone.tar")
    # A name twice, at once and later; two images in one sample; a sample's name with a dot.
    tar(
        shards / "6.tar",
        [
            *(good[0], good[0], good[1], good[0]),
            *(("both.png", png(0)), ("both.jpg", png(0))),
            ("v1.0/x.PNG", png(3)),
        ],
    )
    (shards / "7.tar").write_bytes(b"not a tar file at all" * 100)
    found = scored(inputs, shards, tmp_path / "s.csv")
    said = errors(found)
    names = [row["image"] for row in found]
    assert names[:5] == [
        "0.tar/0.png",
        "0.tar/1.png",
        "0.tar/2.png",
        "1.tar/0.png",
        "1.tar/bad.png",
    ]
    # No address in memory: a run that goes on would write another.
    told = "1.tar/bad.png cannot be read as an image: cannot identify image file"
    assert said.pop("1.tar/bad.png") == told
    assert said.pop("2.tar") == (
        "2.tar cannot be read behind image 1: it is no tar file, or is cut off (unexpected end of "
        "data)"
    )
    for name in ("2b.tar", "2c.tar"):
        assert said.pop(name) == (
            f"{name} cannot be read behind image 2: it is cut off: the end that a tar file has is "
            "missing"
        )
        assert {f"{name}/0.png", f"{name}/1.png"} < set(names)
    assert said.pop("2d.tgz").startswith("2d.tgz cannot be read behind image ")
    assert {f"2e.tar.gz/{i}.png" for i in range(3)} < set(names)
    assert said.pop("3.tar").startswith("3.tar cannot be read behind image 0: it is no tar file")
    assert said.pop("4.tar") == "4.tar has no image: no .png, .jpg, .jpeg"
    assert (
        said.pop("5.tar") == "5.tar cannot be read behind image 0: [Errno 2] No such file or "
        "directory: '5.tar'"
    )
    again = "is in the shard a second time: the first is scored"
    assert names.count("6.tar/0.png") == 3
    assert said.pop("6.tar/0.png") == f"6.tar/0.png {again}"
    several = "is one of several images of its sample: png, jpg"
    assert said.pop("6.tar/both.png") == f"6.tar/both.png {several}"
    assert said.pop("6.tar/both.jpg") == f"6.tar/both.jpg {several}"
    assert names.index("6.tar/v1.0/x.png") > 0
    assert said.pop("7.tar").startswith("7.tar cannot be read behind image 0: it is no tar file")
    assert said == {}


def test_no_image_of_a_tar_file_is_lost_in_silence(inputs: Path, tmp_path: Path) -> None:
    """Links, and names that WebDataset takes for another kind of file."""
    shards = tmp_path / "in"
    shards.mkdir()
    tar(shards / "0.tar", [("x.1.png", png(0)), ("x.2.png", png(1)), ("y.png", png(2))])
    with tarfile.open(shards / "0.tar", "a") as file:
        for name, kind in (("dir.png", tarfile.DIRTYPE), ("s.png", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "y.png"
            file.addfile(info)
    (shards / "1.tar").write_bytes(b"")
    found = scored(inputs, shards, tmp_path / "s.csv")
    assert [row["image"] for row in found] == ["0.tar/x", "0.tar/y.png", "0.tar/s.png", "1.tar"]
    said = errors(found)
    assert said["0.tar/x"].startswith("0.tar/x has no image that WebDataset would find: what foll")
    assert said["0.tar/s.png"].startswith("0.tar/s.png is a link in the tar file, without bytes")
    # No address in memory, which another run would not write.
    no_tar = "1.tar cannot be read behind image 0: it is no tar file, or is cut off (empty file)"
    assert said["1.tar"] == no_tar


def test_a_parquet_file_that_is_damaged_loses_no_other_row(inputs: Path, tmp_path: Path) -> None:
    shards = tmp_path / "in"
    shards.mkdir()
    good = [png(i) for i in range(5)]
    table(shards / "0.parquet", good)
    table(shards / "1.parquet", [good[0], b"no image", None, good[1]])
    (shards / "2.parquet").write_bytes((shards / "0.parquet").read_bytes()[:-40])
    (shards / "3.parquet").write_bytes(b"")
    table(shards / "4.parquet", [])
    pq.write_table(pa.table({"label": [1, 2]}), shards / "5.parquet")
    pq.write_table(pa.table({"jpg": pa.array(good), "mask": pa.array(good)}), shards / "6.parquet")
    twice = pa.Table.from_arrays([pa.array(good)] * 2, names=["image", "image"])
    pq.write_table(twice, shards / "7.parquet")
    # A column's name with a dot, and bytes as Polars writes them.
    pq.write_table(pa.table({"my.image": pa.array(good)}), shards / "8.parquet")
    view = pa.array(good, type=pa.binary_view())
    pq.write_table(pa.table({"image": view}), shards / "9.parquet")
    found = scored(inputs, shards, tmp_path / "s.csv")
    said = errors(found)
    assert said.pop("1.parquet/1").startswith("1.parquet/1 cannot be read as an image: ")
    assert said.pop("1.parquet/2") == "1.parquet/2 has no bytes"
    for shard in ("2.parquet", "3.parquet"):
        assert said.pop(shard).startswith(f"{shard} cannot be read behind image 0: ")
    assert said.pop("4.parquet") == "4.parquet has no image: no row"
    assert said.pop("5.parquet") == (
        "5.parquet cannot be read behind image 0: it must have one column of encoded images, of "
        "type binary or struct with bytes, or one of several that is named image, got the columns "
        "label (int64)"
    )
    assert said.pop("7.parquet").endswith("got the columns image (binary), image (binary)")
    assert said == {}
    for shard in ("6.parquet", "8.parquet", "9.parquet"):
        assert sum(row["image"].startswith(f"{shard}/") for row in found) == 5


def test_a_shard_that_vanishes_while_it_is_waited_for_is_a_row(
    inputs: Path, tmp_path: Path
) -> None:
    tar(tmp_path / "0.tar", [("0.png", png(0))])
    tar(tmp_path / "1.tar", [("0.png", png(0))])
    images = open_images(tmp_path)
    assert isinstance(images, Shards)
    (tmp_path / "1.tar").unlink()
    found = [item for shard in range(2) for item in images.stream(shard)]
    assert found[0][0] == "0.tar/0.png"
    assert found[1] == (
        "1.tar",
        "1.tar cannot be read behind image 0: [Errno 2] No such file or directory: '1.tar'",
    )


def test_one_file_is_a_shard_and_kinds_are_not_mixed(inputs: Path, tmp_path: Path) -> None:
    found = scored(inputs, inputs / "tar" / "2.tar", tmp_path / "s.csv")
    assert [row["image"] for row in found] == [f"2.tar/{i:03}.png" for i in range(9)]
    (tmp_path / "in").mkdir()
    with pytest.raises(FileNotFoundError, match=r"input has no image: .* and no shards in it"):
        open_images(tmp_path / "in")
    (tmp_path / "in" / "0.tar").touch()
    (tmp_path / "in" / "0.parquet").touch()
    told = "input must have shards of one kind, and .* has tar shards and Parquet files"
    with pytest.raises(ValueError, match=told):
        open_images(tmp_path / "in")
    # Beside images, shards are files like any other, as ever.
    (tmp_path / "in" / "0.png").write_bytes(png(0))
    assert len(open_images(tmp_path / "in")) == 1


@pytest.mark.parametrize(
    ("end", "module", "told"),
    [
        (".tar", "webdataset", "tar shards needs webdataset, which does not import: .*webdataset"),
        (".parquet", "pyarrow", "Parquet files needs pyarrow, which does not import: .*pyarrow"),
    ],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, module: str, told: str
) -> None:
    (tmp_path / f"0{end}").touch()
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"{told}.*pip install {module}"):
        open_images(tmp_path)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_the_gallery_shows_images_of_shards(inputs: Path, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("jinja2")
    page = tmp_path / "g.html"
    scored(inputs, inputs / kind, tmp_path / "s.csv", gallery=page, gallery_images=3)
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 4  # 3 and a tenth as many, at least one


def peak(images: Shards) -> int:
    """Python's largest memory, and Arrow's, while all is read and dropped."""
    before = pa.total_allocated_bytes()
    most = 0
    tracemalloc.start()
    for shard in range(len(images)):
        for _, pixels in images.stream(shard):
            assert isinstance(pixels, Tensor)
            most = max(most, pa.total_allocated_bytes() - before)
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return python + most


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_the_memory_does_not_grow_with_the_shard(tmp_path: Path, kind: str) -> None:
    """Four times the images in one shard, and one row group of many pages."""
    image = png(0, side=64)  # 12 KB: noise does not compress
    peaks = []
    for images in (100, 400):
        folder = tmp_path / str(images)
        folder.mkdir()
        if kind == "tar":
            tar(folder / "0.tar", [(f"{i:04}.png", image) for i in range(images)])
        else:
            table(folder / "0.parquet", [png(i, 64) for i in range(images)], group=images, page=8)
        shards = open_images(folder)
        assert isinstance(shards, Shards)
        peaks.append(peak(shards))
    assert peaks[1] < 1.2 * peaks[0], peaks
