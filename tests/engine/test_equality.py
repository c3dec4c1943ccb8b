"""Spreading clips over lanes and ranks changes nothing: the same clips and weights give the same step.

Every row is a real torchrun job. The reference is one process with the plain backend.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.torchrun import torchrun

WORKER = "tests/engine/spread_clips.py"
PLAIN64 = ("optim.backend=plain", "optim.precision=fp64")
PLAIN32 = ("optim.backend=plain",)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """run(ranks, lanes, clips, optimizer, lr, overrides) -> what the worker found; each job runs once."""
    done: dict[tuple, dict[str, Tensor]] = {}

    def job(*key) -> dict[str, Tensor]:
        if key not in done:
            ranks, lanes, n_clips, optimizer, lr, overrides = key
            out = tmp_path_factory.mktemp("job") / "found.pt"
            result = torchrun(ranks, WORKER, *map(str, (out, lanes, n_clips, optimizer, lr)), *overrides)
            assert result.returncode == 0, result.stdout
            done[key] = torch.load(Path(out), weights_only=True)
        return done[key]

    return job


def is_cancelled_bias(name: str, parameters: dict[str, Tensor]) -> bool:
    """A bias that the norm layer after it takes out again: its true gradient is zero, the computed one is noise."""
    stem, _, last = name.rpartition(".")
    head, _, index = stem.rpartition(".")
    follower = f"{head}.{int(index) + 1}.weight" if index.isdigit() else ""
    is_convolution = last == "bias" and parameters[f"{stem}.weight"].dim() == 4
    return is_convolution and follower in parameters and parameters[follower].dim() == 1


def parameters_of(found: dict[str, Tensor]) -> dict[str, Tensor]:
    parameters = {name: p for name, p in found.items() if not name.startswith(("losses.", "gradient.", "moved"))}
    return {name: p for name, p in parameters.items() if not is_cancelled_bias(name, parameters)}


def worst_parameter(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    pa, pb = parameters_of(a), parameters_of(b)
    assert pa.keys() == pb.keys()
    return max(float((pa[name] - pb[name]).abs().max()) for name in pa)


def worst_gradient(a: dict[str, Tensor], b: dict[str, Tensor], floor: float = 0.0) -> float:
    """Difference over length, per tensor; `floor` is added to the length."""
    pairs = [(a[f"gradient.{name}"], b[f"gradient.{name}"]) for name in parameters_of(a)]
    return max(float((x - y).norm() / (x.norm() + floor)) for x, y in pairs if x.norm() + floor > 0)


def worst_loss(a: Tensor, b: Tensor) -> float:
    return float(((a - b).abs() / a.abs().clamp(min=1e-3)).max())


@pytest.mark.parametrize(("ranks", "lanes", "n_clips"), [(2, 2, 4), (4, 1, 4), (2, 2, 3)])
def test_plain_float64_is_equal(run, ranks, lanes, n_clips):
    """Three steps of Adam: losses, gradients and weights to 1e-10; also when one lane of a rank rests."""
    reference, found = (run(r, n, n_clips, "Adam", 5e-5, PLAIN64) for r, n in ((1, n_clips), (ranks, lanes)))
    for step in range(3):
        assert worst_loss(reference[f"losses.{step}"], found[f"losses.{step}"]) < 1e-10
    assert worst_parameter(reference, found) < 1e-10
    assert worst_gradient(reference, found) < 1e-10


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize(("ranks", "lanes", "n_clips"), [(1, 4, 4), (2, 2, 4), (4, 1, 4), (2, 2, 3)])
def test_zero_float32_is_equal(run, stage, ranks, lanes, n_clips):
    """Losses of the first step to 1e-6, gradients to 1e-5 of their length, weights after three steps to 1e-6."""
    reference = run(1, n_clips, n_clips, "SGD", 1e-6, PLAIN32)
    found = run(ranks, lanes, n_clips, "SGD", 1e-6, (f"optim.zero_stage={stage}",))
    assert worst_loss(reference["losses.0"], found["losses.0"]) < 1e-6
    assert worst_parameter(reference, found) < min(1e-6, 1e-3 * float(reference["moved"]))
    # The step at rate 1 is rounded to the weights' own float32 grid: it hides gradients of nearly no length.
    assert worst_gradient(reference, found, floor=1e-2) < 1e-5


def test_the_comparison_can_fail(run):
    """Other clips give another step: the tolerances above are not met by accident."""
    three, four = (run(1, n, n, "Adam", 5e-5, PLAIN64) for n in (3, 4))
    assert worst_loss(three["losses.0"], four["losses.0"]) > 1e-3
    assert worst_parameter(three, four) > 1e-5
    assert worst_gradient(three, four) > 1e-2
