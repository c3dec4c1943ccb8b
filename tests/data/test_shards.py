"""Packing: nothing is lost, nothing half-written stays, the first bad file is named."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from tests.damage import tar_of
from tests.data.conftest import save
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data import packing
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.folders import scan
from vid2vid_dist.data.images import read_ids, to_array
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.errors import UserError


def test_bytes_and_order_are_kept(raw: Path, tmp_path: Path) -> None:
    make_shards(raw, tmp_path / "out", PackOptions())
    index = ShardIndex(tmp_path / "out/train")
    for number, video in enumerate(scan(raw, "train")):
        assert [*index.videos[number].frames] == [f"{video.name}.frame{i:03d}" for i in range(video.n_frames)]
        for modality, files in video.files.items():
            for i, path in enumerate(files):
                assert index.read(number, modality, i) == path.read_bytes()


def test_webdataset_streams_the_same_samples(raw: Path, tmp_path: Path) -> None:
    make_shards(raw, tmp_path / "out", PackOptions())
    samples = list(webdataset.WebDataset(str(tar_of(tmp_path / "out/train")), shardshuffle=False))
    assert [s["__key__"] for s in samples] == [f"00000-a/{i:06d}" for i in range(4)] + [
        f"00001-b/{i:06d}" for i in range(6)
    ]
    assert samples[5]["labels.png"] == (raw / "train_A/b/b.frame001.png").read_bytes()
    assert samples[5]["images.jpg"] == (raw / "train_B/b/b.frame001.jpg").read_bytes()
    assert samples[5]["instances.png"] == (raw / "train_inst/b/b.frame001.png").read_bytes()


def test_several_shards(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "TAR_BYTES", 10_000)
    make_shards(raw, tmp_path / "out", PackOptions())
    index = ShardIndex(tmp_path / "out/train")
    assert len(index.shards) > 2
    assert index.read(1, "labels", 5) == (raw / "train_A/b/b.frame005.png").read_bytes()


def test_packing_at_the_training_width_changes_no_pixel(raw: Path, tmp_path: Path) -> None:
    make_shards(raw, tmp_path / "full", PackOptions())
    make_shards(raw, tmp_path / "small", PackOptions(width=32))
    full, small = (
        ClipSource(DataConfig(shards=str(tmp_path / name), loadSize=32, use_instance=True), 3, 0)
        for name in ("full", "small")
    )
    assert small.index.videos[1].size == (32, 32)  # 40x24 -> 32x19 -> multiples of 32
    a, b = (source.load(Request.span(source.whole(1), 0, 6)) for source in (full, small))
    for modality in ("labels", "images", "instances"):
        assert getattr(a, modality).equal(getattr(b, modality))
    assert int(a.instances.max()) > 255


def test_second_run_is_up_to_date(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "2 videos, 10 frames" in make_shards(raw, out, PackOptions())[0]
    before = (out / "train/index.json").stat().st_mtime_ns
    assert make_shards(raw, out, PackOptions()) == [f"{out / 'train'}: up to date"]
    assert (out / "train/index.json").stat().st_mtime_ns == before
    assert "2 videos" in make_shards(raw, out, PackOptions(), force=True)[0]
    assert "2 videos" in make_shards(raw, out, PackOptions(width=32))[0]
    save(raw / "train_A/a/a.frame000.png", np.zeros((24, 40), np.uint8))
    assert "2 videos" in make_shards(raw, out, PackOptions(width=32))[0]
    assert sorted(p.name for p in out.iterdir() if not p.name.endswith(".lock")) == ["train"]


def test_same_source_gives_the_same_shards(raw: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_shards(raw, tmp_path / name, PackOptions())
    one, two = (tmp_path / name / "train" for name in ("one", "two"))
    assert tar_of(one).read_bytes() == tar_of(two).read_bytes()
    assert ShardIndex(one).hash == ShardIndex(two).hash


def test_failure_leaves_the_old_shards(raw: Path, tmp_path: Path) -> None:
    make_shards(raw, tmp_path / "out", PackOptions())
    before = ShardIndex(tmp_path / "out/train").hash
    (raw / "train_B/b/b.frame005.jpg").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"b\.frame005\.jpg: unreadable"):
        make_shards(raw, tmp_path / "out", PackOptions())
    assert ShardIndex(tmp_path / "out/train").hash == before
    assert [p.name for p in (tmp_path / "out").iterdir() if p.is_dir()] == ["train"]
    with pytest.raises(UserError, match="unreadable"):
        make_shards(raw, tmp_path / "new", PackOptions())
    assert not (tmp_path / "new").exists()


def test_killed_run_is_cleared_away(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out/train"
    (folder / ".packed").mkdir(parents=True)
    half = [folder / "shard-000000-node-17.partial", folder / "shard-000003-0123.tar", folder / ".packed/000003-4.npz"]
    for path in half:
        path.write_bytes(b"half")
    with pytest.raises(UserError, match="not all there"):
        ShardIndex(folder)
    make_shards(raw, tmp_path / "out", PackOptions())
    assert not any(path.exists() for path in half)
    ShardIndex(folder)


def test_other_folders_are_not_replaced(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out/train").mkdir(parents=True)
    (tmp_path / "out/train/thesis.tex").write_text("")
    with pytest.raises(UserError, match="no shard folder"):
        make_shards(raw, tmp_path / "out", PackOptions(), force=True)
    assert (tmp_path / "out/train/thesis.tex").exists()


@pytest.mark.parametrize(
    ("file", "array", "words"),
    [
        (
            "train_A/b/b.frame002.png",
            np.full((24, 40), 35, np.uint8),
            r"b\.frame002\.png: label id 35 .*label_nc=35",
        ),
        (
            "train_A/b/b.frame002.png",
            np.zeros((24, 40, 3), np.uint8),
            r"b\.frame002\.png is RGB, but with label_nc=35 a label map is one",
        ),
        ("train_B/b/b.frame002.png", np.zeros((24, 40), np.uint8), r"b\.frame002\.jpg and b\.frame002\.png have one"),
        (
            "train_B/b/b.frame002.jpg",
            np.zeros((12, 40, 3), np.uint8),
            "40x12 differs from .*40x24.*all modalities",
        ),
        ("train_inst/b/b.frame002.png", np.zeros((24, 40, 3), np.uint8), "one channel of ids"),
    ],
)
def test_bad_file_is_named(raw: Path, tmp_path: Path, file: str, array: np.ndarray, words: str) -> None:
    save(raw / file, array)
    with pytest.raises(UserError, match=words):
        make_shards(raw, tmp_path / "out", PackOptions(label_nc=35))
    assert not (tmp_path / "out/train/index.json").exists()


def test_ids_that_a_program_chose_anew_are_refused(raw: Path, tmp_path: Path) -> None:
    """A palette that gives one id two colours, or greys that are other numbers than their places."""
    def save_palette(name: str, colors: list[tuple[int, int, int]]) -> None:
        image = Image.fromarray(np.arange(24 * 40, dtype=np.uint8).reshape(24, 40) % 3)
        image.putpalette([value for color in colors for value in color])
        image.save(raw / "train_A/a" / name)

    colors = [(0, 0, 0), (128, 64, 128), (220, 20, 60)]
    for i in range(4):
        save_palette(f"a.frame{i:03d}.png", colors)
    make_shards(raw, tmp_path / "one", PackOptions(label_nc=35))
    save_palette("a.frame002.png", [colors[0], colors[2], colors[1]])
    with pytest.raises(UserError, match=r"a\.frame002\.png: id 1 is the colour \(220, 20, 60\).*but \(128.*frame000"):
        make_shards(raw, tmp_path / "two", PackOptions(label_nc=35))
    save_palette("a.frame000.png", [(0, 0, 0), (7, 7, 7), (11, 11, 11)])
    with pytest.raises(UserError, match=r"a\.frame000\.png has a palette of greys.*which are the ids"):
        make_shards(raw, tmp_path / "two", PackOptions(label_nc=35))


def test_ids_of_32_bits_stay_apart_at_another_size(raw: Path, tmp_path: Path) -> None:
    ids = np.zeros((24, 40), np.int32)
    ids[:, :20], ids[:, 20:] = 70001, 70001 - 2**16
    for path in (raw / "train_inst").rglob("*.png"):
        Image.fromarray(ids).save(path.with_suffix(".tiff"))
        path.unlink()
    make_shards(raw, tmp_path / "out", PackOptions(width=32))
    source = ClipSource(DataConfig(shards=str(tmp_path / "out"), loadSize=32, use_instance=True), 3, 0)
    instances = source.load(Request.span(source.whole(0), 0, 1)).instances
    assert instances is not None
    assert instances.unique().tolist() == [70001 - 2**16, 70001]


def test_grey_frames_are_said_once(raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (raw / "train_B").rglob("*.jpg"):
        Image.open(path).convert("L").save(path)
    (line,) = make_shards(raw, tmp_path / "out", PackOptions())
    assert "MiB; grey is taken as RGB (first " in line
    source = ClipSource(DataConfig(shards=str(tmp_path / "out"), label_nc=0, loadSize=32), 3, 0)
    assert "holds one channel, which data.label_nc=0 takes as grey pictures" in caplog.text
    frames = source.load(Request.span(source.whole(0), 0, 1))
    assert frames.labels.shape[1] == 3
    assert torch.equal(frames.labels[:, 0], frames.labels[:, 2])


def test_size_change_inside_a_video(raw: Path, tmp_path: Path) -> None:
    for path in raw.glob("*/b/b.frame004.*"):
        Image.open(path).resize((48, 24), 0).save(path)
    with pytest.raises(
        UserError, match=r"train_A/b/b\.frame004\.png: size 48x24 differs from the first frame"
    ):
        make_shards(raw, tmp_path / "out", PackOptions())


def test_missing_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder"):
        make_shards(tmp_path / "nowhere", tmp_path / "out", PackOptions())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no train_A/ or test_A/"):
        make_shards(tmp_path / "empty", tmp_path / "out", PackOptions())


def test_member_names_are_safe(raw: Path, tmp_path: Path) -> None:
    for modality in ("A", "B", "inst"):
        (raw / f"train_{modality}/a").rename(raw / f"train_{modality}/-.. ä%d;x.y")
    make_shards(raw, tmp_path / "out %d", PackOptions())
    index = ShardIndex(tmp_path / "out %d/train")
    assert index.videos[0].name == "-.. ä%d;x.y"
    with tarfile.open(tar_of(tmp_path / "out %d/train")) as tar:
        assert tar.getnames()[0] == "00000--_____d_x_y/000000.images.jpg"


def test_contact_sheet_shows_every_video(toy_shards: Path) -> None:
    sheet = Image.open(toy_shards / "train/contact_sheet.png")
    assert sheet.size == (6 * 240, 3 * (120 + 18))
    labels = np.asarray(sheet)[18:138, :240].reshape(-1, 3)
    assert {(128, 64, 128), (70, 130, 180)} <= set(map(tuple, labels.tolist()))  # road and sky


def test_cityscapes(frames_dir: Path, tmp_path: Path) -> None:
    """A published street, at 256x128: ids below 35, the same pixels as from the files."""
    for folder in ("train_A/seq0000", "train_B/seq0000", "train_inst/seq0000", "test_A/stuttgart_00"):
        (tmp_path / "raw" / folder).parent.mkdir(parents=True)
        (tmp_path / "raw" / folder).symlink_to((frames_dir / folder).resolve())
    lines = make_shards(tmp_path / "raw", tmp_path, PackOptions(width=256, label_nc=35))
    assert len(lines) == 2
    source = ClipSource(DataConfig(shards=str(tmp_path), loadSize=256, use_instance=True), 3, 0)
    assert source.longest == 30
    assert source.whole(0).geometry.size == (256, 128)
    video = scan(frames_dir, "train")[0]
    frames = source.load(Request.span(source.whole(0), 7, 1))
    expected = read_ids(video.files["labels"][7].read_bytes(), "x").resize((256, 128), 0)
    np.testing.assert_array_equal(frames.labels[0].numpy(), to_array(expected))
    test = ClipSource(DataConfig(shards=str(tmp_path), loadSize=256), 3, 0, "test")
    assert test.load(Request.span(test.whole(0), 0, 3)).images is None
