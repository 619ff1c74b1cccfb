"""Evaluation: suites, estimators, confidence intervals."""
