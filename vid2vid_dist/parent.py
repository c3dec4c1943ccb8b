"""Who started this process: asked for before the slow imports, since torchrun may die during them."""

import os

PARENT = os.getppid()
