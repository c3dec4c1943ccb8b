"""Render a toy set as raw folders: `vid2vid_dist.cli.toy`."""

from vid2vid_dist.cli.entry import run_command

if __name__ == "__main__":
    run_command("toy")
