"""Faults in the Python code that the named tests must catch: one edit each.

    python python_tests/mutation.py [WORD ...]            all faults, or those that WORD is in
    python python_tests/mutation.py --at FOLDER           of another checkout, by its own tests

A mutant that survives means that a test is missing, or that the line it breaks is not needed. Each
runs its tests over a copy of the package, for seconds of one core; first all of them run over a
copy without a fault, where they must pass. In another checkout the file may have another name:
where one file alone has the text, that is the one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from faults import edited

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    fault: str
    file: str  #: in rrfast/
    old: str  #: in it once
    new: str
    tests: tuple[str, ...]  #: in python_tests/, as pytest names them


_OP = "test_matches_the_reference"
_BOX = ("test_box.py",)
_RANKS = (
    "test_metrics.py::test_literal_definition_on_few_samples",
    "test_metrics.py::test_literal_definition_on_more_samples",
    "test_metrics.py::test_working_points_are_the_literal_ones",
    "test_metrics.py::test_a_tpr_that_is_reached_exactly_is_reached",
    "test_metrics.py::test_a_coverage_and_a_risk_that_are_reached_exactly_are_enough",
    "test_metrics_weights.py::test_a_weight_is_a_repetition",
)
_TRAIN = "test_train.py::"
_SHARDS = "test_score_shards.py::"
_LOSS = f"ops/test_loss_seed.py::TestLossSeed::{_OP}"
_REDIRECT = f"ops/test_redirect.py::TestRedirect::{_OP}"
_PLANE = f"ops/test_plane_seed.py::TestPlaneSeed::{_OP}"

MUTANTS = (
    # engine
    Mutant(
        "samples of a backward count twice",
        "engine/engine.py",
        "self._engine.backward_samples += self._x.shape[0]",
        "self._engine.backward_samples += 2 * self._x.shape[0]",
        ("test_radius.py::test_every_method_says_what_it_costs",),
    ),
    Mutant(
        "samples of later forwards are not counted",
        "engine/engine.py",
        "self.forward_samples += x.shape[0]",
        "self.forward_samples = x.shape[0]",
        ("test_radius.py::test_every_method_says_what_it_costs",),
    ),
    Mutant(
        "logits of another number of samples pass",
        "engine/engine.py",
        "if logits.shape[0] != x.shape[0]:",
        "if logits.shape[0] > x.shape[0]:",
        ("test_radius.py::test_mistakes_get_a_sentence",),
    ),
    Mutant(
        "logits lie in the model's memory",
        "engine/engine.py",
        "return logits.clone() if copy else logits",
        "return logits",
        ("test_wrapped_models.py::test_logits_do_not_lie_in_the_memory_of_the_model",),
    ),
    Mutant(
        "the coarser precision decides",
        "engine/engine.py",
        "return logits.double() if accumulate_dtype(x.dtype) == torch.float64 else logits",
        "return logits",
        ("test_radius.py::test_the_finer_precision_decides",),
    ),
    Mutant(
        "modules stay in train mode",
        "engine/frozen.py",
        '            own["training"] = False\n',
        "",
        ("test_radius.py::test_inside_no_parameter_requires_a_gradient_and_all_is_in_eval_mode",),
    ),
    Mutant(
        "parameters keep their gradients",
        "engine/frozen.py",
        "                parameter.requires_grad = False\n",
        "",
        ("test_radius.py::test_inside_no_parameter_requires_a_gradient_and_all_is_in_eval_mode",),
    ),
    Mutant(
        "who has a train of its own is told from the inside out",
        "engine/frozen.py",
        'self.trained.insert(0, (module, "train", mode))',
        'self.trained.append((module, "train", mode))',
        ("test_train_mode.py::test_what_is_in_eval_mode_within_a_train_of_its_own_is_told_last",),
    ),
    Mutant(
        "rounding at a face is an error",
        "engine/box.py",
        "rounding = torch.finfo(dtype).eps *",
        "rounding = 0 *",
        _BOX,
    ),
    Mutant(
        "above the box is a place, on a device",
        "engine/box.py",
        "masked_fill((x < low) | (x > high), math.nan)",
        "masked_fill(x < low, math.nan)",
        _BOX,
    ),
    # ops: the references, which the kernels are held against
    Mutant(
        "the direction is towards the prediction",
        "ops/_direction_seed.py",
        "scatter(1, prediction, -1.0)",
        "scatter(1, prediction, 1.0)",
        (f"ops/test_direction_seed.py::TestDirectionSeed::{_OP}",),
    ),
    Mutant(
        "a tie is far from the boundary",
        "ops/_linear_radius.py",
        "q.masked_fill(gap0 <= 0, 0.0)",
        "q.masked_fill(gap0 < 0, 0.0)",
        (f"ops/test_linear_radius.py::TestLinearRadius::{_OP}",),
    ),
    Mutant(
        "a gradient that is NaN is no step",
        "ops/_fgsm_step.py",
        "sign.nan_to_num(nan=NAN_DIRECTION)",
        "sign.nan_to_num(nan=0)",
        (f"ops/test_fgsm_step.py::TestFgsmStep::{_OP}",),
    ),
    Mutant(
        "the bracket grows threefold",
        "ops/_bisection_step.py",
        "torch.minimum((lower + upper) / 2, 2 * lower)",
        "torch.minimum((lower + upper) / 2, 3 * lower)",
        (f"ops/test_bisection_step.py::TestBisectionStep::{_OP}",),
    ),
    Mutant(
        "a tie of 16 bits is no step",
        "ops/_plane_seed.py",
        "gap.maximum(digit * first.abs())",
        "gap",
        (_PLANE,),
    ),
    Mutant(
        "the plane's normal is towards the prediction",
        "ops/_plane_seed.py",
        "torch.where(classes == top, -unit, seed)",
        "torch.where(classes == top, unit, seed)",
        (_PLANE,),
    ),
    Mutant(
        "a class behind is a tie",
        "ops/_plane_seed.py",
        "torch.where(gap < 0, gap, gap.maximum(digit * first.abs()))",
        "gap.maximum(digit * first.abs())",
        (_PLANE,),
    ),
    Mutant(
        "what is no class has a gap",
        "ops/_plane_seed.py",
        "is_undefined(h) | ~known",
        "is_undefined(h)",
        (_PLANE,),
    ),
    Mutant(
        "undefined logits have a gap",
        "ops/_plane_seed.py",
        "is_undefined(h) | ~known",
        "~known",
        (_PLANE,),
    ),
    Mutant(
        "float16 has scaled gradients",
        "ops/_plane_seed.py",
        "if dtype == torch.float16:",
        "if False:",
        (_PLANE,),
    ),
    Mutant(
        "the least logit has no size",
        "ops/_plane_seed.py",
        "torch.maximum(least.abs().nan_to_num(0.0, posinf=0.0), largest.abs())",
        "largest.abs()",
        (_PLANE,),
    ),
    Mutant(
        "one class at -infinity hides the size of the others",
        "ops/_plane_seed.py",
        "least.abs().nan_to_num(0.0, posinf=0.0)",
        "least.abs()",
        (_PLANE,),
    ),
    Mutant(
        "a unit beyond the square root of the range",
        "ops/_plane_seed.py",
        ".frexp().exponent.clamp(-most, most)",
        ".frexp().exponent",
        (_PLANE,),
    ),
    Mutant(
        "a number that stands for infinity has a gradient",
        "ops/_loss_seed.py",
        "seed.masked_fill(wide == math.inf, 0.0).masked_fill",
        "seed.masked_fill",
        (_LOSS,),
    ),
    Mutant(
        "each of the best others has the whole gradient",
        "ops/_loss_seed.py",
        "seed = equal / equal.sum(dim=1, keepdim=True).clamp(min=1)",
        "seed = equal",
        (_LOSS,),
    ),
    Mutant(
        "the label is one of its others",
        "ops/_loss_seed.py",
        "others = h.scatter(1, label, -math.inf)",
        "others = h",
        (_LOSS,),
    ),
    Mutant(
        "a spread of zero divides",
        "ops/_loss_seed.py",
        "usable = (spread > 0) & spread.isfinite()",
        "usable = spread.isfinite()",
        (_LOSS,),
    ),
    Mutant(
        "the third and fourth pull the other way",
        "ops/_loss_seed.py",
        "[slope * -0.5] * 2",
        "[slope * 0.5] * 2",
        (_LOSS,),
    ),
    Mutant(
        "a label that is no class has a loss",
        "ops/_loss_seed.py",
        "y, unknown = _existing(labels, h.shape[1])\n        undefined = undefined | unknown",
        "y, unknown = _existing(labels, h.shape[1])",
        (_LOSS,),
    ),
    Mutant(
        "masked others have a share",
        "ops/_loss_seed.py",
        "others.softmax(dim=1).masked_fill(others == -math.inf, 0.0)",
        "others.softmax(dim=1)",
        (_LOSS,),
    ),
    Mutant(
        "an infinite prediction has a confidence",
        "ops/_loss_seed.py",
        'is_undefined(wide) if name == "confidence" else wide',
        "wide",
        (_LOSS,),
    ),
    Mutant(
        "a ray that crosses later is nearer",
        "ops/_redirect.py",
        "nearer = ~(crossing >= nearest[6])",
        "nearer = crossing >= nearest[6]",
        (_REDIRECT,),
    ),
    Mutant(
        "NaN, no crossing yet, is never replaced",
        "ops/_redirect.py",
        "nearer = ~(crossing >= nearest[6])",
        "nearer = crossing < nearest[6]",
        (_REDIRECT,),
    ),
    Mutant(
        "the smallest flip of the first ray stays",
        "ops/_redirect.py",
        "nearest[7] = torch.where(flips, state[1], nearest[7])",
        "nearest[7] = nearest[7].clone()",
        (_REDIRECT,),
    ),
    Mutant(
        "the class of a flip that is no smaller",
        "ops/_redirect.py",
        "torch.where(flips, rival, flipped_to)",
        "rival",
        (_REDIRECT,),
    ),
    Mutant(
        "a gradient of zeros leaves no aim",
        "ops/_redirect.py",
        "factor.masked_fill(factor.isinf(), 0.0)",
        "factor",
        (_REDIRECT,),
    ),
    Mutant(
        "a crossing behind x counts",
        "ops/_redirect.py",
        "return torch.where(at > 0, at, math.inf)",
        "return torch.where(at.isfinite(), at, math.inf)",
        (_REDIRECT,),
    ),
    Mutant(
        "the plane's gap at x is that at z",
        "ops/_redirect.py",
        "of_x = gap + way",
        "of_x = gap",
        (_REDIRECT,),
    ),
    Mutant(
        "the new ray crosses as if there were no box",
        "ops/_redirect.py",
        "_inner(normal, look - x)",
        "_inner(normal, sign.to(x.dtype) * probe.to(x.dtype).reshape(chosen.shape))",
        (_REDIRECT,),
    ),
    Mutant(
        "a step beyond the smallest that flipped",
        "ops/_redirect.py",
        ".minimum(nearest[7])",
        "",
        (_REDIRECT,),
    ),
    Mutant(
        "an end that stays counts in full",
        "ops/_search_step.py",
        "torch.where(old_side == side, 0.5, 1.0)",
        "torch.where(old_side == side, 1.0, 1.0)",
        (f"ops/test_search_step.py::TestSearchStep::{_OP}",),
    ),
    Mutant(
        "what lies beyond a face moves back",
        "ops/_plane_distance.py",
        "torch.where(rising, upper - x, x - lower).clamp(min=0)",
        "torch.where(rising, upper - x, x - lower)",
        (f"ops/test_plane_distance.py::TestPlaneDistance::{_OP}",),
    ),
    Mutant(
        "reverse AT is AT",
        "ops/_rat_perturb.py",
        '"reverse_at": (-1.0, -1.0)',
        '"reverse_at": (1.0, 1.0)',
        (f"ops/test_rat_perturb.py::TestRatPerturb::{_OP}",),
    ),
    Mutant(
        "the similarity leaves out the best of the others",
        "ops/_probability_margin.py",
        "1 + weights.square().sum(dim=1, keepdim=True)",
        "weights.square().sum(dim=1, keepdim=True)",
        (f"ops/test_probability_margin.py::TestProbabilityMargin::{_OP}",),
    ),
    # metrics
    Mutant(
        "errors among ties are all above them",
        "metrics/risk_coverage.py",
        "errors_above, seen_above = errors.cumsum(0) - errors,",
        "errors_above, seen_above = errors.cumsum(0),",
        _RANKS,
    ),
    Mutant(
        "an excess over ranks that lost their weights",
        "metrics/risk_coverage.py",
        "        ranking.samples,\n",
        "        None,\n",
        _RANKS,
    ),
    Mutant(
        "ties are errors, of AUGRC",
        "metrics/risk_coverage.py",
        "(2 * errors.cumsum(0) - errors)",
        "(2 * errors.cumsum(0))",
        _RANKS,
    ),
    Mutant(
        "more than the coverage is accepted",
        "metrics/risk_coverage.py",
        "curve.coverage >= coverage",
        "curve.coverage > coverage",
        _RANKS,
    ),
    Mutant(
        "the risk itself is too much",
        "metrics/risk_coverage.py",
        "curve.risk <= risk",
        "curve.risk < risk",
        _RANKS,
    ),
    Mutant(
        "ties are in no order, of AUROC",
        "metrics/roc.py",
        "above = 2 * (negatives.sum() - negatives.cumsum(0)) + negatives",
        "above = 2 * (negatives.sum() - negatives.cumsum(0))",
        _RANKS,
    ),
    Mutant(
        "a TPR that is reached is passed over",
        "metrics/roc.py",
        "float(alarms[(caught >= least)",
        "float(alarms[(caught > least)",
        _RANKS,
    ),
    Mutant(
        "a sample of weight 0 is one",
        "metrics/ranking.py",
        "kept = w > 0",
        "kept = w >= 0",
        ("test_metrics_weights.py",),
    ),
    Mutant(
        "an interval of half the level",
        "metrics/resampling.py",
        "math.floor((1 - level) / 2 *",
        "math.floor((1 - level) *",
        ("test_metrics_bootstrap.py",),
    ),
    Mutant(
        "few errors are as good as many",
        "metrics/paired.py",
        "_student(float(c), rarer) * scale[apart]",
        "float(c) * scale[apart]",
        ("test_metrics_bootstrap.py", "test_compare.py"),
    ),
    # selective
    Mutant(
        "what scores as a rejected sample is accepted",
        "selective/threshold.py",
        "return float(value.nextafter(value.new_tensor(math.inf)))",
        "return float(value)",
        ("test_selective.py::test_the_rejected_are_rejected_in_every_dtype",),
    ),
    Mutant(
        "less than the coverage is accepted",
        "selective/threshold.py",
        "math.ceil(float(coverage) * len(s) - 1e-9)",
        "math.floor(float(coverage) * len(s))",
        ("test_selective.py::test_coverage_counts_samples",),
    ),
    Mutant(
        "a threshold has no room",
        "selective/threshold.py",
        "middle = below / 2 + above / 2",
        "middle = above",
        ("test_selective.py::test_rounding_does_not_decide",),
    ),
    Mutant(
        "every look has the whole confidence",
        "selective/guarantee.py",
        "failure = (1 - confidence) / len(ranks)",
        "failure = 1 - confidence",
        ("test_guarantee.py::test_all_bounds_hold_at_once", "test_guarantee.py"),
    ),
    Mutant(
        "one error fewer",
        "selective/guarantee.py",
        "betainccinv(errors + 1, accepted - errors, failure)",
        "betainccinv(max(errors, 1), accepted - errors, failure)",
        ("test_guarantee.py::test_a_bound_is_that_of_the_binomial",),
    ),
    Mutant(
        "a threshold of another state",
        "selective/classifier.py",
        'struct.pack("d", float(given)) != struct.pack("d", packed)',
        "False",
        ("test_selective.py::test_a_threshold_of_another_state_is_refused",),
    ),
    Mutant(
        "the risk of all is that of the accepted",
        "selective/classifier.py",
        "float((~correct[accepted]).double().mean())",
        "float((~correct).double().mean())",
        ("test_selective.py::test_the_aims_are_met",),
    ),
    # train
    Mutant(
        "the first step has no rate",
        "train/schedule.py",
        "start_factor=1 / (warmup + 1)",
        "start_factor=1 / (warmup + 2)",
        (f"{_TRAIN}test_the_rate_rises_and_falls_as_said",),
    ),
    Mutant(
        "norms and biases decay with the weights",
        "train/schedule.py",
        'training.weight_decay_on == "all" or p.ndim >= 2',
        'training.weight_decay_on == "all" or p.ndim >= 1',
        (f"{_TRAIN}test_weight_decay_on_weights_alone",),
    ),
    Mutant(
        "a share of one image is trained on",
        "train/batches.py",
        "if share > 1 or (share == 1 and size == self._batch):",
        "if share >= 1:",
        (f"{_TRAIN}test_an_incomplete_last_batch_is_cut",),
    ),
    Mutant(
        "every epoch has the order of the first",
        "train/batches.py",
        "derive_seed(self._seed, Stream.ORDER, epoch)",
        "derive_seed(self._seed, Stream.ORDER, 0)",
        (f"{_TRAIN}test_epochs_and_seeds_are_dealt_anew",),
    ),
    Mutant(
        "accumulated losses are summed",
        "train/loop.py",
        "self._backward(loss / len(batches))",
        "self._backward(loss)",
        (f"{_TRAIN}test_accumulated_batches_are_one",),
    ),
    Mutant(
        "the last of the best is the best",
        "train/loop.py",
        "best = least < progress.least",
        "best = least <= progress.least",
        (f"{_TRAIN}test_of_equally_good_epochs_the_first_is_the_best",),
    ),
    Mutant(
        "a resumed training has the rate of its first step",
        "train/checkpoint.py",
        '            self.schedule.load_state_dict(state["schedule"])\n',
        "",
        (f"{_TRAIN}test_resumed_is_as_if_it_had_not_been",),
    ),
    Mutant(
        "weights that are not finite are kept",
        "train/checks.py",
        "        if not finite:\n",
        "        if False:\n",
        (f"{_TRAIN}test_weights_that_are_not_finite_are_not_kept",),
    ),
    # methods
    Mutant(
        "a step that rounding takes away is taken",
        "methods/fmn.py",
        "(BEYOND * way).maximum(least)",
        "(BEYOND * way)",
        ("test_boundary.py::test_a_step_below_the_resolution_of_x_is_taken_all_the_same",),
    ),
    Mutant(
        "a walk leaves the box",
        "methods/fmn.py",
        "return moved if bounds is None else torch.clamp(moved, *faces(bounds, x))",
        "return moved",
        ("test_boundary.py::test_the_radius_is_that_of_the_nearest_point_seen_beyond",),
    ),
    # inference
    Mutant(
        "a tar file that is cut between two files is whole",
        "inference/shards.py",
        "return self._last == bytes(tarfile.BLOCKSIZE)",
        "return True",
        (f"{_SHARDS}test_a_tar_file_that_is_damaged_loses_no_other_row",),
    ),
    Mutant(
        "a link is an image without bytes",
        "inference/shards.py",
        "            error = LINK\n",
        '            error = ""\n',
        (f"{_SHARDS}test_no_image_of_a_tar_file_is_lost_in_silence",),
    ),
    Mutant(
        "rows of Parquet have the number of their batch",
        "inference/shards.py",
        "                    row += 1\n",
        "                row += 1\n",
        (f"{_SHARDS}test_the_rows_are_those_of_the_files",),
    ),
    # deployment
    Mutant(
        "NaN is below all",
        "selective/onnx_ops.py",
        "x.masked_fill(x.isnan(), math.inf)",
        "x.masked_fill(x.isnan(), -math.inf)",
        ("test_onnx_ops.py",),
    ),
    Mutant(
        "a gradient without the pixels that no window reached",
        "selective/onnx_ops.py",
        "grad, weight, None, steps, edges, holes, not transposed, lost, groups",
        "grad, weight, None, steps, edges, holes, not transposed, [0] * len(sizes), groups",
        ("test_onnx_ops.py",),
    ),
    # integrations
    Mutant(
        "an unknown radius is none",
        "integrations/lightning.py",
        "if bool((radius < 0).any()):",
        "if False:",
        ("test_integrations_lightning.py::test_an_unknown_radius_makes_the_numbers_unknown",),
    ),
    Mutant(
        "a metric keeps the memory of its caller",
        "integrations/torchmetrics.py",
        "self.score.append(s.detach().clone())",
        "self.score.append(s.detach())",
        ("test_integrations_torchmetrics.py",),
    ),
    Mutant(
        "labels are the numbers of their logits",
        "integrations/sklearn.py",
        "self.classes_[found.prediction.numpy()]",
        "found.prediction.numpy()",
        ("test_integrations_sklearn.py",),
    ),
)


def package(checkout: Path, folder: Path) -> Path:
    """A copy of its rrfast in a folder, the libraries as links: what PYTHONPATH is set to."""
    copy = folder / "rrfast"
    binary = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(checkout / "rrfast", copy, ignore=binary)
    for library in (checkout / "rrfast").glob("*.so"):
        (copy / library.name).symlink_to(library)
    return folder


def failed(tests: Iterable[str], checkout: Path, folder: Path) -> str:
    """What pytest says of tests that fail over the package in a folder; "" where all pass.

    In a copy of this process, which has torch already.

    Raises:
        RuntimeError: None ran.
    """
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "-o", "addopts="]
    arguments += [str(checkout / "python_tests" / test) for test in tests]
    with tempfile.TemporaryFile("w+") as said:
        process = os.fork()
        if not process:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os.chdir(folder)
            os.environ["PYTHONPATH"] = str(folder)  # of the processes that tests start
            sys.path.insert(0, str(folder))
            os._exit(int(pytest.main(arguments)))
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        said.seek(0)
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            raise RuntimeError(said.read())
        return said.read() if code else ""


def broken(mutant: Mutant, folder: Path) -> None:
    """Put the fault into the package in a folder.

    Raises:
        ValueError: No file has what it changes, or several have.
    """
    path = folder / "rrfast" / mutant.file
    if not path.is_file() or path.read_text(encoding="utf-8").count(mutant.old) != 1:
        found = [
            each
            for each in sorted((folder / "rrfast").rglob("*.py"))
            if mutant.old in each.read_text(encoding="utf-8")
        ]
        if len(found) != 1:
            raise ValueError(f"{len(found)} files have {mutant.old!r}")
        [path] = found
    text = path.read_text(encoding="utf-8")
    path.write_text(edited(text, path.name, mutant.fault, mutant.old, mutant.new), encoding="utf-8")


def main() -> int:
    """Run the mutants; 1 where one survives."""
    command = argparse.ArgumentParser(description="Faults that the tests must catch.")
    command.add_argument("words", nargs="*", metavar="WORD", help="of the fault (all)")
    command.add_argument("--at", type=Path, default=ROOT, metavar="FOLDER", help="a checkout")
    command.add_argument("--quick", action="store_true", help="not first without any fault")
    arguments = command.parse_args()
    torch.set_num_threads(1)  # a process that has more cannot be copied
    chosen = [m for m in MUTANTS if all(word in m.fault for word in arguments.words)]
    with tempfile.TemporaryDirectory() as scratch:
        whole = package(arguments.at, Path(scratch, "whole"))
        there = {name for m in chosen for name in m.tests if is_there(name, arguments.at)}
        if not arguments.quick and (said := failed(sorted(there), arguments.at, whole)):
            raise SystemExit(f"tests fail without a fault:\n{said}")
        caught = missing = 0
        for i, mutant in enumerate(chosen):
            folder = package(arguments.at, Path(scratch, str(i)))
            try:
                broken(mutant, folder)
            except ValueError as error:
                missing += 1
                print(f"not here  {mutant.fault}: {error}", flush=True)
                continue
            tests = [name for name in mutant.tests if name in there]
            said = failed(tests, arguments.at, folder) if tests else ""
            caught += bool(said)
            print(f"{'caught  ' if said else 'SURVIVES'}  {mutant.fault}", flush=True)
    print(f"{caught} of {len(chosen) - missing} mutants caught, {missing} not here")
    return int(caught + missing < len(chosen))


def is_there(test: str, checkout: Path) -> bool:
    """Whether a checkout has the test."""
    path, _, name = test.partition("::")
    file, name = checkout / "python_tests" / path, name.rpartition("::")[2]
    if name == _OP:  # inherited
        return file.is_file()
    return file.is_file() and (not name or f"def {name}(" in file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
