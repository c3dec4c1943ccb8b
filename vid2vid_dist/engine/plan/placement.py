"""Which roles may run on which slots of a pipeline.

A pipeline is the smallest set of ranks that holds every role; its ranks are called slots. Pipelines are
replicated over the world.
"""

import re
from dataclasses import dataclass

from vid2vid_dist.engine.plan.role import GENERATOR, RoleSpecs
from vid2vid_dist.errors import UserError


@dataclass(frozen=True)
class Layout:
    """A placement: the slots on which each role may run its tasks."""

    name: str
    slots: dict[str, tuple[int, ...]]
    n_slots: int

    def roles_on(self, slot: int) -> list[str]:
        return [role for role, slots in self.slots.items() if slot in slots]

    def describe(self) -> str:
        """What two runs must have in common for clips in flight to lie alike."""
        return ",".join(f"{role}={'+'.join(map(str, slots))}" for role, slots in self.slots.items())


def split(specs: RoleSpecs, n_generator: int, n_discriminator: int) -> Layout:
    """Generator frames on the first slots, everything that judges them on the others."""
    first, rest = tuple(range(n_generator)), tuple(range(n_generator, n_generator + n_discriminator))
    slots = {role: first if role == GENERATOR else rest for role in specs.placed}
    return Layout(f"split {n_generator}G+{n_discriminator}D", slots, n_generator + n_discriminator)


def colocated(specs: RoleSpecs, n_slots: int) -> Layout:
    """Every slot may run any role's task; one slot runs whole lanes."""
    name = "colocated" if n_slots > 1 else "one rank"
    return Layout(name, {role: tuple(range(n_slots)) for role in specs.placed}, n_slots)


def explicit(specs: RoleSpecs, text: str, n_slots: int) -> Layout:
    """A table `generator=0-3,image=4+5,…`; `others` stands for the roles that are not named.

    Raises `UserError` for unknown or missing roles and for slots that the pipeline does not have.
    """
    known = specs.placed
    slots: dict[str, tuple[int, ...]] = {}
    others: tuple[int, ...] = ()
    for entry in text.split(","):
        role, _, ranges = entry.partition("=")
        found = _slots(ranges, entry)
        if max(found) >= n_slots:
            raise UserError(f"placement {entry}: slots run from 0 to {n_slots - 1}; "
                            f"ask for at least {max(found) + 1} ranks per pipeline, or use smaller slots")
        if role == "others":
            others = found
        elif role in known:
            slots[role] = found
        else:
            raise UserError(f"placement {entry}: no such role; this configuration has {', '.join(known)}")
    missing = [role for role in known if role not in slots]
    if missing and not others:
        raise UserError(f"placement {text}: nobody runs {', '.join(missing)}; the nearest that works is "
                        f"{text},others={n_slots - 1}")
    table = {role: slots.get(role, others) for role in known}
    idle = set(range(n_slots)) - {slot for chosen in table.values() for slot in chosen}
    if idle:
        raise UserError(f"placement {text}: slots {', '.join(map(str, sorted(idle)))} have no role; "
                        f"give them one, or use pipelines of {n_slots - len(idle)} ranks")
    return Layout("table", table, n_slots)


def _slots(text: str, entry: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in text.split("+"):
        match = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        if match is None:
            raise UserError(f"placement {entry}: write ROLE=SLOTS with slots like 0-3 or 4+5")
        found |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    if not found:
        raise UserError(f"placement {entry}: {text} holds no slot; write the smaller number first")
    return tuple(sorted(found))


def slots_per_pipeline(n_ranks: int, n_pipelines: int) -> int:
    """Ranks of one pipeline. Raises `UserError` when the ranks do not divide."""
    if n_pipelines > n_ranks or n_ranks % n_pipelines:
        fits = max(p for p in range(1, min(n_ranks, n_pipelines) + 1) if n_ranks % p == 0)
        raise UserError(f"{n_ranks} ranks do not make {n_pipelines} equal pipelines; the nearest is {fits} "
                        f"of {n_ranks // fits} ranks")
    return n_ranks // n_pipelines
