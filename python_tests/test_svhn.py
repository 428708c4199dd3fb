"""SVHN: files written here in the true format, whole, truncated and wrong."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.io import savemat

from rrfast.data import svhn
from rrfast.train import TASKS

N = {"train": 11, "test": 6}
WHERE = "It is at http://ufldl.stanford.edu/housenumbers"
X = "X in FILE must be uint8 of shape [32, 32, 3, n]"
Y = "y in FILE must be a label for each of the 6 images, numbers of shape [6, 1]"
LABELS = "y in FILE must have labels from 1 to 10"
Content = dict[str, npt.NDArray[Any]]


@pytest.fixture
def contents() -> dict[str, Content]:
    draws = np.random.default_rng(0)
    return {
        part: {
            "X": draws.integers(256, size=(32, 32, 3, n), dtype=np.uint8),
            "y": np.resize(np.arange(1, 11, dtype=np.uint8), (n, 1)),
        }
        for part, n in N.items()
    }


@pytest.fixture
def folder(contents: dict[str, Content], tmp_path: Path) -> Path:
    for part, content in contents.items():
        savemat(tmp_path / f"{part}_32x32.mat", content, do_compression=True)
    return tmp_path


@pytest.mark.parametrize("labels", [np.uint8, np.float64])
def test_round_trip(labels: type[Any], contents: dict[str, Content], folder: Path) -> None:
    for part, content in contents.items():
        content["y"] = content["y"].astype(labels)
        savemat(folder / f"{part}_32x32.mat", content)
    for where in (folder, str(folder)):
        for split, part in zip(svhn(where), ("train", "test"), strict=True):
            images, y = contents[part]["X"], contents[part]["y"]
            assert (split.x.dtype, split.y.dtype) == (torch.float32, torch.int64)
            assert split.x.shape == (N[part], 3, 32, 32)
            assert split.x.is_contiguous()
            for n in range(N[part]):
                for channel in range(3):
                    expected = torch.tensor(images[:, :, channel, n]) / 255
                    assert torch.equal(split.x[n, channel], expected)
                # The release says 10 for the digit 0.
                assert int(split.y[n]) == (0 if y[n, 0] == 10 else y[n, 0])


def test_float32_whatever_the_default(folder: Path, defaults_of_another_kind: None) -> None:
    for split in svhn(folder):
        assert (split.x.dtype, split.x.device.type) == (torch.float32, "cpu")


def test_task(folder: Path) -> None:
    task, whole = TASKS["svhn"](str(folder), 3, validation=2), svhn(folder)
    assert task.classes == 10
    assert task.released is None
    assert isinstance(task.train, tuple)
    assert torch.equal(task.train.x, whole.train.x)
    parts = [part for part in (task.validation, task.test) if isinstance(part, tuple)]
    assert [len(part.y) for part in parts] == [2, 4]
    together = torch.cat([part.x for part in parts]).flatten(1).tolist()
    assert sorted(together) == sorted(whole.test.x.flatten(1).tolist())


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        svhn(tmp_path / "nowhere")
    assert str(error.value) == (
        f"{tmp_path}/nowhere is no folder: folder must be the one with the .mat files of SVHN. "
        f"{WHERE}"
    )


@pytest.mark.parametrize("part", N)
def test_no_file(part: str, folder: Path) -> None:
    (folder / f"{part}_32x32.mat").unlink()
    with pytest.raises(FileNotFoundError) as error:
        svhn(folder)
    assert str(error.value) == f"{part}_32x32.mat of SVHN is not in {folder}. {WHERE}"


@pytest.mark.parametrize("content", ["truncated", "header", "empty", "text", "HDF5"])
def test_no_mat_file(content: str, folder: Path) -> None:
    file = folder / "test_32x32.mat"
    data = file.read_bytes()
    if content in {"truncated", "header", "empty"}:
        data = data[: {"truncated": len(data) // 2, "header": 100, "empty": 0}[content]]
    elif content == "text":
        data = b"<html>no such page</html>" * 20
    else:  # what MATLAB 7.3 writes, by its first line and version
        data = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n"
    file.write_bytes(data)
    with pytest.raises(ValueError, match="truncated") as error:
        svhn(folder)
    sentence = str(error.value)
    assert sentence.startswith(f"{file} must be a whole .mat file and cannot be read as one: ")
    assert sentence.endswith(f" Is the download truncated? {WHERE}")
    assert error.value.__cause__ is not None


def test_more_images_than_the_release_has_are_not_unpacked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("rrfast.data.svhn_files"), "MOST", N["train"] - 1)
    monkeypatch.setattr("scipy.io.loadmat", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match=r"X has shape \[32, 32, 3, 11\], more than the 10 images"):
        svhn(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"X": np.zeros((32, 32, 3, 6))}, f"{X}, got float64 of shape [32, 32, 3, 6]. {WHERE}"),
        ({"X": np.zeros((6, 32, 32, 3), "u1")}, f"{X}, got uint8 of shape [6, 32, 32, 3]. {WHERE}"),
        ({"y": np.ones((5, 1), "u1")}, f"{Y}, got uint8 of shape [5, 1]. {WHERE}"),
        ({"y": np.array([["a"]] * 6, object)}, f"{Y}, got object of shape [6, 1]. {WHERE}"),
        ({"y": np.array([[1, 2, 3, 0, 5, 11]], "u1").T}, f"{LABELS}, and has 0 in row 3"),
        ({"y": np.array([[1, 2.5, 3, 4, 5, 6]]).T}, f"{LABELS}, and has 2.5 in row 1"),
        ({"y": np.array([[np.nan, 2, 3, 4, 5, 6]]).T}, f"{LABELS}, and has nan in row 0"),
        ({"y": None}, "FILE must have the variables X and y, and has no y"),
        ({"X": None}, "FILE must have the variables X and y, and has no X"),
    ],
)
def test_another_content(
    change: dict[str, Any], sentence: str, contents: dict[str, Content], folder: Path
) -> None:
    file = folder / "test_32x32.mat"
    content = {
        key: value for key, value in (contents["test"] | change).items() if value is not None
    }
    savemat(file, content)
    with pytest.raises(ValueError, match=r" must ") as error:
        svhn(folder)
    assert str(error.value) == sentence.replace("FILE", str(file))


def test_without_scipy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ImportError, match=r"rrfast.data.svhn needs SciPy.*pip install scipy"):
        svhn(folder)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"folder must be a path, str or pathlib.Path, got int 3"):
        svhn(3)  # type: ignore[arg-type]
