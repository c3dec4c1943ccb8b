"""List scheduling with insertion: tasks in the order of the longest way from them to the end of the step, or as a
search has found it, each at the earliest gap of its slot. So the chain of frames comes first, and what is off the chain
fills its gaps.

The time is near-linear in the tasks: of many slots only a few are weighed for a site, and gaps that are known to be
too short are not looked at again.
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from vid2vid_dist.engine.plan.step_graph import SHORTEST, StepGraph

ALL_WEIGHED = 16  # slots; of more, those from which a site reads and the least loaded ones are weighed
LEAST_LOADED = 4


class FreeTime:
    """The free time of one slot: gaps, the last one open."""

    def __init__(self) -> None:
        self.begins = [0.0]
        self.ends = [float("inf")]
        self._full: dict[float, tuple[float, float]] = {}  # by duration: between these times nothing so long can begin

    def fit(self, earliest: float, duration: float) -> tuple[int, float]:
        """The first gap that is long enough, and the start in it."""
        begins, ends = self.begins, self.ends
        since, until = self._full.get(duration, (earliest, earliest))
        wanted = until if since <= earliest <= until else earliest
        index = bisect_right(ends, wanted)
        while (start := max(begins[index], wanted)) + duration > ends[index]:
            index += 1
        if since <= earliest <= until:  # gaps only become smaller, so this stays true
            self._full[duration] = since, start
        elif start - earliest > until - since:
            self._full[duration] = earliest, start
        return index, start

    def take(self, earliest: float, duration: float) -> float:
        index, start = self.fit(earliest, duration)
        begin, end = self.begins[index], self.ends[index]
        gaps = [gap for gap in ((begin, start), (start + duration, end)) if gap[1] - gap[0] > SHORTEST]
        self.begins[index:index + 1] = [gap[0] for gap in gaps]
        self.ends[index:index + 1] = [gap[1] for gap in gaps]
        return start


class ListScheduler:
    """Starts of tasks, and slots of sites. `slots` by site, -1 where it is open; `preferred` likewise: where an open
    one is to go."""

    def __init__(self, graph: StepGraph, slots: Sequence[int], preferred: Sequence[int]) -> None:
        self.graph, self.slots, self.preferred = graph, list(slots), preferred
        self.starts, self.ends = [0.0] * len(graph.tasks), [-1.0] * len(graph.tasks)  # -1: not placed yet
        self._free = [FreeTime() for _ in range(graph.layout.n_slots)]
        self._load = [0.0] * graph.layout.n_slots  # seconds of all tasks of the sites on a slot
        self._node, self._between_nodes = graph.node, graph.between_nodes
        self._longest = max(graph.longest, default=0.0)
        for site, slot in enumerate(self.slots):
            if slot >= 0:
                self._load[slot] += graph.work[site]

    def run(self, order: Iterable[int]) -> None:
        """Place all tasks of sites in an order that respects needs; then sites without tasks."""
        graph = self.graph
        for number in order:
            earliest = max([self.ends[before] for before in graph.tasks[number].after], default=0.0)
            slot, duration = self._slot_of(graph.site[number], earliest), graph.durations[number]
            start = self._free[slot].take(self._ready(number, slot, earliest), duration)
            self.starts[number], self.ends[number] = start, start + duration
        for site in range(len(graph.sites)):
            self._slot_of(site, 0.0)

    def _ready(self, number: int, slot: int, earliest: float) -> float:
        """When everything that a task needs can be on the slot; what is not placed yet does not count."""
        site, slots, node = self.graph.site, self.slots, self._node
        for need, way in self.graph.needs[number]:
            end = self.ends[need]
            source = slots[site[need]]
            if source != slot and end >= 0:
                end += way if node[source] == node[slot] else way * self._between_nodes
            if end > earliest:
                earliest = end
        return earliest

    def _slot_of(self, site: int, earliest: float) -> int:
        """The slot of a site; an open one goes where it lengthens the step least."""
        slot = self.slots[site]
        if slot < 0:
            slot = self.preferred[site]
            if slot < 0:
                slot = min(self._weighed(site), key=lambda slot: self._length_with(site, slot, earliest))
            self.slots[site] = slot
            self._load[slot] += self.graph.work[site]
        return slot

    def _weighed(self, site: int) -> Sequence[int]:
        allowed = self.graph.layout.slots[self.graph.sites[site].role]
        if len(allowed) <= ALL_WEIGHED:
            return allowed
        reads = {self.slots[self.graph.site[need]] for number in self.graph.members[site]
                 for need, way in self.graph.needs[number] if way and self.ends[need] >= 0}
        least_loaded = heapq.nsmallest(LEAST_LOADED, allowed, key=self._load.__getitem__)
        return sorted(reads.intersection(allowed).union(least_loaded))

    def _length_with(self, site: int, slot: int, earliest: float) -> tuple[float, float]:
        """How long the step becomes with a site on a slot: by the chains through it, and by the slot's load."""
        graph = self.graph
        load = self._load[slot] + graph.work[site]
        length = max(load, self._longest)
        for number in graph.members[site]:
            if all(self.ends[need] >= 0 for need, way in graph.needs[number] if way):
                duration = graph.durations[number]
                earliest = self._free[slot].fit(self._ready(number, slot, earliest), duration)[1] + duration
                length = max(length, earliest + graph.longest[number] - duration)
        return round(length, 7), round(load, 7)
