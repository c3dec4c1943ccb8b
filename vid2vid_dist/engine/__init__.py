"""Ranks, roles and optimisers: the only floor that knows about other processes."""
