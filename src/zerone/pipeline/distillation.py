"""Distillation as stages: the teacher's samples, and for each student what is compared (R1 paper, 2.4).

In: a teacher and students. Out: stages for a graph. Each student's base is trained twice, by SFT on the
teacher's samples (NAME_distilled) and by reinforcement learning (NAME_direct_rl) with the same compute;
on request the distilled one goes on under the teacher's eyes (NAME_on_policy). The last stage measures
them all.

Compute is counted in floating-point operations, 2 per parameter and token for a forward pass and 4 more
for a backward one; what the teacher's samples cost is not counted, as they serve all students. Clocks
would make the number of steps depend on the machine.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from zerone.config import Config
from zerone.config.sections import RLConfig
from zerone.curation.settings import make_rejection_samples
from zerone.engine.opening import open_loaded_engine
from zerone.errors import RunDirError
from zerone.files import read_json
from zerone.jobs.data import data_of
from zerone.jobs.ranked import open_teacher
from zerone.jobs.rl import prompt_encoder
from zerone.model.loading import (
    Model,
    load_model,
    quiet_transformers,
    read_model_files,
)
from zerone.pipeline import curation_stage, rl_stage, sft_stage
from zerone.pipeline.comparison import COMPARED, compare_students, comparison_estimate
from zerone.pipeline.estimates import rl_estimate, sft_estimate
from zerone.pipeline.graph import Source, Stage, StageDisplay, StageInputs, with_inputs
from zerone.pipeline.rl_stage import BASE_MODEL, PROBLEMS
from zerone.pipeline.students import base_stage
from zerone.processes.machine import DTYPES, keep_freed_memory, precision_for
from zerone.processes.threads import threads_for, use_threads
from zerone.runs.directory import RunDir, write_atomically
from zerone.runs.records import RECORD_NAME, Records
from zerone.train.advantage import credit
from zerone.train.distill import OnPolicyDistillation, check_same_vocabulary
from zerone.train.loop import Clock, collect
from zerone.types import Credited

SAMPLES = "teacher_samples"
_DISTILLED = "_distilled"
_FORWARD, _BACKWARD = 2, 4
_MUCH = 0.4
"""Share of a budget."""


def distillation_stages(
    teacher: str | Source,
    students: Sequence[str],
    given: Mapping[str, Source] | None = None,
    *,
    on_policy: bool = False,
) -> tuple[Stage, ...]:
    """Return all stages from a teacher's samples to the comparison.

    `given` are students whose base is there already, by name; all others are made (students.py).
    """
    bases: dict[str, str | Source] = dict(given or {})
    stages = [_samples_stage(teacher)]
    for name in students:
        if name not in bases:
            stages.append(base_stage(name))
            bases[name] = f"{name}_pretrained.student"
        stages += [_distilled_stage(name, bases[name]), _direct_stage(name, bases[name])]
        if on_policy:
            stages.append(_on_policy_stage(name, teacher))
    return (*stages, _comparison_stage(teacher, bases, on_policy))


def refuse_other_models(
    directory: Path, teacher: Source, stages: Sequence[str], configs: Mapping[str, Config]
) -> None:
    """Raise RunDirError where a directory holds samples of another teacher, or students not among `stages`.

    Going on would throw the samples away, and with them every student that learnt from them.
    """
    lines = []
    known = Records(directory).read(SAMPLES)
    before = "" if known is None else known.made_from.get("inputs", {}).get("model", "")
    now = teacher.lineage(configs[SAMPLES]).node.sha256
    if before and before != now:
        lines.append(f"  teacher: sha256 {before[:12]}  (now: {now[:12]}, {teacher.path})")
    begun = sorted(path.parent.name for path in directory.glob(f"*{_DISTILLED}/{RECORD_NAME}"))
    gone = [name.removesuffix(_DISTILLED) for name in begun if name not in stages]
    if gone:
        lines.append(f"  students that are not named now: {', '.join(gone)}")
    if lines:
        raise RunDirError(
            f"{directory} was started with other models:\n" + "\n".join(lines) + "\nGo on with its teacher "
            "and all of its students (others may be added), or choose another --run-dir"
        )


def in_teachers_prompt(stage: str) -> bool:
    """Whether a stage asks as the teacher is asked; bases and their RL keep to what bases know."""
    return not stage.endswith(("_pretrained", "_direct_rl"))


# The teacher's samples ----------------------------------------------------------------------------


def _samples_stage(teacher: str | Source) -> Stage:
    return Stage(
        name=SAMPLES,
        makes="right and readable answers of the teacher",
        run=_run_samples,
        inputs={"model": teacher, "problems": PROBLEMS},
        outputs=("data", "summary"),
        options=curation_stage.OPTIONS,
        estimate=curation_stage.curation_estimate,
        revision=3,
    )


def _run_samples(
    inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    path = directory / "samples.jsonl"
    card = make_rejection_samples(with_inputs(inputs), path, display.progress)
    return {"data": path, "summary": curation_stage.write_counts(directory, SAMPLES, card)}


# SFT on them --------------------------------------------------------------------------------------


def _distilled_stage(name: str, base: str | Source) -> Stage:
    return Stage(
        name=f"{name}_distilled",
        makes=f"{name} by SFT on the teacher's samples",
        run=_run_distilled,
        inputs={"model": base, "data": f"{SAMPLES}.data"},
        outputs=("student", "compute"),
        options=sft_stage.OPTIONS,
        estimate=sft_estimate(300_000),
    )


def _run_distilled(
    inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    made = sft_stage.run_sft_stage(inputs, directory, resume, display)
    num_tokens = sum(line["num_tokens"] for line in RunDir(directory).read_metrics())
    flops = (_FORWARD + _BACKWARD) * _num_parameters(made["model"]) * num_tokens
    path = _write_compute(directory, flops)
    return {"student": made["model"], "compute": path}


def _num_parameters(path: Path) -> int:
    with quiet_transformers():
        module = load_model(str(path), torch.float32).module
    return sum(parameter.numel() for parameter in module.parameters())


def _write_compute(directory: Path, flops: int) -> Path:
    path = directory / "compute.json"
    write_atomically(path, json.dumps({"flops": flops}, indent=2) + "\n")
    return path


# Reinforcement learning with the same compute -----------------------------------------------------


_DIRECT_OPTIONS = (
    *(option for option in rl_stage.OPTIONS if option != "rl"),
    *(f"rl.{name}" for name in RLConfig.model_fields if name != "steps"),
)
"""The budget says how many steps are made, not `rl.steps`, and a lineage must not say otherwise."""


def _direct_stage(name: str, base: str | Source) -> Stage:
    return Stage(
        name=f"{name}_direct_rl",
        makes=f"{name} by RL alone, with the compute of its SFT",
        run=_run_direct,
        inputs={"model": base, "problems": PROBLEMS, "budget": f"{name}_distilled.compute"},
        outputs=("student", "prompts", "compute"),
        options=_DIRECT_OPTIONS,
        estimate=rl_estimate,
        revision=3,
    )


def _run_direct(
    inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    """Train until the compute of the SFT is spent, to a step or two.

    A quarter of the steps is planned at the price of the first one, the others in two or three parts at
    that of those made: answers grow, or groups come to agree, as it learns. A plan is a function of what
    is recorded, so a stage that was killed makes the same ones.
    """
    config, run = with_inputs(inputs), RunDir(directory)
    with quiet_transformers():
        model = load_model(config.model.path, torch.float32)
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    budget = read_json(inputs.paths["budget"])["flops"] / parameters
    if run.has_run:
        num_steps = int(run.read_config()["rl"]["steps"])
    else:
        num_steps = max(1, int(budget / work_of_step(_first_groups(config, model), config) / 4))
    while True:
        planned = config.rl.model_copy(update={"steps": num_steps})
        of_stage = StageInputs(config=inputs.config.model_copy(update={"rl": planned}), paths=inputs.paths)
        made = rl_stage.run_rl(of_stage, directory, resume or run.has_run, display)
        spent = _work_by_step(run, config)
        if (more := steps_left(budget, spent)) < 1:
            break
        num_steps += more
    compute = _write_compute(directory, parameters * sum(spent))
    return {"student": made["model"], "prompts": made["prompts"], "compute": compute}


def steps_left(budget: float, spent: Sequence[int]) -> int:
    """Return how many more steps to make before the next plan: 0 once a budget is spent.

    Half of what is left buys, at the mean price of the later half of the steps made, while that is
    much; the price may still change.
    """
    later = spent[len(spent) // 2 :]
    price, left = sum(later) / len(later), budget - sum(spent)
    bought = round(left / price) if price else 0
    return (bought + 1) // 2 if left > _MUCH * budget else bought


def _first_groups(config: Config, model: Model) -> list[Credited]:
    """Return what the first step will sample."""
    keep_freed_memory()
    use_threads(threads_for(config.model.threads))
    engine = open_loaded_engine(model, config.sampling.slots, config.model.precision)
    groups = collect(config, engine, data_of(config).mixture, prompt_encoder(config, model), 0, Clock())
    return credit(groups, config.advantage.scale)


def work_of_step(groups: Sequence[Credited], config: Config) -> int:
    """Return the operations per parameter of a step; a group's prompt is computed once."""
    work = 0
    for credited in groups:
        rollouts = [graded.rollout for graded in credited.group.members]
        num_tokens = len(rollouts[0].prompt_ids) + sum(len(rollout.completion_ids) for rollout in rollouts)
        work += _work_of_group(num_tokens, credited.has_signal, config)
    return work


