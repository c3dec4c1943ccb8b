"""Whatever ends a command, as one line on stderr; the traceback of what is no fault of the user goes into a file."""

import errno
import os
import tempfile
import traceback
from pathlib import Path

from vid2vid_dist.untrusted import reason

FIXES = {
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EDQUOT: "free some of your quota, or choose another folder",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "ask its owner, or choose another folder",
    errno.EPERM: "ask its owner, or choose another folder",
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP), "something else is there: choose another "
                    "folder"),
    errno.ENAMETOOLONG: "choose shorter names",
    **dict.fromkeys((errno.EIO, errno.ESTALE), "the disk or its server is in trouble: wait, and give the same command "
                    "again"),
    errno.EMFILE: "raise `ulimit -n`, or lower data.workers",
    errno.ENOMEM: "raise `ulimit -v`, or ask for less at a time",
}

EXTRA_OF = {
    **dict.fromkeys(("cv2", "deepspeed", "numba", "rich", "scipy", "tensorboard", "torchvision", "webdataset"),
                    "train"),
    **dict.fromkeys(("torch_fidelity", "torchmetrics"), "eval"),
    **dict.fromkeys(("mlflow", "wandb"), "mirrors"),
    "dlib": "prepare",
    "onnxscript": "onnx",
}
"""The part of pyproject.toml's optional dependencies that brings a package, by the name that is imported."""


def tell(error: BaseException) -> str:
    """What has happened, where, and what to do."""
    if isinstance(error, OSError) and error.errno in FIXES:
        where = f"{error.filename}: " if error.filename else ""
        return f"error: {where}{error.strerror}: {FIXES[error.errno]}"
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return f"error: {error.strerror}: set TMPDIR to a folder that can be written to"
    if isinstance(error, ImportError) and not (error.name or "").startswith("vid2vid_dist"):
        package = (error.name or "").split(".")[0]
        wanted = f"vid2vid-dist[{EXTRA_OF[package]}]" if package in EXTRA_OF else "vid2vid-dist"
        return f"error: this needs the package {package or 'that is named'} ({reason(error)}): pip install '{wanted}'"
    if isinstance(error, MemoryError):
        return f"error: out of memory ({reason(error)}): {FIXES[errno.ENOMEM]}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (f"error: {type(error).__name__}: {reason(error)} ({Path(place.filename).name}:{place.lineno}): this is a "
            f"fault of the program; {_kept(error)}")


def _kept(error: BaseException) -> str:
    """Where the traceback is: in the run's folder, if training has left it there."""
    notes = [note for note in getattr(error, "__notes__", []) if note.startswith("traceback: ")]
    if notes:
        return notes[0]
    try:
        handle, name = tempfile.mkstemp(prefix="vid2vid_dist.", suffix=".txt")
        with os.fdopen(handle, "w", errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError as full:
        return f"its traceback could not be kept ({reason(full)})"
    return f"traceback: {name}"
