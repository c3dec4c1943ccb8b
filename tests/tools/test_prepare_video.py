"""A video file becomes raw folders that can be packed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vid2vid_dist.cli.prepare_video import Found, find_edges, label_finder, pose_finder, scaled_frames, write
from vid2vid_dist.data.folders import scan
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.inputs import FrameFiles
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.errors import UserError
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.monitor.video import write_video


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Eight frames of a bright square that moves, 96x64."""
    frames = np.zeros((8, 64, 96, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[20:44, 10 + 6 * i : 34 + 6 * i] = (220, 180, 90)
    write_video(tmp_path / "square.mp4", frames, 10)
    return tmp_path / "square.mp4"


def test_edges_become_labels_that_can_be_packed(video: Path, tmp_path: Path) -> None:
    line = write(video, tmp_path / "raw", find_edges, scaled_frames(video, 48, 1), n_test=3)
    assert line.startswith(f"{tmp_path / 'raw'}: 5 + 3 frames of 8")
    assert (tmp_path / "raw/contact_sheet.png").is_file()
    lines = make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(label_nc=3))
    assert ["5 frames" in lines[0], "3 frames" in lines[1]] == [True, True]


@pytest.mark.parametrize(("name", "n_classes"), [
    ("deeplabv3_resnet50", 21), ("deeplabv3_mobilenet_v3_large", 40), ("lraspp_mobilenet_v3_large", 19)])
def test_a_segmentation_network_gives_label_maps(video: Path, tmp_path: Path, name: str, n_classes: int) -> None:
    """By weights of any number of classes; these are random, so that several of them are seen."""
    torch.manual_seed(0)
    options = {} if name.startswith("lraspp") else {"aux_loss": n_classes == 21}
    network = getattr(models.segmentation, name)(weights=None, weights_backbone=None, num_classes=n_classes, **options)
    frames = list(scaled_frames(video, 96, 1))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of these frames, else one class takes all
    network.train()(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 255)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    find = label_finder(tmp_path / "weights.pth", name)
    write(video, tmp_path / "raw", find, iter(frames), n_test=3)
    make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(label_nc=n_classes))
    index = ShardIndex(tmp_path / "shards/train")
    assert (index.input_kind, index.videos[0].size, len(index.videos[0].frames)) == ("ids", (96, 64), 5)
    packed = np.asarray(FrameFiles(index, 0, 4).picture("labels"))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = (torch.from_numpy(frames[4] / np.float32(255)) - mean) / std
    with torch.no_grad():
        scores = network.eval()(image.permute(2, 0, 1)[None])["out"][0]
    assert (packed == scores.argmax(0).numpy()).mean() > 0.99  # that many are no ties but for rounding
    assert len(np.unique(packed)) > 1


def test_weights_of_another_network_are_said(tmp_path: Path) -> None:
    torch.save({"classifier.4.weight": torch.zeros(21, 256, 1, 1)}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"another network.*--network"):
        label_finder(tmp_path / "weights.pth", "fcn_resnet50")
    with pytest.raises(UserError, match=r"no weights file .*--network"):
        label_finder(tmp_path / "none.pth", "fcn_resnet50")


def test_a_gap_begins_a_new_sequence(video: Path, tmp_path: Path) -> None:
    frames = list(scaled_frames(video, 0, 1))

    def find(frame: np.ndarray) -> Found | None:
        return None if frame is frames[3] else find_edges(frame)

    write(video, tmp_path / "raw", find, iter(frames), n_test=0)
    assert [v.n_frames for v in scan(tmp_path / "raw", "train")] == [3, 4]


def test_frames_are_written_as_they_come(tmp_path: Path) -> None:
    """A long video does not have to fit the memory: its first frames are on the disk before its last are decoded."""
    def frames() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for i in range(40):
            written = len(list(tmp_path.glob(".raw.partial/train_B/*/*.png")))
            assert i - 8 <= written <= i
            yield rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)

    write(tmp_path / "long.mp4", tmp_path / "raw", find_edges, frames(), n_test=4)
    assert [v.n_frames for split in ("train", "test") for v in scan(tmp_path / "raw", split)] == [36, 4]


def test_a_video_that_is_shorter_than_its_test_split(video: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"of its 8 frames the last 30 are for the test split \(--test-frames\)"):
        write(video, tmp_path / "raw", find_edges, scaled_frames(video, 0, 1), n_test=30)
    assert not (tmp_path / "raw").exists()


def test_what_is_no_video_and_missing_weights_are_said(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"notes\.mp4 is not a video"):
        list(scaled_frames(tmp_path / "notes.mp4", 0, 1))
    with pytest.raises(UserError, match=r"weights|compiled operators"):
        pose_finder(tmp_path / "none.pth")
