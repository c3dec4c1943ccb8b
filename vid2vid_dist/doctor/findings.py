"""What a preflight concludes from what the ranks saw: one function per check, pure."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from vid2vid_dist.doctor.probe import Link

OK, WARNING, FAULT = "ok", "warning", "fault"
GIB = 2**30
SHARED_MEMORY = 64 * 2**20  # bytes of /dev/shm per rank: NCCL's buffers between the GPUs of a node
CLOCKS = 1.0  # seconds that clocks may differ
SLOW, TOO_SLOW = 1.25, 2.0  # a rank's convolution against the fastest rank's
SLOW_LINK = 0.25  # of the median of its kind


@dataclass(frozen=True)
class Check:
    """One check: its name, `OK`, `WARNING` or `FAULT`, and what was found, one line per finding."""

    name: str
    state: str
    found: tuple[str, ...]


def check(name: str, summary: str, faults: list[str], warnings: list[str] | None = None) -> Check:
    """The outcome of a check: `summary` when there is nothing to say against it."""
    if faults:
        return Check(name, FAULT, tuple(faults))
    if warnings:
        return Check(name, WARNING, tuple(warnings))
    return Check(name, OK, (summary,))


def table(checks: list[Check]) -> str:
    """One line per finding: state, check, what was found."""
    width = max(len(one.name) for one in checks)
    return "\n".join(f"{one.state if i == 0 else '':7}  {one.name if i == 0 else '':{width}}  {text}"
                     for one in checks for i, text in enumerate(one.found))


@dataclass(frozen=True)
class Seen:
    """What one rank sees of its machine. Memory and disk in bytes; a problem is text, "" for none."""

    host: str
    versions: dict[str, str]
    device: str
    device_id: str  # unique for a GPU, "" for a CPU
    memory_free: int
    shm_free: int
    disk_free: int
    disk_problem: str
    shards_problem: str
    frame_size: tuple[int, int] | None  # width and height that the networks see; None when the shards cannot be read
    compiler_problem: str = ""  # where optim.compile asks for one


@dataclass(frozen=True)
class Needs:
    """What the run takes: bytes of device memory by rank, of checkpoints on disk, and the edges that messages take."""

    memory: list[float]
    disk: float
    edges: list[tuple[int, int]]
    placement: str


def conclude(seen: list[Seen], needs: Needs | str) -> list[Check]:
    """The checks on what the ranks saw; `needs` is a text when there is no plan for the configuration."""
    checks = [check_versions(seen), check_devices(seen)]
    if isinstance(needs, Needs):
        checks += [check("placement", needs.placement, []), check_memory(seen, needs), check_disk(seen, needs.disk)]
    else:
        checks += [check("placement", "", [needs or "not planned: no rank can read the shards"]), check_disk(seen, 0)]
    return [*checks, check_shm(seen), check_shards(seen), check_compiler(seen)]


def check_versions(seen: list[Seen]) -> Check:
    """The same software everywhere, our own code included."""
    faults = []
    for name in sorted({name for one in seen for name in one.versions}):
        found = Counter(one.versions.get(name, "missing") for one in seen)
        usual = found.most_common(1)[0][0]
        mine = [one.versions.get(name, "missing") for one in seen]
        faults += _by_rank(seen, ["" if has == usual else f"{name} {has}, elsewhere {usual}" for has in mine])
    shown = ", ".join(f"{name} {seen[0].versions[name]}" for name in ("python", "torch", "deepspeed"))
    return check("versions", f"{shown}: the same on all ranks", faults)


def check_devices(seen: list[Seen]) -> Check:
    """One kind of device, and a GPU for each rank."""
    kinds = Counter(one.device for one in seen)
    usual = kinds.most_common(1)[0][0]
    faults = _by_rank(seen, ["" if one.device == usual else f"{one.device}, elsewhere {usual}" for one in seen])
    users = Counter(one.device_id for one in seen if one.device_id)
    faults += _by_rank(seen, [f"share GPU {one.device_id}" if users[one.device_id] > 1 else "" for one in seen])
    return check("devices", f"{len(seen)} × {usual}", faults)


def check_memory(seen: list[Seen], needs: Needs) -> Check:
    """Free device memory against what the plan says; ranks on CPUs share that of their host."""
    on_host = Counter(one.host for one in seen)
    free = [one.memory_free / (1 if one.device_id else on_host[one.host]) for one in seen]
    faults = _by_rank(seen, [
        "" if has >= need else f"{has / GIB:.1f} GiB free, the plan needs {need / GIB:.1f}: free the device, or ask "
                               "vid2vid-plan --gpu-memory" for has, need in zip(free, needs.memory, strict=True)])
    most = max(needs.memory)
    return check("memory", f"{min(free) / GIB:.1f} GiB free or more, tensors take at most {most / GIB:.1f}", faults)


def check_disk(seen: list[Seen], needed: float) -> Check:
    """Room for the checkpoints that are kept, and one that is being written; and whether one can write at all."""
    takes = f"checkpoints take {needed / GIB:.2g}"
    faults = _by_rank(seen, [one.disk_problem or (
        "" if one.disk_free >= needed else f"{one.disk_free / GIB:.2g} GiB free for run.root, {takes}: free some "
                                           "space or lower run.keep_last") for one in seen])
    return check("disk", f"{min(one.disk_free for one in seen) / GIB:.1f} GiB free for run.root, {takes}", faults)


def check_shm(seen: list[Seen]) -> Check:
    """/dev/shm, which is small in containers that were not asked for more."""
    on_host = Counter(one.host for one in seen)
    wanted = [SHARED_MEMORY * on_host[one.host] for one in seen]
    small = _by_rank(seen, [
        "" if one.shm_free >= n_bytes else f"{one.shm_free / GIB:.2g} GiB free in /dev/shm, NCCL wants "
                                           f"{n_bytes / GIB:.2g} (docker run --shm-size)"
        for one, n_bytes in zip(seen, wanted, strict=True)])
    on_gpu = any(one.device_id for one in seen)
    return check("/dev/shm", f"{min(one.shm_free for one in seen) / GIB:.1f} GiB free", small if on_gpu else [],
                 [] if on_gpu else small)


def check_shards(seen: list[Seen]) -> Check:
    """The first frame of the first video and the last of the last, read and decoded as in training."""
    problems = _by_rank(seen, [one.shards_problem for one in seen])
    return check("shards", "first and last frame readable on all ranks", problems)


def check_compiler(seen: list[Seen]) -> Check:
    """Whether a small program can be compiled, where networks are to be."""
    problems = _by_rank(seen, [one.compiler_problem for one in seen])
    return check("compiler", "works on all ranks, or is not asked for", problems)


def check_clocks(offsets: list[float]) -> Check:
    """Clocks of the hosts: logs and traces are put in order by them."""
    faults = [f"rank {rank}: clock {offset:+.1f} s against rank 0's: start NTP there"
              for rank, offset in enumerate(offsets) if abs(offset) > CLOCKS]
    return check("clocks", f"within {max(map(abs, offsets)) * 1000:.0f} ms", faults)


def check_links(seen: list[Seen], links: list[Link]) -> Check:
    """Links that are much slower than others of their kind, in a node and between nodes."""
    kinds: dict[bool, list[Link]] = defaultdict(list)
    for link in links:
        kinds[seen[link.source].host == seen[link.destination].host].append(link)
    warnings, summary = [], []
    for in_node, alike in kinds.items():
        median = sorted(link.bandwidth for link in alike)[len(alike) // 2]
        where = "in a node" if in_node else "between nodes"
        summary.append(f"{len(alike)} {where}, median {median / 1e9:.2f} GB/s, "
                       f"slowest {min(link.bandwidth for link in alike) / 1e9:.2f}")
        warnings += [f"rank {link.source} ({seen[link.source].host}) to rank {link.destination} "
                     f"({seen[link.destination].host}): {link.bandwidth / 1e9:.2f} GB/s, others {where} "
                     f"{median / 1e9:.2f}" for link in alike if link.bandwidth < SLOW_LINK * median]
    return check("links", "; ".join(summary) or "one rank, no links", [], warnings)


def check_speed(seen: list[Seen], seconds: list[float]) -> Check:
    """Ranks that compute slower than the fastest: all wait for them."""
    ratios = [mine / min(seconds) for mine in seconds]

    def slower_than(limit: float) -> list[str]:
        return _by_rank(seen, [
            "" if ratio <= limit else f"{ratio:.1f}x the time of the fastest rank: a hot or throttled device, or "
                                      "another program" for ratio in ratios])

    summary = f"a convolution takes {min(seconds) * 1000:.2g} to {max(seconds) * 1000:.2g} ms"
    return check("stragglers", summary, slower_than(TOO_SLOW), slower_than(SLOW))


def _by_rank(seen: list[Seen], problems: list[str]) -> list[str]:
    """Each distinct problem with the ranks and hosts that have it; `problems` by rank, "" for none."""
    found: dict[str, list[int]] = defaultdict(list)
    for rank, problem in enumerate(problems):
        if problem:
            found[problem].append(rank)
    lines = []
    for problem, ranks in found.items():
        hosts = ", ".join(sorted({seen[rank].host for rank in ranks}))
        lines.append(f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))} ({hosts}): {problem}")
    return lines
