"""Command-line tools beside training: shards, toy data, parity, benchmarks."""
