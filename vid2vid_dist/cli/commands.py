"""The commands by name, and the console scripts of those that are used every day."""

from functools import partial

from vid2vid_dist.cli.entry import run_command

COMMANDS = {
    "train": "train a video generator",
    "generate": "make videos with a trained run or an export",
    "evaluate": "judge a run by figures",
    "status": "say how runs stand",
    "export": "write the generator of a run, to pass on or to keep",
    "plan": "who does what on how many ranks, how fast, in how much memory; needs no GPU and no data",
    "doctor": "look at the machines before a long run",
    "shards": "pack raw folders into shards",
    "toy": "render a toy set as raw folders",
    "weights": "fetch the published weights of the frozen networks",
    "prepare-video": "a video file to raw folders",
    "fit-styles": "find the looks of a model with styles",
    "import-vid2vid": "take over weights of the original",
    "export-vid2vid": "write weights that the original reads",
}
"""Name and meaning; the command is `vid2vid_dist.cli.NAME`, with _ for -."""

train, generate, evaluate, export = (partial(run_command, name) for name in ("train", "generate", "evaluate", "export"))
plan, doctor, shards = (partial(run_command, name) for name in ("plan", "doctor", "shards"))