def _work_of_group(num_tokens: int, has_signal: bool, config: Config) -> int:
    """Return the operations per parameter: all is sampled, and trained on if anything is learnt from it.

    A KL term and a critic learn from groups without signal too. The KL's reference is of the policy's size
    and has a forward pass wherever the policy is trained. PPO's critic, of that size as well, is trained
    beside the policy and values all tokens before the updates; the KL of the reward is computed there.
    """
    has_reference, has_critic = config.loss.kl_coef > 0, config.rl.algorithm == "ppo"
    work = _FORWARD
    if has_signal or has_reference or has_critic:
        num_trained = 2 if has_critic else 1
        work += config.rl.epochs * (num_trained * (_FORWARD + _BACKWARD) + has_reference * _FORWARD)
    if has_critic:
        work += _FORWARD * (1 + has_reference)
    return num_tokens * work


_GROUPS = (
    "SELECT step, length(g.prompt_ids) / 4 + sum(r.num_tokens) AS tokens, "
    "max(abs(r.advantage)) > 0 AS has_signal "
    "FROM groups g JOIN rollouts r USING (step, position) GROUP BY step, position ORDER BY step"
)
"""Tokens of a prompt are stored in four bytes each."""


def _work_by_step(run: RunDir, config: Config) -> list[int]:
    """Return the operations per parameter of each step on record."""
    work: dict[int, int] = {}
    for row in run.query(_GROUPS):
        cost = _work_of_group(row["tokens"], bool(row["has_signal"]), config)
        work[row["step"]] = work.get(row["step"], 0) + cost
    return list(work.values())


