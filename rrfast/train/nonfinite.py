"""Checks the losses of a training for NaN and infinity, only rarely on a GPU."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from rrfast import _torch_file
from rrfast.train.batches import Loader, Plan, Share
from rrfast.train.fabric import Fabric

#: Steps between two checks of the loss if a check waits for the device.
LOOK = 50


class NonFiniteLossError(ArithmeticError):
    """Loss or weights were NaN or infinite; the message has the step and the file of its batch."""


class Losses:
    """The losses of the last steps, on the device, that are not checked yet.

    Checks raise a `NonFiniteLossError`.
    """

    def __init__(
        self, model: nn.Module, plan: Plan, loader: Loader, fabric: Fabric, out: Path | None
    ) -> None:
        self._model, self._plan, self._loader = model, plan, loader
        self._fabric, self._out = fabric, out
        self._waiting: list[Tensor] = []
        #: Steps from one check to the next.
        self.look = LOOK if fabric.device.type == "cuda" else 1

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, loss: Tensor, share: Share) -> float:
        """Call after a step; checks if it is time to, and returns the sum of the checked losses."""
        self._waiting.append(loss)
        return self.looked_at(share) if len(self) == self.look else 0.0

    def looked_at(self, last: Share) -> float:
        """The sum of the losses up to that of `last`, which are checked; waits for the device."""
        if not self._waiting:
            return 0.0
        losses = torch.stack(self._waiting).float()
        # The same on all processes. It reduces in place, but `losses` must stay this process's own.
        mean = torch.as_tensor(self._fabric.all_reduce(losses.clone())).tolist()
        self._waiting.clear()
        bad = next((i for i, loss in enumerate(mean) if not math.isfinite(loss)), None)
        if bad is not None:
            step = last.step - (len(mean) - 1 - bad)
            self._stop(last.epoch, step, f"the loss was {mean[bad]}", losses[bad])
        return float(sum(mean))

    def check_weights(self, last: Share) -> None:
        """Check the weights before they are saved: no loss was computed from them yet."""
        finite = torch.stack([p.detach().isfinite().all() for p in self._model.parameters()]).all()
        if not finite:
            said = "the loss was finite and the weights after it are not"
            self._stop(last.epoch, last.step, said, torch.tensor(math.nan))

    def _stop(self, epoch: int, step: int, said: str, own: Tensor) -> None:
        share = self._plan.epoch(epoch)[step]
        where = "nowhere, since there is no folder to write to (out)"
        if self._out is not None:
            path = self._out / f"nonfinite_{self._fabric.global_rank}.pt"
            if not own.isfinite():
                # The batch is made again from its number.
                batches = next(self._loader([share]))
                _torch_file.save(
                    path,
                    {
                        "epoch": epoch,
                        "step": step,
                        "places": torch.cat(share.places),
                        "x": torch.cat([x for x, _ in batches]).cpu(),
                        "y": torch.cat([y for _, y in batches]).cpu(),
                        "loss": float(own),
                    },
                )
            where = f"in {self._out / 'nonfinite_*.pt'}, a file per process that saw it"
        # The first process that fails ends the others, which may still be writing their files.
        self._fabric.barrier()
        raise NonFiniteLossError(
            f"{said} in epoch {epoch}, step {step} (from 0); its batch is {where}. "
            "A lower learning rate, a longer warm-up or clip_norm may help"
        )
