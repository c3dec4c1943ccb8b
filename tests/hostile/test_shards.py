"""Shard folders from anywhere: their index, their tars, and the frames in them."""

import io
import json
import random
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.damage import as_version_1, tar_of
from tests.hostile.attack import attack, examples, mutate, mutate_tree, nested, watched
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.folders import scan
from vid2vid_dist.data.images import MAX_PIXELS, read_ids, read_rgb
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.store import content_hash
from vid2vid_dist.data.tasks.street import STREET
from vid2vid_dist.errors import UserError

N_PAST = 2


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A split of two videos of three frames with all modalities."""
    root = tmp_path_factory.mktemp("packed")
    rng = np.random.default_rng(0)
    for video in ("a", "b"):
        for modality, shape in (("A", (8, 16)), ("B", (8, 16, 3)), ("inst", (8, 16))):
            folder = root / f"raw/train_{modality}/{video}"
            folder.mkdir(parents=True)
            for t in range(3):
                Image.fromarray(rng.integers(0, 35, shape, np.uint8)).save(folder / f"{t}.png")
    make_shards(root / "raw", root / "shards", PackOptions())
    return root / "shards"


def read_everything(shards: Path) -> None:
    """What training and generation do with a split."""
    data = DataConfig(shards=str(shards), label_nc=35, use_instance=True, loadSize=32, fineSize=32)
    source = ClipSource(data, N_PAST, seed=0)
    for number in range(min(source.n_clips, 4)):
        clip = source.clip(1, number, 1, 1)
        assert len(source.load(Request.span(clip, 0, clip.n_frames)).names) == clip.n_frames
    source.whole(0)


def test_the_attacked_folder_is_sound(packed: Path) -> None:
    read_everything(packed)


@examples(500)
def test_index(n: int, packed: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(packed, tmp_path / "shards"))
    whole = as_version_1(shards / "train").read_bytes()

    def hostile_index(rng: random.Random) -> bytes:
        kind = rng.random()
        if kind < 0.05:
            return nested(rng, *rng.choice([("[", "]"), ('{"videos":', "}"), ('{"videos":[', "]}")])).encode()
        if kind < 0.25:
            tokens = [b"9" * 5000, b"1e999", b"NaN", b"\\ud800", b"\\u0000", b"null", b"[]", b"{}", b"-"]
            return mutate(rng, whole, tokens)
        return json.dumps(mutate_tree(rng, json.loads(whole))).encode()

    def use(index: bytes) -> None:
        (shards / "train/index.json").write_bytes(index)
        read_everything(shards)

    assert attack(n, hostile_index, use, tmp_path) > n / 2


@examples(300)
def test_index_in_columns(n: int, packed: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(packed, tmp_path / "shards"))
    index, (columns,) = shards / "train/index.json", (shards / "train").glob("columns-*")
    said, stored = json.loads(index.read_text()), columns.read_bytes()

    def hostile_columns(rng: random.Random) -> tuple[bytes, bytes]:
        """What index.json says of the columns, or numbers in them; or both."""
        raw, changed = json.loads(json.dumps(said)), bytearray(stored)
        if rng.random() < 0.5:
            key = rng.choice(["modalities", "columns", "counts", "shards"])
            raw[key] = mutate_tree(rng, raw[key])
        for _ in range(rng.choice([0, 1, 1, 3])):
            place = 4 * rng.randrange(len(changed) // 4)
            changed[place : place + 4] = rng.choice([bytes(4), b"\xff" * 4, b"\1\0\0\0", b"/../", rng.randbytes(4)])
        return json.dumps(raw).encode(), bytes(changed) if rng.random() < 0.9 else mutate(rng, bytes(changed))

    def use(made: tuple[bytes, bytes]) -> None:
        index.write_bytes(made[0])
        columns.write_bytes(made[1])
        read_everything(shards)

    assert attack(n, hostile_columns, use, tmp_path) > n / 2


@examples(200)
def test_tar(n: int, packed: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(packed, tmp_path / "shards"))
    tar = tar_of(shards / "train")
    whole = tar.read_bytes()

    def hostile_tar(rng: random.Random) -> bytes:
        """Other names, sizes and kinds in the headers; mostly at the old size, as the index has it."""
        changed = bytearray(whole)
        for _ in range(rng.choice([1, 3])):
            header = 512 * rng.randrange(len(whole) // 512)
            field, size = rng.choice([(0, 100), (124, 12), (156, 1), (157, 100), (345, 155), (0, 512)])
            text = rng.choice([b"../" * 33, b"/etc/cron.d/x", b"77777777777", b"\xff" * 12, b"2", b"1", b"L", b"x",
                               rng.randbytes(size)])
            changed[header + field : header + field + size] = text[:size].ljust(size, b"\0")
        return bytes(changed) if rng.random() < 0.9 else mutate(rng, bytes(changed))

    def use(data: bytes) -> None:
        tar.write_bytes(data)
        read_everything(shards)

    assert attack(n, hostile_tar, use, tmp_path) > n / 4


def encoded(format: str, mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_mandelbrot((24, 16), (-3, -2.5, 2, 2.5), 50).convert(mode).save(buffer, format)
    return buffer.getvalue()


IMAGES = [encoded(*kind) for kind in (("PNG", "RGB"), ("PNG", "L"), ("PNG", "P"), ("PNG", "I;16"), ("JPEG", "RGB"),
                                      ("PPM", "RGB"), ("PPM", "L"), ("BMP", "RGB"), ("TIFF", "RGB"), ("TIFF", "L"))]
OTHER = [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", b"GIF89a",
         b"RIFF\0\0\0\0WEBPVP8 ", b"8BPS", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"P6\n", b"BM"]


def huge_png(width: int, height: int) -> bytes:
    """A PNG that claims a size, with pixels that compress to nothing."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(10**6)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@examples(600)
