"""Data for SFT made from a model's own answers: filters, refiners, cold start, rejection sampling."""
