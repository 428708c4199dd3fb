"""`RadiusMonitor` in Lightning itself logs the numbers of `rrfast.radius` and `rrfast.metrics`."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import rrfast

lightning = pytest.importorskip("lightning", reason="needs lightning")

from lightning.pytorch.loggers import CSVLogger  # noqa: E402

from rrfast.integrations.lightning import RadiusMonitor  # noqa: E402

# Lightning's remarks on devices and workers, and torch's on Lightning.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
NAMES = ("radius/median_right", "radius/median_wrong", "radius/aurc")


def images(seed: int, n: int) -> TensorDataset:
    x = torch.rand(n, 6, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (9 * x.sum(dim=1)).long() % 3)


class Classifier(lightning.LightningModule):
    """It notes what the monitor should log, from all validation images at once."""

    def __init__(self, data: TensorDataset) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Linear(6, 16), nn.Tanh(), nn.BatchNorm1d(16), nn.Linear(16, 3)
        )
        self.x, self.y = data.tensors
        self.expected: list[tuple[float, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: object, _index: int, dataloader_idx: int = 0) -> None:
        assert not self.network.training

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.expected.append(numbers(self.network, self.x, self.y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def numbers(model: nn.Module, x: Tensor, y: Tensor, **options) -> tuple[float, float, float]:
    found = rrfast.radius(model, x, full_output=True, **options)
    correct = found.prediction == y
    assert 0 < correct.sum() < len(correct)
    medians = (float(found.radius[group].median()) for group in (correct, ~correct))
    return (*medians, rrfast.metrics.aurc(found.radius, correct))


def trainer(folder: Path, monitor: RadiusMonitor, **kwargs) -> lightning.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    quiet["enable_checkpointing"] = False
    return lightning.Trainer(
        accelerator="cpu", callbacks=[monitor], default_root_dir=folder, **quiet, **kwargs
    )


def test_every_epoch_is_logged_as_rrfast_measures_it(tmp_path: Path) -> None:
    data = images(1, 90)
    model, logger = Classifier(data), CSVLogger(tmp_path)
    running = trainer(tmp_path, RadiusMonitor(), max_epochs=3, logger=logger)
    running.fit(model, DataLoader(images(0, 64), 16), DataLoader(data, 40))
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = [[float(row[name]) for name in NAMES] for row in csv.DictReader(file)]
    assert len(rows) == 3
    assert rows[0] != rows[1]
    # In batches of 40 sums are taken in another order: the last digits of float32.
    torch.testing.assert_close(torch.tensor(rows), torch.tensor(model.expected))
    assert all(name in running.callback_metrics for name in NAMES)
    assert model.network.training  # as the training left it


def test_options_loaders_and_batches_of_another_form(tmp_path: Path) -> None:
    data = images(1, 90)
    model = Classifier(data)
    given = {
        "method": "search",
        "temperature": 2.0,
        "bounds": (0, 1),
        "scale": torch.full((6,), 4.0),
    }
    monitor = RadiusMonitor(
        **given,
        model="network",
        pair=lambda batch: (batch["image"], batch["label"]),
        batches=2,
        prefix="val_",
    )
    assert monitor.names == ("val_median_right", "val_median_wrong", "val_aurc")
    dicts = [{"image": x, "label": y} for x, y in data]
    running = trainer(tmp_path, monitor, logger=False)
    running.validate(model, [DataLoader(dicts, 30), DataLoader(dicts[30:], 60)], verbose=False)
    for i, part in enumerate([slice(0, 60), slice(30, 90)]):
        values = [float(running.callback_metrics[f"{n}/loader_{i}"]) for n in monitor.names]
        expected = numbers(model.network, model.x[part], model.y[part], **given)
        torch.testing.assert_close(torch.tensor(values), torch.tensor(expected))


def test_an_unknown_radius_makes_the_numbers_unknown(tmp_path: Path) -> None:
    data = images(1, 90)
    data.tensors[0][7, 2] = math.nan
    model = Classifier(data)
    model.on_validation_epoch_end = lambda: None
    running = trainer(tmp_path, RadiusMonitor("grad"), logger=False)
    running.validate(model, DataLoader(data, 40), verbose=False)
    assert all(math.isnan(running.callback_metrics[name]) for name in NAMES)


def test_two_processes_have_the_numbers_of_one(tmp_path: Path) -> None:
    data = images(1, 90)
    model = Classifier(data)
    expected = numbers(model.network.eval(), model.x, model.y)
    running = trainer(tmp_path, RadiusMonitor(), logger=False, strategy="ddp_fork", devices=2)
    running.validate(model, DataLoader(data, 15), verbose=False)
    values = [float(running.callback_metrics[name]) for name in NAMES]
    torch.testing.assert_close(torch.tensor(values), torch.tensor(expected))


@pytest.mark.parametrize(
    ("batch", "error", "sentence"),
    [
        (
            {"x": 1},
            TypeError,
            r"must be a pair of tensors .*, got .*; give pair=",
        ),
        ((torch.rand(2, 6), torch.rand(2)), TypeError, "y must be a tensor of integers"),
        ((torch.rand(2, 6), torch.tensor([0])), ValueError, "y must have one label per sample"),
        ((torch.rand(2, 6), torch.tensor([0, -1])), ValueError, "y must be labels of 3 classes"),
        ((torch.rand(2, 6), torch.tensor([3, 0])), ValueError, "y must be labels of 3 classes"),
    ],
)
def test_a_batch_that_is_no_pair_gets_a_sentence(tmp_path: Path, batch, error, sentence) -> None:
    model = Classifier(images(1, 90))
    running = trainer(tmp_path, RadiusMonitor(), logger=False)
    with pytest.raises(error, match=sentence):
        running.validate(model, DataLoader([batch], batch_size=None), verbose=False)


def test_bad_settings_get_a_sentence_at_once() -> None:
    with pytest.raises(ValueError, match="did you mean fast"):
        RadiusMonitor("fst")
    with pytest.raises(ValueError, match="batches must be an integer of at least 1, got 0"):
        RadiusMonitor(batches=0)
    with pytest.raises(TypeError, match="temperature must be one number"):
        RadiusMonitor(temperature=[1.0, 2.0])
