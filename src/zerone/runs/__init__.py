"""Run directories: start, resume, checkpoints, lineage."""
