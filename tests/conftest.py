"""What every test runs under: one thread, no network, and hypothesis without a clock."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from hypothesis import Phase, settings

# The models are tiny: a second thread costs more than it brings and would make timings depend on
# what else runs. No deadline and fixed examples: a test that passes passes again. Explaining a
# failure takes a minute where an example takes milliseconds, so only the example is shown.
torch.set_num_threads(1)
settings.register_profile(
    "zerone",
    deadline=None,
    derandomize=True,
    max_examples=100,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
settings.load_profile("zerone")
