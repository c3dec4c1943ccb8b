"""A task that fails says which it was; a user's mistake and a rank that is gone keep their own words."""

import pytest
import torch
from torch import Tensor

from tests.engine.one_rank import OneRank
from tests.engine.spread_clips import CHUNK, clip
from tools.lanes import clip_of
from vid2vid_dist.engine.run.executor import TaskError
from vid2vid_dist.engine.run.transport import TransportError
from vid2vid_dist.errors import LostRankError, UserError


class BrokenFlow(torch.nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, current: Tensor, previous: Tensor) -> None:
        raise self.error


@pytest.mark.parametrize(("error", "kind", "words"), [
    (RuntimeError("out of memory"), TaskError, r"step 7, flow reference lane 0 frame 0,1,2: out of memory\n"),
    (KeyError(), TaskError, r"step 7, flow reference lane 0 frame 0,1,2: KeyError\n"),
    (UserError("no such file"), UserError, r"^no such file$"),
    (TransportError("step 7, rank 0: waiting"), LostRankError, r"^step 7, rank 0: waiting\n"),
])
def test_a_failing_task_is_named(error: Exception, kind: type[Exception], words: str) -> None:
    rank = OneRank(flow=BrokenFlow(error))
    rank.executor.transport.step = 7
    frames = clip(0, rank.cfg.generator.n_frames_G - 1 + CHUNK)
    with pytest.raises(kind, match=words) as raised:
        rank.step(clip_of(rank.cfg, [frames], torch.device("cpu")), CHUNK)
    # Where in the program it was is of no use to a user who can mend it.
    shown = "> run      flow reference lane 0 frame 0,1,2" in str(raised.value)
    assert shown == (kind is not UserError)
    assert raised.type is (TransportError if kind is LostRankError else kind)
