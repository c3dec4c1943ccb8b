"""Whatever lies in the raw folders: frames are packed in their order and with their partners, or refused."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vid2vid_dist.data.folders import scan
from vid2vid_dist.errors import UserError

FOLDERS = ("A", "B", "inst")


@dataclass
class Names:
    """How the files of one modality are called."""

    before: str
    digits: int
    after: str
    suffix: str

    def of(self, number: int) -> str:
        return f"{self.before}{number:0{self.digits}d}{self.after}{self.suffix}"


@dataclass
class Tree:
    """Numbers of frames by video and folder, and what else is there."""

    names: list[Names]
    videos: dict[str, dict[str, list[int]]]
    spoiled: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return all(numbers == of["A"] for of in self.videos.values() for numbers in of.values())

    def write(self, root: Path) -> None:
        """Every file holds the name of its video and its number."""
        for i, (video, of) in enumerate(self.videos.items()):
            for names, (folder, numbers) in zip(self.names, of.items(), strict=False):
                place = root / f"train_{folder}" / video
                if f"link {i} {folder}" in self.spoiled:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.symlink_to(root / f"elsewhere/{i}{folder}")
                    place = root / f"elsewhere/{i}{folder}"
                place.mkdir(parents=True, exist_ok=True)
                for number in numbers:
                    (place / names.of(number)).write_text(f"{video} {number}")
        one = root / "train_B" / next(iter(self.videos))
        for what, path in (("hidden", one / "._0.png"), ("thumbs", one / "Thumbs.db"), ("unread", one / "7.gif"),
                           ("checkpoints", one / ".ipynb_checkpoints/0.png"), ("again", one / "000000000003.bmp")):
            if what in self.spoiled:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("other 3")
        if "loop" in self.spoiled:
            (one / "up").symlink_to(root / "train_B")
        if "dangling" in self.spoiled:
            (one / "8.png").symlink_to(root / "gone")


HARMLESS = {"hidden", "thumbs", "checkpoints"}


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    folders = FOLDERS[: draw(st.integers(2, 3))]
    names = [Names(draw(st.sampled_from(["", "f", "frame_", "v2_", "take 3 - ", "ä.b-"])), draw(st.integers(0, 6)),
                   draw(st.sampled_from(["", "_label", "_leftImg8bit", " (1)"])),
                   draw(st.sampled_from([".png", ".PNG", ".jpg", ".tif"]))) for _ in folders]
    videos = {}
    known = ["seq1", "seq2", "seq10", "a b", "a,b", "day/clip", "night/clip", "Ü"]
    for video in draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True)):
        numbers = sorted(draw(st.sets(st.integers(0, 1200), min_size=1, max_size=6)))
        videos[video] = {folder: list(numbers) for folder in folders}
    for _ in range(draw(st.integers(0, 2))):  # what one modality lacks, or has under another number
        of = videos[draw(st.sampled_from(sorted(videos)))]
        numbers = of[draw(st.sampled_from(folders))]
        at = draw(st.integers(0, len(numbers) - 1))
        if draw(st.booleans()) and len(numbers) > 1:
            del numbers[at]
        else:
            numbers[:] = sorted({*numbers[:at], *numbers[at + 1 :], draw(st.integers(0, 1200))})
    links = [f"link {i} {folder}" for i in range(len(videos)) for folder in folders]
    spoiled = draw(st.lists(st.sampled_from([*HARMLESS, *links, "unread", "again", "loop", "dangling"]), max_size=2))
    return Tree(names, videos, spoiled)


@pytest.mark.parametrize("n", [50, pytest.param(1000, marks=pytest.mark.full)])
def test_order_and_partners_are_true_or_it_is_refused(n: int, tmp_path: Path) -> None:
    packed = itertools.count()
    folders = itertools.count()

    @settings(max_examples=n, database=None, derandomize=True, phases=[Phase.generate, Phase.shrink],
              suppress_health_check=list(HealthCheck))
    @given(trees())
    def one(tree: Tree) -> None:
        root = tmp_path / str(next(folders))
        tree.write(root)
        try:
            videos = scan(root, "train")
        except UserError:
            single = any(len(of["A"]) == 1 for of in tree.videos.values())  # numbers around it may be taken for its own
            harm = [what for what in tree.spoiled if what not in HARMLESS and not what.startswith("link")]
            assert single or harm or not tree.agrees
            return
        next(packed)
        assert {video.name: [int(path.read_text().rpartition(" ")[2]) for path in video.first] for video in videos} == {
            name: of["A"] for name, of in tree.videos.items()}
        for video in videos:
            expected = {"labels", "images"} if len(tree.names) < 3 else {"labels", "images", "instances"}
            assert {*video.files} == expected
            for partners in zip(*video.files.values(), strict=True):
                assert len({path.read_text() for path in partners}) == 1
                assert partners[0].read_text().rpartition(" ")[0] == video.name

    one()
    assert next(packed) > n / 5
