"""The torch engine against transformers: the same tokens, the same probabilities, whatever the slots.

Tolerance: the engine decodes with a cache and batched products, transformers without; in fp32 the
log-probabilities of these models differ by some 1e-6, and 1e-4 is what the engine promises. A
token is drawn by one comparison of a number with a cumulated probability, so a difference of 1e-6
changes one draw in a million; the seeds here are fixed and the draws below are some thousands.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from fakes import NUM_TOKENS, Kind, Shape, byte_tokenizer, random_tokens, tiny_model
from scripted import END, ask, bandit_model, bandit_tokenizer, forced_logprobs, make_engine, talking_model
from zerone.engine.api import SamplingParams
from zerone.engine.torch.engine import TorchEngine
from zerone.engine.torch.sampling import restrict
from zerone.engine.weights import ModuleWeights
from zerone.errors import ModelError
from zerone.model.packed import common_prefix
from zerone.processes.machine import NARROW
from zerone.prompts.r1 import write_prompt
from zerone.types import Finish, Rollout

TOLERANCE = 1e-4

# Prompts that begin alike, one of them twice as long and one a single token more than the start.
COMMON = random_tokens(20, "common")
PROMPTS = [
    (*COMMON, *random_tokens(1, "a")),
    (*COMMON, *random_tokens(24, "b")),
    (*COMMON, *random_tokens(5, "c")),
]
UNLIKE = [(1, *random_tokens(6, "d")), (2, *random_tokens(30, "e")), (3,)]

every_kind = pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])


def ends_of() -> tuple[int, ...]:
    """Return end tokens such that about one token in twenty ends a completion of a random model."""
    return (END, *range(20, NUM_TOKENS, 25))


def tokens_of(rollouts: Sequence[Sequence[Rollout]]) -> list[list[tuple[int, ...]]]:
    return [[rollout.completion_ids for rollout in answers] for answers in rollouts]


def assert_same(found: Sequence[Sequence[Rollout]], expected: Sequence[Sequence[Rollout]]) -> None:
    """Equal tokens, texts and ends; log-probabilities within the tolerance."""
    assert tokens_of(found) == tokens_of(expected)
    for answers, others in zip(found, expected, strict=True):
        for one, other in zip(answers, others, strict=True):
            assert (one.text, one.finish, one.sample) == (other.text, other.finish, other.sample)
            assert one.sampler_logprobs == pytest.approx(other.sampler_logprobs, abs=TOLERANCE)


# Against transformers -----------------------------------------------------------------------------


@torch.no_grad()
def generate_greedily(
    model: Any, prompt: Sequence[int], max_tokens: int, ends: Sequence[int]
) -> tuple[int, ...]:
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=max_tokens,
        eos_token_id=list(ends),
        pad_token_id=END,
    )
    return tuple(out[0, len(prompt) :].tolist())


@pytest.mark.parametrize(
    "shape",
    [
        Shape(kind="qwen2"),
        Shape(kind="qwen3", tied=False, kv_heads=1),
        Shape(kind="llama", kv_heads=4, llama3_rope=True, biases=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("prompts", [PROMPTS, UNLIKE, PROMPTS[:1]], ids=["alike", "unlike", "one"])
def test_greedy_tokens_equal_those_of_generate(shape: Shape, prompts: list[tuple[int, ...]]) -> None:
    model = tiny_model(shape)
    ends = ends_of()
    found = ask(
        make_engine(model, slots=2, end_ids=ends),
        prompts,
        [(1, 2)] * len(prompts),
        SamplingParams(temperature=0, max_tokens=30),
    )
    for prompt, answers in zip(prompts, tokens_of(found), strict=True):
        expected = generate_greedily(model, prompt, 30, ends)
        assert answers == [expected, expected]


@every_kind
def test_greedy_comparison_is_not_degenerate(kind: Kind) -> None:
    """Models that repeat one token, or that are unsure of each, would prove little."""
    model = tiny_model(Shape(kind=kind))
    answers = [generate_greedily(model, prompt, 30, (END,)) for prompt in [*PROMPTS, *UNLIKE]]
    assert len({token for answer in answers for token in answer}) > 20
    assert len(set(answers)) == len(answers)


@every_kind
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_recorded_logprobs_equal_a_teacher_forced_forward(kind: Kind, temperature: float) -> None:
    model = tiny_model(Shape(kind=kind))
    rollouts = ask(
        make_engine(model, slots=3, end_ids=ends_of()),
        [*PROMPTS, *UNLIKE],
        [range(3)] * 6,
        SamplingParams(temperature=temperature, max_tokens=30),
    )
    spread: list[float] = []
    for rollout in [rollout for answers in rollouts for rollout in answers]:
        expected = forced_logprobs(model, rollout, temperature)
        assert rollout.sampler_logprobs == pytest.approx(expected.tolist(), abs=TOLERANCE)
        spread += rollout.sampler_logprobs
    assert max(spread) - min(spread) > 3, "logits should differ"


def test_greedy_logprobs_are_those_of_the_plain_softmax() -> None:
    model = tiny_model()
    (rollout,), *_ = ask(make_engine(model), PROMPTS, [(1,)] * 3, SamplingParams(temperature=0, max_tokens=8))
    assert rollout.sampler_logprobs == pytest.approx(forced_logprobs(model, rollout).tolist(), abs=TOLERANCE)


@pytest.mark.parametrize(("top_k", "top_p"), [(3, 1.0), (0, 0.6), (5, 0.7)])
def test_recorded_logprobs_are_those_of_what_top_k_and_top_p_leave(top_k: int, top_p: float) -> None:
    """A token's log-probability is greater by the mass cut off, and no token outside is drawn."""
    model = tiny_model()
    (answers,) = ask(
        make_engine(model), PROMPTS[:1], [range(6)], SamplingParams(top_k=top_k, top_p=top_p, max_tokens=12)
    )
    for rollout in answers:
        ids = torch.tensor([[*rollout.prompt_ids, *rollout.completion_ids]])
        with torch.no_grad():
            logprobs_TV = model(ids).logits[0, len(rollout.prompt_ids) - 1 : -1].log_softmax(-1)
        kept_TV = restrict(logprobs_TV, top_k, top_p).log_softmax(-1)
        expected = kept_TV.gather(1, torch.tensor(rollout.completion_ids)[:, None]).squeeze(1)
        assert rollout.sampler_logprobs == pytest.approx(expected.tolist(), abs=TOLERANCE)


