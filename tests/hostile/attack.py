"""Throw broken and malicious inputs at a reader, and watch what it does.

An attack passes when every input gives a value or a `UserError`: in time, in bounded memory, without another program
and without a file written outside the folder that the reader was given.
"""

import json
import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_printable

SECONDS = 20  # per input; each takes milliseconds, but cores are shared
GIBIBYTES = 1.0  # that the process may grow by during an attack
WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"}


def examples(n: int) -> pytest.MarkDecorator:
    """Parametrize a test by its number of inputs `n`: some on every run, 50 times as many of `make test-full`."""
    return pytest.mark.parametrize("n", [n, pytest.param(50 * n, marks=[pytest.mark.full, pytest.mark.timeout(3600)])])


def attack(n: int, make: Callable[[random.Random], Any], use: Callable[[Any], object], folder: Path) -> int:
    """Make `n` inputs and use each; the number of those that were refused. Only `folder` may be written to."""
    refused = used = 0

    @settings(max_examples=n, database=None, deadline=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**63))
    def one(seed: int) -> None:
        nonlocal refused, used
        data = make(random.Random(seed))
        used += 1
        try:
            with watched(folder):
                use(data)
        except UserError as error:
            refused += 1
            message = str(error)
        else:
            message = "fine"
        assert message
        assert is_printable(message), f"not one line of text: {message!r}"

    before = peak()
    one()
    assert used >= n
    assert peak() - before < GIBIBYTES
    return refused


class Hang(BaseException):
    """Not an `Exception`: readers catch those of their decoders."""


class Escape(BaseException):
    """A write elsewhere, or another program."""


_allowed: Path | None = None


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Raise `Hang` or `Escape` in the block when it takes too long, writes outside `folder` or starts a program."""
    global _allowed
    previous = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    _allowed = folder.resolve()
    try:
        yield
    finally:
        _allowed = None
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _too_long(*_: object) -> None:
    raise Hang(f"no answer in {SECONDS} s")


def _audit(event: str, arguments: tuple) -> None:
    if _allowed is None:
        return
    if event in PROGRAMS:
        raise Escape(f"{event}{arguments}")
    if event == "open" and _opens_for_writing(*arguments) and isinstance(arguments[0], str | bytes):
        _require_inside(arguments[0], -1, event)
    elif event in WRITES:  # one or two paths first; at the end, for each, the open folder that it is relative to
        paths = [path for path in arguments[event == "os.symlink" : 2] if isinstance(path, str | bytes)]
        for path, folder in zip(paths, arguments[-len(paths):], strict=True):
            _require_inside(path, folder if event != "os.truncate" else -1, event)


def _require_inside(path: str | bytes, folder: int, event: str) -> None:
    base = Path(os.readlink(f"/proc/self/fd/{folder}")) if folder >= 0 else Path()
    whole = (base / os.fsdecode(path)).resolve()
    if not whole.is_relative_to(_allowed or "/") and whole != Path("/dev/null"):
        raise Escape(f"{event} {whole}")


def _opens_for_writing(path: object, mode: str | None, flags: int) -> bool:
    return any(c in mode for c in "wax+") if mode else flags & 3 != 0


sys.addaudithook(_audit)  # for good: there is no way to take one off, but it sleeps outside of `watched`


def peak() -> float:
    """GiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def mutate(rng: random.Random, data: bytes, tokens: Sequence[bytes] = ()) -> bytes:
    """A valid file with some bytes changed, cut out, doubled or replaced by tokens of its format."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 3, 8, 30])):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice([1, 1, 2, 4, 16, 200]))
        kind = rng.randrange(6)
        if kind == 0:
            changed[start:end] = rng.randbytes(end - start)
        elif kind == 1:
            del changed[start:end]
        elif kind == 2:
            changed[start:start] = changed[start:end] * rng.choice([1, 2, 50])
        elif kind == 3 and tokens:
            changed[start:end] = rng.choice(tokens)
        elif kind == 4 and tokens:
            changed[start:start] = rng.choice(tokens)
        elif kind == 5 and rng.random() < 0.3:
            del changed[start:]
    return bytes(changed)


VALUES: list[Any] = [None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**70, 10**400, 0.5, 1e308, float("nan"),
                     float("inf"), "", "..", "../../x", "/etc/passwd", "a/b", "x\0y", "\x1b[2J", "\ud800", "a\nb",
                     "x" * 5000, [], {}, [[]], [0], ["x", 1], {"x": 1}, [0] * 1000]


def mutate_tree(rng: random.Random, tree: Any) -> Any:
    """A JSON value with some of its parts replaced, left out or doubled."""
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        tree = _mutate_once(rng, tree)
    return tree


def _mutate_once(rng: random.Random, tree: Any) -> Any:
    if not (isinstance(tree, dict | list) and tree) or rng.random() < 0.15:
        if type(tree) is int and rng.random() < 0.5:
            return tree + rng.choice([-1, 1, 512, -tree - 1, 10**6])
        return rng.choice(VALUES)
    keys: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key, copy = rng.choice(keys), tree.copy()
    change = rng.random()
    if change < 0.1:
        del copy[key]
    elif change < 0.15 and isinstance(copy, list):
        copy.append(copy[key])
    elif change < 0.2 and isinstance(copy, dict):
        copy[rng.choice(["", "..", "../../x", "/x", "x\0y", "new"])] = copy.pop(key)
    else:
        copy[key] = _mutate_once(rng, copy[key])
    return copy


def mutate_safetensors(rng: random.Random, whole: bytes, tokens: Sequence[bytes] = ()) -> bytes:
    """A safetensors file with its header damaged, as bytes or as the JSON that it is."""
    start = 8 + int.from_bytes(whole[:8], "little")
    if rng.random() < 0.5:
        return mutate(rng, whole[:start], [b"I64", b"BF16", b"9" * 30, *tokens]) + whole[start:]
    text = json.dumps(mutate_tree(rng, json.loads(whole[8:start]))).encode()
    return len(text).to_bytes(8, "little") + text + whole[start:]


def nested(rng: random.Random, opening: str, closing: str) -> str:
    """Brackets in brackets."""
    depth = rng.choice([10, 900, 1100, 20_000])
    return opening * depth + closing * (depth if rng.random() < 0.5 else 0)
