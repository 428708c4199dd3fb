"""The signs of an evaluation that is not to be trusted: seen where they are, and only there."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rrfast.attacks import beyond_gradients, sanity


@pytest.fixture
def labels(trained: nn.Module, images: Tensor) -> Tensor:
    return trained(images).argmax(1)


def test_a_plain_model_has_no_sign(trained: nn.Module, images: Tensor, labels: Tensor) -> None:
    assert sanity(trained, images, labels) == []
    assert sanity(lambda z: 1000 * trained(z), images, labels) == []  # saturated, but by odds not
    assert sanity(lambda z: trained(z).log_softmax(1), images, labels) == []
    assert sanity(trained, images[:0], labels[:0]) == []
    assert sanity(trained, images[:1], labels[:1]) == []


def test_zero_gradients_are_counted(trained: nn.Module, images: Tensor, labels: Tensor) -> None:
    still = torch.arange(len(images)) < 30

    def flat(z: Tensor) -> Tensor:
        return trained(torch.where(still[:, None, None, None], z * 0 + z.detach(), z))

    (sentence,) = sanity(flat, images, labels)
    assert "exactly zero for 30 of 100 samples" in sentence


def test_a_randomised_model_is_seen(trained: nn.Module, images: Tensor, labels: Tensor) -> None:
    (sentence,) = sanity(lambda z: trained(z + 0.1 * torch.rand_like(z)), images, labels)
    assert "from one forward to the next" in sentence


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_probabilities_are_seen(images: Tensor, dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 10), nn.Softmax(1)).to(dtype)
    x = images.to(dtype)
    found = sanity(net, x, net(x).argmax(1))
    assert any("probabilities" in sentence for sentence in found)


def test_nan_is_the_same_twice(images: Tensor, trained: nn.Module, labels: Tensor) -> None:
    def broken(z: Tensor) -> Tensor:
        return torch.where(torch.arange(len(z))[:, None] == 0, math.nan, trained(z))

    assert not any("forward to the next" in one for one in sanity(broken, images, labels))


def test_labels_of_inference_mode(trained: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        labels = trained(images).argmax(1)
    assert sanity(trained, images, labels) == []


def test_errors_beyond_gradients_are_counted() -> None:
    white_box = torch.tensor([True, False, False, False])
    assert beyond_gradients(white_box, white_box) == []
    assert beyond_gradients(white_box, torch.tensor([False] * 4)) == []
    (sentence,) = beyond_gradients(white_box, torch.tensor([True, True, True, False]))
    assert sentence.startswith("Square found 2 errors")
    assert beyond_gradients(white_box[:0], white_box[:0]) == []


def test_mistakes_get_a_sentence(trained: nn.Module, images: Tensor, labels: Tensor) -> None:
    with pytest.raises(TypeError, match="labels must be an int64 tensor"):
        sanity(trained, images, labels.float())
    with pytest.raises(ValueError, match="model must be differentiable"):
        sanity(lambda z: trained(z.detach()), images, labels)
