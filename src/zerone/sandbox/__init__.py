"""Untrusted programs, run under hard limits and judged by values that never go inside.

Usable alone: `zerone sandbox run PROGRAM.py --tests TESTS.json`, `zerone sandbox doctor`.
"""
