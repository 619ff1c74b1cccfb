"""Evaluation: suites, who answers, verdicts, estimators, intervals, comparisons."""
