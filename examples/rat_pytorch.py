"""Radius Aware Training in a plain PyTorch loop, on scikit-learn's handwritten digits.

The lines that end in `# RAT` are the change from standard training; the comment above the one that
replaces another holds what stood there. After training, the radius and the maximum softmax response
(MSR) are compared as detectors of the network's errors on the test split.

    python examples/rat_pytorch.py        # a few seconds on one core, the same numbers every time

Needs rrfast and scikit-learn.
"""

import torch
from rich.console import Console
from rich.progress import track

import rrfast
from rrfast.data import digits
from rrfast.models import digits_cnn

train, _, test = digits(seed=0)
model = digits_cnn(seed=0)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
shuffle = torch.Generator().manual_seed(0)
rat = rrfast.RAT(eps=0.1)  # a tenth of the range of a pixel: x is in [0, 1]  # RAT

for _ in track(range(40), "training", console=Console(stderr=True)):
    for batch in torch.randperm(len(train.y), generator=shuffle).split(64):
        x, y = train.x[batch], train.y[batch]
        optimizer.zero_grad()
        # RAT, in place of: torch.nn.functional.cross_entropy(model(x), y).backward()
        rat.backward(model, x, y)  # RAT
        optimizer.step()

correct = model.eval()(test.x).argmax(dim=1) == test.y
scores = {"MSR": rrfast.scores.MSR()(model, test.x), "radius": rrfast.radius(model, test.x)}
print(f"accuracy {100 * correct.double().mean():.2f} % of {len(correct)} test images")
for name, score in scores.items():
    auroc, aurc = rrfast.metrics.auroc(score, correct), rrfast.metrics.aurc(score, correct)
    print(f"{name:<8} AUROC {100 * auroc:.2f} %   AURC {1000 * aurc:.2f} / 1000")
