"""Training on shards that are fetched: bit by bit the run on those of the disk, whatever the store does meanwhile."""

from pathlib import Path

import pytest

from tests.data.servers import now_and_then, range_server
from tests.torchrun import torchrun
from tests.training.conftest import SMALL
from tests.training.test_resume import assert_same, final_tensors

TWO_EPOCHS = ["schedule.niter=1", "schedule.niter_decay=1", "schedule.n_frames_total=4",
              "schedule.max_frames_per_rank=2", "generator.n_scales_spatial=1"]


@pytest.mark.long
def test_run_on_fetched_shards_is_the_run_on_the_disk(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    settings = [*SMALL, *TWO_EPOCHS, "data.workers=2", f"run.root={tmp_path}", "optim.ema_decay=0.9"]
    with range_server(shards) as server:
        server.fault, server.latency = now_and_then("503", "cut", "reset", share=0.2), 0.02
        for name, where in (("disk", str(shards)), ("fetched", server.url)):
            result = torchrun(2, "launch/train.py", *settings, f"run.name={name}", f"data.shards={where}",
                              TMPDIR=str(tmp_path / "tmp"))
            assert result.returncode == 0, result.stdout
        assert sum(server.asked.values()) > 20
    assert_same(final_tensors(tmp_path / "disk"), final_tensors(tmp_path / "fetched"))
    assert list((tmp_path / "tmp").glob("vid2vid_dist-*/*/*")), "the cache is where TMPDIR says"
