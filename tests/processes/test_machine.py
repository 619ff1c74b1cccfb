"""What the machine does best is measured, not guessed, and asked for once."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from zerone.processes import machine
from zerone.processes.machine import Machine, Precision, choose, known_machine, measure_gflops, precision_for


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the cache at an empty place, on a machine that is idle."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    return tmp_path / "zerone" / "machine.json"


def forbid_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure() -> Machine:
        raise AssertionError("measured")

    monkeypatch.setattr(machine, "measure", measure)


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({("fp32", 1): 80, ("bf16", 1): 1, ("fp32", 2): 150, ("bf16", 2): 1}, ("fp32", 2)),
        ({("fp32", 1): 80, ("bf16", 1): 160, ("fp32", 2): 150, ("bf16", 2): 310}, ("bf16", 2)),
        # Not clearly faster: the exact and the parallel one stay.
        ({("fp32", 1): 80, ("bf16", 1): 90, ("fp32", 2): 150, ("bf16", 2): 180}, ("fp32", 2)),
        ({("fp32", 1): 160, ("bf16", 1): 1, ("fp32", 2): 150, ("bf16", 2): 1}, ("fp32", 2)),
        # Two threads of one core that get into each other's way.
        ({("fp32", 1): 160, ("bf16", 1): 1, ("fp32", 2): 90, ("bf16", 2): 1}, ("fp32", 1)),
    ],
)
def test_the_clearly_fastest_is_chosen(
    speeds: dict[tuple[Precision, int], float], expected: tuple[Precision, int]
) -> None:
    found = choose(speeds, cores=2)
    assert (found.precision, found.threads) == expected
    assert found.gflops[f"{expected[0]} x{expected[1]}"] == speeds[expected]


def test_a_machine_is_measured_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = known_machine()
    assert cache.is_file()
    assert max(first.gflops.values()) > 0
    forbid_measuring(monkeypatch)
    assert known_machine() == first


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"other processor": {}}', '{"KEY": {"threads": 2}}']
)
def test_a_cache_that_cannot_be_read_is_measured_anew(
    content: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Machine(precision="fp32", threads=1, gflops={"fp32 x1": 3.0})
    monkeypatch.setattr(machine, "measure", lambda: measured)
    known_machine()
    key = next(iter(json.loads(cache.read_text())))
    cache.write_text(content.replace("KEY", key.replace('"', "")))
    assert known_machine() == measured
    assert json.loads(cache.read_text())[key]["threads"] == 1


@pytest.mark.parametrize(
    ("width", "wanted", "expected"),
    [(128, "auto", "fp32"), (576, "auto", "bf16"), (128, "bf16", "bf16"), (576, "fp32", "fp32")],
)
def test_a_narrow_model_computes_in_fp32_also_where_bf16_is_faster(
    width: int, wanted: Any, expected: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = Machine(precision="bf16", threads=2, gflops={"fp32 x2": 326.0, "bf16 x2": 2656.0})
    monkeypatch.setattr(machine, "known_machine", lambda: fast)
    assert precision_for(width, wanted) == expected


def test_a_busy_machine_is_neither_measured_nor_remembered(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_measuring(monkeypatch)
    cores = machine.available_cores()
    monkeypatch.setattr(os, "getloadavg", lambda: (cores + 1.0, 0.0, 0.0))
    found = known_machine()
    assert (found.precision, found.threads, found.gflops) == ("fp32", cores, {})
    assert not cache.exists()


def test_a_home_that_cannot_be_written_costs_no_more_than_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    measured = Machine(precision="fp32", threads=1, gflops={})
    monkeypatch.setattr(machine, "measure", lambda: measured)
    assert known_machine() == measured


def test_measuring_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    assert measure_gflops("fp32", before + 1, seconds=0.01) > 0
    assert torch.get_num_threads() == before
