"""Loops compiled by numba, half a second to import: only what is itself imported where it is needed comes here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


class _Cache(FunctionCache):
    """What cannot be kept, on a full disk or over a quota, or be read again is compiled by the next program, too."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with suppress(OSError):
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def compiled(function: Callable[..., Any]) -> Any:
    """Kept beside the module, or in the user's cache folder, for the next program. Other threads run beside it."""
    dispatcher: Any = njit(nogil=True, error_model="numpy")(function)
    with suppress(RuntimeError):  # neither can be written to
        dispatcher._cache = _Cache(function)  # as its enable_caching does
    return dispatcher
