"""Loops compiled by numba, half a second to import: only what is itself imported where it is needed comes here."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

_UNREADABLE = OSError, EOFError, UnpicklingError


class _Cache(FunctionCache):
    """What cannot be kept, on a full disk or over a quota, or be read again is compiled by the next program, too."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with suppress(*_UNREADABLE):
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except _UNREADABLE:  # the index, which is written first, may name a file of older code now
            with suppress(OSError):
                Path(self._cache_file._index_path).unlink()


def compiled(function: Callable[..., Any]) -> Any:
    """Kept beside the module, or in the user's cache folder, for the next program. Other threads run beside it."""
    dispatcher: Any = njit(nogil=True, error_model="numpy")(function)
    with suppress(RuntimeError):  # neither can be written to
        dispatcher._cache = _Cache(function)  # as its enable_caching does
    return dispatcher
