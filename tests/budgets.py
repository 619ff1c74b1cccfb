"""The order of the modules, how large code may be, and every exception with its reason.

`test_structure.py` enforces this file. An exception that is no longer needed fails the test, so
this list can only describe the code as it is. Raise a budget here only with a reason that a
reader of the code would accept; usually the better change is a smaller function.
"""

FLOW = (
    "errors",
    "escaping",
    "files",
    "seeding",
    "types",
    "device",
    "intervals",
    "identity",
    "processes",
    "config",
    "hub",
    "prompts",
    "data",
    "problems",
    "corpus",
    "model",
    "engine",
    "runs",
    "trackers",
    "sandbox",
    "rewards",
    "train",
    "planning",
    "pretrain",
    "evals",
    "reward_model",
    "jobs",
    "curation",
    "pipeline",
    "report",
    "export",
    "view",
    "serve",
    "cli",
)
"""A module imports only from modules before it; the map in docs/architecture.md shows the same order."""

FIRST = ("processes/waiting",)
"""What `zerone/__init__.py` imports, as it has to run before anything else; it imports nothing itself."""

MAX_FUNCTION_LINES = 50
MAX_LOOP_LINES = 100
LOOPS = ("train/loop.py", "train/sft.py", "pretrain.py", "reward_model/training.py", "stages/")
"""Where the functions are that read as the paper's pseudo-code, and may be longer for it."""

MAX_PARAMETERS = 8
MAX_FILE_LINES = 600
MAX_OPTIONS = 135

RUNS_INSIDE = ("sandbox/runner.py", "sandbox/template_process.py")
"""Files that are text for a sandbox, imported by nothing: only they may run what a model wrote."""

FORBIDDEN_NAMES = frozenset(
    {"util", "utils", "helper", "helpers", "common", "manager", "base", "misc", "core"}
)
"""Module names that say nothing about what is inside."""

EXCEPTIONS: dict[str, str] = {
    "cli/eval.py:model: lines": "half of them are the flags of `zerone eval` with their help",
    "cli/eval.py:model: parameters": "the flags of `zerone eval`, which typer reads from the signature",
    "cli/plan.py:plan: lines": "most of them are the flags of `zerone plan` with their help",
    "cli/plan.py:plan: parameters": "the flags of `zerone plan`, which typer reads from the signature",
    "cli/serve.py:serve: parameters": "the flags of `zerone serve`, read from the signature",
}
"""What exceeds a budget -> why. Keys as the test prints them: `train/optim.py:Muon.step: lines`."""
