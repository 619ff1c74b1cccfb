"""zerone: the DeepSeek-R1 training system, complete and open."""

__version__ = "0.1.0"
