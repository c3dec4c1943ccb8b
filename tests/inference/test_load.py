"""Which weights are loaded, and what is said when they cannot be."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.damage import seal
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.export import export
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.training.pretrain import find_weights

MakeRun = Callable[..., Path]


def same(generator: torch.nn.Module, file: Path) -> bool:
    stored, own = load_file(file), generator.state_dict()
    return stored.keys() == own.keys() and all(torch.equal(own[name], t) for name, t in stored.items())


def test_the_newest_checkpoint_of_a_run(cfg: Config, make_run: MakeRun) -> None:
    make_run(cfg, step=100)
    run = make_run(cfg, step=200)
    newest, older = run / "checkpoints/step_00000200", run / "checkpoints/step_00000100"
    loaded = load_generator(run)
    assert (loaded.checkpoint, loaded.run_dir, loaded.averaged) == (newest, run, False)
    assert same(loaded.generator, newest / "generator.safetensors")
    assert loaded.config == cfg
    named = load_generator(older)
    assert same(named.generator, older / "generator.safetensors")
    assert named.run_dir == run


def test_a_checkpoint_that_training_clears_away_meanwhile(
        cfg: Config, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(cfg, step=100)

    def train_on(path: Path, overrides: Sequence[str] = ()) -> Config:
        config = load_config(path, overrides)
        if path.parent.name == "step_00000100":
            make_run(cfg, step=200)
            shutil.rmtree(path.parent)
        return config

    monkeypatch.setattr("vid2vid_dist.inference.load.load_config", train_on)
    assert load_generator(run).checkpoint == run / "checkpoints/step_00000200"


def flip_a_bit(file: Path) -> None:
    """Of a number: only its hash tells."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 0x40
    file.write_bytes(data)


@pytest.mark.fault(
    "Files",
    "weights or the configuration of a checkpoint or an export are not as they were written, and generation or "
    "`run.load_pretrain` reads them",
    "one line",
    "nothing")
@pytest.mark.parametrize(("damage", "words"), [
    (lambda folder: flip_a_bit(folder / "generator_ema.safetensors"), "generator_ema.safetensors was changed"),
    (lambda folder: (folder / "generator_ema.safetensors").unlink(), "generator_ema.safetensors is missing"),
    (lambda folder: (folder / "config.yaml").write_text("optim: {lr: 1}"), "config.yaml has 14 bytes instead of"),
    (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json cannot be read"),
])
def test_what_is_not_as_it_was_written_is_not_believed(
        cfg: Config, make_run: MakeRun, damage: Callable[[Path], object], words: str) -> None:
    """Neither is the other set of weights taken for it."""
    run = make_run(cfg, ema=True)
    folder = run / "checkpoints/step_00000100"
    seal(folder)
    load_generator(run)
    damage(folder)
    with pytest.raises(UserError, match=f"{words}.*: choose another one of .*checkpoints, or remove manifest.json"):
        load_generator(run)
    with pytest.raises(UserError, match=f"{words}.*: name another checkpoint in run.load_pretrain"):
        find_weights(str(folder))


def test_a_manifest_that_has_lost_the_average(cfg: Config, make_run: MakeRun) -> None:
    """The trained weights are not taken in its place, also where the number of files is not told."""
    run = make_run(cfg, ema=True)
    folder = run / "checkpoints/step_00000100"
    seal(folder)
    told = json.loads((folder / "manifest.json").read_text())
    del told["files"]["generator_ema.safetensors"], told["n_files"]
    (folder / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"manifest\.json does not name generator_ema\.safetensors"):
        load_generator(run)


def test_an_export_that_was_damaged_on_its_way(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    export(load_generator(make_run(cfg)), tmp_path / "out")
    flip_a_bit(tmp_path / "out/generator.safetensors")
    with pytest.raises(UserError, match=r"generator\.safetensors was changed"):
        load_generator(tmp_path / "out")
    (tmp_path / "out/manifest.json").unlink()
    load_generator(tmp_path / "out")


def test_the_average_is_preferred(cfg: Config, make_run: MakeRun) -> None:
    run = make_run(cfg, ema=True)
    folder = run / "checkpoints/step_00000100"
    averaged, raw = load_generator(run), load_generator(run, raw_weights=True)
    assert averaged.averaged
    assert same(averaged.generator, folder / "generator_ema.safetensors")
    assert not raw.averaged
    assert same(raw.generator, folder / "generator.safetensors")


def test_a_copied_checkpoint_stands_for_itself(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(make_run(cfg) / "checkpoints/step_00000100", copy)
    assert load_generator(copy).run_dir == copy


def test_overrides(cfg: Config, make_run: MakeRun) -> None:
    assert load_generator(make_run(cfg), ["data.loadSize=128"]).config.data.loadSize == 128


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run at .*nowhere: name a run folder"):
        load_generator(tmp_path / "nowhere")


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint yet"):
        load_generator(tmp_path)


@pytest.mark.parametrize("missing", ["config.yaml", "generator.safetensors"])
def test_an_incomplete_checkpoint(cfg: Config, make_run: MakeRun, missing: str) -> None:
    run = make_run(cfg)
    (run / "checkpoints/step_00000100" / missing).unlink()
    with pytest.raises(UserError, match=f"incomplete: {missing} is missing"):
        load_generator(run)


def test_a_damaged_file(cfg: Config, make_run: MakeRun) -> None:
    run = make_run(cfg)
    file = run / "checkpoints/step_00000100/generator.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"generator.safetensors cannot be read"):
        load_generator(run)


def test_another_architecture_is_named_tensor_by_tensor(cfg: Config, make_run: MakeRun) -> None:
    run = make_run(cfg)
    with pytest.raises(UserError, match=r"has shape \(4, 21, 7, 7\), not \(8, 21, 7, 7\).*and \d+ more"):
        load_generator(run, ["generator.ngf=8"])
    file = run / "checkpoints/step_00000100/generator.safetensors"
    weights = load_file(file)
    weights["netG7.extra"] = weights.pop("netG0.model_final_img.1.bias")
    save_file(weights, file)
    with pytest.raises(UserError, match=r"netG0.model_final_img.1.bias is missing.*netG7.extra is not part"):
        load_generator(run)
