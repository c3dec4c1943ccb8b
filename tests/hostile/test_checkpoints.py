"""Checkpoints and weights from anywhere."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

from tests.hostile.attack import VALUES, attack, examples, mutate, mutate_safetensors, mutate_tree, nested, watched
from vid2vid_dist.config.load import load_config, save_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.export import export
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.results import safe_name
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.training.checkpoint import Position, SavedState, commit, find_fault, newest_checkpoint, write_files
from vid2vid_dist.training.pretrain import find_weights, load_pretrained

STATE = SavedState(Position(3, 1, 0, 2), True, 2, {"ranks": 2}, {"index": "x"}, {"ngf": 4}, {"torch": "2.13.0"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one small checkpoint, as training leaves it."""
    run = tmp_path_factory.mktemp("made") / "run"
    aside = run / "checkpoints/.step_00000003"
    aside.mkdir(parents=True)
    cfg = Config()
    cfg.generator.ngf, cfg.generator.n_blocks, cfg.generator.n_downsample_G = 4, 2, 2
    save_config(cfg, run / "config.yaml")
    commit(aside, write_files(aside, {
        "config.yaml": (run / "config.yaml").read_text(),
        "generator.safetensors": Generator(cfg).state_dict(),
        "optimizer/generator/rank_00000.safetensors": {"step": torch.zeros(9)},
        "state.json": STATE.to_json(),
    }))
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def hostile_json(rng: random.Random, whole: bytes) -> bytes:
    kind = rng.random()
    if kind < 0.05:
        return nested(rng, *rng.choice([("[", "]"), ('{"files":', "}")])).encode()
    if kind < 0.3:
        return mutate(rng, whole, [b"null", b"NaN", b"9" * 5000, b'"../../x"', b"\\ud800"])
    return json.dumps(mutate_tree(rng, json.loads(whole))).encode()


@examples(250)
def test_manifest(n: int, run: Path, tmp_path: Path) -> None:
    manifest = run / "checkpoints/step_00000003/manifest.json"
    whole = manifest.read_bytes()

    def use(data: bytes) -> None:
        manifest.write_bytes(data)
        newest_checkpoint(run)
        find_weights(str(run))

    use(whole)
    assert attack(n, lambda rng: hostile_json(rng, whole), use, tmp_path) > n / 4


@pytest.mark.parametrize("name", ["../step_00000002/x", "/etc/passwd", "..", "lanes/../../x", "", "a\0b", "x" * 300])
def test_manifest_that_names_a_file_elsewhere(name: str, run: Path) -> None:
    folder = run / "checkpoints/step_00000003"
    (folder / "manifest.json").write_text(json.dumps({"files": {name: {"bytes": 1, "sha256": ""}}}))
    assert "which is not inside" in (find_fault(folder) or "")


@examples(250)
def test_state(n: int, run: Path, tmp_path: Path) -> None:
    folder = run / "checkpoints/step_00000003"
    whole = (folder / "state.json").read_bytes()

    def use(data: bytes) -> None:
        (folder / "state.json").write_bytes(data)
        saved = SavedState.read(folder)
        for part in ("layout", "data", "networks"):
            saved.require(part, getattr(STATE, part), folder, "set it back")

    use(whole)
    assert attack(n, lambda rng: hostile_json(rng, whole), use, tmp_path) > n / 4


@examples(100)
def test_latest(n: int, run: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.copytree(run / "checkpoints/step_00000003", tmp_path / "other/step")

    def name(rng: random.Random) -> bytes:
        text = rng.choice([*map(str, VALUES), "../../other/step", str(tmp_path / "other/step"), ".",
                           "step_00000003/../../..", "step_00000003\n", "x" * 10_000])
        data = text.encode("utf-8", "surrogatepass")
        return mutate(rng, data) if rng.random() < 0.3 else data

    def use(data: bytes) -> None:
        (run / "checkpoints/latest").write_bytes(data)
        assert load_generator(run).run_dir == run
        assert newest_checkpoint(run) == run / "checkpoints/step_00000003"

    use(b"step_00000003\n")
    assert attack(n, name, use, tmp_path) > n / 2


@examples(150)
def test_safetensors(n: int, run: Path, tmp_path: Path) -> None:
    file = run / "checkpoints/step_00000003/generator.safetensors"
    whole = file.read_bytes()
    (file.parent / "manifest.json").unlink()  # which tells every change
    network = Generator(load_generator(run).config)

    def use(data: bytes) -> None:
        file.write_bytes(data)
        load_pretrained(file.parent, "generator", network)
        load_generator(run)

    use(whole)
    assert attack(n, lambda rng: mutate_safetensors(rng, whole, [b"F8_E4M3"]), use, tmp_path) > n / 2


@pytest.mark.parametrize("how", ["user", "checkpoint", "export"])
def test_aliases_that_grow(how: str, run: Path, tmp_path: Path) -> None:
    """600 bytes that stand for 10^19 numbers."""
    folder = {"user": tmp_path, "checkpoint": run / "checkpoints/step_00000003", "export": tmp_path / "export"}[how]
    if how == "export":
        export(load_generator(run), folder)
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 20)]
    text = "\n  ".join(["generator:", "a0: &a0 [1]", *levels, "fg_labels: *a19"])
    (folder / "config.yaml").write_text(text)
    (folder / "manifest.json").unlink(missing_ok=True)  # which tells every change
    with watched(tmp_path), pytest.raises(UserError, match=r"config\.yaml:4: .*an alias of a section: write it out"):
        load_config(folder / "config.yaml") if how == "user" else load_generator(folder if how == "export" else run)


@pytest.mark.parametrize("name", ["../x", "/x", "..", "", "x" * 1000, "ä" * 1000, "a/../../b", ".hidden", "\x1b[2J"])
def test_names_of_results_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / f".{safe_name(name)}.part"
    path.mkdir()
    assert [path] == list(tmp_path.iterdir())
