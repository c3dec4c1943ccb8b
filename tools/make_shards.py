"""Pack raw folders into shards: `vid2vid_dist.cli.shards`."""

from vid2vid_dist.cli.entry import run_command

if __name__ == "__main__":
    run_command("shards")
