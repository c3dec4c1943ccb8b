"""What the original vid2vid writes and reads: its options and its checkpoint folders."""
