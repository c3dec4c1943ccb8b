"""Distributed training of video-to-video synthesis networks."""

import os

STARTED_BY = os.getppid()  # asked for before the slow imports: who started this process may die meanwhile
