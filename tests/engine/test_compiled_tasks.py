"""With `optim.compile=tasks` steps are the same steps: those of the original's record, and on other ranks.

The networks are the smallest there are: what takes time is the C++ compiler, a second for every loop that it is given.
"""

from pathlib import Path

import pytest

from tests.conftest import GOLDEN
from tests.engine.batch import Batches, Job, patient
from tests.engine.test_equality import worst_gradient, worst_loss, worst_parameter
from tests.models.test_compiling import HAS_COMPILER, compiled_by
from tests.parity.test_placed_trace import SHORTEST
from tools.parity import trace
from tools.parity.discover import discover

pytestmark = [pytest.mark.long, patient]
COMPILED = "optim.compile=tasks"
TINY = ("generator.n_scales_spatial=1", "generator.fg=false", "data.use_instance=false", "generator.n_downsample_G=1",
        "discriminator.num_D=1", "discriminator.n_layers_D=1", "discriminator.n_scales_temporal=0")
PLAIN64 = ("optim.backend=plain", "optim.precision=fp64")


@pytest.mark.parametrize("backend", ["aot_eager_decomp_partition", pytest.param("inductor", marks=pytest.mark.full)])
@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no folder {GOLDEN}: set GOLDEN")
def test_the_original_is_followed(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As uncompiled, to 1e-9. Its networks keep the C++ compiler busy for minutes: where that is too long, torch's own
    operations run what has been traced."""
    compiled_by(monkeypatch, backend)
    (case,) = (case for case in discover(GOLDEN) if case.name == SHORTEST)
    cfg = trace.config_of(case)
    cfg.optim.compile = "tasks"
    ours = trace.train(cfg, case.meta, case.tensors())
    wrong = [check for check in trace.compare(case, ours, ours) if not check.ok]
    assert ours.chunks
    assert not wrong


def job(placement: str, ranks: int, *more: str) -> Job:
    return Job(ranks, (placement, "1", "2", "1", "0", "0", "Adam", "5e-5", *TINY, *PLAIN64, *more))


@pytest.mark.skipif(not HAS_COMPILER, reason="no g++")
def test_ranks_make_the_step_of_one_process(tmp_path: Path) -> None:
    """Generator and critics apart against the textbook's step, which is not compiled: losses of three steps, gradients
    of the first, weights after three of Adam, to 1e-10."""
    jobs = [job("textbook", 1), job("split:1+1", 2, COMPILED)]
    reference, compiled = map(Batches("tests/engine/placed_clips.py", jobs, tmp_path), jobs)
    for step in range(3):
        assert worst_loss(reference[f"losses.{step}"], compiled[f"losses.{step}"]) < 1e-10
    assert worst_gradient(reference, compiled) < 1e-10
    assert worst_parameter(reference, compiled) < 1e-10
