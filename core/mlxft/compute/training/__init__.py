"""One training run: batches, loss, steps, checkpoints."""
