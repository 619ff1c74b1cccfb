"""A machine on which no isolation backend works."""

import pytest

from zerone.rewards.code import local_executor


def break_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this a machine without bubblewrap and without user namespaces."""
    monkeypatch.setattr("zerone.sandbox.factory.bubblewrap_path", lambda: None)
    monkeypatch.setattr("zerone.sandbox.pool.BACKENDS", ("bubblewrap",))
    local_executor.cache_clear()
    monkeypatch.setattr("zerone.rewards.code.local_executor", local_executor.__wrapped__)
