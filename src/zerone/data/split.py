"""Train and evaluation problems are disjoint by construction.

A problem's key (what makes two problems the same question) is hashed; one bucket in sixteen is
for evaluation. No list of held-out problems exists, so none can go stale.
"""

from typing import Literal

from zerone.seeding import seed_from

Split = Literal["train", "eval"]
EVAL_BUCKETS = 16


def split_of(key: str) -> Split:
    """Return the split that owns the problem with this key."""
    return "eval" if seed_from("split", key) % EVAL_BUCKETS == 0 else "train"