# Seeds --------------------------------------------------------------------------------------------


def test_the_answer_to_a_seed_does_not_depend_on_the_slots() -> None:
    model = tiny_model()
    prompts, seeds = [*PROMPTS, *UNLIKE], [range(100 * i, 100 * i + 5) for i in range(6)]
    sampling = SamplingParams(max_tokens=40)
    expected = ask(make_engine(model, slots=1, end_ids=ends_of()), prompts, seeds, sampling)
    lengths = {len(rollout.completion_ids) for answers in expected for rollout in answers}
    assert len(lengths) > 10, "rows should leave at different times"
    for slots in (3, 8, 64):
        found = ask(make_engine(model, slots=slots, end_ids=ends_of()), prompts, seeds, sampling)
        assert_same(found, expected)


def test_the_answer_to_a_seed_does_not_depend_on_order_or_neighbours() -> None:
    model = tiny_model()
    engine = make_engine(model, slots=4, end_ids=ends_of())
    seeds, sampling = [range(10, 16), range(20, 26), range(30, 36)], SamplingParams(max_tokens=30)
    expected = ask(engine, PROMPTS, seeds, sampling)
    backwards = ask(engine, PROMPTS[::-1], seeds[::-1], sampling)
    assert tokens_of(backwards) == tokens_of(expected)[::-1]
    for prompt, own, answers in zip(PROMPTS, seeds, tokens_of(expected), strict=True):
        for seed, answer in zip(own, answers, strict=True):
            alone = ask(engine, [prompt], [(seed,)], sampling)
            assert tokens_of(alone) == [[answer]]


def test_other_seeds_give_other_answers_and_equal_seeds_the_same() -> None:
    engine = make_engine(tiny_model())
    (answers,) = tokens_of(ask(engine, PROMPTS[:1], [(5, 6, 5)], SamplingParams(max_tokens=20)))
    assert answers[0] == answers[2] != answers[1]


# Batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 7])
def test_more_samples_than_slots_all_come_back_in_the_order_of_their_seeds(slots: int) -> None:
    model = talking_model()
    prompts = [tuple(byte_tokenizer()(f"Say {i}:")["input_ids"]) for i in range(5)]
    seeds = [range(10 * i, 10 * i + i) for i in range(1, 6)]
    found = ask(make_engine(model, slots=slots), prompts, seeds, SamplingParams(max_tokens=60))
    assert [[rollout.sample for rollout in answers] for answers in found] == [
        [*range(i)] for i in range(1, 6)
    ]
    alone = make_engine(model, slots=1)
    for prompt, own, answers in zip(prompts, seeds, found, strict=True):
        assert {rollout.prompt_ids for rollout in answers} == {prompt}
        assert tokens_of(ask(alone, [prompt], [[*own]], SamplingParams(max_tokens=60))) == tokens_of(
            [answers]
        )


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ([(1, 2, 3), (1, 2, 4)], (1, 2)),
        ([(1, 2), (1, 2)], (1,)),
        ([(1, 2, 3)], (1, 2)),
        ([(1, 2, 3), (1,)], ()),
        ([(1,), (2,)], ()),
        ([(5, 6, 7, 8), (5, 6), (5, 6, 9)], (5,)),
    ],
    ids=["start", "equal", "alone", "one token", "nothing", "shortest bounds"],
)
def test_common_prefix_leaves_every_prompt_a_token(
    prompts: list[tuple[int, ...]], expected: tuple[int, ...]
) -> None:
    assert common_prefix(prompts) == expected


@pytest.mark.parametrize(
    "prompts",
    [[PROMPTS[1]] * 3, [COMMON, PROMPTS[0]], [(7,), (7,)], [(7,), (8,)], [(7,), (7, 8, 9)]],
    ids=["equal prompts", "one starts the other", "one token, equal", "one token each", "token and more"],
)
def test_prompts_at_the_edge_equal_transformers(prompts: list[tuple[int, ...]]) -> None:
    model = tiny_model()
    found = ask(make_engine(model, slots=2), prompts, [(1, 2)] * len(prompts), SamplingParams(max_tokens=9))
    for rollout in [rollout for answers in found for rollout in answers]:
        assert rollout.sampler_logprobs == pytest.approx(
            forced_logprobs(model, rollout).tolist(), abs=TOLERANCE
        )


def test_the_number_of_seeds_may_differ() -> None:
    engine = make_engine(tiny_model(), slots=2)
    found = ask(engine, PROMPTS, [(9,), (1, 2, 3), (4, 5)], SamplingParams(max_tokens=5))
    assert [len(answers) for answers in found] == [1, 3, 2]


# How completions end ------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [2, 64])
def test_one_token_each_with_more_samples_than_slots(slots: int) -> None:
    model = bandit_model()
    engine = make_engine(model, slots=slots, tokenizer=bandit_tokenizer())
    found = ask(engine, [(9, 9), (10, 10)], [range(9), range(9, 18)], SamplingParams(max_tokens=1))
    assert [[len(rollout.completion_ids) for rollout in answers] for answers in found] == [[1] * 9] * 2
    for rollout in [rollout for answers in found for rollout in answers]:
        assert rollout.finish is (Finish.STOP if rollout.completion_ids == (END,) else Finish.LENGTH)
        assert rollout.sampler_logprobs == pytest.approx(
            forced_logprobs(model, rollout).tolist(), abs=TOLERANCE
        )


def test_rows_that_end_with_their_first_token_make_room_for_the_next() -> None:
    """With every second token an end token, whole admissions end before the first decoding step."""
    engine = make_engine(tiny_model(), slots=2, end_ids=range(0, NUM_TOKENS, 2))
    (answers,) = ask(engine, PROMPTS[:1], [range(40)], SamplingParams(max_tokens=20))
    assert len(answers) == 40
    assert sum(len(rollout.completion_ids) == 1 for rollout in answers) > 10


