"""Training under torchrun, wherever the package is: `torchrun … -m vid2vid_dist.train`."""

from vid2vid_dist.cli.entry import run_command

if __name__ == "__main__":
    run_command("train")
