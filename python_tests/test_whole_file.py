"""Files that are whole or not there, and those of `torch.save`, read with every byte checked."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import signal
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from rrfast import _checksummed, _files

LARGE = 200_000


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """What a full disk is, without one: the system refuses every byte after so many."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


SAVES: dict[str, Callable[[Path], None]] = {
    "torch": lambda path: _checksummed.write_state(path, {"new": torch.ones(LARGE)}),
    "text": lambda path: _files.write_text(path, "new" * LARGE),
}


@pytest.mark.parametrize("kind", SAVES)
def test_a_disk_that_is_full_is_said_and_nothing_is_lost(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "checkpoint.pt"
    _checksummed.write_state(path, {"old": torch.ones(3)})
    before = path.read_bytes()
    said = rf"{re.escape(str(path))} cannot be written: {os.strerror(errno.EFBIG)}\. Its old conte"
    with no_file_above(LARGE // 2), pytest.raises(OSError, match=said) as told:
        SAVES[kind](path)
    assert told.value.errno == errno.EFBIG
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_folder_that_does_not_take_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = os.fsync

    def full(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="new is in place, and would not outlive a power failure: In"):
        _files.write_text(tmp_path / "new", "new")
    assert (tmp_path / "new").read_text() == "new"


@pytest.mark.parametrize("kind", SAVES)
def test_a_disk_that_is_full_only_when_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As network file systems have it, and those that allocate late."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="new cannot be written: No space left on device") as told:
        SAVES[kind](tmp_path / "new")
    assert told.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_file_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        _files.write(tmp_path / "new", lambda _: (tmp_path / "elsewhere").read_bytes())
    with pytest.raises(FileNotFoundError, match="folder/new cannot be written: No such file or di"):
        _files.write_text(tmp_path / "folder" / "new", "new")


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    """Neither one of the name it once had, nor one of the name that it draws."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "new.partial").symlink_to(victim)
    _files.write_text(tmp_path / "new", "new")
    assert (victim.read_text(), (tmp_path / "new").read_text()) == ("mine", "new")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files.secrets, "token_hex", lambda _: "drawn")
        (tmp_path / "new.drawn.partial").symlink_to(victim)
        with pytest.raises(FileExistsError, match="new cannot be written: File exists"):
            _files.write_text(tmp_path / "new", "other")
    assert (victim.read_text(), (tmp_path / "new").read_text()) == ("mine", "new")
    assert (tmp_path / "new.drawn.partial").is_symlink()  # not ours to remove


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_as_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        _files.write_text(tmp_path / "new", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_folder_that_cannot_be_opened_or_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where the file is in place by then; and on some network file systems."""
    opened, synced = os.open, os.fsync

    def refused(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refused)
        _files.write_text(tmp_path / "new", "one")
    assert (tmp_path / "new").read_text() == "one"

    def invalid(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", invalid)
    _files.write_text(tmp_path / "new", "two")
    assert (tmp_path / "new").read_text() == "two"


# -------------------------------------------------------------------------------- of `torch.save`


def test_every_changed_byte_is_found_or_changes_nothing(tmp_path: Path) -> None:
    """`torch.load` alone takes one of eight of these for good weights, and they are others."""
    path = tmp_path / "last.pt"
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(4, 3))
    state = network.state_dict()
    _checksummed.write_state(path, state)
    content, draw = path.read_bytes(), random.Random(0)
    silent = found = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of a pickle protocol that a flip made
        for place in range(len(content)):
            flipped = bytearray(content)
            flipped[place] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            try:
                read = _checksummed.read_state(path)
            except ValueError as error:
                assert f"{path} cannot be read as a file of torch.save" in str(error)  # noqa: PT017
                found += 1
                continue
            assert list(read) == list(state), place
            assert all(torch.equal(read[name], state[name]) for name in state), place
            silent += 1
    assert found > 1000
    assert silent > 100  # dates, padding: nothing that is read


def test_a_file_without_sums_is_read(tmp_path: Path) -> None:
    """Of torch before 1.6, or saved without; ours have them whatever torch is set to."""
    state = nn.Linear(2, 3).state_dict()
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "unsummed.pt")
        _checksummed.write_state(tmp_path / "ours.pt", state)
        assert torch.serialization.get_crc32_options() is False
    finally:
        torch.serialization.set_crc32_options(True)
    for name in ("old.pt", "unsummed.pt", "ours.pt"):
        read = _checksummed.read_state(tmp_path / name)
        assert all(torch.equal(read[key], state[key]) for key in state)
    content = bytearray((tmp_path / "ours.pt").read_bytes())
    content[content.index(state["weight"].numpy().tobytes())] ^= 1
    (tmp_path / "ours.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"checksum of its record .*/data/0 does not fit"):
        _checksummed.read_state(tmp_path / "ours.pt")
