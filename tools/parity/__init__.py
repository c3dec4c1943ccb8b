"""Comparison with the numbers of the original vid2vid: `make parity`."""
