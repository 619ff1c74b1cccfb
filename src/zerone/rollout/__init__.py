"""Rollout engines: prompts and seeds in, rollouts out."""
