"""Radius Aware Training in Lightning, on scikit-learn's handwritten digits.

RAT runs two backwards per step, so the module uses manual optimization (`automatic_optimization =
False`) and passes `self.manual_backward`, so that Lightning's precision and strategies still apply.
The module must then itself call the other parts of automatic optimization (gradient clipping,
accumulation and the scheduler's step), as Lightning's page on manual optimization explains.

The lines that end in `# RAT` are the change from standard training; if such a line replaces
another, the comment above it shows the old line. After training, the radius and the maximum softmax
response (MSR) are compared as detectors of the network's errors on the test split.

    python examples/rat_lightning.py      # ten seconds on one core, the same numbers every time

Needs rrfast, scikit-learn and lightning.
"""

import logging
import warnings

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import rrfast
from rrfast.data import digits
from rrfast.models import digits_cnn

# Lightning's remarks on devices that it sees and on workers that 400 small images do not need.
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")


class Classifier(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = digits_cnn(seed=0)
        self.automatic_optimization = False  # RAT
        self.rat = rrfast.RAT(eps=0.1)  # a tenth of the range of a pixel: x is in [0, 1]  # RAT

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        x, y = batch
        optimizer = self.optimizers()  # RAT
        optimizer.zero_grad()  # RAT
        # RAT, in place of: loss = torch.nn.functional.cross_entropy(self(x), y)
        loss = self.rat.backward(self, x, y, backward=self.manual_backward)  # RAT
        optimizer.step()  # RAT
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


train, _, test = digits(seed=0)
L.seed_everything(0, verbose=False)
model = Classifier()
trainer = L.Trainer(
    max_epochs=40,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(TensorDataset(*train), batch_size=64, shuffle=True))

correct = model.eval()(test.x).argmax(dim=1) == test.y
scores = {"MSR": rrfast.scores.MSR()(model, test.x), "radius": rrfast.radius(model, test.x)}
print(f"accuracy {100 * correct.double().mean():.2f} % of {len(correct)} test images")
for name, score in scores.items():
    auroc, aurc = rrfast.metrics.auroc(score, correct), rrfast.metrics.aurc(score, correct)
    print(f"{name:<8} AUROC {100 * auroc:.2f} %   AURC {1000 * aurc:.2f} / 1000")
