"""Costs against the figures known for the street networks at 512x256, 1024x512 and 2048x1024."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.engine.plans import street_costs
from tools.bench_plan import RECIPES, street
from vid2vid_dist.engine.plan.costs import Costs, Machine, count_costs
from vid2vid_dist.engine.plan.counting import Work, measure
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import split
from vid2vid_dist.engine.plan.role import Resolution
from vid2vid_dist.engine.plan.step_graph import task_seconds
from vid2vid_dist.engine.plan.tasks import Bucket, CostKey, Kind, steady_shape
from vid2vid_dist.engine.plan.tensors import RAW, What, image
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.models.encoder import FeatureEncoder

# The generator's branches, and GFLOP per frame and scale of each, forward and backward.
FORWARD = (Kind.LABEL, Kind.PAST, Kind.SYNTHESIS, Kind.FLOW, Kind.FOREGROUND)
BACKWARD = (Kind.LABEL_BACKWARD, Kind.PAST_BACKWARD, Kind.SYNTHESIS_BACKWARD, Kind.FLOW_BACKWARD,
            Kind.FOREGROUND_BACKWARD)
GENERATOR = [dict(zip(FORWARD + BACKWARD, gflops, strict=True)) for gflops in (
    (622, 454, 372, 372, 294, 1067, 899, 744, 744, 500),
    (374, 39, 261, 261, 250, 394, 58, 522, 522, 323),
    (730, 59, 271, 271, 433, 749, 78, 542, 542, 510),
)]
CHAIN = (Kind.PAST, Kind.SYNTHESIS, Kind.FLOW, Kind.BLEND)
FLOW = CostKey("flow", Kind.REFERENCE)
SMALL = ("generator.ngf=8", "generator.n_blocks=2", "loss.no_vgg=true", "flow.network=dis")
# GFLOP per pass: image discriminator forward = gradient to frames, its own backward; temporal likewise; VGG; RAFT.
CRITICS = {
    512: (20.9, 38.6, 18.7, 36.4, 94.7, 208.9),
    1024: (85.1, 156.3, 75.9, 147.1, 378.7, 861.2),
    2048: (337.6, 619.4, 300.4, 582.2, 378.7, 3857.1),
}
PARAMETERS = {512: (411.3, 5.6), 1024: (414.2, 8.4), 2048: (415.1, 11.2)}  # millions
# Megabytes of saved activations of the generator per frame in bf16. The networks here save 2 to 4 % less, as both
# heads share one convolution, and keep the finest scale's labels as ids instead of two times 105 one-hot planes.
SAVED = {512: 1378, 1024: 4322, 2048: 10724}
# Modelled milliseconds per frame: label and foreground, synthesis of all scales, backward, VGG real and fake.
# Making one-hot planes, which used to be somebody else's work, adds 0.15, 0.2 and 0.6 to the first.
TIMES = {512: (2.95, 3.8, 12.1, 0.3, 1.5), 1024: (5.5, 7.1, 20.8, 1.3, 5.9), 2048: (11.0, 12.5, 35.3, 1.3, 5.9)}
RAFT_VOLUME = {512: 22, 1024: 357, 2048: 5704}  # MB

sizes = pytest.mark.parametrize("size", list(RECIPES))


def costs_of(size: int) -> Costs:
    """Of a recipe as it is: reference flow in float32."""
    _, known = street_costs(size)
    return replace(known, measured={})


def counted(size: int, *overrides: str, height: int) -> Costs:
    """Of a recipe with other settings, for frames twice as wide as high."""
    return count_costs(role_specs(street(size, list(overrides))), height, 2 * height)


def generator_of(size: int, *overrides: str, height: int = 0) -> Costs:
    """The generator of a recipe with other settings; of other roles nothing."""
    height = height or size // 2
    spec = role_specs(street(size, list(overrides)))["generator"]
    with torch.device("meta"):
        found = spec.count(Resolution(height, 2 * height, torch.bfloat16))
    buckets = {Bucket("generator", number): n for number, n in enumerate(found.n_trained)}
    return Costs({of_generator(*key): work for key, work in found.work.items()}, {}, buckets, {}, "bf16")


def of_generator(kind: Kind, scale: int = 0) -> CostKey:
    return CostKey("generator", kind, scale)


def gflop(costs: Costs, *keys: CostKey) -> float:
    return sum(costs.work[key].flops for key in keys) / 1e9


def saved_by_frames(costs: Costs) -> float:
    """Bytes that autograd keeps of one generated frame, all scales."""
    return sum(work.saved for key, work in costs.work.items() if key.kind in (*FORWARD, Kind.BLEND))


@sizes
def test_generator_operations(size: int) -> None:
    costs = costs_of(size)
    for scale in range(RECIPES[size].n_scales_spatial):
        for kind, expected in GENERATOR[scale].items():
            assert gflop(costs, of_generator(kind, scale)) == pytest.approx(expected, abs=2), (kind, scale)


@sizes
def test_operations_of_the_critics(size: int) -> None:
    costs = costs_of(size)
    image, image_own, temporal, temporal_own, vgg, raft = CRITICS[size]
    expected = {
        CostKey("image", Kind.REAL): image, CostKey("image", Kind.FAKE): 4 * image,
        CostKey("image", Kind.CRITIC_BACKWARD): 3 * image_own,
        CostKey("temporal_1", Kind.REAL): temporal, CostKey("temporal_1", Kind.FAKE): 2 * temporal,
        CostKey("temporal_1", Kind.CRITIC_BACKWARD): 2 * temporal_own,
        CostKey("perceptual", Kind.REAL): vgg, CostKey("perceptual", Kind.FAKE): 4 * vgg, FLOW: raft,
    }
    assert {key: gflop(costs, key) for key in expected} == pytest.approx(expected, rel=0.003)


@sizes
def test_parameters(size: int) -> None:
    costs = costs_of(size)
    generator, image = PARAMETERS[size]
    assert costs.parameters["generator"] / 1e6 == pytest.approx(generator, abs=0.05)
    assert costs.parameters["image"] / 1e6 == pytest.approx(image, abs=0.05)
    assert costs.frozen["flow"] / 1e6 == pytest.approx(5.26, abs=0.005)


@sizes
def test_saved_activations(size: int) -> None:
    costs = costs_of(size)
    one_hot = 2 * 105 * size * size / 2 * 2
    assert 0.95 * SAVED[size] < (saved_by_frames(costs) + one_hot) / 1e6 < SAVED[size]
    assert costs.work[FLOW].transient / 1e6 > RAFT_VOLUME[size]
    assert costs.work[FLOW].saved == 0


def test_activations_computed_again_are_not_kept() -> None:
    costs, again = costs_of(2048), generator_of(2048, "optim.checkpoint_activations=true")
    assert saved_by_frames(again) < 0.25 * saved_by_frames(costs)
    for scale in range(RECIPES[2048].n_scales_spatial):
        for forward, backward in zip(FORWARD[:4], BACKWARD[:4], strict=True):
            once = gflop(again, of_generator(forward, scale))
            more = gflop(again, of_generator(backward, scale)) - gflop(costs, of_generator(backward, scale))
            # Not repeated: the first convolution over labels, which is most of their branch, and a stage's last one.
            assert (0.0 if forward == Kind.LABEL else 0.8 * once) < more < 1.001 * once


def test_labels_that_are_looked_up_cost_no_products() -> None:
    """The first convolutions over one-hot labels are 1065 of 1162 GFLOP of the finest label side at 2048."""
    dense, gathered = costs_of(2048), generator_of(2048, "optim.label_conv=gather")
    for kinds in ((Kind.LABEL, Kind.FOREGROUND), (Kind.LABEL_BACKWARD, Kind.FOREGROUND_BACKWARD)):
        with_products, without = (gflop(costs, *(of_generator(kind, 2) for kind in kinds))
                                  for costs in (dense, gathered))
        assert with_products - without == pytest.approx(1065 * 105 / 108, rel=0.01)


@sizes
def test_modelled_times(size: int) -> None:
    costs = costs_of(size)

    def milliseconds(*kinds: Kind) -> float:
        return 1e3 * sum(costs.seconds(key) for key in costs.work if key.role == "generator" and key.kind in kinds)

    hoisted, chain, backward, real, fake = TIMES[size]
    assert milliseconds(Kind.LABEL, Kind.FOREGROUND) == pytest.approx(hoisted, abs=0.1)
    assert milliseconds(*CHAIN) == pytest.approx(chain, abs=0.1)
    assert milliseconds(*BACKWARD) == pytest.approx(backward, rel=0.04)
    assert 1e3 * costs.seconds(CostKey("perceptual", Kind.REAL)) == pytest.approx(real, abs=0.05)
    assert 1e3 * costs.seconds(CostKey("perceptual", Kind.FAKE)) == pytest.approx(fake, rel=0.03)


def test_the_style_of_a_frame_is_read_off_once() -> None:
    """A 7x7 convolution of 3 to 16 channels at full size is the encoder's first layer. The branches that read labels
    have 3 input channels more at every scale, and no more than that."""
    height, width, n_styles = 64, 128, 3
    plain, styled = (generator_of(1024, *SMALL, f"generator.style_nc={n}", height=height) for n in (0, n_styles))
    encoder = FeatureEncoder(n_styles, n_downsample=street(1024).generator.n_downsample_G)
    first = 2 * 49 * 3 * 16 * height * width / 1e9
    assert gflop(styled, of_generator(Kind.STYLE)) > first
    assert gflop(styled, of_generator(Kind.STYLE_BACKWARD)) > gflop(styled, of_generator(Kind.STYLE))
    for scale, ngf, n_planes in ((0, 8, 3 * 36), (1, 4, 3)):  # of labels beside the style, where they are no ids
        side = 2 * 49 * n_styles * ngf * (height * width >> 2 * (1 - scale)) / 1e9  # of the image's kernel

        def more(kind: Kind, scale: int = scale) -> float:
            return gflop(styled, of_generator(kind, scale)) - gflop(plain, of_generator(kind, scale))

        assert more(Kind.LABEL) == pytest.approx(side)
        assert more(Kind.FOREGROUND) == pytest.approx(side / 2)  # half as wide
        # To the kernel, and to planes and style, which are one input.
        back = side + side * (n_planes + n_styles) / n_styles
        assert more(Kind.LABEL_BACKWARD) == pytest.approx(back)
        assert more(Kind.FOREGROUND_BACKWARD) == pytest.approx(back / 2)
        assert styled.work[of_generator(Kind.SYNTHESIS, scale)] == plain.work[of_generator(Kind.SYNTHESIS, scale)]
    n_encoder = sum(p.numel() for p in encoder.parameters())
    assert styled.parameters["generator"] - plain.parameters["generator"] > n_encoder
    again = generator_of(1024, *SMALL, f"generator.style_nc={n_styles}", "optim.checkpoint_activations=true",
                         height=height)
    kept, kept_again = (costs.work[of_generator(Kind.STYLE)].saved for costs in (styled, again))
    assert kept > 4 * 16 * height * width * 2  # activations of the first and last layers
    assert kept_again < kept / 3


def test_bytes_on_the_wire() -> None:
    tensors = costs_of(1024).tensors
    assert (tensors[image(1)] + tensors[RAW]) / 1e6 == pytest.approx(9.4 * 6 / 9, rel=0.01)  # flow and weight stay
    maps = What.FEATURES.at(0), What.FLOW_FEATURES.at(0), What.FG_FEATURES.at(0)
    assert sum(tensors[kind] for kind in maps) / 1e6 == pytest.approx(83.9, rel=0.001)
    assert [tensors[What.LABELS.at(scale)] for scale in (0, 1)] == [2 * 1024 * 64 * 32, 2 * 128 * 512 * 256]


def test_all_reduce_of_the_whole_model() -> None:
    n_bytes = 2 * sum(costs_of(1024).parameters.values())
    known = {8: 3.4, 16: 5.5, 64: 7.1, 256: 7.6, 1024: 7.8}
    at_once = Machine(latency_in_node=0, latency_between_nodes=0)
    assert {n: 1e3 * at_once.all_reduce(n_bytes, n) for n in known} == pytest.approx(known, rel=0.03)


def test_every_hop_of_a_ring_takes_its_latency() -> None:
    """Of nothing at all, in a node and between nodes: 7 ranks and 15 nodes on, there and back."""
    machine = Machine(latency_in_node=1.0, latency_between_nodes=100.0)
    assert machine.all_reduce(0, 8) == 2 * 7
    assert machine.all_reduce(0, 128) == 2 * 7 + 2 * 15 * 100
    assert machine.message(0, 0, 7) == 1
    assert machine.message(0, 7, 8) == 100


def test_ranks_that_are_spread_over_nodes_share_fewer_links() -> None:
    """Two of each of four nodes, against the same eight in one: each carries half over the network, not nothing."""
    machine = Machine(latency_in_node=0, latency_between_nodes=0, link_in_node=1.0, link_between_nodes=0.1)
    assert machine.all_reduce(8, 8) == pytest.approx(2 * 7)
    assert machine.all_reduce(8, 8, n_nodes=4) == pytest.approx(2 * 8 / 2 + 2 * 3 / 4 * 4 / 0.1)


def test_a_step_knows_over_how_many_nodes_a_role_is_spread() -> None:
    """Two discriminator ranks of each of four pipelines of eight, a node each."""
    specs, costs = role_specs(street(512, list(SMALL))), counted(512, *SMALL, height=64)
    layout = split(specs, 6, 2)
    tasks = step_tasks(specs, steady_shape(1, 2))
    seconds = dict(zip((task.cost_key for task in tasks), task_seconds(tasks, layout, costs, 4), strict=True))
    n_bytes = costs.parameters["image"] * costs.element
    assert seconds[CostKey("image", Kind.REDUCE)] == costs.machine.all_reduce(n_bytes, 8, n_nodes=4)


def test_batch_multiplies_work_and_bytes_but_not_parameters() -> None:
    one, two = (counted(512, *SMALL, f"parallel.batch_size={n}", height=64) for n in (1, 2))
    assert {key: work.flops for key, work in two.work.items()} == {
        key: 2 * work.flops for key, work in one.work.items()}
    assert two.seconds(FLOW) == 2 * one.seconds(FLOW) > 0
    assert two.tensors == {kind: 2 * n_bytes for kind, n_bytes in one.tensors.items()}
    assert two.frame_bytes == {what: 2 * n_bytes for what, n_bytes in one.frame_bytes.items()}
    assert two.parameters == one.parameters


def test_measure_counts_a_convolution_and_a_relu() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 5, 1, bias=False), nn.ReLU())
        x = torch.empty(1, 3, 8, 8)
        work, out = measure(network, network, x)
    assert out.shape == (1, 5, 8, 8)
    plane = 8 * 8 * 4
    assert work == Work(flops=2 * 3 * 5 * 64, moved=2 * 5 * plane, saved=(3 + 5) * plane, transient=5 * plane)


@pytest.mark.parametrize("overrides", [
    ["generator.no_flow=true", "generator.fg=false", "loss.no_vgg=true", "flow.network=dis"],
    ["data.label_nc=0", "data.input_nc=3", "data.use_instance=false", "generator.fg=false",
     "discriminator.add_face_disc=true", "flow.network=dis"],
])
def test_other_networks_are_counted(overrides: list[str]) -> None:
    small = ["generator.ngf=4", "generator.n_blocks=2", "optim.precision=fp32", "data.fineSize=64"]
    cfg, costs = street(512, [*small, *overrides]), counted(512, *small, *overrides, height=64)
    assert ("face" in costs.parameters) == cfg.discriminator.add_face_disc
    assert (CostKey("face", Kind.FAKE) in costs.work) == cfg.discriminator.add_face_disc
    assert (CostKey("perceptual", Kind.REAL) in costs.work) != cfg.loss.no_vgg
    assert (of_generator(Kind.FOREGROUND) in costs.work) == cfg.generator.fg
    nothing = set() if cfg.generator.fg or not cfg.generator.no_flow else {of_generator(Kind.BLEND)}
    assert {key for key in costs.work if not costs.seconds(key)} == nothing


def test_r1_counts_with_its_share_of_time_and_all_of_its_memory() -> None:
    real, own = CostKey("image", Kind.REAL), CostKey("image", Kind.CRITIC_BACKWARD)
    without, always, at_times = (counted(512, *SMALL, *more, height=64).work for more in (
        (), ("loss.r1_gamma=1", "loss.r1_every=1"), ("loss.r1_gamma=1", "loss.r1_every=4")))
    for key in (real, own):
        dearer = always[key].flops - without[key].flops
        assert dearer > 0.9 * without[real].flops  # at least one more pass
        assert at_times[key].flops == pytest.approx(without[key].flops + dearer / 4)
    assert always[real].saved == at_times[real].saved > 1.5 * without[real].saved


def test_networks_of_all_options_are_counted() -> None:
    """Spectral norms make their kernels in every pass, modulated norm layers have convolutions of their own."""
    options = ("generator.norm=spade", "generator.spectral_norm=true", "discriminator.spectral_norm=true")
    plain, dearer = (counted(512, *SMALL, *more, height=64).work for more in ((), options))
    image, synthesis = CostKey("image", Kind.REAL), of_generator(Kind.SYNTHESIS)
    assert dearer[image].moved > plain[image].moved
    assert dearer[synthesis].flops > plain[synthesis].flops
