"""A better order and better slots for the tasks of a step, by simulated annealing.

A move takes a task to another turn or a site to another slot, or exchanges sites. Only what comes after the first
change is computed again, and no more than shows that the step would be too long. The same input gives the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vid2vid_dist.engine.plan.collection import without_collection
from vid2vid_dist.engine.plan.step_graph import SHORTEST, StepGraph
from vid2vid_dist.engine.plan.tasks import Kind

HOTTEST = 0.006  # of the step's length: how much longer a move may make it at first
MORE_SAVED = 1.25  # times what the fullest slot of the given plan keeps
SPREAD = 0.05  # weight of the mean slot's length beside the longest one's: makes progress visible before it counts


Proposal = tuple[list[int], list[int], int]
"""Order of tasks, slots by site, and the first turn that differs."""


@dataclass
class Found:
    """Slots by site, the order of the tasks, and how long the step is planned to be, without its updates."""

    slots: list[int]
    order: list[int]
    length: float


@without_collection
def anneal(graph: StepGraph, slots: Sequence[int], order: Sequence[int], n_moves: int, goal: float = 0.0) -> Found:
    """From a plan's slots by site and order of tasks that run on one slot. Stops at the `goal` (seconds).

    No slot is made to keep much more for backward passes than the fullest of the given plan.
    """
    search = _Annealing(graph, slots, order)
    search.run(n_moves, goal)
    return search.best


class _Annealing:
    def __init__(self, graph: StepGraph, slots: Sequence[int], order: Sequence[int]) -> None:
        self.graph, self.slots, self.order = graph, list(slots), list(order)
        n_tasks = len(graph.tasks)
        self.needs = [[*graph.needs[i], *((before, 0.0) for before in task.after)] if task.site else []
                      for i, task in enumerate(graph.tasks)]
        self.followers: list[list[int]] = [[] for _ in range(n_tasks)]
        for number, needs in enumerate(self.needs):
            for need, _ in needs:
                self.followers[need].append(number)
        # From the end of a task to the end of the step, on idle slots.
        self.tail = [longest - duration for longest, duration in zip(graph.longest, graph.durations, strict=True)]
        self.allowed = [graph.layout.slots[site.role] for site in graph.sites]
        self.saved = [0.0] * graph.layout.n_slots
        for site, slot in enumerate(self.slots):
            self.saved[slot] += graph.saved[site]
        self.most_saved = MORE_SAVED * max(self.saved)
        self._node, self._between = graph.node, graph.between_nodes
        self._mean_work = sum(graph.work) / graph.layout.n_slots
        reductions = [task.number for task in graph.tasks if task.kind == Kind.REDUCE]
        last = max(reductions, key=lambda number: graph.durations[number])
        self._reduction, self._into = graph.durations[last], [need for need, _ in graph.needs[last]]
        self.turn = [0] * n_tasks
        self.ends = [0.0] * n_tasks
        self._number_turns()
        length = self._replay(self.order, self.slots, 0, self.ends, float("inf"))
        assert length is not None
        self.length, self.best = length, Found(list(self.slots), list(self.order), float("inf"))
        self._note()

    def run(self, n_moves: int, goal: float) -> None:
        rng = random.Random(0)
        moves = self._turn, self._turn, self._turn, self._move, self._move, self._swap, self._exchange
        for number in range(n_moves):
            if self.best.length <= goal:
                return
            proposed = moves[int(rng.random() * len(moves))](rng.random)
            if proposed is None:
                continue
            order, slots, first = proposed
            ends = self.ends.copy()
            hot = HOTTEST * (1 - number / n_moves) * self.length * rng.random() ** 3
            length = self._replay(order, slots, first, ends, self.length + hot)
            if length is not None:
                self._accept(order, slots, ends, length)

    def _accept(self, order: list[int], slots: list[int], ends: list[float], length: float) -> None:
        if slots is not self.slots:
            for site, (old, new) in enumerate(zip(self.slots, slots, strict=True)):
                if old != new:
                    self.saved[old] -= self.graph.saved[site]
                    self.saved[new] += self.graph.saved[site]
        is_new = order is not self.order
        self.order, self.slots, self.ends, self.length = order, slots, ends, length
        if is_new:
            self._number_turns()
        self._note()

    def _note(self) -> None:
        longest = max(self._reduced(self.ends), *(self.ends[i] + self.tail[i] for i in self.order))
        if longest < self.best.length:
            self.best = Found(list(self.slots), list(self.order), longest)

    def _reduced(self, ends: list[float]) -> float:
        """When the longest reduction ends: on no slot does it begin within a task."""
        since, durations = max([ends[number] for number in self._into]), self.graph.durations
        begin = since
        for number in self.order:
            if begin < ends[number] and ends[number] - durations[number] < since - SHORTEST:
                begin = ends[number]
        return begin + self._reduction

    def _number_turns(self) -> None:
        for turn, number in enumerate(self.order):
            self.turn[number] = turn

    def _turn(self, draw: Callable[[], float]) -> Proposal | None:
        """A task at another turn between those that it needs and those that need it."""
        number = self.order[int(draw() * len(self.order))]
        old = self.turn[number]
        first = 1 + max([self.turn[need] for need, _ in self.needs[number]], default=-1)
        last = min([self.turn[i] for i in self.followers[number]], default=len(self.order)) - 1
        new = first + int(draw() * (last - first + 1))
        if new == old:
            return None
        order = self.order.copy()
        order.insert(new, order.pop(old))
        return order, self.slots, min(old, new)

    def _move(self, draw: Callable[[], float]) -> Proposal | None:
        """A site on another slot."""
        site = int(draw() * len(self.slots))
        slot = self.allowed[site][int(draw() * len(self.allowed[site]))]
        return self._with({site: slot})

    def _swap(self, draw: Callable[[], float]) -> Proposal | None:
        """Two sites, each on the slot of the other."""
        one, other = int(draw() * len(self.slots)), int(draw() * len(self.slots))
        if self.slots[other] not in self.allowed[one] or self.slots[one] not in self.allowed[other]:
            return None
        return self._with({one: self.slots[other], other: self.slots[one]})

    def _exchange(self, draw: Callable[[], float]) -> Proposal | None:
        """A site for some of another slot that take about as long."""
        site, work = int(draw() * len(self.slots)), self.graph.work
        here, there = self.slots[site], self.allowed[site][int(draw() * len(self.allowed[site]))]
        moved, left = {site: there}, work[site] * (0.5 + draw())
        others = [other for other, slot in enumerate(self.slots) if slot == there and here in self.allowed[other]]
        while others:
            other = others.pop(int(draw() * len(others)))
            if work[other] <= left:
                moved[other] = here
                left -= work[other]
        return self._with(moved)

    def _with(self, moved: dict[int, int]) -> Proposal | None:
        more: dict[int, float] = {}
        for site, slot in moved.items():
            more[slot] = more.get(slot, 0.0) + self.graph.saved[site]
            more[self.slots[site]] = more.get(self.slots[site], 0.0) - self.graph.saved[site]
        if all(self.slots[site] == slot for site, slot in moved.items()) or any(
                n_bytes > 0 and self.saved[slot] + n_bytes > self.most_saved for slot, n_bytes in more.items()):
            return None
        slots = self.slots.copy()
        for site, slot in moved.items():
            slots[site] = slot
        turns = [self.turn[number] for site in moved for number in self.graph.members[site]]
        return self.order, slots, min(turns, default=len(self.order))

    def _replay(self, order: list[int], slots: list[int], first: int, ends: list[float], limit: float) -> float | None:
        """The length of a step from the turn `first` on, of which `ends` has what comes before and gets the rest; None
        if it is beyond the limit."""
        site, tail, node, between = self.graph.site, self.tail, self._node, self._between
        free = [0.0] * self.graph.layout.n_slots
        longest, limit = 0.0, limit - SPREAD * self._mean_work
        for number in order[:first]:
            end = free[slots[site[number]]] = ends[number]
            if end + tail[number] > longest:
                longest = end + tail[number]
        for turn in range(first, len(order)):
            number = order[turn]
            slot = slots[site[number]]
            start = free[slot]
            for need, way in self.needs[number]:
                end = ends[need]
                if way:
                    source = slots[site[need]]
                    if source != slot:
                        end += way if node[source] == node[slot] else way * between
                if end > start:
                    start = end
            end = free[slot] = ends[number] = start + self.graph.durations[number]
            if end + tail[number] > longest:
                longest = end + tail[number]
                if longest > limit:
                    return None
        longest = max(longest, self._reduced(ends))
        length = longest + SPREAD * sum(free) / len(free)
        return length if length <= limit + SPREAD * self._mean_work else None