# On the student's own samples ---------------------------------------------------------------------


def _on_policy_stage(name: str, teacher: str | Source) -> Stage:
    return Stage(
        name=f"{name}_on_policy",
        makes=f"{name}, after SFT also on its own answers, by reverse KL to the teacher",
        run=_run_on_policy,
        inputs={"model": f"{name}_distilled.student", "teacher": teacher, "problems": PROBLEMS},
        outputs=("student", "prompts"),
        options=rl_stage.OPTIONS,
        estimate=rl_estimate,
    )


def _run_on_policy(
    inputs: StageInputs, directory: Path, resume: bool, display: StageDisplay
) -> Mapping[str, Path]:
    files = read_model_files(str(inputs.paths["teacher"]))
    check_same_vocabulary(read_model_files(str(inputs.paths["model"])), files)
    dtype = DTYPES[precision_for(files.config.hidden_size, inputs.config.model.precision)]
    algorithm = OnPolicyDistillation(open_teacher(str(inputs.paths["teacher"]), dtype))
    made = rl_stage.run_rl(inputs, directory, resume, display, algorithm)
    return {"student": made["model"], "prompts": made["prompts"]}


def require_one_tokenizer(
    teacher: Source, students: Mapping[str, Source | None], configs: Mapping[str, Config]
) -> None:
    """Raise ModelError, before any work, for a student whose tokenizer is not the teacher's.

    A student whose base is still to be made will have that of `model.path`.
    """
    judge = read_model_files(str(teacher.path))
    for name, base in students.items():
        path = configs[f"{name}_pretrained"].model.path if base is None else str(base.path)
        check_same_vocabulary(read_model_files(path), judge)


# The comparison -----------------------------------------------------------------------------------


def _comparison_stage(teacher: str | Source, bases: Mapping[str, str | Source], on_policy: bool) -> Stage:
    inputs: dict[str, str | Source] = {"larger": BASE_MODEL, "teacher": teacher, "problems": PROBLEMS}
    for name, base in bases.items():
        inputs |= {
            f"{name}_base": base,
            f"{name}_distilled": f"{name}_distilled.student",
            f"{name}_distilled_compute": f"{name}_distilled.compute",
            f"{name}_direct_rl": f"{name}_direct_rl.student",
            f"{name}_direct_rl_compute": f"{name}_direct_rl.compute",
        }
        if on_policy:
            inputs[f"{name}_on_policy"] = f"{name}_on_policy.student"
    return Stage(
        name="students",
        makes="scores of all students, before and after, and of larger bases",
        run=partial(compare_students, tuple(bases)),
        inputs=inputs,
        outputs=("summary",),
        options=COMPARED,
        estimate=comparison_estimate(2 + 3 * len(bases)),
        revision=3,
    )
