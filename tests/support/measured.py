"""A small run in this process, and how much its memory grew from the loaded model to its peak.

`python measured.py rl|sft RUN key=value ...` prints one JSON object: bytes, rows, mean length of completions.
"""

import gc
import json
import sys
from pathlib import Path
from typing import Any

from zerone.config import build_config
from zerone.jobs.rl import run_zero
from zerone.jobs.sft import run_sft
from zerone.runs.directory import RunDir


class Silent:
    """Shows nothing, and weighs the process once the model is loaded and nothing is computed yet."""

    loaded = 0

    def start(self, *given: Any) -> None:
        gc.collect()
        self.loaded = memory("VmRSS")

    def step(self, *given: Any) -> None:
        pass

    def evaluation(self, *given: Any) -> None:
        pass


def memory(name: str) -> int:
    """Return a line of this process's status in bytes: `VmRSS` now, `VmHWM` at most."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name}")


def main() -> None:
    kind, folder, *overrides = sys.argv[1:]
    config, run, display = build_config({}, overrides), RunDir(Path(folder)), Silent()
    if kind == "rl":
        run_zero(config, run, False, display)
        metrics = run.read_metrics()
        sampled = sum(line["num_sampled_tokens"] for line in metrics)
        length = sampled / len(metrics) / config.rl.problems_per_step / config.rl.group_size
        rows = 0
    else:
        summary = run_sft(config, run, False, display)
        rows = summary["num_trained"]
        length = summary["num_trained_tokens"] / rows / config.sft.epochs
    print(json.dumps({"growth": memory("VmHWM") - display.loaded, "length": length, "rows": rows}))


if __name__ == "__main__":
    main()
