"""A video file to raw folders: `vid2vid_dist.cli.prepare_video`."""

from vid2vid_dist.cli.entry import run_command

if __name__ == "__main__":
    run_command("prepare_video")
