"""`ScoreDetector` in pytorch-ood itself gives rrfast's numbers, with its sign."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import rrfast

# It imports torchvision, of which there is not one for every torch.
pytest.importorskip("pytorch_ood", reason="needs pytorch-ood", exc_type=ImportError)

from pytorch_ood.api import Detector, RequiresFittingException
from pytorch_ood.detector import ODIN, MaxLogit, MaxSoftmax
from pytorch_ood.metrics import OODMetrics

from rrfast.integrations.pytorch_ood import ScoreDetector

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.mark.parametrize("score", ["radius_fast", "grad", rrfast.scores.Energy(2.0)])
def test_it_is_minus_the_score(trained: nn.Module, images: Tensor, score) -> None:
    detector = ScoreDetector(trained, score)
    assert isinstance(detector, Detector)
    assert not detector.requires_fit
    expected = -rrfast.scores.as_score(score)(trained, images)
    assert torch.equal(detector(images), expected)
    with torch.no_grad():
        assert torch.equal(detector.to("cpu").predict(images), expected)


def test_baselines_are_those_of_pytorch_ood(trained: nn.Module, images: Tensor) -> None:
    """The same sign, and the same numbers up to rounding; rrfast has log-odds for probabilities."""
    odin = {"temperature": 100.0, "eps": 0.002}
    for score, theirs in (("msr", MaxSoftmax), (rrfast.scores.ODIN(**odin), ODIN)):
        own = -ScoreDetector(trained, score)(images).neg().sigmoid()
        known = theirs(trained, **(odin if theirs is ODIN else {}))(images)
        torch.testing.assert_close(own.to(known), known, rtol=1e-4, atol=1e-5)
    own, known = ScoreDetector(trained, "max_logit")(images), MaxLogit(trained)(images)
    torch.testing.assert_close(own.to(known), known)


def test_its_metrics_are_rrfasts(trained: nn.Module, images: Tensor) -> None:
    outliers = torch.rand(100, *images.shape[1:], generator=torch.Generator().manual_seed(0))
    detector, metrics = ScoreDetector(trained, "radius_fast"), OODMetrics()
    for x, label in ((images, 1), (outliers, -1)):
        metrics.update(detector(x), torch.full((len(x),), label))
    score = -torch.cat([detector(images), detector(outliers)])
    known = torch.arange(200) < 100
    auroc = float(metrics.compute()["AUROC"])
    assert auroc == pytest.approx(rrfast.metrics.auroc(score, known), abs=1e-5)


def test_hyper_parameters_and_fitting(trained: nn.Module, images: Tensor) -> None:
    detector = ScoreDetector(trained, "odin")
    space = detector.hyperparameter_space
    assert set(space) == set(detector.get_hyperparameters()) == {"temperature", "eps"}
    chosen = {name: values[-1] for name, values in space.items()}
    assert detector.set_hyperparameters(**chosen).get_hyperparameters() == chosen
    assert torch.equal(detector(images), -rrfast.scores.ODIN(**chosen)(trained, images))
    with pytest.raises(TypeError, match="ODIN has no hyper-parameter 'beta'"):
        detector.set_hyperparameters(beta=1.0)

    detector = ScoreDetector(trained, "relu")
    assert detector.requires_fit
    with pytest.raises(RequiresFittingException, match="must be fitted before predict"):
        detector(images)
    labels = trained(images).argmax(dim=1)
    labels[::4] = (labels[::4] + 1) % 10
    loader = DataLoader(TensorDataset(images, labels), 50)
    expected = rrfast.scores.RelU().fit(trained, loader)(trained, images)
    assert torch.equal(detector.fit(loader)(images), -expected)
