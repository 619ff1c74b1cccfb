"""Trackers: where a run's figures go beside its directory, such as trackio, Weights & Biases, TensorBoard."""
