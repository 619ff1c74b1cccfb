"""The few words of the corpus, in English and Chinese."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a solution says between its calculations."""

    yes: str
    no: str
    wait: str
    maybe: str
    again: str
    check: str
    wrong: str
    problem: str
    result: str
    opening: str
    boxed: str
    guesses: tuple[str, ...]

    def hasty(self, rng: Random) -> str:
        """Return one of the phrases that announce a guess, with a place for it."""
        return rng.choice(self.guesses)


WORDS = {
    "en": Words(
        yes="yes",
        no="no",
        wait="wait",
        maybe="maybe",
        again="but start again",
        check="check",
        wrong="wrong",
        problem="Problem",
        result="Result",
        opening="I work this out step by step.",
        boxed="The answer is \\boxed{{{}}}.",
        guesses=("maybe {}", "I think {}", "this looks like {}", "easy, it is {}"),
    ),
    "zh": Words(
        yes="对",
        no="不对",
        wait="等等",
        maybe="也许",
        again="再来一遍",
        check="检查",
        wrong="错",
        problem="题目",
        result="结果",
        opening="我一步一步来算。",
        boxed="答案是\\boxed{{{}}}。",
        guesses=("也许{}", "我想是{}", "看起来是{}"),
    ),
}
