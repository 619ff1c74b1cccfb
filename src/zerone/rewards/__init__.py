"""Rewards: verifiers, format, what a response reflects on, and their total."""
