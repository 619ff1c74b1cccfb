"""The engine of a child process, as a trainer or an evaluation uses it.

In: requests and weights. The weights go through a safetensors file and are known by their hash on both
sides; requests and events go through pipes (process.py). Submissions are decoded as in the trainer's own
process, so with the same precision and threads the completions are bit for bit the same. Every wait has
an end: a child that gives no sign of life is ended, and what it was at fails.
"""

import queue
import tempfile
from collections.abc import Sequence
from pathlib import Path

from zerone.engine.api import Event, Request, SamplingParams, Told, check_context, generate_with
from zerone.engine.process import EngineProcess, Patience
from zerone.engine.serving import EngineSpec
from zerone.engine.weights import WeightSource, write_weights
from zerone.errors import EngineError
from zerone.types import Rollout


class ChildEngine:
    """Samples in a process of its own, from the weights that it is sent."""

    def __init__(self, spec: EngineSpec, patience: Patience | None = None) -> None:
        self.weight_version = -1
        self.weight_hash = ""
        self._context = spec.context
        self._patience = patience or Patience()
        self._told: queue.SimpleQueue[list[tuple[Request, Event]]] = queue.SimpleQueue()
        self._folder = tempfile.TemporaryDirectory(prefix="zerone-weights-")
        self._process = EngineProcess(spec, self._patience)
        self._process.wait_until_ready()
        self._process.start(self._take)

    def update_weights(self, source: WeightSource, version: int) -> None:
        """Send the weights; raises EngineError unless the child has loaded what was sent."""
        path = Path(self._folder.name) / "weights.safetensors"
        self.weight_version = -1
        sent = write_weights(source, path)
        reply = self._process.ask({"load": [str(path), version]}, self._patience.load)
        path.unlink()
        if (reply["version"], reply["hash"]) != (version, sent):
            raise EngineError(
                f"the engine's process holds version {reply['version']} with hash {reply['hash'][:12]}, and "
                f"was sent version {version} with hash {sent[:12]}; resume the run"
            )
        self.weight_version, self.weight_hash = version, sent

    def sleep(self) -> None:
        """Have the child give up the weights until the next `update_weights`."""
        self._process.ask({"sleep": True}, self._patience.load)
        self.weight_version = -1

    def submit(self, requests: Sequence[Request]) -> None:
        """Send requests."""
        if self.weight_version < 0:
            raise AssertionError("update_weights comes before sampling")
        check_context(requests, self._context)
        self._process.submit(requests)

    def cancel(self, requests: Sequence[Request]) -> None:
        """Stop the work on these requests before the child's next step."""
        self._process.cancel(requests)

    @property
    def is_busy(self) -> bool:
        """Whether events are still to come or to be read."""
        return bool(self._process.num_open) or not self._told.empty()

    def events(self) -> list[tuple[Request, Event]]:
        """Await the next message, no longer than a child may be silent; return what it told."""
        try:
            return self._told.get(timeout=self._patience.lost)
        except queue.Empty:
            return []

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Rollout]]:
        """Return the rollouts of each request in the order of its seeds."""
        return generate_with(self, requests, sampling)

    def close(self) -> None:
        """End the child."""
        self._process.stop()
        self._folder.cleanup()

    def _take(self, told: Told) -> None:
        self._told.put(list(told))
