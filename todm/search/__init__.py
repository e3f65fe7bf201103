"""Which specs are worth shipping: NSGA-II over dev WER and parameters."""
