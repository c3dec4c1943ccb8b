"""Which code this is, and the software that a run's numbers depend on.

    python -m vid2vid_dist.version       the code as JSON, which belongs beside a copy of the code, as commit.json
"""

import json
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vid2vid_dist import __version__

PACKAGE = Path(__file__).resolve().parent
COMMIT = "commit.json"
"""What distributions and copies of the code carry, which have no repository around them."""

SOFTWARE = ("torch", "torchvision", "numpy", "deepspeed", "webdataset", "safetensors", "pillow",
            "opencv-python-headless")


def versions() -> dict[str, str]:
    """Python and the packages by name; "missing" for one that is not installed."""
    found = {"python": platform.python_version(), **dict.fromkeys(SOFTWARE, "missing")}
    for name in SOFTWARE:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def code_version(package: Path = PACKAGE) -> dict[str, str]:
    """`version`, `commit` (40 digits, or "unknown"), and `changes` of the code since then: none, uncommitted or
    unknown.

    Needs no git to name the commit, and does not mind whose the repository is.
    """
    try:
        return {"version": __version__, **json.loads((package / COMMIT).read_text())}
    except (OSError, ValueError):
        commit = _head(package.parent)
        return {"version": __version__, "commit": commit,
                "changes": "unknown" if commit == "unknown" else _changes(package)}


def _head(root: Path) -> str:
    """The commit that is checked out in a folder, read as git keeps it."""
    with suppress(OSError, ValueError, IndexError):
        folder = root / ".git"
        if folder.is_file():  # of a worktree or submodule
            folder = root / folder.read_text().split(": ", 1)[1].strip()
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        common = folder / (folder / "commondir").read_text().strip() if (folder / "commondir").is_file() else folder
        ref = head.removeprefix("ref: ")
        for path in (folder / ref, common / ref):
            if path.is_file():
                return path.read_text().strip()
        packed = (line.split(" ") for line in (common / "packed-refs").read_text().splitlines())
        return next((words[0] for words in packed if words[1:] == [ref]), "unknown")
    return "unknown"


def _changes(package: Path) -> str:
    """Whether files of the package differ from the commit. Git is asked on behalf of whoever owns them, whose code runs
    here anyway."""
    command = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(package), "status",
               "--porcelain", "."]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return "uncommitted" if said else "none"


if __name__ == "__main__":
    print(json.dumps(code_version()))
