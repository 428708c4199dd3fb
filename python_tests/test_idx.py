"""MNIST and its kin: files written here in the true format, whole, truncated and wrong."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from rrfast.data import EMNIST_CLASSES, Released, emnist, fashion_mnist, mnist
from rrfast.data import idx as idx_module
from rrfast.train import TASKS

Bytes = npt.NDArray[np.uint8]
READERS: dict[str, Callable[[Any], Released]] = {
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "emnist": emnist,
}
FASHION = "https://github.com/zalandoresearch/fashion-mnist"
DEBIAN = "Debian has it as the package dataset-fashion-mnist"
SOURCES = {
    "mnist": ("MNIST", "https://github.com/cvdfoundation/mnist"),
    "fashion_mnist": ("Fashion-MNIST", f"{FASHION}, and {DEBIAN}"),
    "emnist": ("EMNIST", "https://www.nist.gov/itl/products-and-services/emnist-dataset"),
}
N = {"train": 7, "test": 5}


def idx(array: Bytes) -> bytes:
    """0, 0, 8 for unsigned bytes, the number of lengths, 4 bytes each, high first; the bytes."""
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


def files(name: str, split: str = "letters") -> dict[str, dict[str, str]]:
    begin = {"train": "train", "test": "t10k"}
    if name == "emnist":
        begin = {part: f"emnist-{split}-{part}" for part in begin}
    return {
        part: {"x": f"{start}-images-idx3-ubyte", "y": f"{start}-labels-idx1-ubyte"}
        for part, start in begin.items()
    }


@pytest.fixture(params=READERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def arrays(name: str) -> dict[str, dict[str, Bytes]]:
    draws = np.random.default_rng(0)
    least, most = (1, 27) if name == "emnist" else (0, 10)
    return {
        part: {
            "x": draws.integers(256, size=(n, 28, 28), dtype=np.uint8),
            "y": np.resize(np.array([least, most - 1, least + 3], dtype=np.uint8), n),
        }
        for part, n in N.items()
    }


@pytest.fixture
def folder(name: str, arrays: dict[str, dict[str, Bytes]], tmp_path: Path) -> Path:
    path = tmp_path / "gzip"
    path.mkdir()
    for part, kinds in files(name).items():
        for kind, file in kinds.items():
            (path / file).write_bytes(idx(arrays[part][kind]))
    return path


def check(data: Released, name: str, arrays: dict[str, dict[str, Bytes]]) -> None:
    for split, part in zip(data, ("train", "test"), strict=True):
        assert (split.x.dtype, split.y.dtype) == (torch.float32, torch.int64)
        assert split.x.shape == (N[part], 1, 28, 28)
        assert split.x.is_contiguous()
        x, y = (torch.tensor(arrays[part][kind]) for kind in ("x", "y"))
        for image, expected in zip(split.x[:, 0], x, strict=True):
            upright = expected.T if name == "emnist" else expected
            assert torch.equal(image, upright / 255)
        assert split.y.tolist() == [int(label) - (name == "emnist") for label in y]


@pytest.mark.parametrize("packed", [False, True])
def test_round_trip(
    packed: bool, name: str, arrays: dict[str, dict[str, Bytes]], folder: Path
) -> None:
    if packed:
        for file in list(folder.iterdir()):
            Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    check(READERS[name](folder), name, arrays)
    check(READERS[name](str(folder)), name, arrays)


def test_float32_whatever_the_default(
    name: str, folder: Path, defaults_of_another_kind: None
) -> None:
    for split in READERS[name](folder):
        assert (split.x.dtype, split.x.device.type) == (torch.float32, "cpu")


def test_the_file_that_is_not_packed_is_read(
    name: str, arrays: dict[str, dict[str, Bytes]], folder: Path
) -> None:
    for file in list(folder.iterdir()):
        Path(f"{file}.gz").write_bytes(b"")
    check(READERS[name](folder), name, arrays)


@pytest.mark.parametrize("split", EMNIST_CLASSES)
def test_splits_of_emnist(split: str, tmp_path: Path) -> None:
    """All but the letters are numbered from 0."""
    first, folder = int(split == "letters"), tmp_path / "gzip"
    folder.mkdir()
    labels = np.arange(first, first + EMNIST_CLASSES[split], dtype=np.uint8)
    for kinds in files("emnist", split).values():
        (folder / kinds["x"]).write_bytes(idx(np.zeros((len(labels), 28, 28), np.uint8)))
        (folder / kinds["y"]).write_bytes(idx(labels))
    for where in (folder, folder.parent):
        assert emnist(where, split).test.y.tolist() == list(range(EMNIST_CLASSES[split]))
    task = TASKS["emnist"](str(folder), validation=3, split=split)
    assert task.classes == EMNIST_CLASSES[split]


@pytest.mark.parametrize("validation", [0, 2])
def test_tasks(validation: int, name: str, folder: Path) -> None:
    """Some of the test images validate, and the others test."""
    task, whole = TASKS[name](str(folder), 3, validation=validation), READERS[name](folder)
    assert task.classes == (26 if name == "emnist" else 10)
    assert isinstance(task.train, tuple)
    assert torch.equal(task.train.x, whole.train.x)
    parts = [part for part in (task.validation, task.test) if isinstance(part, tuple)]
    assert [len(part.y) for part in parts] == ([2, 3] if validation else [5])
    together = torch.cat([part.x for part in parts]).flatten(1).tolist()
    assert sorted(together) == sorted(whole.test.x.flatten(1).tolist())
    assert task.released is None  # these are not the images that CIFAR-10-C follows


def test_fewer_images_to_train_on(name: str, folder: Path) -> None:
    """A random share of them, the more of them holding the fewer; the test images stay."""
    whole, *some = (TASKS[name](str(folder), 3, train=n, validation=2) for n in (None, 4, 6))
    held = [{tuple(image) for image in split.train.x.flatten(1).tolist()} for split in some]
    assert [len(part) for part in held] == [4, 6]
    assert held[0] < held[1] < {tuple(image) for image in whole.train.x.flatten(1).tolist()}
    assert all(torch.equal(split.test.x, whole.test.x) for split in some)
    other = TASKS[name](str(folder), 4, train=4, validation=2)
    assert not torch.equal(other.train.x, some[0].train.x)
    for train, sentence in ((-1, "at least 0"), (8, "at most the 7 images")):
        with pytest.raises(ValueError, match=f"train must be .*{sentence}"):
            TASKS[name](str(folder), train=train, validation=2)


def test_where_debian_puts_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a folder the package's own is read; where it is not there, its name is said."""
    monkeypatch.setattr(idx_module, "INSTALLED", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere is no folder: .*dataset-fashion-mnist$"):
        fashion_mnist()
    for kinds in files("fashion_mnist").values():
        (tmp_path / kinds["x"]).write_bytes(idx(np.zeros((3, 28, 28), np.uint8)))
        (tmp_path / kinds["y"]).write_bytes(idx(np.arange(3, dtype=np.uint8)))
    monkeypatch.setattr(idx_module, "INSTALLED", str(tmp_path))
    assert fashion_mnist().test.y.tolist() == [0, 1, 2]


# ------------------------------------------------------------------------------------ wrong files


def test_no_folder(name: str, tmp_path: Path) -> None:
    release, source = SOURCES[name]
    (tmp_path / "file").write_bytes(b"")
    for where in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(FileNotFoundError) as error:
            READERS[name](where)
        assert str(error.value) == (
            f"{where} is no folder: folder must be the one with the idx files of {release}. It is "
            f"at {source}"
        )


def test_no_file(name: str, folder: Path) -> None:
    release, source = SOURCES[name]
    for file in [file for kinds in files(name).values() for file in kinds.values()]:
        kept = (folder / file).rename(folder / "elsewhere")
        with pytest.raises(FileNotFoundError) as error:
            READERS[name](folder)
        assert str(error.value) == (
            f"{file} of {release} is not in {folder}, packed as .gz or not. It is at {source}"
        )
        kept.rename(folder / file)


def broken(name: str, folder: Path, part: str, kind: str, content: bytes) -> str:
    """What is said of the file with this content, without the source."""
    file = folder / files(name)[part][kind]
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r" must ") as error:
        READERS[name](folder)
    sentence = str(error.value)
    assert sentence.startswith(f"{file} must ")
    return sentence.removeprefix(f"{file} must ").removesuffix(f" It is at {SOURCES[name][1]}")


