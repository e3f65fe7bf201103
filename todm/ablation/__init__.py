"""Grids of trainings that differ in one thing each: planned, run, measured, compared."""
