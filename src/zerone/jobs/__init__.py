"""Jobs: what the training and evaluation commands run."""
