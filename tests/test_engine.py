"""The torch engine against transformers: the same tokens, the same probabilities, whatever the slots.

Tolerance: the engine decodes with a cache and batched products, transformers without; in fp32 the
log-probabilities of these models differ by some 1e-6, and 1e-4 is what the engine promises. A
token is drawn by one comparison of a number with a cumulated probability, so a difference of 1e-6
changes one draw in a million; the seeds here are fixed and the draws below are some thousands.

Dimensions: R rows, C columns, H query heads, K key heads, E head size, T tokens of a row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import NUM_TOKENS, Kind, Shape, byte_tokenizer, random_tokens, tiny_model
from scripted import END, ask, bandit_model, bandit_tokenizer, forced_logprobs, make_engine, talking_model
from zerone.errors import ModelError
from zerone.prompt import write_prompt
from zerone.rollout.cache import ClockCache
from zerone.rollout.engine import Sampling
from zerone.rollout.torch_engine import TorchEngine, common_prefix
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
        Sampling(temperature=0, max_tokens=30),
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
        Sampling(temperature=temperature, max_tokens=30),
    )
    spread = []
    for rollout in [rollout for answers in rollouts for rollout in answers]:
        expected = forced_logprobs(model, rollout, temperature)
        assert rollout.sampler_logprobs == pytest.approx(expected.tolist(), abs=TOLERANCE)
        spread += rollout.sampler_logprobs
    assert max(spread) - min(spread) > 3, "logits should differ"


def test_greedy_logprobs_are_those_of_the_plain_softmax() -> None:
    model = tiny_model()
    (rollout,), *_ = ask(make_engine(model), PROMPTS, [(1,)] * 3, Sampling(temperature=0, max_tokens=8))
    assert rollout.sampler_logprobs == pytest.approx(forced_logprobs(model, rollout).tolist(), abs=TOLERANCE)


# Seeds --------------------------------------------------------------------------------------------


def test_the_answer_to_a_seed_does_not_depend_on_the_slots() -> None:
    model = tiny_model()
    prompts, seeds = [*PROMPTS, *UNLIKE], [range(100 * i, 100 * i + 5) for i in range(6)]
    sampling = Sampling(max_tokens=40)
    expected = ask(make_engine(model, slots=1, end_ids=ends_of()), prompts, seeds, sampling)
    lengths = {len(rollout.completion_ids) for answers in expected for rollout in answers}
    assert len(lengths) > 10, "rows should leave at different times"
    for slots in (3, 8, 64):
        found = ask(make_engine(model, slots=slots, end_ids=ends_of()), prompts, seeds, sampling)
        assert_same(found, expected)


def test_the_answer_to_a_seed_does_not_depend_on_order_or_neighbours() -> None:
    model = tiny_model()
    engine = make_engine(model, slots=4, end_ids=ends_of())
    seeds, sampling = [range(10, 16), range(20, 26), range(30, 36)], Sampling(max_tokens=30)
    expected = ask(engine, PROMPTS, seeds, sampling)
    backwards = ask(engine, PROMPTS[::-1], seeds[::-1], sampling)
    assert tokens_of(backwards) == tokens_of(expected)[::-1]
    for prompt, own, answers in zip(PROMPTS, seeds, tokens_of(expected), strict=True):
        for seed, answer in zip(own, answers, strict=True):
            alone = ask(engine, [prompt], [(seed,)], sampling)
            assert tokens_of(alone) == [[answer]]


def test_other_seeds_give_other_answers_and_equal_seeds_the_same() -> None:
    engine = make_engine(tiny_model())
    (answers,) = tokens_of(ask(engine, PROMPTS[:1], [(5, 6, 5)], Sampling(max_tokens=20)))
    assert answers[0] == answers[2] != answers[1]


# Batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 7])
def test_more_samples_than_slots_all_come_back_in_the_order_of_their_seeds(slots: int) -> None:
    model = talking_model()
    prompts = [tuple(byte_tokenizer()(f"Say {i}:")["input_ids"]) for i in range(5)]
    seeds = [range(10 * i, 10 * i + i) for i in range(1, 6)]
    found = ask(make_engine(model, slots=slots), prompts, seeds, Sampling(max_tokens=60))
    assert [[rollout.sample for rollout in answers] for answers in found] == [
        [*range(i)] for i in range(1, 6)
    ]
    alone = make_engine(model, slots=1)
    for prompt, own, answers in zip(prompts, seeds, found, strict=True):
        assert {rollout.prompt_ids for rollout in answers} == {prompt}
        assert tokens_of(ask(alone, [prompt], [[*own]], Sampling(max_tokens=60))) == tokens_of([answers])


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
    found = ask(make_engine(model, slots=2), prompts, [(1, 2)] * len(prompts), Sampling(max_tokens=9))
    for rollout in [rollout for answers in found for rollout in answers]:
        assert rollout.sampler_logprobs == pytest.approx(
            forced_logprobs(model, rollout).tolist(), abs=TOLERANCE
        )


def test_the_number_of_seeds_may_differ() -> None:
    engine = make_engine(tiny_model(), slots=2)
    found = ask(engine, PROMPTS, [(9,), (1, 2, 3), (4, 5)], Sampling(max_tokens=5))
    assert [len(answers) for answers in found] == [1, 3, 2]


# How completions end ------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [2, 64])
def test_one_token_each_with_more_samples_than_slots(slots: int) -> None:
    model = bandit_model()
    engine = make_engine(model, slots=slots, tokenizer=bandit_tokenizer())
    found = ask(engine, [(9, 9), (10, 10)], [range(9), range(9, 18)], Sampling(max_tokens=1))
    assert [[len(rollout.completion_ids) for rollout in answers] for answers in found] == [[1] * 9] * 2
    for rollout in [rollout for answers in found for rollout in answers]:
        assert rollout.finish is (Finish.STOP if rollout.completion_ids == (END,) else Finish.LENGTH)
        assert rollout.sampler_logprobs == pytest.approx(
            forced_logprobs(model, rollout).tolist(), abs=TOLERANCE
        )


def test_rows_that_end_with_their_first_token_make_room_for_the_next() -> None:
    """With every second token an end token, whole admissions end before the first decoding step."""
    engine = make_engine(tiny_model(), slots=2, end_ids=range(0, NUM_TOKENS, 2))
    (answers,) = ask(engine, PROMPTS[:1], [range(40)], Sampling(max_tokens=20))
    assert len(answers) == 40
    assert sum(len(rollout.completion_ids) == 1 for rollout in answers) > 10


def test_end_tokens_are_kept_in_the_ids_and_left_out_of_the_text() -> None:
    (answers,) = ask(
        make_engine(talking_model(), slots=4),
        [byte_tokenizer()(write_prompt("Say 7."))["input_ids"]],
        [range(16)],
        Sampling(max_tokens=60),
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
        make_engine(tiny_model(), slots=8, end_ids=ends), PROMPTS[:1], [range(60)], Sampling(max_tokens=300)
    )
    assert {rollout.completion_ids[-1] for rollout in answers if rollout.finish is Finish.STOP} == set(ends)
    assert all(not set(rollout.completion_ids[:-1]) & set(ends) for rollout in answers)


def test_completions_without_an_end_have_exactly_max_tokens() -> None:
    (answers,) = ask(make_engine(tiny_model(), end_ids=()), PROMPTS[:1], [range(4)], Sampling(max_tokens=7))
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
        make_engine(chant_model(circle)), [first], [(1,)], Sampling(temperature=0, max_tokens=40, stop=stop)
    )
    assert (rollout.text, rollout.finish) == (expected, Finish.STOP)
    assert rollout.completion_ids == tuple(byte_tokenizer()(expected)["input_ids"])


def test_a_stop_string_that_never_comes_changes_nothing() -> None:
    engine = make_engine(tiny_model())
    expected = ask(engine, PROMPTS, [(1, 2)] * 3, Sampling(max_tokens=20))
    assert_same(ask(engine, PROMPTS, [(1, 2)] * 3, Sampling(max_tokens=20, stop=("no such",))), expected)


def test_prompt_and_max_tokens_beyond_the_context_are_refused() -> None:
    model = tiny_model(Shape(context=64))
    engine = make_engine(model)
    prompt = random_tokens(40, "long")
    assert len(ask(engine, [prompt], [(1,)], Sampling(max_tokens=24))[0]) == 1
    with pytest.raises(
        ModelError, match=r"prompt of 40 tokens and sampling.max_tokens=25 exceed .* 64 tokens"
    ):
        ask(engine, [UNLIKE[0], prompt], [(1,), (1,)], Sampling(max_tokens=25))


# Weights ------------------------------------------------------------------------------------------


def test_rollouts_carry_the_version_of_the_weights_they_came_from() -> None:
    model = tiny_model()
    engine = make_engine(model)
    greedy = Sampling(temperature=0, max_tokens=8)
    ((before,),) = ask(engine, PROMPTS[:1], [(1,)], greedy)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    engine.load_weights(model, 3)
    ((after,),) = ask(engine, PROMPTS[:1], [(1,)], greedy)
    assert (before.weight_version, after.weight_version) == (0, 3)
    assert before.completion_ids != after.completion_ids
    assert after.completion_ids == generate_greedily(model, PROMPTS[0], 8, (END,))


def test_an_engine_without_weights_says_so() -> None:
    engine = TorchEngine(byte_tokenizer(), (END,), 64, 4, torch.float32)
    with pytest.raises(AssertionError, match="load_weights comes before generate"):
        ask(engine, PROMPTS[:1], [(1,)], Sampling(max_tokens=2))


def test_decoding_in_bfloat16_stays_near_fp32() -> None:
    """bf16 keeps 8 bits: log-probabilities near 0.1 apart, while another model is off by more than 1."""
    model = tiny_model()
    engine = TorchEngine(byte_tokenizer(), (END,), 512, 4, torch.bfloat16)
    engine.load_weights(model, 0)
    found = [r for answers in ask(engine, PROMPTS, [range(2)] * 3, Sampling(max_tokens=12)) for r in answers]
    own = [abs(torch.tensor(r.sampler_logprobs) - forced_logprobs(model, r)).mean().item() for r in found]
    other = tiny_model(seed=1)
    foreign = [abs(torch.tensor(r.sampler_logprobs) - forced_logprobs(other, r)).mean().item() for r in found]
    assert max(own) < 0.3 < 1 < min(foreign)


# The cache ----------------------------------------------------------------------------------------

LAYERS, HEADS, KV_HEADS, SIZE = 2, 4, 2, 8


@dataclass
class _PlainCache:
    """What the cache should hold: for each slot the keys and values of its row, in a list."""

    prefix: list[Tensor]
    rows: list[list[Tensor]] = field(default_factory=list)

    def attend(self, slot: int, layer: int, q_HE: Tensor) -> Tensor:
        kv_TKE = torch.cat([self.prefix[layer], self.rows[slot][layer]])
        k_TKE, v_TKE = kv_TKE.chunk(2, dim=1)
        mixed = []
        for head in range(HEADS):
            kv_head = head // (HEADS // KV_HEADS)
            weights_T = (k_TKE[:, kv_head] @ q_HE[head] / math.sqrt(SIZE)).softmax(0)
            mixed.append(weights_T @ v_TKE[:, kv_head])
        return torch.stack(mixed)


def random_kv(length: int) -> list[Tensor]:
    return [torch.randn(length, 2 * KV_HEADS, SIZE) for _ in range(LAYERS)]


def count_shifts(cache: ClockCache, shifts: list[int]) -> None:
    """Note by how much the columns move, so that a test can tell that they did."""
    move = cache._move_clock

    def counted(clock: int, low: int) -> None:
        shifts.append(clock - cache._clock)
        move(clock, low)

    cache._move_clock = counted  # type: ignore[method-assign]  # watched, not replaced


@pytest.mark.parametrize("num_prefix", [0, 5])
def test_the_clock_may_shift_left_and_right_and_no_row_notices(num_prefix: int) -> None:
    """Rows come and go at random in so few columns that the clock has to move all the time."""
    rng = Random(num_prefix)
    torch.manual_seed(num_prefix)
    num_slots, longest, max_tokens = 3, 12, 9
    prefix = random_kv(num_prefix)
    cache, plain, shifts = (
        ClockCache(prefix, num_slots, longest + max_tokens),
        _PlainCache(prefix),
        list[int](),
    )
    count_shifts(cache, shifts)
    plain.rows = [[] for _ in range(num_slots)]
    steps_left = [0] * num_slots
    for _ in range(200):
        for slot in [slot for slot, left in enumerate(steps_left) if not left]:
            # A row alone must always be decoded, else there would be no step to take.
            if rng.random() < 0.5 or not any(steps_left):
                plain.rows[slot] = random_kv(rng.choice([1, 2, longest]))
                cache.admit(slot, plain.rows[slot])
                steps_left[slot] = rng.randint(1, max_tokens)
        living = [slot for slot, left in enumerate(steps_left) if left]
        cache.begin_step(living)
        assert cache.window <= longest + max_tokens
        for layer in range(LAYERS):
            q_RHE, kv_RKE = torch.randn(num_slots, HEADS, SIZE), torch.randn(num_slots, 2 * KV_HEADS, SIZE)
            found = cache.attend(layer, q_RHE, kv_RKE[:, :KV_HEADS], kv_RKE[:, KV_HEADS:])
            assert found.isfinite().all()
            for slot in living:
                plain.rows[slot][layer] = torch.cat([plain.rows[slot][layer], kv_RKE[slot, None]])
                expected = plain.attend(slot, layer, q_RHE[slot])
                # fp32 sums of some twenty terms of size 1, in another order.
                torch.testing.assert_close(found[slot], expected, atol=1e-5, rtol=1e-5)
        for slot in living:
            steps_left[slot] -= 1
    assert sum(shift < 0 for shift in shifts) > 5
    assert sum(shift > 0 for shift in shifts) > 5


def test_columns_that_no_living_row_sees_leave_the_window() -> None:
    cache = ClockCache(random_kv(0), 2, 40)
    cache.admit(0, random_kv(10))
    cache.begin_step([0])
    cache.admit(1, random_kv(3))
    cache.begin_step([0, 1])
    assert cache.window == 12
    cache.begin_step([1])
    assert cache.window == 5


def test_kept_slots_go_on_in_their_new_order() -> None:
    torch.manual_seed(0)
    prefix = random_kv(2)
    cache, plain = (
        ClockCache(prefix, 4, 30),
        _PlainCache(prefix, [random_kv(length) for length in (3, 9, 1, 5)]),
    )
    for slot, kv in enumerate(plain.rows):
        cache.admit(slot, kv)
    cache.keep([3, 1])
    cache.begin_step([0, 1])
    q_RHE, kv_RKE = torch.randn(2, HEADS, SIZE), torch.randn(2, 2 * KV_HEADS, SIZE)
    found = cache.attend(0, q_RHE, kv_RKE[:, :KV_HEADS], kv_RKE[:, KV_HEADS:])
    for place, slot in enumerate((3, 1)):
        plain.rows[slot][0] = torch.cat([plain.rows[slot][0], kv_RKE[place, None]])
        torch.testing.assert_close(found[place], plain.attend(slot, 0, q_RHE[place]), atol=1e-5, rtol=1e-5)


def test_an_engine_whose_clock_moves_both_ways_answers_the_same() -> None:
    """Long prompts after short ones push the clock right, many admissions wear the columns out."""
    model = tiny_model()
    prompts = [random_tokens(length, "clock", i) for i, length in enumerate((2, 60, 3, 70, 1, 50))]
    seeds = [range(100 * i, 100 * i + 8) for i in range(6)]
    sampling = Sampling(max_tokens=40)
    found = ask(make_engine(model, slots=4, end_ids=ends_of()), prompts, seeds, sampling)
    for prompt, own, answers in zip(prompts, seeds, found, strict=True):
        alone = ask(make_engine(model, slots=8, end_ids=ends_of()), [prompt], [[*own]], sampling)
        assert_same([answers], alone)
