"""Videos: frames, rate, colours, sizes, interruption."""

from pathlib import Path

import av
import numpy as np
import pytest

from vid2vid_dist.monitor.video import VideoWriter, write_video

COLORS = np.array([(244, 35, 232), (107, 142, 35), (0, 0, 142)], np.uint8)


def stripes(height: int, width: int) -> np.ndarray:
    return np.broadcast_to(np.repeat(COLORS, width // 3, axis=0), (height, width // 3 * 3, 3))


def test_a_video_keeps_frames_rate_and_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, [stripes(64, 96)] * 7, fps=12)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 12
    assert len(frames) == 7
    for color, x in zip(COLORS, (16, 48, 80), strict=True):
        assert np.abs(frames[3][32, x].astype(int) - color).max() <= 4


def test_odd_sizes_are_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    write_video(path, [stripes(31, 45)], fps=8)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert (frame.height, frame.width) == (32, 46)


def test_an_interrupted_video_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "b.mp4"

    def interrupted() -> None:
        with VideoWriter(path, fps=8) as video:
            video.write(stripes(32, 48))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
