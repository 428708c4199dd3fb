"""SHA-256 of tensors: of their bits, names, dtypes and shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def digest_of(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of tensors on any device, with their names, dtypes and shapes.

    Cost: half a second to a second per GB. Tensors that are not contiguous on the CPU are copied
    there, one at a time.

    Example:
        >>> x = torch.arange(6.0)
        >>> digest_of([("x", x)]) == digest_of([("x", x.reshape(2, 3))])
        False
    """
    digest = hashlib.sha256()
    for name, value in tensors:
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        whole = value.full_tensor() if hasattr(value, "full_tensor") else value  # from all shards
        flat = whole.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
