"""What may still be kept beside what has been kept already: duplicates, caps and the mix.

In: drafts one by one, in a fixed order. Out: a reason against each, or None. The memory of a sieve
follows from the records that were kept, so that a run that goes on builds it again from its file.

Near duplicates are looked for among the answers to one prompt: their resemblance is the Jaccard
index of the sets of five units (words, signs, Chinese characters), estimated by MinHash (Broder 1997)
with 128 hashes, standard error 0.03 at 0.9. 128 numbers a sample are kept, not its text.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerone.curation.drafts import GENERAL, Draft, domain_of
from zerone.curation.filters import Reason

Signature = NDArray[np.uint64]

_NUM_HASHES = 128
_SHINGLE = 5
_UNIT = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]|_")
_LARGEST_PRIME = np.uint64(2**31 - 1)
_RNG = np.random.default_rng(0)
# Below 2**31, so that a product of two fits 64 bits.
_FACTORS = _RNG.integers(1, 2**31 - 1, _NUM_HASHES, dtype=np.uint64)
_OFFSETS = _RNG.integers(0, 2**31 - 1, _NUM_HASHES, dtype=np.uint64)


class Sieve:
    """Admits drafts; `cap` is the most per prompt, `ratio` the most reasoning per general sample.

    A ratio of None is no limit. As the mix is kept at any moment, general drafts come first.
    """

    def __init__(self, *, cap: int, similarity: float, ratio: float | None = None) -> None:
        self._cap = cap
        self._similarity = similarity
        self._ratio = ratio
        self._texts: set[bytes] = set()
        self._kept: defaultdict[bytes, list[Signature]] = defaultdict(list)
        self._num_by_domain: Counter[str] = Counter()

    def reason_against(self, draft: Draft) -> Reason | None:
        """Return why a draft cannot be kept beside the others; None keeps and remembers it."""
        prompt, text = draft.problem.prompt, draft.text
        if _key(prompt, text) in self._texts:
            return Reason.DUPLICATE
        signature = signature_of(text)
        others = self._kept[_key(prompt)]
        if any(resemblance(signature, other) >= self._similarity for other in others):
            return Reason.NEAR_DUPLICATE
        if len(others) >= self._cap:
            return Reason.OVER_CAP
        domain = domain_of(draft.problem)
        if domain != GENERAL and not self.has_room:
            return Reason.OVER_MIX
        self._add(prompt, text, domain, signature)
        return None

    @property
    def has_room(self) -> bool:
        """Whether the mix leaves room for another sample of reasoning."""
        if self._ratio is None:
            return True
        num_general = self._num_by_domain[GENERAL]
        return self._num_by_domain.total() - num_general + 1 <= self._ratio * num_general

    def remember(self, record: Mapping[str, Any]) -> None:
        """Take up what was kept before an interruption."""
        self._add(
            record["prompt"], record["completion"], record["domain"], signature_of(record["completion"])
        )

    def _add(self, prompt: str, text: str, domain: str, signature: Signature) -> None:
        self._texts.add(_key(prompt, text))
        self._kept[_key(prompt)].append(signature)
        self._num_by_domain[domain] += 1


def _key(*texts: str) -> bytes:
    """Return a digest of texts; case and white space do not count."""
    digest = hashlib.blake2b(digest_size=12)
    for text in texts:
        digest.update(" ".join(text.casefold().split()).encode("utf-8", "surrogatepass") + b"\0")
    return digest.digest()


def signature_of(text: str) -> Signature:
    """Return the MinHash signature of a text."""
    units = _UNIT.findall(text.casefold())
    shingles = {"\0".join(units[i : i + _SHINGLE]) for i in range(max(1, len(units) - _SHINGLE + 1))}
    hashes = np.array(
        [
            int.from_bytes(hashlib.blake2b(s.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")
            for s in shingles
        ],
        dtype=np.uint64,
    )
    smallest = np.full(_NUM_HASHES, np.iinfo(np.uint64).max, dtype=np.uint64)
    # In pieces, as a long thought times 128 hashes is large.
    for start in range(0, len(hashes), 4096):
        part = (hashes[start : start + 4096, None] % _LARGEST_PRIME * _FACTORS + _OFFSETS) % _LARGEST_PRIME
        smallest = np.minimum(smallest, part.min(axis=0))
    return smallest


def resemblance(a: Signature, b: Signature) -> float:
    """Return the estimated Jaccard index of the texts behind two signatures."""
    return float((a == b).mean())
