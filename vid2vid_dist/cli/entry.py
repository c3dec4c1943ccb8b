"""How every entry point ends."""

import faulthandler
import io
import json
import locale
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from vid2vid_dist.cli.failures import tell
from vid2vid_dist.cli.launchers import settle
from vid2vid_dist.data.workers import end_spawned
from vid2vid_dist.errors import LostRankError, UserError

PATIENCE = 5  # seconds: within them torchrun ends the other ranks of its node once one has left


def run_command(name: str) -> None:
    """Run the command `vid2vid_dist.cli.NAME`. It is imported within: what keeps it from that is told as well."""
    run_main(lambda: import_module(f"vid2vid_dist.cli.{name.replace('-', '_')}").main())


def run_main(main: Callable[[], int | None]) -> None:
    """Run `main` and exit with its status (None = 0).

    A `UserError` becomes one line on stderr and status 2, without a traceback; Ctrl-C is quiet, status 130.
    A rank whose peer has failed says so in one line, status 1: the peer has reported the cause.
    Every other exception is one line as well, status 1; its traceback is in a file. A package that is not there is no
    fault of the program: status 2.
    """
    _speak_utf8()
    with suppress(OSError, ValueError, AttributeError):  # stderr may be anything, or closed
        faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names from data, on a terminal that knows ASCII only
    try:
        sys.argv[1:] = settle(sys.argv[1:])
        status = main() or 0
        sys.stdout.flush()
    except UserError as error:
        _report(f"error: {error}")
        status = 2
    except KeyboardInterrupt:
        status = 130
    except LostRankError as error:
        if not error.is_told:
            time.sleep(PATIENCE)  # where the peer is on this node, torchrun ends this rank meanwhile and reports it
            print(f"error: another rank has left or does not answer: {error}", file=sys.stderr, flush=True)
        status = 1
    except BrokenPipeError:  # the reader of our output has gone, as in `… | head`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the end of the process
        status = 141
    except Exception as error:
        _report(tell(error))
        status = 2 if isinstance(error, ImportError) else 1
    _leave(status)


def _speak_utf8() -> None:
    """Start anew where the locale is another: files of configurations, data and runs are UTF-8, their names as well."""
    if locale.getencoding().lower().replace("-", "") != "utf8" and not sys.flags.utf8_mode:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1"})


def _leave(status: int) -> NoReturn:
    """End the process; a rank of torchrun without the interpreter's own tear-down.

    Threads of gloo's process groups abort in it now and then (torch 2.13: about one exit in seven), when all
    work is done and saved.
    """
    if "RANK" not in os.environ:
        sys.exit(status)
    end_spawned()
    with suppress(OSError):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _report(message: str) -> None:
    """Print the message; under torchrun once per node, and again in torchrun's own report."""
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        time.sleep(PATIENCE)  # most mistakes are the same on all ranks: the first rank of the node reports them
        message = f"[rank {os.environ.get('RANK')}] {message}"
    with suppress(OSError):  # the terminal may be gone
        print(message, file=sys.stderr, flush=True)
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        told = {"message": message, "timestamp": int(time.time())}
        with suppress(OSError):  # the disk of temporary files may be full
            Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(told))
