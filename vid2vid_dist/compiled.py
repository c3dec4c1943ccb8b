"""Loops compiled by numba, half a second to import: only what is itself imported where it is needed comes here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Kept beside the module, or in the user's cache folder, for the next program. Other threads run beside it."""
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # neither can be written to
        return njit(nogil=True, error_model="numpy")(function)
