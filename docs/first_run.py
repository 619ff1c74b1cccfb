# %% [markdown]
# # R1-Zero in a notebook
#
# A small base model learns to reason by reinforcement learning alone, on two CPU cores in about eight
# minutes. Nothing is downloaded. Every value that shapes the run can be changed by an entry in `OVERRIDES`,
# as on the command line.

# %%
from importlib import resources
from pathlib import Path

from rich.console import Console

from zerone.cli.progress import TerminalDisplay
from zerone.config import build_config, read_recipe
from zerone.jobs.rl import run_zero
from zerone.runs.directory import RunDir

OVERRIDES: list[str] = []  # for example ["rl.steps=10", "seed=1"]
RUN = Path("runs/notebook")

recipe = Path(str(resources.files("zerone"))) / "recipes" / "zero.yaml"
config = build_config(read_recipe(recipe), OVERRIDES)
print(f"{config.rl.steps} steps of {config.rl.problems_per_step} problems x {config.rl.group_size} answers")

# %% [markdown]
# ## Train
#
# One line per step. A run is one directory; if this cell is interrupted, running it again goes on where it
# stopped.

# %%
run = RunDir(RUN)
with TerminalDisplay(Console(force_terminal=False), RUN) as display:
    summary = run_zero(config, run, resume=run.has_run, display=display)

# %% [markdown]
# ## Before and after
#
# Mean over samples, with 95% intervals, on problems that were not trained on.

# %%
for suite, base in summary["base"].items():
    for when, figures in (("base", base), ("trained", summary["final"][suite])):
        low, high = figures["pass_at_1_ci"]
        print(
            f"{suite:<6} {when:<8} pass@1 {figures['pass_at_1']:6.1%} [{low:.1%}, {high:.1%}]   "
            f"{figures['response_tokens']:4.0f} tokens   {figures['reflection_words']:.2f} reflection words"
        )

# %% [markdown]
# ## What it wrote
#
# Every answer of every step is in one SQLite file. The best answer of the first step beside that of the last:

# %%
BEST = """
SELECT g.prompt, r.text, r.reward, r.advantage FROM rollouts r
JOIN groups g ON g.step = r.step AND g.position = r.position
WHERE r.step = ? ORDER BY r.advantage DESC, r.num_tokens DESC LIMIT 1
"""
for step in (1, config.rl.steps):
    for row in run.query(BEST, (step,)):
        print(f"step {step}, reward {row['reward']:.1f}, advantage {row['advantage']:+.2f}")
        print(f"  {row['prompt']}\n{row['text']}\n")

# %% [markdown]
# ## Ask it
#
# The export is a plain transformers directory with the prompt of the training as its chat template.

# %%
from transformers import pipeline  # noqa: E402

from zerone.export.directory import fresh_directory, write_directory  # noqa: E402
from zerone.export.source import read_source  # noqa: E402

EXPORT = RUN / "export"
if not EXPORT.exists():
    with fresh_directory(EXPORT) as directory:
        write_directory(read_source(str(RUN)), directory, "notebook")
chat = pipeline("text-generation", model=str(EXPORT))
answer = chat([{"role": "user", "content": "Which three of the numbers 10, 9, 12 give 111?"}])
print(answer[0]["generated_text"][-1]["content"])
