"""Video files as they come: turned, trimmed, damaged, of other containers and formats, and hostile ones."""

import resource
import struct
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vid2vid_dist.data.video_file import count_frames, frames_of
from vid2vid_dist.errors import UserError

ONE = 1 << 16


def picture(i: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A grey frame, the upper left corner white and the upper right red; a bright bar tells its number."""
    frame = np.full((height, width, 3), 60, np.uint8)
    frame[:16, :16], frame[:16, -16:] = 255, (255, 0, 0)
    frame[-8:, : 4 * i] = 200
    return frame


def number(frame: np.ndarray) -> int:
    """That of a `picture`."""
    return round((frame[-4, :, 1] > 130).sum() / 4)


def write(path: Path, codec: str = "mpeg4", n: int = 20, pixels: str = "yuv420p", width: int = 96, height: int = 64,
          pts: Callable[[int], int] | None = None, options: dict[str, str] | None = None, sound: bool = False,
          aspect: Fraction | None = None) -> Path:
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        stream = container.add_stream(codec, rate=15, options=options or {})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, pixels, 10**7
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if pts:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if audio:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 48000, 0
            container.mux([*audio.encode(silence), *audio.encode()])
        for i in range(n):
            frame = av.VideoFrame.from_ndarray(picture(i, width, height), "rgb24")
            if pts:
                frame.pts, frame.time_base = pts(i), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def patch(path: Path, box: bytes, offset: int, *values: int) -> None:
    """Put big-endian whole numbers into a box of an mp4."""
    data = bytearray(path.read_bytes())
    at = data.index(box) + 4 + offset
    data[at : at + 4 * len(values)] = struct.pack(f">{len(values)}i", *values)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((ONE, 0, 0, ONE), lambda x: x),
        ((0, ONE, -ONE, 0), lambda x: np.rot90(x, -1)),
        ((-ONE, 0, 0, -ONE), lambda x: np.rot90(x, 2)),
        ((0, -ONE, ONE, 0), lambda x: np.rot90(x, 1)),
        ((-ONE, 0, 0, ONE), np.fliplr),
        ((ONE, 0, 0, -ONE), np.flipud),
        ((0, ONE, ONE, 0), lambda x: x.swapaxes(0, 1)),
    ],
    ids=["as stored", "to the right", "upside down", "to the left", "mirrored", "flipped", "transposed"],
)
def test_frames_are_turned_as_players_show_them(tmp_path: Path, matrix: tuple[int, ...],
                                                turned: Callable[[np.ndarray], np.ndarray]) -> None:
    path = write(tmp_path / "phone.mp4", n=3)
    stored = list(frames_of(path))
    a, b, c, d = matrix
    patch(path, b"tkhd", 40, a, b, 0, c, d)
    shown = list(frames_of(path))
    np.testing.assert_array_equal(shown, [turned(frame) for frame in stored])
    assert count_frames(path) == (3, (shown[0].shape[1], shown[0].shape[0]))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}),
        ("vfr.mp4", {"pts": lambda i: 33 * i + 900 * (i // 10)}),
        ("sound_first.mp4", {"sound": True}),
        ("ten_bits.mkv", {"codec": "ffv1", "pixels": "yuv420p10le"}),
        ("odd.mkv", {"codec": "ffv1", "pixels": "yuv444p", "width": 97, "height": 63}),
        ("grey.mkv", {"codec": "ffv1", "pixels": "gray"}),
        ("alpha.mkv", {"codec": "ffv1", "pixels": "bgra"}),
        ("motion.avi", {"codec": "mjpeg", "pixels": "yuvj420p"}),
        ("reordered.mp4", {"options": {"bf": "2"}}),
    ],
)
def test_every_frame_in_order(tmp_path: Path, name: str, how: dict, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / name, **how)
    assert [number(frame) for frame in frames_of(path)] == list(range(20))
    assert not caplog.text


def test_what_was_trimmed_away_does_not_play(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cut at frame 15 without encoding anew: the container keeps the frames from the key frame 12 on."""
    path = write(tmp_path / "whole.mp4", n=24, options={"g": "12", "bf": "0"})
    with av.open(str(path)) as whole, av.open(str(tmp_path / "cut.mp4"), "w") as cut:
        source = whole.streams.video[0]
        target = cut.add_stream_from_template(source)
        for packet in whole.demux(source):
            if packet.dts is not None and round(packet.pts * packet.time_base * 15) >= 12:
                shift = round(15 / 15 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, target
                cut.mux(packet)
    n_frames, _ = count_frames(tmp_path / "cut.mp4")
    assert [number(frame) for frame in frames_of(tmp_path / "cut.mp4")] == list(range(24 - n_frames, 24))
    assert "9 frames can be decoded, its header counts 12" in caplog.text


def test_a_damaged_packet_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "motion.avi", codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    chunk = data.index(b"00dc", data.index(b"movi") + 5000)
    size = int.from_bytes(data[chunk + 4 : chunk + 8], "little")
    data[chunk + 8 : chunk + 8 + size] = bytes(size)
    path.write_bytes(data)
    found = [number(frame) for frame in frames_of(path)]
    assert len(found) == 19
    assert found == sorted({*range(20)} & {*found})
    assert "19 frames can be decoded, its header counts 20; 1 faults, the first after frame" in caplog.text


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{width}.ts", "mpeg2video", width=width).read_bytes() for width in (96, 128)]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    with pytest.raises(UserError, match=r"both\.ts: frame \d+ has the size \(128, 64\), those before \(96, 64\)"):
        count_frames(tmp_path / "both.ts")


def test_pixels_that_are_no_squares_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    count_frames(write(tmp_path / "wide.mp4", aspect=Fraction(16, 11)))
    assert "its pixels are 16/11 times as wide as high" in caplog.text


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=48000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate, silence.pts = 48000, 0
        container.mux([*audio.encode(silence), *audio.encode()])


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("empty.mp4", Path.touch, "is not a video that can be read"),
        ("page.mp4", lambda path: path.write_text("<html>404 not found</html>"), "is not a video that can be read"),
        ("sound.mp4", sound_only, "there is none in it"),
        ("contact_sheet.png", lambda path: Image.new("RGB", (64, 64)).save(path), "is a picture: give a folder"),
    ],
)
def test_what_is_no_video(tmp_path: Path, name: str, make: Callable[[Path], object], words: str) -> None:
    make(tmp_path / name)
    with pytest.raises(UserError, match=f"{name} .*{words}|{name} {words}"):
        count_frames(tmp_path / name)


@pytest.mark.parametrize("count", [20 * 10**6, 150 * 10**6, 2**31 - 1, -1])
def test_a_header_that_counts_what_is_not_there_costs_nothing(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "hostile.mp4", n=3)
    patch(path, b"stsz", 4, 1, count)  # all samples of one byte
    patch(path, b"stsc", 12, count)
    patch(path, b"stts", 8, count)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(UserError, match=r"hostile\.mp4 is not a video"):
        count_frames(path)
    assert time.process_time() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17
