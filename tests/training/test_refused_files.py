"""Files of a run that are whole by the manifest, and yet cannot be gone on from; what is said of each."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.damage import as_version_1, edit_index, seal
from tests.training.test_checkpoint import save
from tests.training.test_trainer import TWO_EPOCHS, Configure, folder_of, status
from vid2vid_dist.data.index import _columns
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.training.checkpoint import newest_checkpoint
from vid2vid_dist.training.trainer import Trainer

ADAM = "optimizer/generator/rank_00000.safetensors"


def change_adam(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def changed(checkpoint: Path) -> None:
        tensors = load_file(checkpoint / ADAM)
        change(tensors)
        save_file(tensors, checkpoint / ADAM)

    return changed


def change_weight(change: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    def changed(checkpoint: Path) -> None:
        tensors = load_file(checkpoint / "generator.safetensors")
        name = next(name for name, x in tensors.items() if x.is_floating_point())
        save_file(tensors | {name: change(tensors[name])}, checkpoint / "generator.safetensors")

    return changed


@pytest.mark.fault(
    "Files",
    "a part of a checkpoint that the manifest does not tell is wrong, of another place or missing",
    "one line; whole ones before it are named",
    "steps between the two")
@pytest.mark.parametrize("change", [
    change_adam(lambda tensors: tensors.update(step=torch.tensor(-3.0))),
    change_adam(lambda tensors: tensors.update(step=torch.tensor(float("nan")))),
    change_adam(lambda tensors: tensors.pop(next(name for name in tensors if name.startswith("exp_avg/")))),
    change_adam(lambda tensors: tensors.update(odd=torch.zeros(1))),
    lambda checkpoint: (checkpoint / "generator.safetensors").unlink(),
    lambda checkpoint: shutil.rmtree(checkpoint / "optimizer"),
    change_weight(lambda weight: weight[None]),
    change_weight(lambda weight: weight.long()),
], ids=["negative step", "no number", "missing moments", "odd key", "no weights", "no optimizer", "another shape",
        "another kind of number"])
def test_a_part_that_is_wrong_or_missing(configure: Configure, grid: Grid, change: Callable[[Path], None]) -> None:
    settings = (*TWO_EPOCHS, "run.save_every_steps=1", "discriminator.num_D=1")
    cfg = configure(*settings, "run.max_steps=2")
    Trainer(cfg, grid).run()
    folder = folder_of(cfg) / "checkpoints/step_00000002"
    change(folder)
    seal(folder)
    with pytest.raises(UserError, match=r"step_00000002.*write the name of a whole one \(step_00000001\) into"):
        Trainer(configure(*settings, "run.max_steps=3"), grid).run()
    assert status(cfg)["status"] == "failed"


@pytest.mark.fault(
    "Files",
    "a checkpoint that may not be read",
    "one line; no older one is taken",
    "nothing")
def test_a_checkpoint_of_somebody_else_that_may_not_be_read(tmp_path: Path) -> None:
    """It may be whole: no older one is taken instead."""
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    save(tmp_path, 5)
    for path in tmp_path.parents:
        if path.stat().st_uid == 0 and path.name.startswith(("pytest", "popen")):  # of this test, also beside others
            path.chmod(0o755)
    tmp_path.chmod(0o755)
    (save(tmp_path, 10) / "state.json").chmod(0o600)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            newest_checkpoint(tmp_path)
        except UserError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    assert "state.json may not be read by you (Permission denied): ask its owner" in os.read(reader, 2000).decode()


@pytest.mark.fault(
    "Files",
    "metrics.jsonl is a folder, or holds odd lines",
    "goes on, with a warning",
    "those lines")
def test_a_folder_in_place_of_the_journal_costs_its_lines(
        configure: Configure, grid: Grid, caplog: pytest.LogCaptureFixture) -> None:
    cfg = configure(*TWO_EPOCHS, "run.max_steps=1")
    (folder_of(cfg) / "metrics.jsonl").mkdir(parents=True)
    Trainer(cfg, grid).run()
    assert status(cfg)["status"] == "finished"
    assert "metrics.jsonl" in caplog.text


def test_odd_lines_of_the_journal_cost_themselves(configure: Configure, grid: Grid) -> None:
    cfg = configure(*TWO_EPOCHS, "run.max_steps=1")
    Trainer(cfg, grid).run()
    with (folder_of(cfg) / "metrics.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\x00\n[1]\n{"step": "x"}\n{"torn')
    Trainer(configure(*TWO_EPOCHS, "run.max_steps=2"), grid).run()
    assert status(cfg)["status"] == "finished"
    assert json.loads((folder_of(cfg) / "metrics.jsonl").read_bytes().splitlines()[-1])


def swap_two_frames(index: dict) -> None:
    entries = index["videos"][0]["entries"]["images"]
    entries[0], entries[1] = entries[1], entries[0]


def swap_two_columns(shards: Path) -> None:
    folder = shards / "train"
    (file,) = folder.glob("columns-*.bin")
    names, columns = _columns(str(folder), json.loads((folder / "index.json").read_text()), file)
    rows = columns.entries[names.index("images")].copy()
    rows[[0, 1]] = rows[[1, 0]]
    whole = file.read_bytes()
    start = names.index("images") * rows.nbytes
    file.write_bytes(whole[:start] + rows.tobytes() + whole[start + rows.nbytes :])


@pytest.mark.fault(
    "Files",
    "the shards have changed since then, also where their index says that they have not",
    "one line, with the way on",
    "nothing")
@pytest.mark.parametrize("change", [
    lambda moved: edit_index(moved, lambda index: index.update(hash="of other frames")),
    lambda moved: edit_index(moved, swap_two_frames),
    swap_two_columns,
], ids=["other hash", "other frames, the hash kept", "other columns, the index kept"])
def test_changed_shards_are_named_as_such(
        configure: Configure, grid: Grid, shards: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    Trainer(configure(*TWO_EPOCHS, "run.max_steps=1"), grid).run()
    shutil.copytree(shards, tmp_path / "moved")
    change(tmp_path / "moved")
    with pytest.raises(UserError, match=r"the shards in .*moved have changed since .*run\.load_pretrain="):
        Trainer(configure(*TWO_EPOCHS, "run.max_steps=2", f"data.shards={tmp_path / 'moved'}"), grid)


def test_the_same_frames_in_another_index_go_on(configure: Configure, grid: Grid, shards: Path, tmp_path: Path) -> None:
    """One of version 1, as an earlier version packed them; and the checkpoint of a version that knew only its hash."""
    cfg = configure(*TWO_EPOCHS, "run.max_steps=1")
    Trainer(cfg, grid).run()
    shutil.copytree(shards, tmp_path / "moved")
    as_version_1(tmp_path / "moved/train")
    Trainer(configure(*TWO_EPOCHS, "run.max_steps=2", f"data.shards={tmp_path / 'moved'}"), grid).run()
    folder = folder_of(cfg) / "checkpoints/step_00000002"
    state = json.loads((folder / "state.json").read_text())
    del state["data"]["frames"]
    (folder / "state.json").write_text(json.dumps(state))
    seal(folder)
    Trainer(configure(*TWO_EPOCHS, "run.max_steps=3"), grid).run()
    assert status(cfg)["step"] == 3
