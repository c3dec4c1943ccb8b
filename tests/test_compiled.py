"""Compiled loops run where nothing can be kept of them, too."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from vid2vid_dist.compiled import compiled


def test_a_function_is_compiled_where_it_cannot_be_kept() -> None:
    """One without a file has no folder beside it, as one in a folder that is read only has none."""
    twice = compiled(eval("lambda x: 2 * x"))
    assert twice.py_func(3) == twice(3) == 6
    assert twice.stats.cache_path is None


FULL = """
import resource
import numpy as np
from vid2vid_dist.data.stamps import stamp
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
canvas = np.zeros((2, 2, 3), np.uint8)
here = np.zeros(1, np.int64)
stamp(canvas, here, here, np.zeros((1, 2), np.int64), np.full(3, 7, np.uint8))
print(canvas[0, 0])
"""


def test_a_full_disk_keeps_nothing_and_says_nothing(tmp_path: Path) -> None:
    found = subprocess.run([sys.executable, "-c", FULL], env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
                           capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("[7 7 7]\n", "")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]


PROGRAM = """
import errno
import sys
from numba.core.caching import IndexDataCacheFile
import loop
def fails(*_):
    raise OSError(errno.ENOSPC, "full")
if sys.argv[1:]:
    IndexDataCacheFile._save_data = fails
print(loop.f(1))
"""


def test_changed_code_is_not_taken_from_what_was_kept_before(tmp_path: Path) -> None:
    """Not even when the disk was full as it was compiled; and what is kept may be damaged."""
    def answer(*arguments: str) -> int:
        known = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": f"{ROOT}:{tmp_path}"}
        return int(subprocess.run([sys.executable, "-c", PROGRAM, *arguments], env=known, capture_output=True,
                                  text=True, check=True, cwd=tmp_path).stdout)

    def write(more: int) -> None:
        (tmp_path / "loop.py").write_text("from vid2vid_dist.compiled import compiled\n\n\n@compiled\ndef f(x):\n"
                                          f"    return x + {more}\n")

    write(1)
    assert answer() == 2
    write(22)
    assert answer("full") == 23
    assert answer() == 23
    (index,) = (tmp_path / "kept").rglob("*.nbi")
    index.write_bytes(index.read_bytes()[:-5])
    assert answer() == 23
