"""From a corpus folder to batches of log-mel features and labels."""