@pytest.mark.parametrize("kind", ["x", "y"])
def test_truncated(kind: str, name: str, arrays: dict[str, dict[str, Bytes]], folder: Path) -> None:
    array = arrays["test"][kind]
    whole = idx(array)
    for content, has in ((whole[:-1], len(whole) - 1), (whole + b"\0", "more")):
        assert broken(name, folder, "test", kind, content) == (
            f"have {len(whole)} bytes, as its shape is {list(array.shape)}, and has "
            f"{has}: is the download truncated?"
        )
    begin = 4 + 4 * array.ndim
    for length in (0, 2, begin - 1):
        assert broken(name, folder, "test", kind, whole[:length]) == (
            "be an idx file of bytes, which begins with 00 00 08, and has "
            f"{length} bytes that begin with {whole[: min(3, length)].hex(' ')}."
        )


@pytest.mark.parametrize("first", [b"\x00\x00\x09", b"\x00\x00\x0d", b"\x1f\x8b\x08", b"<ht"])
def test_another_format(first: bytes, name: str, folder: Path) -> None:
    """Signed bytes, floats, gzip without its ending, a page that says the file is not there."""
    content = first + idx(np.zeros((5, 28, 28), np.uint8))[3:]
    assert broken(name, folder, "train", "x", content) == (
        "be an idx file of bytes, which begins with 00 00 08, and has bytes that begin with "
        f"{first.hex(' ')}."
    )


