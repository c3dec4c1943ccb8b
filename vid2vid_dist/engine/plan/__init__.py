"""What happens where and when in a step: pure functions, no ranks."""
