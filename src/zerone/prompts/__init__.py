"""Prompt templates and completion parsing."""