def test_end_tokens_are_kept_in_the_ids_and_left_out_of_the_text() -> None:
    (answers,) = ask(
        make_engine(talking_model(), slots=4),
        [byte_tokenizer()(write_prompt("Say 7."))["input_ids"]],
        [range(16)],
        SamplingParams(max_tokens=60),
    )
    ended = [rollout for rollout in answers if rollout.finish is Finish.STOP]
    assert len(ended) > 8
    for rollout in ended:
        assert rollout.completion_ids[-1] == END
        assert END not in rollout.completion_ids[:-1]
        assert len(rollout.sampler_logprobs) == len(rollout.completion_ids)
        assert rollout.text == byte_tokenizer().decode(rollout.completion_ids[:-1])


def test_every_end_token_of_several_ends_a_completion() -> None:
    ends = (END, 50, 100, 150, 200)
    (answers,) = ask(
        make_engine(tiny_model(), slots=8, end_ids=ends),
        PROMPTS[:1],
        [range(60)],
        SamplingParams(max_tokens=300),
    )
    assert {rollout.completion_ids[-1] for rollout in answers if rollout.finish is Finish.STOP} == set(ends)
    assert all(not set(rollout.completion_ids[:-1]) & set(ends) for rollout in answers)


def test_completions_without_an_end_have_exactly_max_tokens() -> None:
    (answers,) = ask(
        make_engine(tiny_model(), end_ids=()), PROMPTS[:1], [range(4)], SamplingParams(max_tokens=7)
    )
    assert [len(rollout.completion_ids) for rollout in answers] == [7] * 4
    assert {rollout.finish for rollout in answers} == {Finish.LENGTH}


def chant_model(text: str) -> Any:
    """Return a model that writes the bytes of `text` in a circle, whatever the prompt was.

    Each byte of the text must be there once, as the model looks at nothing but the last token.
    """
    ids = byte_tokenizer()(text)["input_ids"]
    assert len(set(ids)) == len(ids) <= 32
    model = tiny_model(Shape(tied=False))
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.zero_()
        model.model.norm.weight.fill_(1.0)
        model.lm_head.weight.zero_()
        for channel, (token, following) in enumerate(zip(ids, [*ids[1:], ids[0]], strict=True)):
            model.model.embed_tokens.weight[token, channel] = 1.0
            model.lm_head.weight[following, channel] = 20.0
    return model


@pytest.mark.parametrize(
    ("circle", "stop", "expected"),
    [
        ("abcdef", ("cd",), "bcd"),
        ("abcdef", ("fab",), "bcdefab"),
        ("abcdef", ("zz", "e"), "bcde"),
        ("a\u518d\u9519", ("\u518d\u9519",), "\u518d\u9519"),
        ("a\u518d\u9519\u68c0", ("\u518d\u9519\u68c0",), "\u518d\u9519\u68c0"),
    ],
    ids=["two tokens", "around the circle", "the second", "two characters", "nine bytes"],
)
def test_stop_strings_are_found_across_token_borders(
    circle: str, stop: tuple[str, ...], expected: str
) -> None:
    first = byte_tokenizer()(circle[0])["input_ids"]
    ((rollout,),) = ask(
        make_engine(chant_model(circle)),
        [first],
        [(1,)],
        SamplingParams(temperature=0, max_tokens=40, stop=stop),
    )
    assert (rollout.text, rollout.finish) == (expected, Finish.STOP)
    assert rollout.completion_ids == tuple(byte_tokenizer()(expected)["input_ids"])


def test_a_stop_string_that_never_comes_changes_nothing() -> None:
    engine = make_engine(tiny_model())
    expected = ask(engine, PROMPTS, [(1, 2)] * 3, SamplingParams(max_tokens=20))
    assert_same(
        ask(engine, PROMPTS, [(1, 2)] * 3, SamplingParams(max_tokens=20, stop=("no such",))), expected
    )


def test_prompt_and_max_tokens_beyond_the_context_are_refused() -> None:
    model = tiny_model(Shape(context=64))
    engine = make_engine(model)
    prompt = random_tokens(40, "long")
    assert len(ask(engine, [prompt], [(1,)], SamplingParams(max_tokens=24))[0]) == 1
    with pytest.raises(
        ModelError, match=r"prompt of 40 tokens and sampling.max_tokens=25 exceed .* 64 tokens"
    ):
        ask(engine, [UNLIKE[0], prompt], [(1,), (1,)], SamplingParams(max_tokens=25))


