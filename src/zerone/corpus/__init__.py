"""The corpus of the embedded base model: what its documents are, and their tokenizer."""
