"""Say how runs stand: `vid2vid_dist.cli.status`, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vid2vid_dist.cli.entry import run_command

if __name__ == "__main__":
    run_command("status")
