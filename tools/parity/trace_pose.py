"""Whole training runs on body pose, with the face discriminator: as `trace`."""

from tools.parity.trace import check as check
