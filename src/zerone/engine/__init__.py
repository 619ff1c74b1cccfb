"""Inference engines: sampling for training, evaluation and serving."""
