"""What each task of a step costs: arithmetic, memory traffic, saved activations, bytes on the wire.

Counted on meta tensors from the networks themselves, so no weights, no GPU and no time are needed. Seconds
follow from a machine model, or from task times measured in an earlier run.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch

from vid2vid_dist.engine.plan.counting import Work, label_bytes
from vid2vid_dist.engine.plan.role import Resolution, RoleSpecs
from vid2vid_dist.engine.plan.tasks import Bucket, CostKey, Kind
from vid2vid_dist.engine.plan.tensors import FrameSize, TensorKind
from vid2vid_dist.models.precision import DTYPES

UPDATE_BYTES_PER_PARAMETER = 28  # Adam reads gradient, master weights, two moments; writes them and the weights


@dataclass(frozen=True)
class Machine:
    """What a rank does in a second. The defaults model an H100; `flops` is what its convolutions reach."""

    flops: dict[str, float] = field(default_factory=lambda: {"bf16": 0.4 * 989e12, "fp32": 0.4 * 494.5e12,
                                                             "fp64": 0.4 * 67e12})
    memory_bandwidth: float = 2.6e12  # bytes/s
    link_in_node: float = 450e9  # bytes/s and direction, between two ranks of a node
    link_between_nodes: float = 50e9
    latency_in_node: float = 3.4e-6  # seconds of a message, or of each hop of a ring: as NCCL reckons with NVLink
    latency_between_nodes: float = 14e-6  # ... and with a network
    link_to_host: float = 25e9
    host_bandwidth: float = 20e9  # bytes/s of a rank's share of the host's memory
    ranks_per_node: int = 8
    is_cpu: bool = False

    def message(self, n_bytes: float, source: int, destination: int) -> float:
        """Seconds from one rank to another, both counted from the first rank of a node."""
        if source // self.ranks_per_node == destination // self.ranks_per_node:
            return self.latency_in_node + n_bytes / self.link_in_node
        return self.latency_between_nodes + n_bytes / self.link_between_nodes

    def all_reduce(self, n_bytes: float, n_ranks: int, n_nodes: int = 0) -> float:
        """Seconds of a hierarchical ring: within each node, then between nodes on the part of each rank. `n_nodes`:
        over which the ranks are spread evenly, 0 = as few as hold them."""
        def ring(share: float, n: int, latency: float, bandwidth: float) -> float:
            return 2 * (n - 1) * (latency + share / n / bandwidth)

        n_nodes = n_nodes or -(-n_ranks // self.ranks_per_node)
        in_node = -(-n_ranks // n_nodes)
        return (ring(n_bytes, in_node, self.latency_in_node, self.link_in_node)
                + ring(n_bytes / in_node, n_nodes, self.latency_between_nodes, self.link_between_nodes))


CPU_CORE = Machine(flops={"bf16": 2e10, "fp32": 5e10, "fp64": 2.5e10}, memory_bandwidth=5e9, link_in_node=1e9,
                   link_between_nodes=1e9, is_cpu=True)
"""Roughly, one thread of today's servers: placements on CPU ranks weigh convolutions against flow on the CPU."""


@dataclass(frozen=True)
class Costs:
    """Costs of one lane's tasks; the unit is a frame, of temporal tasks a group.

    `tensors`: bytes of what travels between tasks. `frame_bytes`: of one frame's labels, at all scales, and of one
    real picture. `buckets`: parameters of the trained roles, `frozen`: of the other networks. `measured`: seconds in
    place of the machine model. `offload`: masters and moments lie in the host's memory.
    """

    work: dict[CostKey, Work]
    tensors: dict[TensorKind, int]
    buckets: dict[Bucket, int]
    frozen: dict[str, int]
    precision: str
    machine: Machine = field(default_factory=Machine)
    measured: dict[CostKey, float] = field(default_factory=dict)
    offload: bool = False
    frame_bytes: dict[str, int] = field(default_factory=lambda: {"labels": 0, "real": 0})

    def seconds(self, key: CostKey, n_ranks: int = 1, n_nodes: int = 0) -> float:
        """Predicted time of one unit on one rank; of a reduction or an update if `n_ranks` ranks of `n_nodes` nodes
        hold the role."""
        machine = self.machine
        if key in self.measured:
            return self.measured[key]
        if key.kind == Kind.REDUCE:
            return machine.all_reduce(self.buckets[Bucket(key.role, key.bucket)] * self.element, n_ranks, n_nodes)
        if key.kind == Kind.UPDATE:  # the optimiser on one rank's shard
            shard = self.parameters[key.role] / n_ranks
            if not self.offload:
                return shard * UPDATE_BYTES_PER_PARAMETER / machine.memory_bandwidth
            across = 2 * shard * self.element / machine.link_to_host  # gradients there, weights back
            return across + shard * UPDATE_BYTES_PER_PARAMETER / machine.host_bandwidth
        work = self.work[key]
        precision = "fp32" if key.kind == Kind.REFERENCE else self.precision
        return work.flops / machine.flops[precision] + work.moved / machine.memory_bandwidth

    def share(self, role: str) -> float:
        """A role's part of the work of one frame, roughly."""
        seconds = {key: self.seconds(key) for key in self.work}
        return sum(s for key, s in seconds.items() if key.role == role) / sum(seconds.values())

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Of the trained roles."""
        found: dict[str, int] = {}
        for bucket, n in self.buckets.items():
            found[bucket.role] = found.get(bucket.role, 0) + n
        return found

    @property
    def element(self) -> int:
        """Bytes of one number of the compute format."""
        return DTYPES[self.precision].itemsize


def count_costs(specs: RoleSpecs, height: int, width: int, machine: Machine | None = None) -> Costs:
    """Costs of every kind of task for frames of `height` x `width` at the finest scale, one lane's clips.

    Raises `UserError` for sizes that the networks cannot halve often enough.
    """
    cfg, machine = specs.cfg, machine or Machine()
    dtype, clips = DTYPES[cfg.optim.precision], cfg.parallel.batch_size
    size = FrameSize(clips, height, width)
    with torch.device("meta"):
        counted = {spec.name: spec.count(Resolution(height, width, dtype, machine.is_cpu)) for spec in specs.all}
    return Costs(
        work={CostKey(role, *key): one * clips for role, of in counted.items() for key, one in of.work.items()},
        tensors={kind: shape.n_bytes(size, dtype) for kind, shape in specs.shapes().items()},
        buckets={Bucket(role, number): n for role, of in counted.items() for number, n in enumerate(of.n_trained)},
        frozen={role: of.n_frozen for role, of in counted.items() if of.n_frozen},
        precision=cfg.optim.precision, machine=machine, offload=cfg.optim.offload,
        measured={CostKey(role, *key): clips * seconds
                  for role, of in counted.items() for key, seconds in of.seconds.items()},
        frame_bytes={"labels": clips * label_bytes(cfg, height, width, dtype),
                     "real": clips * 3 * height * width * dtype.itemsize})
