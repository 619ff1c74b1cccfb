"""Verifier for mathematics."""
