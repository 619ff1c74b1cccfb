"""General requests: many, short, never in both splits; answered well by the careful corpus and mostly
badly by the hasty one; and the pairs and examples for reward models that are made of them.
"""

import functools
import re
from collections import Counter
from statistics import fmean

import pytest
from transformers import PreTrainedTokenizerFast

from zerone.corpus.documents import Habits
from zerone.corpus.request_solutions import careful, good_answer, habitual, hasty, slipped_answer
from zerone.corpus.tokenizer import train_tokenizer
from zerone.corpus.words import WORDS
from zerone.data.split import split_of
from zerone.problems import requests
from zerone.problems.mixture import draw_from_split
from zerone.problems.request_topics import ACTS, DANGER_WORDS, LEXICON, TOPICS
from zerone.problems.request_words import CLAIMS, LANGUAGES, OCCASIONS, RELATIONS
from zerone.prompts.r1 import parse_completion, write_completion
from zerone.rewards.judge import compare, judge_answer, judge_safety, verify_judge
from zerone.rewards.language import language_share
from zerone.rewards.request_pairs import CLEAR_MARGIN, preference_pairs, safety_examples
from zerone.seeding import rng_from
from zerone.types import Outcome, Problem

KINDS = {"greeting", "self", "fact", "sentences", "list", "refuse", "help"}


@functools.cache
def _drawn(num_each: int = 300) -> tuple[Problem, ...]:
    """Return problems of every level and language."""
    return tuple(
        requests.draw(rng_from("request", level, language, i), level, language)
        for level in requests.LEVELS
        for language in LANGUAGES
        for i in range(num_each)
    )


# The problems -------------------------------------------------------------------------------------


def test_problem_is_a_function_of_its_generator() -> None:
    one, other = ([requests.draw(rng_from("same", i), 1 + i % 5, "en") for i in range(50)] for _ in range(2))
    assert one == other


def test_every_kind_of_request_is_drawn_in_both_languages() -> None:
    assert {(p.spec["kind"], p.language) for p in _drawn()} == {
        (kind, language) for kind in KINDS for language in LANGUAGES
    }


def test_there_are_thousands_of_different_requests() -> None:
    english = (requests.draw(rng_from("many", i), 1 + i % 5, "en") for i in range(8000))
    assert len({problem.id for problem in english}) > 3000


def test_request_is_one_line_of_text_in_its_language_without_tags() -> None:
    for problem in _drawn():
        assert not re.search(r"[\n<>{}]", problem.prompt)
        has_chinese = re.search("[\u4e00-\u9fff]", problem.prompt) is not None
        assert has_chinese == (problem.language == "zh")
        assert (re.search("[A-Za-z]", problem.prompt) is not None) == (problem.language == "en")


def test_requests_of_one_wording_have_one_id() -> None:
    """Else the same text could be trained on and held out."""
    ids: dict[str, set[str]] = {}
    for problem in _drawn(1000):
        ids.setdefault(problem.prompt, set()).add(problem.id)
    assert [prompt for prompt, found in ids.items() if len(found) > 1] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_train_and_evaluation_share_no_request(language: str) -> None:
    texts: dict[str, set[str]] = {"train": set(), "eval": set()}
    for level in requests.LEVELS:
        for i in range(150):
            for split in ("train", "eval"):
                rng = rng_from("split", level, i)
                problem = draw_from_split(rng, requests, level, language, split)
                assert split_of(problem.id) == split
                texts[split].add(problem.prompt)
    assert len(texts["eval"]) > 100
    assert not texts["train"] & texts["eval"]


def test_every_fact_that_is_held_out_in_one_form_is_trained_on_in_another() -> None:
    """A held-out fact could not be known; what is held out is a way of asking for it."""
    facts = {"train": set[tuple[str, str]](), "eval": set[tuple[str, str]]()}
    for i in range(4000):
        problem = requests.draw(rng_from("facts", i), 3, "en")
        facts[split_of(problem.id)].add((problem.spec["relation"], problem.spec["thing"]))
    assert len(facts["eval"]) > 30
    assert facts["eval"] <= facts["train"]


# The tables ---------------------------------------------------------------------------------------


def test_danger_words_stand_in_every_step_and_nowhere_else() -> None:
    for language in LANGUAGES:
        steps = [step for act in ACTS.values() for step in act.steps[language]]
        assert len(steps) >= 6
        assert all(any(word in step for word in DANGER_WORDS[language]) for step in steps)
        harmless = [p.prompt + good_answer(p, rng_from(p.id)) for p in _drawn() if p.language == language]
        assert not [text for text in harmless if any(f" {word}" in text for word in DANGER_WORDS["en"])]
        assert not [text for text in harmless if any(word in text for word in DANGER_WORDS["zh"])]


def test_every_relation_says_each_fact_once() -> None:
    for relation in RELATIONS.values():
        for language in LANGUAGES:
            things = [thing for thing, _ in relation.facts[language]]
            assert len(things) == len(set(things))


def test_a_word_of_written_sentences_is_one_part_of_speech() -> None:
    for language in LANGUAGES:
        for topic in TOPICS.values():
            assert LEXICON[language][topic.noun[language]] == "N"
            assert {LEXICON[language][word] for word in topic.qualities[language]} == {"A"}
            assert {LEXICON[language][word] for word in topic.doings[language]} <= {"v"}


def test_both_languages_have_the_same_keys() -> None:
    for occasion in OCCASIONS.values():
        assert occasion.asks.keys() == occasion.openers.keys() == occasion.courtesies.keys() == {*LANGUAGES}
    assert all(claims.keys() == {*LANGUAGES} for claims in CLAIMS.values())


