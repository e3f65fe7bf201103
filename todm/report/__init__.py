"""What a run folder says, on one page: the size ladder, plots, parity, commands."""
