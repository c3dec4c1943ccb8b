"""Fetch the weights of the frozen networks: `vid2vid_dist.cli.weights`."""

from vid2vid_dist.cli.entry import run_command

if __name__ == "__main__":
    run_command("weights")
