"""Weights of the original through the tool: the original's frames come out, every bit goes both ways."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import ROOT
from tests.inference.conftest import write_run
from tools.parity.case import Case
from tools.parity.compare import starting_with
from vid2vid_dist.cli.export_vid2vid import export_folder
from vid2vid_dist.cli.import_vid2vid import import_folder
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.tasks.registry import check_task
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.first_frames import choose_first_frames
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.models.weights import read_tensors
from vid2vid_dist.monitor.pictures import image_pictures
from vid2vid_dist.original.options import read_options, write_options
from vid2vid_dist.training.pretrain import find_weights

CPU = torch.device("cpu")
INFERENCE = ["i1_realimg_fg_inst", "i2_singleG_s2_inst", "i3_nofirst", "i4_realimg_seqchange"]


def save_as_the_original(tensors: dict[str, Tensor], file: Path) -> None:
    wide = OrderedDict((name, t.float() if t.is_floating_point() else t) for name, t in tensors.items())
    torch.save(wide, file, _use_new_zipfile_serialization=False)


def original_folder(case: Case, folder: Path) -> Path:
    """A checkpoint folder as the original leaves it, from the weights and options of a golden case."""
    folder.mkdir()
    tensors = case.tensors()
    for scale in range(case.options.get("n_scales_spatial", 1)):
        prefix = f"sd.G{scale}."
        found = {name.removeprefix(prefix): t for name, t in starting_with(tensors, prefix).items()}
        save_as_the_original(found, folder / f"latest_net_G{scale}.pth")
    single = {name.removeprefix("sd.singleG."): t for name, t in starting_with(tensors, "sd.singleG.").items()}
    if single:
        save_as_the_original(single, folder / "latest_net_G_512.pth")
    options = {"netG": "composite", "isTrain": True, "fg_labels": [26], **case.options}
    lines = [f"{name}: {[value] if name == 'gpu_ids' else value}" for name, value in options.items()]
    (folder / "opt.txt").write_text("\n".join(["--- Options ---", *lines, "--- End ---"]))
    return folder


def window(case: Case, tensors: dict[str, Tensor], number: int, cfg: Config) -> Frames:
    """The n_frames_G frames that a step of the original saw."""
    prefix = f"frame{number}.in."
    instances = tensors[f"{prefix}inst_u8"][:, None].int() if cfg.data.use_instance else None
    labels = tensors[f"{prefix}A_u8"][:, None]
    return Frames(labels, tensors.get(f"{prefix}B_u8"), instances, [""] * len(labels))


def frames_differ_by(case: Case, run: Path, first: str) -> list[int]:
    """Generate the frames of a case with an imported folder; the largest difference of each, in levels of 255."""
    loaded, tensors = load_generator(run), case.tensors()
    cfg = loaded.config
    video = VideoGenerator(loaded.generator, cfg, CPU, torch.float32)
    differences = []
    for number, frame in enumerate(case.meta["frames"]):
        seen = window(case, tensors, number, cfg)
        if frame["history_restarted"]:
            given = seen.part(slice(0, -1))
            images = choose_first_frames(first, cfg, seen.images is not None, "the case", CPU).images
            video.start([given], None if images is None else images(given, None)[None])
        made = image_pictures(video.step([seen.part(slice(-1, None))]).fake[0])[0].astype(int)
        differences.append(int(abs(made - tensors[f"frame{number}.fake_u8_hwc"].numpy()).max()))
    return differences


@pytest.mark.parametrize("name", INFERENCE)
def test_frames_of_the_original(golden_dir: Path, tmp_path: Path, name: str) -> None:
    path = golden_dir / "inference" / f"{name}.json"
    case = Case("inference", name, path, json.loads(path.read_text()))
    folder = original_folder(case, tmp_path / "original")
    lines = import_folder(folder, tmp_path / "run")
    assert "makes a frame" in lines[-1]
    first = f"single:{folder / 'latest_net_G_512.pth'}" if "single" in name else "auto"
    differences = frames_differ_by(case, tmp_path / "run", first)
    assert len(differences) == 6
    assert max(differences) <= 1


@pytest.fixture(scope="module")
def checkpoint(golden_dir: Path) -> Path:
    """A folder that the original has written."""
    return golden_dir / "checkpoint/ckpt_s2"


@pytest.fixture(scope="module")
def imported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("imported") / "run"
    import_folder(checkpoint, run)
    return run


def test_checkpoint_of_the_original(golden_dir: Path, imported: Path) -> None:
    path = golden_dir / "checkpoint/ckpt_s2_expected.json"
    case = Case("checkpoint", "ckpt_s2", path, json.loads(path.read_text()))
    assert max(frames_differ_by(case, imported, "real")) <= 1
    assert find_weights(str(imported)) == imported  # training starts from it


def states(folder: Path) -> dict[str, dict[str, Tensor]]:
    return {path.name: read_tensors(path) for path in sorted(folder.glob("*.pth"))}


def test_import_and_export_keep_every_bit(checkpoint: Path, imported: Path, tmp_path: Path) -> None:
    export_folder(imported, tmp_path / "exported")
    original, exported = states(checkpoint), states(tmp_path / "exported")
    assert original.keys() == exported.keys()
    for file, state in original.items():
        assert list(state) == list(exported[file])
        for name, tensor in state.items():
            assert tensor.dtype == exported[file][name].dtype
            assert torch.equal(tensor, exported[file][name]), f"{file}: {name}"
    import_folder(tmp_path / "exported", tmp_path / "again")
    for path in imported.glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    both = (load_config(folder / "config.yaml", ["run.name=same"]) for folder in (imported, tmp_path / "again"))
    assert next(both) == next(both)


def broken(checkpoint: Path, folder: Path, file: str, change: Any) -> Path:
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    state = read_tensors(folder / file)
    change(state)
    torch.save(state, folder / file)
    return folder


def test_what_is_missing_or_of_another_shape_is_listed(checkpoint: Path, tmp_path: Path) -> None:
    def spoil(state: dict[str, Tensor]) -> None:
        state["model_final_img.1.bias"] = torch.zeros(4)
        del state["model_final_w.1.weight"]
        state["extra"] = torch.zeros(1)

    folder = broken(checkpoint, tmp_path / "broken", "latest_net_G1.pth", spoil)
    (folder / "latest_net_G0.pth").unlink()
    with pytest.raises(UserError) as caught:
        import_folder(folder, tmp_path / "run")
    message = str(caught.value)
    for text in ("latest_net_G0.pth is missing", "model_final_img.1.bias has shape (4,), not (3,)",
                 "model_final_w.1.weight is missing", "extra is not part of the network"):
        assert text in message
    assert not (tmp_path / "run").exists()


def test_a_network_that_makes_no_picture_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = broken(checkpoint, tmp_path / "broken", "latest_net_G1.pth",
                    lambda state: state["model_final_img.1.bias"].fill_(torch.nan))
    with pytest.raises(UserError, match="makes no picture"):
        import_folder(folder, tmp_path / "run")


def test_weights_older_than_batch_counters(checkpoint: Path, tmp_path: Path) -> None:
    def without_counters(state: dict[str, Tensor]) -> None:
        for name in [name for name in state if name.endswith("num_batches_tracked")]:
            del state[name]

    folder = broken(checkpoint, tmp_path / "old", "latest_net_G0.pth", without_counters)
    assert any("batch counters are not in the file" in line for line in import_folder(folder, tmp_path / "run"))


def test_without_options_they_must_be_given(checkpoint: Path, tmp_path: Path) -> None:
    folder = broken(checkpoint, tmp_path / "bare", "latest_net_G0.pth", lambda state: None)
    (folder / "opt.txt").unlink()
    with pytest.raises(UserError, match=r"has no opt.txt: give the options"):
        import_folder(folder, tmp_path / "run")
    given = ["data.label_nc=35", "data.use_instance=true", "generator.fg=true", "generator.ngf=4",
             "generator.n_blocks=2", "generator.n_blocks_local=2", "generator.n_downsample_G=2",
             "generator.n_scales_spatial=2", "discriminator.ndf=2"]
    import_folder(folder, tmp_path / "run", given)


@pytest.mark.parametrize(("recipe", "options", "mode"), [
    ("street/512", [], "temporal"),
    ("face/512", [], "face"),
    ("pose/256", [], "pose"),
    ("pose/256", ["data.openpose_only=true", "data.input_nc=3", "discriminator.add_face_disc=false"], "pose"),
])
def test_the_kind_of_data_goes_both_ways(tmp_path: Path, recipe: str, options: list[str], mode: str) -> None:
    cfg = load_config(recipe, options)
    write_options(cfg, tmp_path / "opt.txt")
    assert f"dataset_mode: {mode}\n" in (tmp_path / "opt.txt").read_text()
    taken_over = read_options(tmp_path / "opt.txt")
    assert (taken_over.data.task, taken_over.data.openpose_only) == (cfg.data.task, cfg.data.openpose_only)
    check_task(taken_over)


def test_code_in_a_weights_file_does_not_run(checkpoint: Path, tmp_path: Path) -> None:
    folder = broken(checkpoint, tmp_path / "evil", "latest_net_G0.pth", lambda state: None)
    torch.save({"weight": Path("anything but a tensor")}, folder / "latest_net_G0.pth")
    with pytest.raises(UserError, match=r"latest_net_G0\.pth: not a readable weights file"):
        import_folder(folder, tmp_path / "run")


def test_a_single_image_generator_is_not_exported_as_a_video_generator(tmp_path: Path) -> None:
    cfg = load_config(ROOT / "configs/single_image/global.yaml", ["generator.ngf=4", "generator.n_blocks=2"])
    with pytest.raises(UserError, match=r"trained with generator\.netG=global"):
        export_folder(write_run(tmp_path, cfg), tmp_path / "out")
    assert not (tmp_path / "out").exists()
