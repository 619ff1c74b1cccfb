"""The continuous-batching engine in PyTorch."""
