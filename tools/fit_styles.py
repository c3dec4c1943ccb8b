"""Find the looks of a model with styles: `vid2vid_dist.cli.fit_styles`."""

from vid2vid_dist.cli.entry import run_command

if __name__ == "__main__":
    run_command("fit_styles")
