"""A language model behind HTTP in the place of a reward model.

In: the address of an endpoint with the name of its model, `http://HOST:PORT/v1#MODEL`; prompts and
responses. Out: rewards from 0 to 1 by a rubric (evals/rubric.py), None where there is no verdict. An
endpoint that fails costs the answers it did not judge, which are left out of training and counted; it
is left alone for a while, so that a run is not held up by pauses for every answer of a step.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from zerone.data.preferences import Kind, final_answer
from zerone.engine.remote import Endpoint, EndpointClient, ask_many, key_from_environment
from zerone.errors import ConfigError, EndpointError
from zerone.evals.rubric import HELPFULNESS_RUBRIC, SAFETY_RUBRIC, Rubric, share_of
from zerone.identity import sha256_of_value

SCHEMES = ("http://", "https://")
LEFT_ALONE_S = 60.0
"""How long an endpoint that failed is not asked: a step of a run may hold hundreds of answers."""

_TIMEOUT_S = 120.0
_TRIES = 4
_RUBRICS: dict[Kind, str] = {"helpfulness": HELPFULNESS_RUBRIC, "safety": SAFETY_RUBRIC}


def judge_endpoint(address: str, option: str) -> Endpoint:
    """Return the endpoint that `http://HOST:PORT/v1#MODEL` names; raises ConfigError without a model."""
    url, _, model = address.partition("#")
    if not model:
        raise ConfigError(f"{option}={address} does not say which model to ask; write it as {url}#MODEL")
    return Endpoint(url=url, model=model, api_key=key_from_environment(), timeout_s=_TIMEOUT_S, tries=_TRIES)


@dataclass(slots=True, kw_only=True)
class RubricRewards:
    """Rewards by a rubric, as a reward model gives them (see `RewardModel.rewards`)."""

    endpoint: Endpoint
    kind: Kind
    seed: int = 0
    left_alone_s: float = LEFT_ALONE_S
    _asked_again_at: float = field(default=0.0, init=False)

    @property
    def sha256(self) -> str:
        """What decides the rewards as far as it is known here; the address does not, as servers move."""
        return sha256_of_value([self.endpoint.model, self.kind, _RUBRICS[self.kind], self.seed])

    def check(self) -> None:
        """Have one answer judged; raises EndpointError where that does not work."""
        with EndpointClient(self.endpoint) as client:
            if self._rubric.points(client, "What is 2 + 2?", "4") is None:
                raise EndpointError(
                    f"{self.endpoint.model!r} at {self.endpoint.address} never ended a verdict "
                    "with the requested line (`Score MARK: N`); choose a model that follows instructions"
                )

    def rewards(self, responses: Sequence[tuple[str, str]]) -> list[float | None]:
        """Return a reward from 0 to 1 for each (prompt, response), or None where there is no verdict."""
        found: list[float | None] = [None] * len(responses)
        if time.monotonic() < self._asked_again_at:
            return found
        rubric = self._rubric

        def points(job: tuple[int, tuple[str, str]]) -> int | None:
            prompt, response = job[1]
            return rubric.points(client, prompt, self._judged_part(response))

        try:
            with EndpointClient(self.endpoint) as client:
                for (number, _), result in ask_many(client, enumerate(responses), points):
                    if isinstance(result, int):
                        found[number] = share_of(result)
        except EndpointError:
            self._asked_again_at = time.monotonic() + self.left_alone_s
        return found

    @property
    def _rubric(self) -> Rubric:
        return Rubric(text=_RUBRICS[self.kind], seed=self.seed)

    def _judged_part(self, response: str) -> str:
        """Return what a reward model of the kind reads: the final answer, or all of a response."""
        return final_answer(response) if self.kind == "helpfulness" else response
