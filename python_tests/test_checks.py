"""Checks of arguments that no op takes."""

from __future__ import annotations

import pytest
import torch

from rrfast._checks import check_labels


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64], ids=str)
def test_labels_in_range(dtype):
    check_labels("y", torch.arange(10).to(dtype), 10)
    check_labels("y", torch.tensor([], dtype=dtype), 10)
    check_labels("y", torch.zeros(3, dtype=dtype), 1000)  # more classes than a byte counts


@pytest.mark.parametrize(
    ("labels", "row"), [([0, 9, 10, -1], 2), ([-1, 10], 0), ([9, 8, 7, 100, 10], 3)]
)
def test_the_first_label_out_of_range_is_named(labels, row):
    with pytest.raises(ValueError, match="must be labels") as error:
        check_labels("train.y", torch.tensor(labels), 10)
    assert str(error.value) == (
        f"train.y must be labels of 10 classes, from 0 to 9, and has {labels[row]} in row {row}"
    )


@pytest.mark.parametrize(
    ("value", "error", "sentence"),
    [
        ([0, 1], TypeError, r"y must be a tensor of integers, got list \[0, 1\]"),
        (torch.tensor([0.0]), TypeError, r"of integers, got a float32 tensor of shape \[1\]"),
        (torch.tensor([True]), TypeError, "of integers, got a bool tensor"),
        (
            torch.zeros(2, 10).long(),
            ValueError,
            r"y must have shape \[n\], got an int64 .* \[2, 10\]",
        ),
    ],
)
def test_no_labels(value, error, sentence):
    with pytest.raises(error, match=sentence):
        check_labels("y", value, 10)
