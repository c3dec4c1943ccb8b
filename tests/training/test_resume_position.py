"""A checkpoint in the middle of a clip whose files contradict each other is refused: it would train on in silence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.damage import seal
from tests.training.test_trainer import TWO_EPOCHS, Configure, folder_of, status
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.training.trainer import Trainer


def remove_lanes(checkpoint: Path) -> None:
    for path in (checkpoint / "lanes").iterdir():
        path.unlink()


def move_to(**position: int) -> Callable[[Path], None]:
    def change(checkpoint: Path) -> None:
        path = checkpoint / "state.json"
        saved = json.loads(path.read_text())
        saved["position"] |= position
        path.write_text(json.dumps(saved))

    return change


@pytest.mark.parametrize(("change", "message"), [
    (remove_lanes, r"lanes cannot be read \(No such file or directory\)"),
    (move_to(round=10**6), r"state\.json: position \(round 1000000, chunk 1\) is beyond the 3 rounds of epoch 2"),
    (move_to(chunk=3), r"state\.json: position \(round 0, chunk 3\) is beyond"),
    (move_to(chunk=2), r"the clip of lane 0 has 4 frames behind it, its 1 files say \[2\]"),
])
def test_a_clip_that_is_not_where_the_position_says(
        configure: Configure, grid: Grid, change: Callable[[Path], None], message: str) -> None:
    """Whole by its manifest; the whole one before it is offered."""
    settings = (*TWO_EPOCHS, "run.save_every_steps=1", "discriminator.num_D=1")
    cfg = configure(*settings, "run.max_steps=7")
    Trainer(cfg, grid).run()
    folder = folder_of(cfg) / "checkpoints/step_00000007"
    position = json.loads((folder / "state.json").read_text())["position"]
    assert position == {"step": 7, "epoch": 2, "round": 0, "chunk": 1}
    change(folder)
    seal(folder)
    with pytest.raises(UserError, match=rf"{message}.*write the name of a whole one \(.*step_00000006\) into"):
        Trainer(configure(*settings, "run.max_steps=8"), grid).run()
    assert status(cfg)["status"] == "failed"
