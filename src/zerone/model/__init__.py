"""Models: loading and saving, one forward pass, padding-free batches."""
