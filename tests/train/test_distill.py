"""On-policy distillation: the divergence, its estimate from single tokens, the loop, who may take part."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fakes import NUM_TOKENS, byte_tokenizer, tiny_model
from scripted import credited, member, talking_model, write_problems
from zerone.config import Config, build_config
from zerone.corpus.tokenizer import train_tokenizer
from zerone.errors import ModelError
from zerone.jobs.rl import run_zero
from zerone.model.loading import read_model_files, save_model
from zerone.runs.directory import RunDir
from zerone.train.batch import make_batches
from zerone.train.distill import (
    DistillObjective,
    OnPolicyDistillation,
    Sums,
    check_same_vocabulary,
    reverse_kl,
    sampled_reverse_kl,
)
from zerone.train.local import LocalTrainer
from zerone.train.shared_forward import SharedForward


def logits(seed: int, rows: int = 5, vocabulary: int = 11) -> Tensor:
    return 2 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


# The divergence -----------------------------------------------------------------------------------


def test_reverse_kl_is_what_torch_computes_with_the_arguments_swapped() -> None:
    student, teacher = logits(0), logits(1)
    expected = functional.kl_div(
        teacher.log_softmax(-1), student.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    torch.testing.assert_close(reverse_kl(student, teacher), expected)
    forward = functional.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    assert (reverse_kl(student, teacher) - forward).abs().min() > 1e-3, (
        "the other direction is another number"
    )


def test_reverse_kl_is_zero_for_equals_whatever_the_logits_level() -> None:
    student = logits(2)
    torch.testing.assert_close(reverse_kl(student, student + 3.0), torch.zeros(5), atol=1e-6, rtol=0)


def test_the_sampled_estimate_has_the_exact_value_and_gradient_on_average() -> None:
    """Enumerated over all tokens, so the average is exact: E[e] = KL and E[e * grad log p] = grad KL."""
    student, teacher = logits(3, rows=1).requires_grad_(), logits(4, rows=1)
    exact = reverse_kl(student, teacher).sum()
    (exact_gradient,) = torch.autograd.grad(exact, student)
    tokens = torch.arange(student.shape[1])
    rows = len(tokens)
    estimates = sampled_reverse_kl(student.expand(rows, -1), teacher.expand(rows, -1), tokens).detach()
    logprobs = student.log_softmax(-1)[0]
    torch.testing.assert_close((logprobs.exp() * estimates).sum(), exact)
    surrogate = (logprobs.detach().exp() * estimates * logprobs).sum()
    (gradient,) = torch.autograd.grad(surrogate, student)
    torch.testing.assert_close(gradient, exact_gradient)


# The loss of a minibatch --------------------------------------------------------------------------


def gradients_of(module: torch.nn.Module, teacher: torch.nn.Module, microbatch_tokens: int) -> list[Tensor]:
    prompts_and_answers = [((1, 2, 3), [(4, 5), (6,)]), ((1, 2, 7), [(8, 9, 10, 11), (5, 5)])]
    groups = [
        credited([member(prompt=prompt, completion=answer) for answer in answers], [0.0] * len(answers))
        for prompt, answers in prompts_and_answers
    ]
    batches = make_batches(
        groups,
        aggregation="token",
        max_tokens=8,
        mask_truncated=False,
        keep_silent=True,
        microbatch_tokens=microbatch_tokens,
    )
    stats = Sums()
    loss = backward(module, teacher, batches, stats)
    assert stats.num_tokens == 9
    assert loss == pytest.approx(stats.kl / 9), "the mean over all tokens of the minibatch"
    found = [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
    module.zero_grad()
    return found


def backward(
    student: torch.nn.Module, teacher: torch.nn.Module, batches: Any, sums: Sums, temperature: float = 1.0
) -> float:
    trainer = LocalTrainer(student, [torch.optim.SGD(student.parameters(), 0.0)])
    return trainer.forward_backward(batches, DistillObjective(frozen(teacher), temperature, sums))


def frozen(teacher: torch.nn.Module) -> SharedForward:
    with torch.no_grad():
        return SharedForward(teacher, torch.float32)


def test_the_loss_is_a_mean_over_all_tokens_however_finely_they_are_cut() -> None:
    student, teacher = tiny_model(seed=0), tiny_model(seed=1)
    whole, cut = gradients_of(student, teacher, 4096), gradients_of(student, teacher, 4)
    assert len(whole) == len(cut) > 0
    for one, other in zip(whole, cut, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)  # sums in another order


def test_the_loss_equals_that_of_transformers_own_logits() -> None:
    student, teacher = tiny_model(seed=0), tiny_model(seed=1)
    graded = member(prompt=(1, 2, 3), completion=(4, 5, 6, 7))
    batches = make_batches(
        [credited([graded], [0.0])],
        aggregation="token",
        max_tokens=8,
        mask_truncated=False,
        keep_silent=True,
        microbatch_tokens=64,
    )
    loss = backward(student, teacher, batches, Sums(), temperature=0.7)
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7]])
    with torch.no_grad():
        own, judged = (model(ids).logits[0, 2:-1] / 0.7 for model in (student, teacher))
    expected = functional.kl_div(
        judged.log_softmax(-1), own.log_softmax(-1), reduction="sum", log_target=True
    )
    assert loss == pytest.approx(expected.item() / 4, rel=1e-4)


# The loop -----------------------------------------------------------------------------------------


class Silence:
    """A display that shows nothing."""

    def start(self, *args: object) -> None:
        """Nothing is shown."""

    def step(self, *args: object) -> None:
        """Nothing is shown."""

    def evaluation(self, *args: object) -> None:
        """Nothing is shown."""


def config_of(folder: Path, *changes: str) -> Config:
    options = [
        *(f"model.path={folder / 'student'}", f"data.path={folder / 'problems.jsonl'}"),
        *("data.eval_share=0.2", "model.precision=fp32", "model.threads=1", "sampling.max_tokens=12"),
        *("sampling.slots=32", "rl.problems_per_step=8", "rl.group_size=4", "rl.microbatch_tokens=1024"),
        *("eval.problems=1", "eval.hard_samples=1", "eval.mixed_samples=1", "eval.every=0"),
        *("checkpoint.every=2", "log.sample_every=0", "optim.learning_rate=0.01", "optim.warmup_updates=1"),
    ]
    return build_config({}, [*options, *changes])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with problems, and a student that is a teacher with noise on its weights."""
    path = tmp_path_factory.mktemp("distill")
    student = talking_model()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    save_model(student, byte_tokenizer(), path / "student")
    write_problems(path / "problems.jsonl")
    return path


