"""Remembers the keys and values of the latest prompts, as prompts of one server begin alike.

All have the template in common, and each turn of a chat begins with the turn before it. What a new prompt
shares with one of the remembered is not computed again.

Dimensions: T tokens, K key/value heads, E head size.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

from zerone.model.packed import common_prefix

Ids = tuple[int, ...]

MAX_TOKENS = 4096
"""Of all remembered prompts; one that is longer is not remembered."""
_WORTHWHILE = 16
"""A shorter common beginning is computed again: fetching it would cost as much."""


class PromptMemory:
    """The latest prompts, the oldest first; used by one thread."""

    def __init__(self, nothing: list[Tensor], max_tokens: int = MAX_TOKENS) -> None:
        """Begin with the keys and values of no token."""
        self._nothing = nothing
        self._max_tokens = max_tokens
        self._known: OrderedDict[Ids, list[Tensor]] = OrderedDict()

    def beginning(self, prompts: Sequence[Ids]) -> tuple[Ids, list[Tensor]]:
        """Return what all prompts begin with, as far as it is known, and its [T, 2K, E] per layer.

        Every prompt keeps a token to be computed. Nothing is returned for what is not worthwhile.
        """
        alike = {known: common_prefix([*prompts, known]) for known in self._known}
        known = max(alike, key=lambda known: len(alike[known]), default=())
        if len(alike.get(known, ())) < _WORTHWHILE:
            return (), self._nothing
        self._known.move_to_end(known)
        return alike[known], [layer[: len(alike[known])] for layer in self._known[known]]

    def remember(self, prompt: Ids, kv: list[Tensor]) -> None:
        """Take a prompt in, and let the oldest go where they have no room beside it."""
        if len(prompt) > self._max_tokens:
            return
        for known in [known for known in self._known if known == prompt[: len(known)]]:
            del self._known[known]  # what it holds, the new one holds as well
        # Copies, as these may be parts of what was computed for many prompts at once.
        self._known[prompt] = [layer.clone() for layer in kv]
        while sum(map(len, self._known)) > self._max_tokens:
            self._known.popitem(last=False)
