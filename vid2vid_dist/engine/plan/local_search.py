"""A better order and better slots for the tasks of a step, by simulated annealing.

A move takes a task to another turn or a site to another slot, or exchanges sites. Only what comes after the first
change is computed again, and no more than shows that the step would be too long. The same input gives the same.

Compiled by numba, twenty times as fast as the interpreter: what is found gets better up to some 300,000 moves.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from vid2vid_dist.compiled import compiled
from vid2vid_dist.engine.plan.step_graph import StepGraph
from vid2vid_dist.engine.plan.tasks import Kind

N_SEARCHES = 2  # how good the plan is that one finds is a matter of luck
HOTTEST = 0.006  # of the step's length: how much longer a move may make it at first
MORE_SAVED = 1.25  # times what the fullest slot of the given plan keeps
SPREAD = 0.05  # weight of the mean slot's length beside the longest one's: makes progress visible before it counts
TURN, MOVE, SWAP, EXCHANGE = range(4)  # kinds of move
KINDS = (TURN, TURN, TURN, MOVE, MOVE, SWAP, EXCHANGE)  # as often as they are tried


@dataclass
class Found:
    """Slots by site, the order of the tasks, and how long the step is planned to be, without its updates."""

    slots: list[int]
    order: list[int]
    length: float


class Lists(NamedTuple):
    """Lists one after the other: list i is `values[ends[i]:ends[i + 1]]`."""

    ends: np.ndarray
    values: np.ndarray


class Numbers(NamedTuple):
    """A step for the compiled code, by task unless said otherwise; times in seconds.

    `needs` and, beside its values, `ways`: messages from another slot. `tail`: from a task's end to the end of the step
    on idle slots. `site`, and by site `members`, `allowed` slots, `work` and `saved` bytes. `node`: by slot. By
    reduction what it waits for (`into`) and its time (`reductions`).
    """

    durations: np.ndarray
    needs: Lists
    ways: np.ndarray
    followers: Lists
    tail: np.ndarray
    site: np.ndarray
    members: Lists
    allowed: Lists
    work: np.ndarray
    saved: np.ndarray
    node: np.ndarray
    between_nodes: float
    into: Lists
    reductions: np.ndarray
    mean_work: float


def anneal(graph: StepGraph, slots: Sequence[int], order: Sequence[int], n_moves: int, goal: float = 0.0) -> Found:
    """From a plan's slots by site and order of tasks that run on one slot: the best of some searches of `n_moves`, side
    by side. Each stops at the `goal` (seconds).

    No slot is made to keep much more for backward passes than the fullest of the given plan.
    """
    step = numbers_of(graph)
    with ThreadPoolExecutor(N_SEARCHES) as threads:
        searches = threads.map(lambda seed: _anneal(step, np.array(slots), np.array(order), n_moves, goal, seed),
                               range(N_SEARCHES))
    found_slots, found_order, length = min(searches, key=itemgetter(2))
    return Found(found_slots.tolist(), found_order.tolist(), length)


def numbers_of(graph: StepGraph) -> Numbers:
    needs = [[*graph.needs[i], *((before, 0.0) for before in task.after)] if task.site else []
             for i, task in enumerate(graph.tasks)]
    followers: list[list[int]] = [[] for _ in graph.tasks]
    for number, of_task in enumerate(needs):
        for need, _ in of_task:
            followers[need].append(number)
    reductions = [task.number for task in graph.tasks if task.kind == Kind.REDUCE]
    return Numbers(
        np.array(graph.durations), _lists([[need for need, _ in of_task] for of_task in needs]),
        np.array([way for of_task in needs for _, way in of_task], float), _lists(followers),
        np.array(graph.longest) - graph.durations, np.array(graph.site), _lists(graph.members),
        _lists([graph.layout.slots[site.role] for site in graph.sites]), np.array(graph.work), np.array(graph.saved),
        np.array(graph.node), graph.between_nodes,
        _lists([[need for need, _ in graph.needs[number]] for number in reductions]),
        np.array([graph.durations[number] for number in reductions]), sum(graph.work) / graph.layout.n_slots)


def _lists(lists: Sequence[Sequence[int]]) -> Lists:
    return Lists(np.cumsum([0, *map(len, lists)]), np.array([*chain.from_iterable(lists)], int))


@compiled
def _of(lists: Any, i: int) -> Any:
    return lists.values[lists.ends[i]:lists.ends[i + 1]]


@compiled
def _anneal(step: Any, slots: Any, order: Any, n_moves: int, goal: float, seed: int) -> Any:
    np.random.seed(seed)  # numba's own generator, one for each thread
    ends, free, turn = np.zeros(len(step.durations)), np.zeros(len(step.node)), np.zeros(len(step.durations), np.int64)
    _number_turns(order, turn)
    length = _replay(step, order, slots, 0, ends, free, np.inf)
    saved = _saved_by_slot(step, slots)
    most_saved = MORE_SAVED * saved.max()
    best_slots, best_order, best_length = slots.copy(), order.copy(), _longest(step, order, ends)
    new_slots, new_order, new_ends = slots.copy(), order.copy(), ends.copy()
    for number in range(n_moves):
        if best_length <= goal:
            break
        kind = KINDS[np.random.randint(len(KINDS))]
        if kind == TURN:
            first = _turn(step, new_order, turn)
        else:
            first = _change_slots(step, new_slots, slots, order, turn, kind)
            if first >= 0:
                more = _saved_by_slot(step, new_slots)
                if np.any((more > saved) & (more > most_saved)):
                    first = -1
        if first >= 0:
            new_ends[:] = ends
            hot = HOTTEST * (1 - number / n_moves) * length * np.random.random() ** 3
            new_length = _replay(step, new_order, new_slots, first, new_ends, free, length + hot)
            if new_length < np.inf:
                length = new_length
                order[:], slots[:], ends[:] = new_order, new_slots, new_ends
                if kind == TURN:
                    _number_turns(order, turn)
                else:
                    saved = _saved_by_slot(step, slots)
                longest = _longest(step, order, ends)
                if longest < best_length:
                    best_slots[:], best_order[:], best_length = slots, order, longest
                continue
        if kind == TURN:
            new_order[:] = order
        else:
            new_slots[:] = slots
    return best_slots, best_order, best_length


@compiled
def _turn(step: Any, order: Any, turn: Any) -> int:
    """Bring a task to another turn between those that it needs and those that need it. Returns the first turn that
    differs, -1 for none."""
    old = np.random.randint(len(order))
    task = order[old]
    first, last = 0, len(order) - 1
    for need in _of(step.needs, task):
        first = max(first, turn[need] + 1)
    for follower in _of(step.followers, task):
        last = min(last, turn[follower] - 1)
    new = first + np.random.randint(last - first + 1)
    if new == old:
        return -1
    if new > old:
        order[old:new] = order[old + 1:new + 1].copy()
    else:
        order[new + 1:old + 1] = order[new:old].copy()
    order[new] = task
    return min(old, new)


@compiled
def _change_slots(step: Any, new: Any, slots: Any, order: Any, turn: Any, kind: int) -> int:
    """Move sites to other slots, in `new`, which is as `slots` are. Returns as `_turn` does.

    A site goes to any slot, two sites each to the slot of the other, or a site for some that take about as long.
    """
    site = np.random.randint(len(slots))
    here = slots[site]
    if kind == SWAP:
        other = np.random.randint(len(slots))
        if not (_allows(step, site, slots[other]) and _allows(step, other, here)):
            return -1
        new[site], new[other] = slots[other], here
    else:
        allowed = _of(step.allowed, site)
        there = allowed[np.random.randint(len(allowed))]
        new[site] = there
        if kind == EXCHANGE and there != here:
            left = step.work[site] * (0.5 + np.random.random())
            start = np.random.randint(len(slots))
            for i in range(len(slots)):
                other = (start + i * 7919) % len(slots)  # a prime: neighbours in number are alike
                if other != site and new[other] == there and step.work[other] <= left and _allows(step, other, here):
                    new[other] = here
                    left -= step.work[other]
    first = len(order)
    for i in range(len(slots)):
        if new[i] != slots[i]:
            for task in _of(step.members, i):
                first = min(first, turn[task])
    return first if first < len(order) else -1


@compiled
def _allows(step: Any, site: int, slot: int) -> bool:
    return bool(np.any(_of(step.allowed, site) == slot))


@compiled
def _saved_by_slot(step: Any, slots: Any) -> Any:
    saved = np.zeros(len(step.node))
    for site in range(len(slots)):
        saved[slots[site]] += step.saved[site]
    return saved


@compiled
def _number_turns(order: Any, turn: Any) -> None:
    for i in range(len(order)):
        turn[order[i]] = i


@compiled
def _replay(step: Any, order: Any, slots: Any, first: int, ends: Any, free: Any, limit: float) -> float:
    """The length of a step from the turn `first` on, of which `ends` has what comes before and gets the rest; infinite
    where it is beyond the limit."""
    free[:] = 0.0
    longest, limit = 0.0, limit - SPREAD * step.mean_work
    for i in range(first):
        task = order[i]
        free[slots[step.site[task]]] = ends[task]
        longest = max(longest, ends[task] + step.tail[task])
    for i in range(first, len(order)):
        task = order[i]
        slot = slots[step.site[task]]
        start = free[slot]
        for j in range(step.needs.ends[task], step.needs.ends[task + 1]):
            need, way = step.needs.values[j], step.ways[j]
            end = ends[need]
            if way > 0:
                source = slots[step.site[need]]
                if source != slot:
                    end += way if step.node[source] == step.node[slot] else way * step.between_nodes
            start = max(start, end)
        free[slot] = ends[task] = start + step.durations[task]
        longest = max(longest, ends[task] + step.tail[task])
        if longest > limit:
            return np.inf
    length = max(longest, _reduced(step, ends)) + SPREAD * free.mean()
    return length if length <= limit + SPREAD * step.mean_work else np.inf


@compiled
def _longest(step: Any, order: Any, ends: Any) -> float:
    longest = _reduced(step, ends)
    for task in order:
        longest = max(longest, ends[task] + step.tail[task])
    return longest


@compiled
def _reduced(step: Any, ends: Any) -> float:
    """When the last reduction ends, if each slot takes part in all, one after the other as their gradients come."""
    n = len(step.reductions)
    since = np.zeros(n)
    for i in range(n):
        for task in _of(step.into, i):
            since[i] = max(since[i], ends[task])
    last = 0.0
    for i in range(n):
        follow = 0.0
        for j in range(n):
            if since[j] >= since[i]:
                follow += step.reductions[j]
        last = max(last, since[i] + follow)
    return last
