"""A state_dict as a file: safetensors if its name says so, else in `torch.save`'s format."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from rrfast import _torch_file
from rrfast._digest import digest_of
from rrfast._errors import first_line, missing
from rrfast._files import write

#: Ending of safetensors files.
SAFETENSORS = ".safetensors"
#: Key of the digest of all tensors in the metadata of such a file.
DIGEST = "rrfast.sha256"


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path`, completely or not at all.

    safetensors does not accept tensors that share memory or are not contiguous, so these are
    copied. Its files have no checksum, so the SHA-256 of the tensors is put into the metadata.

    Raises:
        ImportError: `path` ends in .safetensors, and safetensors is not installed.
        TypeError: `path` ends in .safetensors, and an entry of `state` is not a tensor.
    """
    if path.suffix != SAFETENSORS:
        _torch_file.save(path, state)
        return
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


def read_state(path: Path) -> dict[str, Any]:
    """Read the result of `write_state` to the CPU; other safetensors files are not checked.

    Raises:
        ImportError: As `write_state`.
        OSError: `path` cannot be opened.
        ValueError: It is damaged, truncated, or another kind of file.
    """
    if path.suffix != SAFETENSORS:
        return _torch_file.load(path)
    safetensors = _safetensors(path)
    content = path.read_bytes()
    try:
        state: dict[str, Any] = safetensors.load(content)
        length = int.from_bytes(content[:8], "little")
        written = json.loads(content[8 : 8 + length]).get("__metadata__", {}).get(DIGEST)
        if written not in (None, digest_of(sorted(state.items()))):
            raise ValueError(f"its tensors are not those that {DIGEST} was made of")
    except Exception as error:  # other bytes can raise anything
        first = first_line(error)
        raise ValueError(
            f"{path} cannot be read as a state_dict ({first}): it is damaged, truncated or another "
            "file"
        ) from error
    return state


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
