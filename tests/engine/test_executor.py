"""Placing roles on ranks changes nothing: the same clips and weights give the same steps.

Every row runs on real ranks under torchrun. The reference is `textbook_step`, which shares no code with the engine.
Clips of odd number end a chunk earlier; the second of three steps puts all scales of a frame on one rank, the others
may spread them. Every rank is given only the frames that its tasks read. ROWS and LONG_ROWS hold every placement,
number of lanes and scales, reach of the gradient and setting at least once; `make test-full` runs all combinations, in
float64 and with ZeRO 1 and 2; `pytest -m pairs tests/engine/test_executor.py` those that show every two values of
settings, scales, reach and lanes together, in every placement, in float64 and with one of the ZeRO stages (37 and 26
minutes on two busy cores).
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.engine.batch import Batches, Job, patient
from tests.engine.spread_clips import CHUNK
from tests.engine.test_equality import worst_gradient, worst_loss, worst_parameter

pytestmark = patient
PLAIN64 = ("optim.backend=plain", "optim.precision=fp64")
PLAIN32 = ("optim.backend=plain",)

ONE_SCALE = "generator.n_scales_spatial=1"
THREE_SCALES = "generator.n_scales_spatial=3"
NO_FG = "generator.fg=false"
NO_INSTANCE = "data.use_instance=false"
NO_FIRST = "generator.no_first_img=true"
NO_FLOW = "generator.no_flow=true"
SPARSE = "discriminator.sparse_D=true"
TWO_TEMPORAL = "discriminator.n_scales_temporal=2"
PASSES = "discriminator.frames_per_pass=2"
GROUP_PASSES = ("discriminator.n_frames_D=2", "discriminator.groups_per_pass=1")
FINEST_ONLY = "schedule.niter_fix_global=1"
STYLES = "generator.style_nc=3"
SPECTRAL = ("generator.spectral_norm=true", "discriminator.spectral_norm=true")
SHORT = ("optim.clip_norm=0.1", "loss.gan_mode=logistic")
SPADE = "generator.norm=spade"
PENALISED = ("loss.r1_gamma=1", "loss.r1_every=2")
AUGMENTED = "discriminator.augment=diff"
PERCEPTUAL = "loss.no_vgg=false"
SINGLE_IMAGE = ("generator.netG=global", "generator.norm=instance", NO_FLOW, NO_FIRST, NO_FG, ONE_SCALE,
                "discriminator.n_scales_temporal=0")
FACE = ("data.label_nc=0", "data.input_nc=3", "data.use_instance=false", NO_FG, "discriminator.add_face_disc=true")


class Row(NamedTuple):
    """A placement and what is trained in it. `ahead`: reference flow a step ahead; `in_flight`: lanes at once."""

    ranks: int
    placement: str
    n_clips: int
    overrides: tuple[str, ...] = ()
    n_frames_bp: int = 1
    pipelines: int = 1
    in_flight: int = 0
    ahead: bool = False


ROWS = [  # one of each kind of placement
    Row(1, "colocated", 2, n_frames_bp=2),
    Row(2, "split:1+1", 3, (NO_FIRST, PERCEPTUAL, TWO_TEMPORAL), in_flight=1, ahead=True),
    Row(2, "colocated", 2, (NO_INSTANCE, PERCEPTUAL), n_frames_bp=3, ahead=True),
    Row(2, "data_parallel", 3, (TWO_TEMPORAL,), n_frames_bp=2, pipelines=2),
    Row(4, "generator=0,image=1,flow=1,others=2-3", 2, (TWO_TEMPORAL, PERCEPTUAL), ahead=True),
    Row(4, "split:1+1", 4, n_frames_bp=2, pipelines=2),
]
LONG_ROWS = [
    Row(2, "split:1+1", 1),
    Row(2, "split:1+1", 2, (ONE_SCALE, NO_FG, SPARSE, TWO_TEMPORAL), n_frames_bp=2),
    Row(2, "split:1+1", 1, FACE),
    Row(1, "colocated", 2, (PASSES, PERCEPTUAL, NO_FIRST, TWO_TEMPORAL)),
    Row(1, "colocated", 2, FACE, n_frames_bp=2),
    Row(1, "colocated", 2, (STYLES, SPARSE, TWO_TEMPORAL, ONE_SCALE)),
    Row(3, "split:2+1", 1, (PASSES, TWO_TEMPORAL), n_frames_bp=2),
    Row(3, "split:2+1", 1, (FINEST_ONLY, NO_FIRST), n_frames_bp=2),
    Row(3, "split:2+1", 2, (*GROUP_PASSES, *PENALISED, TWO_TEMPORAL), ahead=True),
    Row(3, "split:2+1", 2, (THREE_SCALES, NO_FLOW, PERCEPTUAL), n_frames_bp=3, ahead=True),
    Row(4, "split:2+2", 3, (NO_FIRST, SPARSE, TWO_TEMPORAL), n_frames_bp=2, in_flight=2),
    Row(4, "colocated", 2, (THREE_SCALES, TWO_TEMPORAL), n_frames_bp=2),
    Row(4, "split:1+1", 3, (PERCEPTUAL, TWO_TEMPORAL), pipelines=2, ahead=True),
    Row(2, "split:1+1", 2, (STYLES, ONE_SCALE, NO_FIRST), n_frames_bp=2),
    Row(3, "split:2+1", 2, (STYLES, NO_INSTANCE), n_frames_bp=2, ahead=True),
    Row(2, "colocated", 2, (STYLES, NO_FG, FINEST_ONLY)),
    Row(2, "split:1+1", 2, SINGLE_IMAGE),
    Row(2, "split:1+1", 2, (*PENALISED, AUGMENTED), in_flight=1),
    Row(4, "generator=0,image=1,flow=1,others=2-3", 2, (*PENALISED, AUGMENTED, TWO_TEMPORAL), ahead=True),
    Row(4, "split:1+1", 4, ("discriminator.augment=adaptive",), n_frames_bp=2, pipelines=2),
    Row(3, "split:2+1", 2, (SPADE,), n_frames_bp=2, ahead=True),
    Row(2, "colocated", 2, (SPADE, STYLES, NO_FG)),
    Row(3, "split:2+1", 3, (*SPECTRAL, *SHORT, TWO_TEMPORAL), n_frames_bp=2, ahead=True),
]


PLACEMENTS = [  # ranks, placement, pipelines
    (1, "colocated", 1), (2, "split:1+1", 1), (3, "split:2+1", 1), (4, "split:2+2", 1),
    (4, "generator=0,image=1,temporal_0=2,others=3", 1), (2, "colocated", 1), (4, "colocated", 1), (4, "split:1+1", 2)]
SETTINGS: list[tuple[str, ...]] = [(), (STYLES,), (NO_FG, NO_INSTANCE), (NO_FIRST,), (SPARSE, TWO_TEMPORAL), FACE]


def combinations() -> Iterator[tuple[Row, int]]:
    """All rows, each with its ZeRO stage in the orthogonal array of 18 of the 162 settings besides the placement;
    0: not in there."""
    reaches = (1, 2, CHUNK)
    for s, scales, reach, lanes in itertools.product(range(6), range(3), range(3), range(3)):
        held = reach == (scales + s) % 3 and lanes == (2 * scales + s + s // 3) % 3
        overrides = (f"generator.n_scales_spatial={scales + 1}", *SETTINGS[s])
        for place, (ranks, placement, pipelines) in enumerate(PLACEMENTS):
            row = Row(ranks, placement, (lanes + 1) * pipelines, overrides, reaches[reach], pipelines)
            yield row, 1 + (place + s + scales) % 2 if held else 0


def marked(*values: object, pairs: bool) -> object:
    return pytest.param(*values, marks=[pytest.mark.full, *([pytest.mark.pairs] if pairs else [])])


FLOAT64 = [*ROWS, *(pytest.param(row, marks=pytest.mark.long) for row in LONG_ROWS),
           *(marked(row, pairs=turn > 0) for row, turn in combinations())]
ZERO = [
    (Row(4, "split:1+1", 3, pipelines=2), 1),
    pytest.param(Row(4, "split:1+1", 3, pipelines=2), 2, marks=pytest.mark.long),
    *(pytest.param(Row(2, "colocated", 2, SHORT), stage, marks=pytest.mark.long) for stage in (1, 2)),
    *(pytest.param(Row(3, "split:2+1", 2, n_frames_bp=2), stage, marks=pytest.mark.long) for stage in (1, 2)),
    *(marked(row, stage, pairs=stage == turn) for row, turn in combinations() for stage in (1, 2)),
]


def job(row: Row, optimizer: str, lr: float) -> Job:
    arguments = (row.placement, row.pipelines, row.n_clips, row.n_frames_bp, row.in_flight, int(row.ahead),
                 optimizer, lr)
    return Job(row.ranks, (*map(str, arguments), *row.overrides))


def textbook(row: Row) -> Row:
    return Row(1, "textbook", row.n_clips, row.overrides, row.n_frames_bp)


def one_rank(row: Row) -> Row:
    return Row(1, "colocated", row.n_clips, row.overrides, row.n_frames_bp)


def float64_jobs(row: Row) -> tuple[Job, Job]:
    """The reference and the placed run, three steps of Adam."""
    row = row._replace(overrides=(*row.overrides, *PLAIN64))
    return job(textbook(row), "Adam", 5e-5), job(row, "Adam", 5e-5)


def zero_jobs(row: Row, stage: int) -> tuple[Job, Job, Job, Job]:
    """One rank in float32, the textbook in float64, the placement on the plain backend and with ZeRO."""
    def descend(row: Row) -> Job:
        return job(row, "SGD", 1e-6)

    plain = row._replace(overrides=(*row.overrides, *PLAIN32))
    zero = row._replace(overrides=(*row.overrides, f"optim.zero_stage={stage}"))
    exact = textbook(row._replace(overrides=(*row.overrides, *PLAIN64)))
    return descend(one_rank(plain)), descend(exact), descend(plain), descend(zero)


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Batches:
    """What a job has found; all that the chosen tests need run together."""
    kinds = {"test_plain_float64_is_equal": float64_jobs, "test_zero_float32_is_equal": zero_jobs}
    chosen = [item for item in request.session.items if item.path == request.path]
    wanted = [one for item in chosen for one in kinds[item.originalname](**item.callspec.params)]
    return Batches("tests/engine/placed_clips.py", wanted, tmp_path_factory.mktemp("jobs"))


@pytest.mark.parametrize("row", FLOAT64, ids=str)
def test_plain_float64_is_equal(found: Batches, row: Row) -> None:
    """Three steps of Adam: losses, gradients and weights to 1e-10."""
    reference, placed = map(found, float64_jobs(row))
    for step in range(3):
        assert worst_loss(reference[f"losses.{step}"], placed[f"losses.{step}"]) < 1e-10
    assert worst_parameter(reference, placed) < 1e-10
    assert worst_gradient(reference, placed) < 1e-10


@pytest.mark.parametrize(("row", "stage"), ZERO, ids=str)
def test_zero_float32_is_equal(found: Batches, row: Row, stage: int) -> None:
    """Losses of the first step to 1e-6, gradients to 1e-5 of their length, weights after three steps to 1e-6.

    Losses and weights against one process, or to three times what float32 costs that: networks as small as these make
    much of a rounding. All three against the same placement on the plain backend, which float64 has shown to equal one
    process: where a rounding changes the sign of a difference, a gradient jumps. Only weights may be as far from it as
    float32 takes one process.
    """
    reference, exact, plain, placed = map(found, zero_jobs(row, stage))
    spread = worst_parameter(exact, reference)
    assert worst_loss(reference["losses.0"], placed["losses.0"]) < max(
        1e-6, 3 * worst_loss(exact["losses.0"], reference["losses.0"]))
    assert worst_parameter(reference, placed) < max(1e-6, 3 * spread)
    assert worst_loss(plain["losses.0"], placed["losses.0"]) < 1e-6
    assert worst_parameter(plain, placed) < max(1e-6, spread)
    # The step at rate 1 is rounded to the weights' own float32 grid: it hides gradients of nearly no length.
    assert worst_gradient(plain, placed, floor=1e-2) < 1e-5
