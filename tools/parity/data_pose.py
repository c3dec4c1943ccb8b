"""Bodies drawn from OpenPose and DensePose: as `data_face`."""

from tools.parity.data_face import check as check
