"""A note beside a run's figures: that other processes need the cores, and what it costs.

In: what others took since the last note. Out: a sentence, or "" on a machine of one's own.
"""

import torch

from zerone.processes.sharing import Watch, sentence

_SHORTEST_S = 2.0
"""Between two looks: what comes and goes within a second is not worth a word."""


class MachineNote:
    """Watches from when it is made; asked after each step."""

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = watch or Watch(shortest_s=_SHORTEST_S)

    def told(self) -> str:
        """Return what is to be said now."""
        return sentence(self._watch.look(), torch.get_num_threads(), is_at_work=True)
