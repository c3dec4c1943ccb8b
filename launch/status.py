"""Say how runs stand: `vid2vid_dist.cli.status`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout, installed or not

from launch._cli import run_main
from vid2vid_dist.cli.status import main

if __name__ == "__main__":
    run_main(main)
