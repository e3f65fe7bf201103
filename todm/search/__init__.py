"""Search of specs: NSGA-II over word error rate, size and device objectives, within limits."""
