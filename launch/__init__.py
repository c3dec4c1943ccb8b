"""The commands of a checkout: `torchrun launch/train.py`, `python launch/generate.py`."""
