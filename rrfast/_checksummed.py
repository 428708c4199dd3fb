"""Files with checksums: JSON, and states in the formats of `torch.save` and of safetensors.

All are written completely or not at all. Readers find every changed byte that changes what is read,
but not a change on purpose that replaces the checksum too. No code in a file is run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import torch
from torch import Tensor

from rrfast._digest import digest_of
from rrfast._errors import first_line, missing
from rrfast._files import write

#: Ending of safetensors files.
SAFETENSORS = ".safetensors"
#: Key of the digest of all tensors in the metadata of such a file.
DIGEST = "rrfast.sha256"


def write_json(path: Path, content: Any) -> None:
    """Write `content` with the SHA-256 of its text, for a later run that continues from it.

    Python's JSON keeps NaN and infinity, and every float bit for bit.
    """
    text = json.dumps(content)
    sealed = f'{{"sha256": "{_sha256(text)}",\n"content": {text}}}\n'
    write(path, lambda file: file.write(sealed.encode()))


def read_json(path: Path) -> Any:
    """The content that `write_json` was given, with lists for tuples.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file was changed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder, "a.json"), {"radius": 0.1})
        ...     read_json(Path(folder, "a.json"))
        {'radius': 0.1}
    """
    data = path.read_bytes()
    try:
        sealed = json.loads(data)
        if sealed["sha256"] != _sha256(json.dumps(sealed["content"])):
            raise ValueError("its content is not what its SHA-256 was made of")
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete {path.name} and start again, to make anew what "
            "it held"
        ) from error
    return sealed["content"]


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state_dict: safetensors if the name of the file says so, else as `torch.save`.

    safetensors does not accept tensors that share memory or are not contiguous, so these are
    copied. Its files have no checksum, so the SHA-256 of the tensors is put into the metadata.

    Raises:
        ImportError: `path` ends in .safetensors, and safetensors is not installed.
        OSError: As `rrfast._files.write`.
        TypeError: `path` ends in .safetensors, and an entry of `state` is not a tensor.
    """
    if path.suffix == SAFETENSORS:
        _write_safetensors(path, state)
        return
    summed = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        write(path, lambda file: torch.save(state, file))
    finally:
        torch.serialization.set_crc32_options(summed)


def read_state(path: Path) -> dict[str, Any]:
    """The dict in a file of `write_state` or `torch.save`, on the CPU.

    `torch.load` does not notice a flipped bit: it does not compare the CRC-32 of the archive's
    records. Files without checksums are read unchecked: those of torch before 1.6, those saved with
    `torch.serialization.set_crc32_options(False)`, and safetensors from elsewhere.

    Raises:
        ImportError: As `write_state`.
        OSError: `path` cannot be opened.
        ValueError: It is damaged, truncated or another kind of file, or holds something else.

    Cost: `torch.load` and one more pass over the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "w.pt")
        ...     write_state(path, {"weight": torch.ones(2)})
        ...     read_state(path)
        {'weight': tensor([1., 1.])}
    """
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    with path.open("rb") as file, _told(path, "a file of torch.save"):
        _check_records(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"{path} must hold a dict, and holds {type(state).__name__}")
    return state


def _write_safetensors(path: Path, state: dict[str, Any]) -> None:
    safetensors = _safetensors(path)
    tensors: dict[str, Tensor] = {}
    taken: set[tuple[torch.device, int]] = set()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"a .safetensors file can hold tensors only, and {name} of the state_dict is "
                f"{type(value).__name__}: give a path of another ending"
            )
        storage = value.untyped_storage()
        memory = (value.device, storage.data_ptr())
        whole = value.is_contiguous() and storage.nbytes() == value.numel() * value.element_size()
        alone = whole and memory not in taken
        taken.add(memory)
        tensors[name] = value.detach() if alone else value.detach().clone().contiguous()
    content = safetensors.save(tensors, {DIGEST: digest_of(sorted(tensors.items()))})
    write(path, lambda file: file.write(content))


def _read_safetensors(path: Path) -> dict[str, Any]:
    safetensors = _safetensors(path)
    content = path.read_bytes()
    with _told(path, "a state_dict"):
        state: dict[str, Any] = safetensors.load(content)
        length = int.from_bytes(content[:8], "little")
        written = json.loads(content[8 : 8 + length]).get("__metadata__", {}).get(DIGEST)
        if written not in (None, digest_of(sorted(state.items()))):
            raise ValueError(f"its tensors are not those that {DIGEST} was made of")
    return state


@contextlib.contextmanager
def _told(path: Path, kind: str) -> Iterator[None]:
    """Name the file in whatever its bytes raise."""
    try:
        yield
    except Exception as error:
        first = first_line(error)
        if isinstance(error, pickle.UnpicklingError):
            # Torch's message goes on with how to run the code in the file.
            first = "it holds more than tensors and numbers, or is cut off"
        raise ValueError(
            f"{path} cannot be read as {kind} ({first}): it is damaged, truncated or another kind "
            "of file"
        ) from error


def _check_records(file: IO[bytes]) -> None:
    """Raise unless every record of the archive has the CRC-32 that was written with it.

    Compressed records are refused: torch does not write them, and they could unpack to any size.
    """
    archive = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    if not archive:
        return  # a file of torch before 1.6, or not of torch at all, which `torch.load` reports
    with zipfile.ZipFile(file) as records:
        if any(record.compress_type != zipfile.ZIP_STORED for record in records.infolist()):
            raise ValueError("a record of it is compressed")
        # No single flipped bit makes all of them 0, so they were not computed.
        if any(record.CRC for record in records.infolist()):
            damaged = records.testzip()
            if damaged is not None:
                raise ValueError(f"the checksum of its record {damaged} does not fit")
    file.seek(0)


def _safetensors(path: Path) -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as error:
        raise missing(
            f"{path} ends in .safetensors and",
            "safetensors",
            error,
            instead="or give a path of another ending",
        ) from error
    return safetensors.torch


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
