"""How PyTorch takes a GPU's memory."""

import os

_NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # the first counts where both are set


def set_allocator() -> None:
    """Let segments grow, unless the user has settings: clips of many lengths leave fewer holes. PyTorch reads it when
    the first memory is taken."""
    if not any(name in os.environ for name in _NAMES):
        os.environ[_NAMES[-1]] = "expandable_segments:True"


def allocator_settings() -> str:
    """Those in force, for the log."""
    return next((f"{name}={os.environ[name]}" for name in _NAMES if name in os.environ), "")
