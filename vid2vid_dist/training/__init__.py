"""The training run: curriculum, step loop, checkpoints."""
