"""The exact packages of the container image, with hashes, as pip resolves pyproject.toml today.

    python -m tools.lock_requirements          writes docker/requirements.lock; needs the package index

For the Python and the platform that runs it; the index, not a folder of local wheels, so that torch is the CUDA build.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "docker/requirements.lock"
PROJECT = "vid2vid-dist"


def lock(report: dict[str, Any]) -> str:
    """The lock file's text for pip's installation report."""
    lines = [f"# {line}" for line in (
        f"Python {report['environment']['python_version']}, {report['environment']['sys_platform']} "
        f"{report['environment']['platform_machine']}. Written by `python -m tools.lock_requirements`.",
        "Install with `pip install --require-hashes -r requirements.lock`.")]
    for item in sorted(report["install"], key=lambda item: item["metadata"]["name"].lower()):
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        if name != PROJECT:
            digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
            lines.append(f"{name}=={version} \\\n    --hash=sha256:{digest}")
    return "\n".join(lines) + "\n"


def main() -> None:
    # Without the machine's own settings of pip: its local wheels may be of another build.
    environment = {key: value for key, value in os.environ.items() if key not in ("PIP_FIND_LINKS", "PIP_CONFIG_FILE")}
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-",
               str(ROOT)]
    done = subprocess.run(command, env={**environment, "PIP_CONFIG_FILE": os.devnull}, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise UserError(f"pip cannot resolve the dependencies: {done.stderr.strip().splitlines()[-1]}")
    LOCK.write_text(lock(json.loads(done.stdout)))
    print(f"{LOCK}: {LOCK.read_text().count('==')} packages for Python {platform.python_version()}")


if __name__ == "__main__":
    run_main(main)
