"""What gives preference rewards in a run: reward models from disk, or endpoints that judge by a rubric.

In: a configuration, whose `reward.helpfulness_model` and `reward.safety_model` are directories or
`http://HOST:PORT/v1#MODEL`. Out: what judges each kind, tried once, so that a run stops here and not
after hours.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from zerone.config import Config
from zerone.data.preferences import Kind
from zerone.errors import ConfigError, ModelError
from zerone.reward_model.by_endpoint import SCHEMES, RubricRewards, judge_endpoint
from zerone.reward_model.scorer import RewardModel, load_reward_model


class Rewarding(Protocol):
    """What judges general requests of one kind."""

    @property
    def sha256(self) -> str:
        """The hash of all that decides the rewards."""
        ...

    def rewards(self, responses: Sequence[tuple[str, str]]) -> Sequence[float | None]:
        """Return a reward from 0 to 1 for each (prompt, response), None where there is no verdict."""
        ...


def open_reward_models(config: Config) -> Mapping[str, Rewarding]:
    """Return what judges each kind; raises ModelError for a model that judges something else."""
    named: dict[Kind, str | None] = {
        "helpfulness": config.reward.helpfulness_model,
        "safety": config.reward.safety_model,
    }
    if config.reward.preference and not any(named.values()):
        raise ConfigError(
            f"reward.preference={config.reward.preference} needs reward.helpfulness_model or "
            "reward.safety_model, made by `zerone reward-model train`"
        )
    return {kind: _open(kind, where, config.seed) for kind, where in named.items() if where is not None}


def _open(kind: Kind, where: str, seed: int) -> Rewarding:
    if where.startswith(SCHEMES):
        judge = RubricRewards(endpoint=judge_endpoint(where, f"reward.{kind}_model"), kind=kind, seed=seed)
        judge.check()
        return judge
    return _load(kind, where)


def _load(kind: Kind, where: str) -> RewardModel:
    found = load_reward_model(Path(where))
    if found.kind != kind:
        raise ModelError(
            f"reward.{kind}_model={where} judges {found.kind}; train one of {kind} by "
            "`zerone reward-model train`"
        )
    return found
