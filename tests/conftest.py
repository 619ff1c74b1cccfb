"""What every test runs under: one thread, no network, and hypothesis without a clock."""

import gc
import os
import signal

import zerone  # noqa: F401 - before torch, which reads once how threads wait

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import Phase, settings

if TYPE_CHECKING:
    from serving import Live

# The models are tiny: a second thread costs more than it brings and would make timings depend on
# what else runs. No deadline and fixed examples: a test that passes passes again. Explaining a
# failure takes a minute where an example takes milliseconds, so only the example is shown.
torch.set_num_threads(1)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the programs that tests start would ignore it
settings.register_profile(
    "zerone",
    deadline=None,
    derandomize=True,
    max_examples=100,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
settings.load_profile("zerone")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Take back the threads that a run in this process has taken: with them sums round otherwise."""
    torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Spare the collector the modules and tests that are all loaded now and stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def closed_group() -> Iterator[None]:
    """Close the process group that a trainer has opened: a process that is forked later would inherit it."""
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Live]":
    """A live server of the embedded model with a key, shared as it takes seconds to start."""
    from serving import live_server

    with live_server(tmp_path_factory.mktemp("serve")) as live:
        yield live


@pytest.fixture(scope="session")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Live]":
    """The same without a key."""
    from serving import live_server

    with live_server(tmp_path_factory.mktemp("serve-open"), key=None) as live:
        yield live