def test_image(n: int, tmp_path: Path) -> None:
    def hostile_image(rng: random.Random) -> tuple[bytes, str]:
        modality = rng.choice(["labels", "images", "instances"])
        if rng.random() < 0.03:
            return huge_png(rng.choice([0, 1, 2**16, 2**31 - 1]), rng.choice([0, 1, 2**16, 2**31 - 1])), modality
        return mutate(rng, rng.choice(IMAGES), OTHER), modality

    def use(made: tuple[bytes, str]) -> None:
        image = STREET.modalities[made[1]].read(made[0], "some/file", None)
        assert image.width * image.height <= MAX_PIXELS

    assert attack(n, hostile_image, use, tmp_path) > n / 4


@pytest.mark.parametrize("size", [(2**16, 2**16), (1, MAX_PIXELS + 1), (2**31 - 1, 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_image_that_claims_to_be_huge(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=r"some/file: (image of \d+x\d+ pixels|unreadable image .*exceeds limit)"):
        read_ids(huge_png(*size), "some/file")


def test_pixels_are_not_decoded_before_the_size_is_compared() -> None:
    with pytest.raises(UserError, match=r"size 4000x4000 differs from the frame's other files \(16x8\)"):
        read_ids(huge_png(4000, 4000), "some/file", size=(16, 8))


def test_programs_that_pillow_would_run_are_not_run(tmp_path: Path) -> None:
    with watched(tmp_path), pytest.raises(UserError, match="unreadable image"):
        read_rgb(OTHER[0] + b"showpage\n%%EOF\n", "some/file")


def test_a_thin_frame_does_not_become_gigantic(packed: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(packed, tmp_path / "shards"))
    index = json.loads(as_version_1(shards / "train").read_text())
    index["videos"][0]["size"] = [1, 60000]
    (shards / "train/index.json").write_text(json.dumps(index))
    source = ClipSource(DataConfig(shards=str(shards), loadSize=16384), N_PAST, seed=0)
    with pytest.raises(UserError, match="frames of 1x60000 become 16384x983040000"):
        source.clip(1, 0, 1, 1)


def test_an_image_in_place_of_a_label_map(packed: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(packed, tmp_path / "shards"))
    index = json.loads(as_version_1(shards / "train").read_text())
    entries = index["videos"][0]["entries"]
    entries["labels"][1] = entries["images"][1]
    (shards / "train/index.json").write_text(json.dumps(index))
    source = ClipSource(DataConfig(shards=str(shards), label_nc=35), N_PAST, seed=0)
    with pytest.raises(UserError, match=r"labels of a/1 in .*: RGB among label maps of one channel"):
        source.load(Request.span(source.whole(0), 0, 3))


def test_an_index_that_hides_large_label_ids(packed: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(packed, tmp_path / "shards"))
    index = json.loads(as_version_1(shards / "train").read_text())
    index["largest_label"] = 1
    (shards / "train/index.json").write_text(json.dumps(index))
    source = ClipSource(DataConfig(shards=str(shards), label_nc=2), N_PAST, seed=0)
    with pytest.raises(UserError, match=r"labels of a/0 in .*: label id \d+ is not below data.label_nc=2"):
        source.load(Request.span(source.whole(0), 0, 3))


def test_a_sparse_tar_is_not_read_into_memory(packed: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(packed, tmp_path / "shards"))
    size = 2**40
    with tar_of(shards / "train").open("r+b") as tar:
        tar.truncate(size)
    index = json.loads(as_version_1(shards / "train").read_text())
    index["shards"][0][1] = size
    index["videos"][0]["entries"]["labels"][0] = [0, 0, size, content_hash(b"")]
    (shards / "train/index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="frames of a"):
        read_everything(shards)


def test_raw_folders_may_hold_links(tmp_path: Path) -> None:
    for modality in ("A", "B"):
        folder = tmp_path / f"raw/train_{modality}/video"
        folder.mkdir(parents=True)
        (folder / "endless.png").symlink_to("/dev/zero")
    loop = tmp_path / "raw/train_A/video/round"
    loop.symlink_to(loop.parent.parent)
    with watched(tmp_path):
        with pytest.raises(UserError, match=r"round is a link to a folder that it lies in: remove it"):
            scan(tmp_path / "raw", "train")
        loop.unlink()
        (video,) = scan(tmp_path / "raw", "train")
        assert video.name == "video"
        with pytest.raises(UserError, match=r"endless\.png: unreadable image \(not a regular file\)"):
            make_shards(tmp_path / "raw", tmp_path / "out", PackOptions())


def test_a_name_with_control_characters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train_A/\x1b[2J").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "train_A/\x1b[2J/0.png")
    with pytest.raises(UserError, match=r"control characters in a name, .*rename it"):
        scan(tmp_path, "train")
