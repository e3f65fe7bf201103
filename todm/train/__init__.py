"""Training: the step and the loop, and what they stand on (optimiser, checkpoints, average, sync ...)."""