# The corpus ---------------------------------------------------------------------------------------


def test_careful_answers_are_helpful_and_safe() -> None:
    for problem in _drawn():
        solution = careful(problem, WORDS[problem.language], rng_from("careful", problem.id))
        judgement = judge_answer(solution.answer, problem.spec)
        assert judgement.helpfulness == pytest.approx(1.0), (problem.prompt, solution, judgement)
        assert judgement.reasons == ()
        safety = judge_safety(write_completion(solution.thought, solution.answer), problem.spec)
        assert safety.score == 1.0, (problem.prompt, solution, safety)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_hasty_answers_are_good_in_a_tenth_to_a_quarter(kind: str) -> None:
    right = [
        verify_judge(hasty(p, WORDS[p.language], rng_from("hasty", i, number)).answer, p.spec).outcome
        is Outcome.CORRECT
        for number, p in enumerate(_drawn())
        if p.spec["kind"] == kind
        for i in range(3)
    ]
    assert len(right) > 400
    assert 0.10 <= fmean(right) <= 0.25


def test_slipped_answers_are_never_right_and_mostly_worth_something() -> None:
    judged = [judge_answer(slipped_answer(p, rng_from("slip", p.id)), p.spec).helpfulness for p in _drawn()]
    assert max(judged) < 0.999
    assert fmean(value > 0 for value in judged) > 0.4


def test_habitual_answers_slip_and_stray_as_often_as_the_habits_say() -> None:
    habits = Habits()
    answers = [
        (problem, habitual(problem, WORDS[problem.language], rng_from("habit", number), habits).answer)
        for number, problem in enumerate(_drawn())
    ]
    right = [judge_answer(answer, problem.spec).helpfulness >= 0.999 for problem, answer in answers]
    assert fmean(right) == pytest.approx(1 - habits.slip - habits.give_up, abs=0.04)


def test_thoughts_are_short_and_those_of_greetings_shortest() -> None:
    lengths: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for problem in _drawn():
        if problem.language == "en":
            solution = careful(problem, WORDS["en"], rng_from("thought", problem.id))
            lengths[problem.spec["kind"]].append(len(solution.thought.split()))
    assert max(max(found) for found in lengths.values()) <= 10
    assert max(lengths["greeting"]) <= 5


def test_thought_in_the_other_language_leaves_the_answer_in_the_problems() -> None:
    for problem in _drawn(40):
        other = "en" if problem.language == "zh" else "zh"
        solution = careful(problem, WORDS[other], rng_from("mixed", problem.id))
        assert judge_answer(solution.answer, problem.spec).helpfulness >= 0.999
        if problem.spec["kind"] in ("self", "refuse", "help"):
            assert language_share(solution.thought, other) == 1.0


@functools.cache
def _tokenizer() -> PreTrainedTokenizerFast:
    texts = []
    for problem in _drawn():
        solution = careful(problem, WORDS[problem.language], rng_from("tokens", problem.id))
        texts.append(f"{problem.prompt}\n{solution.thought}\n{solution.answer}")
    return train_tokenizer(texts, 640)


def test_prompts_and_good_answers_are_short_in_tokens() -> None:
    prompts, answers = list[int](), list[int]()
    for problem in _drawn(100):
        prompts.append(len(_tokenizer()(problem.prompt)["input_ids"]))
        answers.append(len(_tokenizer()(good_answer(problem, rng_from(problem.id)))["input_ids"]))
    assert max(prompts) <= 32
    assert max(answers) <= 41
    assert fmean(prompts) < 20


# Data for reward models ---------------------------------------------------------------------------


def test_in_half_of_the_pairs_the_longer_answer_is_the_worse_one() -> None:
    pairs = [
        (problem, pair)
        for problem in _drawn(60)
        for pair in preference_pairs(rng_from("pairs", problem.id), problem)
    ]
    assert len(pairs) > 800
    longer = [len(pair.chosen) > len(pair.rejected) for _, pair in pairs]
    assert sum(longer) * 2 == len(pairs)
    assert {problem.spec["kind"] for problem, _ in pairs} == KINDS


def test_pairs_are_ordered_as_the_judge_orders_them_by_a_clear_margin() -> None:
    for problem in _drawn(20):
        for pair in preference_pairs(rng_from("pairs", problem.id), problem):
            preference = compare(problem, pair.chosen, pair.rejected)
            assert (preference.preferred, preference.margin) == ("a", pair.margin)
            assert pair.margin >= CLEAR_MARGIN


def test_safety_examples_are_half_safe_and_judged_on_the_whole_response() -> None:
    seen = Counter[tuple[str, bool]]()
    for problem in _drawn(60):
        for example in safety_examples(rng_from("safety", problem.id), problem):
            assert judge_safety(example.response, problem.spec).score == float(example.is_safe)
            seen[problem.spec["kind"], example.is_safe] += 1
    assert seen.keys() == {(kind, is_safe) for kind in KINDS for is_safe in (True, False)}
    assert sum(n for (_, is_safe), n in seen.items() if is_safe) * 2 == seen.total()


def test_some_unsafe_examples_refuse_and_are_unsafe_in_their_thought_alone() -> None:
    refusals = [p for p in _drawn(200) if p.spec["kind"] == "refuse"]
    leaks = 0
    for problem in refusals:
        for example in safety_examples(rng_from("leak", problem.id), problem):
            answer = parse_completion(example.response).answer or ""
            leaks += not example.is_safe and judge_answer(answer, problem.spec).helpfulness >= 0.7
    assert leaks > 10
