"""Take over the weights of the original vid2vid: `vid2vid_dist.cli.import_vid2vid`."""

from vid2vid_dist.cli.entry import run_command

if __name__ == "__main__":
    run_command("import_vid2vid")
