"""Report of a run folder: one HTML page, size ladder, manifest of the bundles, model cards."""
