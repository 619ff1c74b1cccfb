"""Measures which share of a model's samples solves each problem, once, for curricula (data/pass_rates.py).

In: a configuration whose `data` names problems of the user's own, and a number of samples. Out: a JSONL
with a line for each training problem, and a card beside it with its hash and all that decided the rates.
Killed at any moment, the same command goes on after the last finished piece, and writes the same file.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zerone.config import Config
from zerone.curation.journal import Journal
from zerone.curation.sampler import ModelAtWork, opened_model
from zerone.curation.tally import KEPT, Tally
from zerone.data.pass_rates import SUFFIX, hash_of_problem
from zerone.engine.opening import check_engine
from zerone.errors import ConfigError
from zerone.identity import sha256_of_value
from zerone.jobs.data import data_at_any_time, sources_of
from zerone.prompts.r1 import Style, shown_examples, write_prompt
from zerone.rewards.total import RewardWeights, grade_all
from zerone.rewards.verifiers import prepare_verifiers
from zerone.train.loop import opened_by_prompt, rules_of, sampling_of
from zerone.types import Outcome, Problem, Rollout

Show = Callable[[float, str], None]

_SOURCE = "pass_rate"
_PIECE = 32
"""Problems of a piece of work: what an interruption loses."""


def path_beside(config: Config) -> Path:
    """Return where the rates of a local file or directory go; raises ConfigError for other sources."""
    given = config.data.path
    path = None if given is None else Path(given).expanduser()
    if path is None or not path.exists():
        raise ConfigError(
            f"{given or 'the data'} is not a file here that pass rates could lie beside; give --out FILE"
        )
    return path.with_name(path.name + SUFFIX)


def measure_pass_rates(config: Config, path: Path, num_samples: int, show: Show) -> dict[str, Any]:
    """Measure the training problems of a configuration and return the card; a finished file is kept."""
    unfiltered = config.data.model_copy(
        update={"pass_rates": None, "pass_rate_min": None, "pass_rate_max": None}
    )
    config = config.model_copy(update={"data": unfiltered})
    data = data_at_any_time(config)
    problems = list({problem.id: problem for problem in data.listed}.values())
    if not problems:
        raise ConfigError(
            "pass rates are of a fixed set of problems; name one by data.path or data.mixture (those of a "
            "family are generated without end)"
        )
    prepare_verifiers(data.verifiers)
    check_engine(config.engine)
    slots, m = config.sampling.slots, config.model
    with opened_model(m.path, sampling_of(config), slots, m, config.engine) as model:
        identity = _identity(config, problems, model, num_samples)
        journal = Journal(path, identity)
        if (card := journal.finished_card()) is not None:
            return card
        journal.open()
        try:
            pieces = [problems[start : start + _PIECE] for start in range(0, len(problems), _PIECE)]
            for number in range(journal.num_pieces, len(pieces)):
                records = _records(config, pieces[number], model, num_samples)
                journal.append(records, _tally(records))
                done = min((number + 1) * _PIECE, len(problems))
                show(done / len(problems), f"{done}/{len(problems)} problems")
            counts = journal.tally.dropped() | {"some solved": journal.tally.num_kept}
            card = {"made_by": identity, "problems": len(problems), "counts": counts}
            return journal.finish(card, _markdown(path.name, counts))
        finally:
            journal.close()


def _identity(
    config: Config, problems: Sequence[Problem], model: ModelAtWork, num_samples: int
) -> dict[str, Any]:
    """Return all that decides the rates, as JSON values."""
    s = config.sampling
    return {
        "what": "pass rates",
        "data": [source.title for source in sources_of(config).values()],
        "problems_sha256": sha256_of_value([hash_of_problem(problem) for problem in problems]),
        "model": config.model.path,
        "model_sha256": model.sha256,
        "samples": num_samples,
        "sampling": {"temperature": s.temperature, "max_tokens": s.max_tokens, "stop": list(s.stop)},
        "prompt": config.prompt.model_dump(),
        "seed": config.seed,
    }


def _records(
    config: Config, problems: Sequence[Problem], model: ModelAtWork, num_samples: int
) -> list[dict[str, Any]]:
    style, examples = Style(config.prompt.style), shown_examples(config.prompt.examples)
    opened = opened_by_prompt(config)
    requests = [
        model.request(
            problem,
            write_prompt(problem.prompt, examples, style) + opened,
            config.seed,
            _SOURCE,
            num_samples,
        )
        for problem in problems
    ]
    return [
        _record(config, problem, rollouts or (), opened)
        for problem, rollouts in zip(problems, model.answer(requests), strict=True)
    ]


def _record(config: Config, problem: Problem, rollouts: Sequence[Rollout], opened: str) -> dict[str, Any]:
    """Return the line of a problem; samples without a verdict are left out."""
    graded = grade_all(rollouts, RewardWeights(), opened, rules_of(config))
    judged = [one for one in graded if one.is_judged]
    correct = sum(one.outcome is Outcome.CORRECT for one in judged)
    return {
        "id": problem.id,
        "problem_sha256": hash_of_problem(problem),
        "pass_rate": correct / len(judged) if judged else None,
        "correct": correct,
        "judged": len(judged),
        "samples": len(rollouts),
    }


def _tally(records: Sequence[dict[str, Any]]) -> Tally:
    tally = Tally()
    for record in records:
        rate = record["pass_rate"]
        fates = {None: "without a verdict", 0.0: "never solved", 1.0: "always solved"}
        tally.add(_SOURCE, "all", fates.get(rate, KEPT))
    return tally


def _markdown(name: str, counts: dict[str, int]) -> str:
    rows = "".join(f"| {fate} | {count} |\n" for fate, count in counts.items())
    return f"# Pass rates: {name}\n\n| problems | number |\n|---|---|\n{rows}"
