"""Bodies drawn from OpenPose and DensePose: as `data_face`."""

from __future__ import annotations

from tools.parity.data_face import check as check
