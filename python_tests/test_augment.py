"""Random crops and flips: against a loop over the images, from the same draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from rrfast.data import augment


def generator(device: torch.device, seed: int = 0) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def slow(x: Tensor, generator: torch.Generator, padding: int, flip: bool) -> Tensor:
    """The same draws in the same order; then pad, crop and flip one image after the other."""
    batch, channels, height, width = x.shape
    device = x.device
    top, left = torch.randint(2 * padding + 1, (2, batch, 1), generator=generator, device=device)
    flipped = torch.zeros(batch, 1)
    if flip:
        flipped = torch.randint(2, (batch, 1), generator=generator, device=device)
    images = []
    for i in range(batch):
        padded = x.new_zeros(channels, height + 2 * padding, width + 2 * padding)
        padded[:, padding : padding + height, padding : padding + width] = x[i]
        image = padded[:, int(top[i]) : int(top[i]) + height, int(left[i]) : int(left[i]) + width]
        images.append(image.flip(-1) if flipped[i] else image)
    return torch.stack(images)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("padding", [0, 1, 4, 9])
@pytest.mark.parametrize("shape", [(40, 3, 8, 8), (7, 1, 5, 11), (1, 3, 1, 1)])
def test_is_the_loop(shape, padding, flip, device):
    x = torch.rand(shape, device=device)
    kept = x.clone()
    expected = slow(x, generator(device), padding, flip)
    actual = augment(x, generator(device), padding=padding, flip=flip)
    assert torch.equal(actual, expected)
    assert torch.equal(x, kept)
    assert actual.is_contiguous()


def test_any_dtype(dtype, device):
    x = torch.rand(5, 3, 8, 8, device=device).to(dtype)
    assert augment(x, generator(device)).dtype == dtype
    x = torch.randint(256, (5, 3, 8, 8), device=device, dtype=torch.uint8)
    assert torch.equal(augment(x, generator(device)), slow(x, generator(device), 4, True))


@pytest.mark.parametrize("layout", ["channels last", "every other", "expanded"])
def test_any_layout(layout, device):
    x = torch.rand(6, 3, 8, 8, device=device)
    other = {
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "every other": torch.rand(6, 3, 16, 16, device=device)[..., ::2, ::2],
        "expanded": x[:1].expand(6, 3, 8, 8),
    }[layout]
    expected = augment(other.contiguous(), generator(device))
    assert torch.equal(augment(other, generator(device)), expected)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (4, 0, 8, 8)])
def test_empty(shape, device):
    assert augment(torch.rand(shape, device=device), generator(device)).shape == shape


def test_the_generator_decides_and_nothing_else(device):
    x = torch.rand(50, 3, 8, 8, device=device)
    state = torch.get_rng_state()
    one = generator(device, 5)
    first, second = augment(x, one), augment(x, one)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    again = generator(device, 5)
    assert torch.equal(augment(x, again), first)
    assert torch.equal(augment(x, again), second)
    assert not torch.equal(first, second)


def test_flips_do_not_change_the_crops(device):
    x = torch.rand(50, 1, 8, 8, device=device)
    still = augment(x, generator(device), flip=False)
    flipped = augment(x, generator(device))
    same = (flipped == still).flatten(1).all(dim=1)
    mirrored = (flipped == still.flip(-1)).flatten(1).all(dim=1)
    assert bool((same | mirrored).all())
    assert 0 < int(same.sum()) < 50


def test_every_place_and_side_is_as_likely(device):
    # One bright pixel of an asymmetric pair tells where the crop was and whether it was flipped.
    n, padding = 18_000, 1
    x = torch.zeros(n, 1, 5, 5, device=device)
    x[:, :, 2, 2] = 1
    x[:, :, 2, 3] = 0.5
    y = augment(x, generator(device), padding=padding)
    bright = y.flatten(1).argmax(dim=1)
    side = (y.flatten(1).gather(1, (bright + 1)[:, None]) == 0.5).squeeze(1)
    cells = torch.stack([bright, side.long()], dim=1).unique(dim=0, return_counts=True)[1]
    assert len(cells) == 3 * 3 * 2
    # Multinomial with mean 1000: five standard deviations.
    assert int((cells - 1000).abs().max()) < 5 * 1000**0.5


def test_without_waiting_for_the_device(device):
    if device.type == "cuda":
        x, draws = torch.rand(8, 3, 8, 8, device=device), generator(device)
        torch.cuda.set_sync_debug_mode("error")
        try:
            augment(x, draws)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return
    # A fake tensor has no values: to ask it for one, as a wait for the device does, raises.
    with FakeTensorMode():
        assert augment(torch.rand(8, 3, 8, 8), generator(device)).shape == (8, 3, 8, 8)


def test_memory_does_not_grow_with_the_padding(device):
    """Of 65535, the most that a recipe may say, padded images would be 17 GB each."""
    x = 1 + torch.rand(500, 1, 4, 4, device=device)
    assert not augment(x, generator(device), padding=65535).any()


def test_gradients(device):
    x = torch.rand(4, 1, 5, 6, device=device, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(augment(x, generator(device), padding=2).sum(), x)
    other = x.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(slow(other, generator(device), 2, True).sum(), other)
    assert torch.equal(gradient, expected)


X = torch.rand(2, 3, 8, 8)
DRAWS = torch.Generator()


@pytest.mark.parametrize(
    ("x", "draws", "arguments", "error", "sentence"),
    [
        ([1], DRAWS, {}, TypeError, r"x must be a tensor, got list \[1\]"),
        (X[0], DRAWS, {}, ValueError, r"shape \[B, C, H, W\], got .* \[3, 8, 8\]"),
        (X, 0, {}, TypeError, "generator must be a torch.Generator, got int 0"),
        (
            X.to("meta"),
            DRAWS,
            {},
            ValueError,
            "generator must be on the device of x, meta, got cpu",
        ),
        (X, DRAWS, {"padding": -1}, ValueError, "padding must be an integer of at least 0, got -1"),
        (X, DRAWS, {"padding": 1.5}, ValueError, "padding must be an integer .* got 1.5"),
        (X, DRAWS, {"flip": 0.5}, TypeError, "flip must be a bool, got float 0.5"),
    ],
)
def test_invalid(x, draws, arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        augment(x, draws, **arguments)
