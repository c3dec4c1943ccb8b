"""Drivers of steps, generation and plans, for one commit against another."""
