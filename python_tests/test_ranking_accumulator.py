"""Metrics over batches, shards and processes are those of all samples at once."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist
from test_metrics import METRICS, draw

from rrfast.metrics import RankingAccumulator, aurc


def samples(n=300, levels=3):
    return tuple(torch.tensor(column) for column in draw(n, levels))


def filled(score, correct, batch):
    accumulator = RankingAccumulator()
    for s, c in zip(score.split(batch), correct.split(batch), strict=True):
        accumulator.update(s, c)
    return accumulator


def everything(score, correct):
    return {name: metric(score, correct) for name, metric in METRICS.items()}


@pytest.mark.parametrize("batch", [1, 7, 300])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_batches(batch, dtype):
    score, correct = samples()
    score = score.to(dtype)
    accumulator = filled(score, correct, batch)
    assert len(accumulator) == 300
    assert accumulator.compute() == everything(score, correct)
    assert accumulator.compute("aurc") == accumulator.compute(aurc) == aurc(score, correct)
    assert accumulator.compute(["auroc"]) == {"auroc": METRICS["auroc"](score, correct)}


def test_merge():
    score, correct = samples()
    a, b = filled(score[:100], correct[:100], 7), filled(score[100:], correct[100:], 50)
    a.merge(b)
    assert a.compute() == everything(score, correct)
    assert len(b) == 200
    a.merge(RankingAccumulator())
    a.merge(a)
    assert len(a) == 600
    # A set twice over has the same rates.
    assert a.compute("auroc") == pytest.approx(METRICS["auroc"](score, correct), rel=1e-15)


def test_reset_and_state(tmp_path):
    score, correct = samples()
    accumulator = filled(score.float(), correct, 7)
    expected = accumulator.compute()
    torch.save(accumulator.state_dict(), tmp_path / "state.pt")
    accumulator.reset()
    assert len(accumulator) == 0
    with pytest.raises(ValueError, match="at least one sample, got none"):
        accumulator.compute()
    accumulator.update([0.5], [True])
    accumulator.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert len(accumulator) == 300
    assert accumulator.compute() == expected
    accumulator.load_state_dict(RankingAccumulator().state_dict())
    assert len(accumulator) == 0
    with pytest.raises(KeyError, match="correct"):
        accumulator.load_state_dict({"score": score})


def test_the_memory_of_a_sample():
    state = filled(*samples(), 7).state_dict()
    assert sum(x.element_size() for x in state.values()) == 9
    state = filled(torch.rand(10), torch.ones(10).bool(), 7).state_dict()
    assert sum(x.element_size() for x in state.values()) == 5


def test_the_batch_may_be_written_into_again():
    score, correct = samples()
    accumulator = RankingAccumulator()
    s, c = score.clone(), correct.clone()
    accumulator.update(s, c)
    s.zero_()
    c.zero_()
    assert accumulator.compute() == everything(score, correct)


def test_dtypes():
    accumulator = RankingAccumulator()
    accumulator.update([], [])
    accumulator.update(torch.tensor([1, 2], dtype=torch.uint8), [True, False])
    accumulator.update([2**53 + 1, 2**53], [True, False])
    assert accumulator.state_dict()["score"].tolist() == [1, 2, 2**53 + 1, 2**53]
    with pytest.raises(TypeError, match=r"score must stay .* integer .*, got float64 after uint8"):
        accumulator.update([0.5], [True])
    floating = RankingAccumulator()
    floating.update(torch.tensor([0.1]), [True])
    floating.update([0.1], [False])
    assert floating.state_dict()["score"].tolist() == [torch.tensor(0.1).item(), 0.1]


@pytest.mark.parametrize(
    ("score", "correct", "error", "sentence"),
    [
        ([math.nan], [True], ValueError, "NaN"),
        ([0.1], [1], TypeError, "correct must be boolean"),
        ([0.1], [], ValueError, "same length"),
        ([True], [True], TypeError, "score must be real"),
    ],
)
def test_a_bad_batch_is_refused_at_once(score, correct, error, sentence):
    accumulator = RankingAccumulator()
    accumulator.update([0.5], [True])
    with pytest.raises(error, match=sentence):
        accumulator.update(score, correct)
    assert len(accumulator) == 1


def test_unknown_metric():
    accumulator = filled(*samples(), 300)
    with pytest.raises(ValueError, match="metric, unless it is a function, must be one of auroc"):
        accumulator.compute("loss")
    with pytest.raises(ValueError, match="metric, unless it is a function, must be one of auroc"):
        accumulator.compute(["loss"])


def test_gather_alone_is_a_copy():
    accumulator = filled(*samples(), 7)
    whole = accumulator.gather()
    assert whole.compute() == accumulator.compute()
    whole.reset()
    assert len(accumulator) == 300


def _shard(rank, store, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        score, correct = samples()
        part = slice(0, 211) if rank == 0 else slice(211, None)
        uneven = filled(score[part], correct[part], 50).gather()
        nothing = RankingAccumulator()
        if rank == 1:
            nothing.update(score, correct)
        nothing = nothing.gather()
        torch.save([uneven.compute(), nothing.compute()], f"{out}.{rank}")
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch.distributed is not built in")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # each has one thread
def test_two_processes(tmp_path):
    """Shards of 211 and 89 samples, and of none and 300; every process has the whole."""
    # Forked: each would import torch for seconds.
    torch.multiprocessing.start_processes(
        _shard, (tmp_path / "store", tmp_path / "out"), nprocs=2, start_method="fork"
    )
    expected = everything(*samples())
    for rank in range(2):
        assert torch.load(f"{tmp_path / 'out'}.{rank}") == [expected, expected]
