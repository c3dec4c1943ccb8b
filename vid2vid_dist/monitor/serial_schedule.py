"""The original's schedule of a step, with the planner's costs: what plans are compared with."""

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.role import GENERATOR
from vid2vid_dist.engine.plan.tasks import FAR, INTO_WEIGHTS, CostKey, Kind
from vid2vid_dist.engine.plan.tensors import RAW
from vid2vid_dist.models.temporal import temporal_plan

FORWARD = tuple(kind for kind in Kind if kind not in INTO_WEIGHTS)


def serial_seconds(cfg: Config, costs: Costs, n_lanes: int, n_frames: int, n_generator: int,
                   n_discriminator: int) -> float:
    """A step of the original's schedule: one clip after the other, its frames one after the other.

    Backward passes of frames lie on different generator GPUs, frames and groups on different discriminator
    GPUs. Flow is computed and all weights are updated on one GPU; per clip the generator's weights are
    broadcast, its gradients collected, in float32, and label stacks sent out. D sees real frames twice and
    each kind of fake one twice, VGG real ones twice (spec: quirks 3.2).
    """
    def once(role: str, *kinds: Kind) -> float:
        return sum(costs.seconds(key) for key in costs.work if key.role == role and key.kind in kinds)

    def twice_real(role: str, n_fakes: int) -> float:
        """Both sides of a discriminator without sharing passes, from the costs of the shared ones."""
        if CostKey(role, Kind.REAL) not in costs.work:
            return 0.0
        real, fake, own = (once(role, kind) for kind in (Kind.REAL, Kind.FAKE, Kind.CRITIC_BACKWARD))
        own_pass = own / (1 + n_fakes)
        unused = n_fakes * (own_pass + real) - fake  # weight gradients of the generator's loss
        return 2 * n_fakes * real + fake + 2 * n_fakes * own_pass + max(0.0, unused)

    disc, bandwidth = cfg.discriminator, costs.machine.link_in_node
    frames_each, backwards_each = -(-n_frames // n_discriminator), -(-n_frames // n_generator)
    judged = frames_each * (twice_real("image", 1 if cfg.generator.no_flow else 2) + twice_real("face", 1)
                            + 2 * once("perceptual", Kind.REAL) + once("perceptual", Kind.FAKE)
                            + once("warp", Kind.FAKE))
    groups = temporal_plan(disc, FAR, n_frames)
    temporal = sum(-(-len(g.frames) // n_discriminator) * twice_real(f"temporal_{s}", 1) for s, g in enumerate(groups))
    n_flows = n_frames + sum(len(g.frames) * (disc.n_frames_D - 1) for g in groups if g.skips_frames)
    weights = 2 * 4 * costs.parameters[GENERATOR] / bandwidth
    labels = n_frames * cfg.generator.n_frames_G * cfg.label_channels * costs.tensors[RAW] / 3 / bandwidth
    update = sum(costs.seconds(CostKey(role, Kind.UPDATE)) for role in costs.parameters)
    clip = (n_frames * once(GENERATOR, *FORWARD) + n_flows * once("flow", Kind.REFERENCE) + judged + temporal
            + backwards_each * once(GENERATOR, *INTO_WEIGHTS) + weights + labels)
    return n_lanes * clip + update