def distil(
    folder: Path, name: str, num_steps: int, *changes: str, resume: bool = False
) -> list[dict[str, object]]:
    method = OnPolicyDistillation(frozen(talking_model().requires_grad_(False)))
    run = RunDir(folder / name)
    run_zero(config_of(folder, f"rl.steps={num_steps}", *changes), run, resume, Silence(), method)
    return run.read_metrics()


def test_reverse_kl_falls_on_the_students_own_answers_and_both_ways_to_measure_it_agree(folder: Path) -> None:
    metrics = distil(folder, "run", 12, "rl.minibatches=1")  # tokens and student are of one moment
    kls = [float(str(line["kl"])) for line in metrics]
    assert sum(kls[-3:]) < 0.5 * sum(kls[:3])
    sampled = [float(str(line["sampled_kl"])) for line in metrics]
    assert sum(sampled) == pytest.approx(sum(kls), rel=0.25), "12 steps of some 250 tokens each"


def test_a_run_that_was_killed_goes_on_to_the_same_figures(folder: Path) -> None:
    whole = distil(folder, "whole", 4)

    class Killed(Exception):
        pass

    class Killing(Silence):
        def step(self, *args: object) -> None:
            metrics = args[0]
            assert isinstance(metrics, dict)
            if metrics["step"] == 3:
                raise Killed

    method = OnPolicyDistillation(frozen(talking_model().requires_grad_(False)))
    with pytest.raises(Killed):
        run_zero(config_of(folder, "rl.steps=4"), RunDir(folder / "killed"), False, Killing(), method)
    assert distil(folder, "killed", 4, resume=True) == whole


# Who may take part --------------------------------------------------------------------------------


def test_models_of_other_tokens_or_outputs_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    check_same_vocabulary(*[read_model_files(str(folder / "student"))] * 2)
    merged = train_tokenizer(["abcabc abcabc"] * 9, NUM_TOKENS + 2)
    for number, tokenizer in enumerate((merged, byte_tokenizer())):
        model = tiny_model()
        model.resize_token_embeddings(NUM_TOKENS + 2)
        save_model(model, tokenizer, tmp_path / str(number))
        with pytest.raises(ModelError, match=r"needs one tokenizer for both: .* Leave --on-policy out"):
            check_same_vocabulary(
                read_model_files(str(folder / "student")), read_model_files(str(tmp_path / str(number)))
            )