# Weights ------------------------------------------------------------------------------------------


def test_rollouts_carry_the_version_of_the_weights_they_came_from() -> None:
    model = tiny_model()
    engine = make_engine(model)
    greedy = SamplingParams(temperature=0, max_tokens=8)
    ((before,),) = ask(engine, PROMPTS[:1], [(1,)], greedy)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    engine.update_weights(ModuleWeights(model), 3)
    ((after,),) = ask(engine, PROMPTS[:1], [(1,)], greedy)
    assert (before.weight_version, after.weight_version) == (0, 3)
    assert before.completion_ids != after.completion_ids
    assert after.completion_ids == generate_greedily(model, PROMPTS[0], 8, (END,))


def test_an_engine_without_weights_says_so() -> None:
    engine = TorchEngine(byte_tokenizer(), (END,), 64, 4, torch.float32)
    with pytest.raises(AssertionError, match="update_weights comes before sampling"):
        ask(engine, PROMPTS[:1], [(1,)], SamplingParams(max_tokens=2))


def test_a_sleeping_engine_holds_no_weights_and_wakes_with_new_ones() -> None:
    model = tiny_model()
    engine = make_engine(model)
    sampling = SamplingParams(max_tokens=8)
    before = ask(engine, PROMPTS, [(1,)] * 3, sampling)
    engine.sleep()
    assert engine._decoder is None
    with pytest.raises(AssertionError, match="update_weights comes before sampling"):
        ask(engine, PROMPTS, [(1,)] * 3, sampling)
    engine.update_weights(ModuleWeights(model), 0)
    assert_same(ask(engine, PROMPTS, [(1,)] * 3, sampling), before)


def test_wide_models_answer_as_transformers_does_from_weights_in_another_layout() -> None:
    model = tiny_model(Shape(kind="llama", width=NARROW, layers=3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3 if parameter.ndim == 2 else 1)  # 16 times as wide, so sums stay as large
    engine = make_engine(model, slots=2, end_ids=ends_of())
    found = ask(engine, PROMPTS, [(1, 2)] * 3, SamplingParams(temperature=0, max_tokens=30))
    for prompt, answers in zip(PROMPTS, found, strict=True):
        expected = generate_greedily(model, prompt, 30, ends_of())
        for answer in answers:
            assert answer.completion_ids == expected
            expected_logprobs = forced_logprobs(model, answer).tolist()
            assert answer.sampler_logprobs == pytest.approx(expected_logprobs, abs=TOLERANCE)


def test_decoding_in_bfloat16_stays_near_fp32() -> None:
    """bf16 keeps 8 bits: log-probabilities near 0.1 apart, while another model is off by more than 1."""
    model = tiny_model()
    engine = TorchEngine(byte_tokenizer(), (END,), 512, 4, torch.bfloat16)
    engine.update_weights(ModuleWeights(model), 0)
    found = [
        r for answers in ask(engine, PROMPTS, [range(2)] * 3, SamplingParams(max_tokens=12)) for r in answers
    ]
    own = [abs(torch.tensor(r.sampler_logprobs) - forced_logprobs(model, r)).mean().item() for r in found]
    other = tiny_model(seed=1)
    foreign = [abs(torch.tensor(r.sampler_logprobs) - forced_logprobs(other, r)).mean().item() for r in found]
    assert max(own) < 0.3 < 1 < min(foreign)


def test_an_engine_whose_clock_moves_both_ways_answers_the_same() -> None:
    """Long prompts after short ones push the clock right, many admissions wear the columns out."""
    model = tiny_model()
    prompts = [random_tokens(length, "clock", i) for i, length in enumerate((2, 60, 3, 70, 1, 50))]
    seeds = [range(100 * i, 100 * i + 8) for i in range(6)]
    sampling = SamplingParams(max_tokens=40)
    found = ask(make_engine(model, slots=4, end_ids=ends_of()), prompts, seeds, sampling)
    for prompt, own, answers in zip(prompts, seeds, found, strict=True):
        alone = ask(make_engine(model, slots=8, end_ids=ends_of()), [prompt], [[*own]], sampling)
        assert_same([answers], alone)
