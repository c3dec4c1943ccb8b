"""Tools of a checkout: the commands beside training, parity, benchmarks."""
