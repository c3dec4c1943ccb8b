"""Generation with a trained model: loading a run, and videos of any length at constant memory."""
