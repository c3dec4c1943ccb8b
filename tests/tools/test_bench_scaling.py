"""Planning takes time that grows as the step grows; what of training is measured."""

from pathlib import Path

import pytest

from tests.engine.plans import street_costs
from tools.bench_scaling import Growth, Step, copied, exponent, planning_seconds, ranks
from tools.scaling_worker import Case
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street


def test_the_exponent_is_the_slope() -> None:
    assert exponent([10, 100, 1000], [1.0, 10.0, 100.0]) == pytest.approx(1.0)
    assert exponent([10, 100, 1000], [1.0, 100.0, 10000.0]) == pytest.approx(2.0)


@pytest.mark.parametrize("steps", [(Step(4, 4, 6), Step(64, 64, 6)), (Step(8, 1, 30), Step(8, 1, 480))])
def test_planning_is_near_linear_in_tasks(steps: tuple[Step, ...]) -> None:
    """Roughly: other work on the machine shows too. Before, both were beyond 1.5."""
    specs, costs = street_costs(512)
    measured = [min(planning_seconds(specs, costs, step) for _ in range(3)) for step in steps]
    sizes, seconds = (list(column) for column in zip(*measured, strict=True))
    assert sizes[-1] > 10 * sizes[0]
    assert exponent(sizes, seconds) < 1.35


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    render_toy_street(tmp_path / "raw", ToyOptions(n_train=2, n_test=1, n_frames=6, width=64, height=32))
    make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(label_nc=35))
    return tmp_path


def test_an_index_of_copies_reads_the_same_frames(folder: Path) -> None:
    one, many = (ClipSource(DataConfig(shards=str(shards), loadSize=64), 3, 0)
                 for shards in (folder / "shards", copied(folder, 5)))
    assert many.n_clips == 5 * one.n_clips == 10
    for video in (0, 1):
        ours, copy = (source.load(Request(source.whole(video + shift), range(6), range(6)))
                      for source, shift in ((one, 0), (many, 8)))
        assert ours.names == copy.names
        assert ours.images.equal(copy.images)


def test_a_row_tells_sizes_seconds_and_exponent() -> None:
    assert Growth("it", [1, 10], [0.5, 50], "since").row() == "| it | 1 to 10 | 0.5 to 50 | 2.00 | 2.00 | since |"


@pytest.mark.long
def test_ranks_train_and_say_what_it_took(folder: Path) -> None:
    given = [f"data.shards={folder / 'shards'}", "data.loadSize=64"]
    alone, both = (ranks(folder, n, [Case("ranks", n, given, n_steps=1)]) for n in (1, 2))
    assert (alone[0].size, both[0].size) == (1, 2)
    assert 0 < alone[0].step < both[0].step  # of all ranks
    assert alone[0].memory < both[0].memory
    assert alone[0].began < both[0].began
