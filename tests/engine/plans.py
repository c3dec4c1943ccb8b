"""Small configurations and made-up costs for tests of plans."""

import functools
import random

from tools.bench_plan import known_costs
from vid2vid_dist.config.load import load_config
from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.counting import Work
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.tasks import COLLECTIVE, INTO_WEIGHTS, CostKey, Kind, steady_shape
from vid2vid_dist.engine.roles.build import role_specs


def specs_of(**settings: object) -> RoleSpecs:
    """The roles of the defaults with settings `section__key=value`; one frame per discriminator pass."""
    given = {"discriminator__frames_per_pass": 1, **settings}
    return role_specs(load_config(None, [
        f"{key.replace('__', '.')}={value}".replace("True", "true").replace("False", "false")
        for key, value in given.items()]))


@functools.cache
def street_costs(size: int) -> tuple[RoleSpecs, Costs]:
    """`known_costs`: counting takes seconds."""
    return known_costs(size)


def made_up_costs(specs: RoleSpecs, seed: int = 0) -> Costs:
    """Every task takes between 1 and 10 ms, every tensor has between 1 and 100 MB."""
    rng = random.Random(seed)
    # Of a chunk long enough for every temporal scale.
    tasks = step_tasks(specs, steady_shape(1, 12))
    keys = dict.fromkeys(task.cost_key for task in tasks if task.kind not in COLLECTIVE)

    def work(key: CostKey) -> Work:
        keeps_nothing = key.kind in INTO_WEIGHTS or key == CostKey("warp", Kind.FAKE)
        return Work(moved=rng.uniform(2.6e9, 26e9), saved=0.0 if keeps_nothing else rng.uniform(1e6, 1e9))

    return Costs(
        work={key: work(key) for key in keys},
        tensors={kind: rng.randrange(10**6, 10**8) for kind in specs.shapes()},
        buckets={bucket: rng.randrange(10**6, 10**8) for bucket in specs.buckets},
        frozen={"flow": 10**6} if specs.cfg.loss.no_vgg else {"flow": 10**6, "perceptual": 10**7},
        precision="bf16",
    )
