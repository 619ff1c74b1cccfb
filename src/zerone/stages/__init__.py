"""Stages: what the commands run, put together from the loops."""
