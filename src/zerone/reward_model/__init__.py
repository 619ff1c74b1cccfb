"""Reward models: what people would prefer, learned from pairs, and what is safe (R1 paper, 3.1)."""
