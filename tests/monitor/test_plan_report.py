"""A plan in words."""

from tests.engine.plans import specs_of
from vid2vid_dist.engine.plan.placement import split
from vid2vid_dist.monitor.plan_report import grid_table


def test_grid_names_every_rank() -> None:
    layout = split(specs_of(loss__no_vgg=True), 1, 1)
    lines = grid_table(layout, n_pipelines=2, ranks_per_node=2).splitlines()
    assert [line.split() for line in lines] == [
        ["node", "0", "pipeline", "0", "slot", "0", "rank", "0", "generator"],
        ["node", "0", "pipeline", "0", "slot", "1", "rank", "1", "image", "temporal_0", "temporal_1", "flow"],
        ["node", "1", "pipeline", "1", "slot", "0", "rank", "2", "generator"],
        ["node", "1", "pipeline", "1", "slot", "1", "rank", "3", "image", "temporal_0", "temporal_1", "flow"],
    ]
