"""What an evaluation knows already of one model, on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rrfast.data import Split
from rrfast.machine import machine
from rrfast.results import plain
from rrfast.selective.classifier import weights_hash
from rrfast.train.tasks import Task
from rrfast.whole_file import write


class Kept:
    """Parts of a result by name, written as they are made; a run that was stopped goes on.

    All is forgotten where the model or the question is another: where `identity` differs.

    Args:
        path: A JSON file.
        identity: What the parts depend on, but for what their names say.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = Kept(Path(folder) / "m.json", {"weights": "a"}).get("x", lambda: {"n": 1})
        ...     again = Kept(Path(folder) / "m.json", {"weights": "a"}).get("x", lambda: 1 / 0)
        ...     Kept(Path(folder) / "m.json", {"weights": "b"}).has("x")
        False
        >>> first == again
        True
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self._path = path
        self._state: dict[str, Any] = {"identity": plain(identity), "known": {}}
        if path.is_file():
            state = json.loads(path.read_text(encoding="utf-8"))
            if state["identity"] == self._state["identity"]:
                self._state = state

    def has(self, key: str) -> bool:
        """Whether the part is known."""
        return key in self._state["known"]

    def get(self, key: str, make: Callable[[], Any] | None = None) -> Any:
        """The part; made where it is not known."""
        if make is not None and not self.has(key):
            self.put({key: make()})
        return self._state["known"][key]

    def put(self, entries: dict[str, Any]) -> None:
        """Keep these too."""
        # As they will be read again: without NaN.
        self._state["known"] |= plain(entries)
        text = json.dumps(self._state).encode()
        write(self._path, lambda file: file.write(text))


def identity(model: nn.Module, task: Task, device: torch.device) -> dict[str, Any]:
    """What every number depends on, less the code of a model, whose edits nobody sees here."""
    digest = hashlib.sha256()
    for data in (task.validation, task.test):
        if data is not None:
            digest.update(data.y.numpy().tobytes())
            # Of images that are read one by one, the first of them, and the names of all.
            images = data.x if isinstance(data, Split) else data[0][0]
            digest.update(images.numpy().tobytes())
            digest.update("\n".join(getattr(data, "files", ())).encode())
    # `Normalize` keeps its statistics out of the state_dict.
    form = hashlib.sha256(str(model).encode())
    for name, value in model.named_buffers():
        form.update(f"{name} {value.tolist()}".encode())
    return {
        "weights": weights_hash(model),
        "model": form.hexdigest(),
        "data": digest.hexdigest(),
        **machine(device)["versions"],
    }
