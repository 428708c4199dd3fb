"""`RankingMetric` in torchmetrics itself gives the numbers of `rrfast.metrics`."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist
from test_metrics import METRICS, draw

torchmetrics = pytest.importorskip("torchmetrics", reason="needs torchmetrics")

from rrfast.integrations.torchmetrics import RankingMetric  # noqa: E402

SCORE, CORRECT = (torch.tensor(column) for column in draw(300, 3))


def filled(name: str, batch: int = 50, start: int = 0, stop: int = 300, **kwargs) -> RankingMetric:
    metric = RankingMetric(name, **kwargs)
    whole = slice(start, stop)
    for s, c in zip(SCORE[whole].split(batch), CORRECT[whole].split(batch), strict=True):
        metric.update(s, c)
    return metric


@pytest.mark.parametrize("name", METRICS)
def test_batches_give_the_numbers_of_all_samples(name: str) -> None:
    metric = filled(name, batch=7)
    assert metric.compute().item() == METRICS[name](SCORE, CORRECT)
    batch = RankingMetric(name)(SCORE[:90], CORRECT[:90])  # as a call: the batch's own value
    assert batch.item() == METRICS[name](SCORE[:90], CORRECT[:90])
    metric.reset()
    metric.update(SCORE[:90], CORRECT[:90])
    assert metric.compute() == batch


def test_calls_accumulate() -> None:
    metric = RankingMetric("auroc")
    for s, c in zip(SCORE.split(150), CORRECT.split(150), strict=True):
        assert metric(s, c).item() == METRICS["auroc"](s, c)
    assert metric.compute().item() == METRICS["auroc"](SCORE, CORRECT)
    other = filled("auroc", start=0, stop=100)
    other.merge_state(filled("auroc", start=100))
    assert other.compute() == metric.compute()


def test_a_collection_shares_one_state() -> None:
    metrics = torchmetrics.MetricCollection({name: RankingMetric(name) for name in METRICS})
    for s, c in zip(SCORE.split(50), CORRECT.split(50), strict=True):
        metrics.update(s, c)
    assert len(metrics.compute_groups) == 1
    values = {name: value.item() for name, value in metrics.compute().items()}
    assert values == {name: metric(SCORE, CORRECT) for name, metric in METRICS.items()}


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_the_batch_may_be_written_into_again_and_the_state_saved() -> None:
    score, correct = SCORE.clone(), CORRECT.clone()
    metric = RankingMetric("aurc")
    metric.persistent(True)
    metric.update(score, correct)
    score.zero_()
    correct.zero_()
    again = RankingMetric("aurc")
    again.load_state_dict(metric.state_dict())
    assert again.compute().item() == METRICS["aurc"](SCORE, CORRECT)


def test_which_way_is_better() -> None:
    """As a perfect ranking says, of a worse one."""
    correct = torch.tensor([True, True, True, False])
    good, bad = torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([0.1, 0.7, 0.8, 0.9])
    for name, metric in METRICS.items():
        higher = RankingMetric(name).higher_is_better
        difference = metric(good, correct) - metric(bad, correct)
        if higher is None or difference == 0:
            assert name in ("mean_confidence", "accuracy")
        else:
            assert (difference > 0) is higher, name


@pytest.mark.parametrize(
    ("score", "correct", "error", "sentence"),
    [
        ([math.nan], [True], ValueError, "NaN"),
        ([0.1], [1], TypeError, "correct must be boolean"),
        ([1], [True], TypeError, r"score must be a floating-point tensor, got an int64 tensor"),
    ],
)
def test_a_bad_batch_is_refused_at_once(score, correct, error, sentence) -> None:
    metric = filled("aurc")
    with pytest.raises(error, match=sentence):
        metric.update(torch.tensor(score), torch.tensor(correct))
    assert metric.compute().item() == METRICS["aurc"](SCORE, CORRECT)


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_what_is_not_there_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"metric must be one of auroc.*did you mean aurc\?"):
        RankingMetric("arc")
    with pytest.raises(ValueError, match="at least one sample, got none"):
        RankingMetric("aurc").compute()


def _shard(rank: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        # 211 and 89 samples; none and 300; halves of two dtypes.
        uneven = filled("aurc", start=211 * rank, stop=300 if rank else 211)
        empty = filled("auroc") if rank else RankingMetric("auroc")
        mixed = RankingMetric("aurc")
        half = slice(150 * rank, 150 * (rank + 1))
        mixed.update(SCORE[half].to(torch.float64 if rank else torch.float32), CORRECT[half])
        values = [metric.compute().item() for metric in (uneven, empty, mixed)]
        # Afterwards each process has its own samples again.
        uneven.update(torch.empty(0), torch.empty(0, dtype=torch.bool))
        uneven.sync_on_compute = uneven._to_sync = False
        torch.save([*values, uneven.compute().item()], f"{out}.{rank}")
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch.distributed is not built in")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # each has one thread
@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")  # of none, on purpose
def test_two_processes(tmp_path) -> None:
    # Forked: each would import torch for seconds.
    torch.multiprocessing.start_processes(
        _shard, (tmp_path / "store", tmp_path / "out"), nprocs=2, start_method="fork"
    )
    mixed = torch.cat([SCORE[:150].float().double(), SCORE[150:]])
    expected = [
        METRICS["aurc"](SCORE, CORRECT),
        METRICS["auroc"](SCORE, CORRECT),
        METRICS["aurc"](mixed, CORRECT),
    ]
    for rank, own in enumerate([slice(0, 211), slice(211, 300)]):
        alone = METRICS["aurc"](SCORE[own], CORRECT[own])
        assert torch.load(f"{tmp_path / 'out'}.{rank}") == [*expected, alone]
