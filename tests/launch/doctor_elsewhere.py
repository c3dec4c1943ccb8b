"""launch/doctor.py where rank 1 has a working directory of its own: `doctor_elsewhere.py DIR …`."""

import os
import sys

from vid2vid_dist.cli.doctor import main
from vid2vid_dist.cli.entry import run_main

if __name__ == "__main__":
    folder = sys.argv.pop(1)
    if os.environ["RANK"] == "1":
        os.chdir(folder)
    run_main(main)
