"""Entry points: `torchrun launch/train.py`, `python launch/generate.py`."""
