"""All commands: `python -m vid2vid_dist COMMAND …`, and `torchrun … -m vid2vid_dist COMMAND …`."""

import difflib
import sys

from vid2vid_dist import __version__
from vid2vid_dist.cli.commands import COMMANDS
from vid2vid_dist.cli.entry import run_command, run_main
from vid2vid_dist.errors import UserError


def main() -> None:
    """Run the command that is named first; without one, list them all."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "--version":
        print(f"vid2vid_dist {__version__}")
    elif name in ("-h", "--help"):
        print("usage: python -m vid2vid_dist COMMAND …   (COMMAND --help tells more)\n")
        print("\n".join(f"  {command:14}  {meaning}" for command, meaning in COMMANDS.items()))
    elif name in COMMANDS:
        sys.argv[:2] = [f"vid2vid_dist {name}"]
        run_command(name)
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise UserError(f"no command {name}: {hint}")


if __name__ == "__main__":
    run_main(main)
