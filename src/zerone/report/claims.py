"""What a page may say of a run's reward: sentences made from every part that has a weight.

In: the record of a run. Out: phrases and sentences. A page that says what a reward does not name must
have looked at all of it: DAPO's punishment names length, and a function or a reward model may name anything.
"""

from collections.abc import Sequence

from zerone.report.record import RunRecord

PARTS = {
    "accuracy": "for correct answers",
    "format": "for correct formatting",
    "language": "for reasoning in the problem's language",
    "repetition": "against repeated strings",
    "overlong": "against completions near the longest length",
    "user": "by the user's own function",
    "preference": "by reward models",
}
"""What a part of the reward is for; its keys are those of `RewardWeights`."""

_UNKNOWN = {"user": "the user's own function", "preference": "the reward models"}
NOT_RECORDED = "a reward that was not recorded"


def weights(record: RunRecord) -> dict[str, float]:
    """Return the weights of the reward's parts that count."""
    found = {part: weight for part in PARTS if (weight := record.setting(f"reward.{part}"))}
    functions = record.setting("reward.functions") or ()
    return found | {one["name"]: one["weight"] for one in functions if one["weight"]}


def written_weights(record: RunRecord) -> str:
    """Write the weights as 1 for accuracy and 0.1 for format; empty where none is recorded."""
    return listed([f"{weight:g} for {part}" for part, weight in weights(record).items()])


def reward_of(record: RunRecord) -> str:
    """Say what the reward is for, as the subject of a sentence in lower case."""
    parts = [PARTS.get(part, f"by the user's function {part}") for part in weights(record)]
    return f"a reward {listed(parts)}" if parts else NOT_RECORDED


def length_claim(record: RunRecord) -> str:
    """Say whether the reward names length."""
    counting = weights(record)
    if "overlong" in counting:
        return "the reward penalizes completions near the longest length"
    return _unless_unknown(counting, "length", "the reward does not name length")


def reflection_claim(record: RunRecord) -> str:
    """Say whether the reward names words of reflection."""
    return _unless_unknown(weights(record), "them", "the reward does not name them")


def _unknown(counting: dict[str, float]) -> str:
    """List the parts of which nothing says what they reward."""
    named = [part for part in PARTS if part not in _UNKNOWN]
    return listed(
        [_UNKNOWN.get(part, f"the user's function {part}") for part in counting if part not in named]
    )


def _unless_unknown(counting: dict[str, float], what: str, claim: str) -> str:
    if unknown := _unknown(counting):
        return f"whether {unknown} reward {what} is not known here"
    return claim if counting else "what the reward names is not recorded"


def thinking_claims(record: RunRecord) -> str:
    """Say what the reward names of length, reflection and ways of thinking, and what it does not."""
    counting = weights(record)
    if not counting:
        return "What the reward names is not recorded."
    found = []
    if "overlong" in counting:
        found.append(
            "Long completions were penalized, so the curve of the length is in part what was rewarded."
        )
    if "language" in counting:
        found.append("The language of the reasoning was rewarded.")
    if "repetition" in counting:
        found.append("Repeated strings were penalized.")
    if unknown := _unknown(counting):
        return " ".join([*found, f"What {unknown} reward is not known here; it may be length or words."])
    unnamed = [] if "overlong" in counting else ["length"]
    ways = "any other way of reasoning" if found else "any way of reasoning"
    cause = "correct answers" if "accuracy" in counting else "training"
    claim = f"No part of the reward names {listed([*unnamed, 'reflection', ways], 'or')}"
    return " ".join([*found, f"{claim}; what the curves show of these came with {cause}."])


def listed(parts: Sequence[str], word: str = "and") -> str:
    """Write parts as a list in a sentence."""
    return f" {word} ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
