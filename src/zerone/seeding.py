"""Seeds as functions of what they are for, so that no draw depends on the order of work.

In: any tuple of numbers and strings that names a draw, such as (run seed, step, problem, sample).
Out: an integer or a `random.Random`. BLAKE2 is used because `hash()` is salted in each process.
"""

import hashlib
import random


def seed_from(*parts: int | str) -> int:
    """Return a 63-bit integer that depends on every part and on their order.

    Parts are told apart by their types and by `;`, so texts that hold `;int:` or `;str:` can
    collide with others; names of draws do not.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        text = f"{type(part).__name__}:{part};"
        digest.update(text.encode())
    return int.from_bytes(digest.digest(), "big") >> 1


def rng_from(*parts: int | str) -> random.Random:
    """Return a generator of its own for the draw that `parts` names."""
    return random.Random(seed_from(*parts))