@pytest.mark.parametrize(
    ("kind", "shape", "sentence"),
    [
        ("x", (5, 28, 27), "have shape [n, 28, 28], got [5, 28, 27]."),
        ("x", (5, 28 * 28), "have shape [n, 28, 28], got 2 dimensions."),
        ("y", (5, 28, 28), "have shape [n], got 3 dimensions."),
    ],
)
def test_another_shape(
    kind: str, shape: tuple[int, ...], sentence: str, name: str, folder: Path
) -> None:
    content = idx(np.zeros(shape, np.uint8))
    assert broken(name, folder, "train", kind, content) == sentence


@pytest.mark.parametrize("kind", ["x", "y"])
@pytest.mark.parametrize("says", [5, 60_000_000])
def test_what_is_too_much_is_not_unpacked(kind: str, says: int, name: str, folder: Path) -> None:
    """20 MB in 0.1 MB, whether the head of the file says how much it is or says five images."""
    file = folder / files(name)["train"][kind]
    shape = (says, 28, 28) if kind == "x" else (says,)
    head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    file.unlink()
    with gzip.open(f"{file}.gz", "wb", compresslevel=1) as packed:
        packed.write(head)
        packed.write(bytes(20_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"has more: is|at most the \d+ rows of the rel"):
            READERS[name](folder)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_another_number_of_labels(
    name: str, arrays: dict[str, dict[str, Bytes]], folder: Path
) -> None:
    labels = arrays["test"]["y"]
    for wrong in (labels[:-1], np.append(labels, labels)):
        assert broken(name, folder, "test", "y", idx(wrong)) == (
            f"have a label for each of the 5 images in {files(name)['test']['x']}, and has "
            f"{len(wrong)}."
        )


def test_a_label_out_of_range(name: str, arrays: dict[str, dict[str, Bytes]], folder: Path) -> None:
    bounds = "from 1 to 26" if name == "emnist" else "from 0 to 9"
    for wrong in (0, 27, 255) if name == "emnist" else (10, 255):
        labels = arrays["train"]["y"].copy()
        labels[3:] = wrong
        assert broken(name, folder, "train", "y", idx(labels)) == (
            f"have labels {bounds}, and has {wrong} in row 3"
        )


@pytest.mark.parametrize("content", ["truncated", "changed", "plain", "empty header"])
def test_no_gzip(content: str, name: str, folder: Path) -> None:
    file = folder / files(name)["test"]["x"]
    packed = bytearray(gzip.compress(file.read_bytes()))
    if content == "truncated":
        packed = packed[:-9]
    elif content == "changed":
        packed[len(packed) // 2] ^= 255
    elif content == "plain":
        packed = bytearray(file.read_bytes())
    else:
        packed = packed[:5]
    file.unlink()
    Path(f"{file}.gz").write_bytes(packed)
    with pytest.raises(ValueError, match="truncated") as error:
        READERS[name](folder)
    sentence = str(error.value)
    assert sentence.startswith(f"{file}.gz must be a whole gzip file and cannot be read as one: ")
    assert sentence.endswith(f"Is the download truncated? It is at {SOURCES[name][1]}")


def test_wrong_arguments(name: str) -> None:
    with pytest.raises(TypeError, match=r"folder must be a path, str or pathlib.Path, got int 3"):
        READERS[name](3)
    with pytest.raises(ValueError, match=r"split must be one of balanced, .*, got 'small'"):
        emnist("folder", "small")
