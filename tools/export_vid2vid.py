"""Write a checkpoint folder that the original vid2vid reads: `vid2vid_dist.cli.export_vid2vid`."""

from vid2vid_dist.cli.entry import run_command

if __name__ == "__main__":
    run_command("export_vid2vid")
