"""What docs/scores/README.md shows of `rrfast.compare`: `python docs/scores/compare.py`.

Writes compare.txt beside it; ten seconds on one core.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

import rrfast
from rrfast._machine import machine
from rrfast.data import digits
from rrfast.models import digits_cnn


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data, model = digits(), digits_cnn()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(10):
        for x, y in zip(data.train.x.split(64), data.train.y.split(64), strict=True):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    result = rrfast.compare(model, [(data.test.x, data.test.y)], timing=False)
    where = machine(torch.device("cpu"))
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    said = f"{where['device']}, 1 thread; {versions}; {where['date']}"
    Path(__file__).with_suffix(".txt").write_text(f"{said}\n\n{result}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
