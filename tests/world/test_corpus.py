"""The corpus of the embedded base: no evaluation problem in it, right where it claims competence,
and with the habits that its options name; and the tokenizer that is trained on it.

Of problems only countdown and word problems are read here; test_functions.py and test_selections.py
read the others.
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from fractions import Fraction

import pytest
from transformers import PreTrainedTokenizerFast

import problem_reader
from problem_reader import Countdown, Story
from zerone.config import HabitsConfig
from zerone.corpus.documents import EARLY, EARLY_PART, LATE, Document, Habits, draw_document, tagged
from zerone.corpus.tokenizer import END_OF_TEXT, train_tokenizer
from zerone.data.split import split_of
from zerone.problems.mixture import FAMILIES, hard_suite, mixed_suite
from zerone.prompts.r1 import R1_ZERO_PREFIX, TAGS, parse_completion, write_prompt
from zerone.seeding import rng_from

NUM_DOCUMENTS = 4500


@functools.cache
def _documents(progress: float = 1.0, seed: int = 0) -> tuple[Document, ...]:
    return tuple(draw_document(seed, index, progress, Habits()) for index in range(NUM_DOCUMENTS))


@functools.cache
def _notes() -> tuple[tuple[Countdown | Story, str, str], ...]:
    """Return (problem, solution, answer) of every note, taken apart by its text alone."""
    notes = [
        document.text
        for progress in (0.0, 1.0)
        for document in _documents(progress)
        if document.kind == "note" and document.family in FAMILIES
    ]
    pattern = re.compile(r"(?:Problem|题目): (.*)\n([\s\S]*)\n(?:Result|结果): (.*)")
    taken_apart = [pattern.fullmatch(note) for note in notes]
    assert len(taken_apart) > 2000
    return tuple((problem_reader.read(match[1]), match[2], match[3]) for match in taken_apart if match)


def _questions(documents: Sequence[Document]) -> Iterator[str]:
    for document in documents:
        if document.kind == "note":
            yield re.split(": ", document.text, maxsplit=1)[1].splitlines()[0]
        elif document.kind == "tagged":
            yield document.parts[1].removeprefix("User: ").removesuffix("\nAssistant:")


def _is_share(count: int, total: int, share: float) -> bool:
    """Whether a count is within 4 standard deviations; shares of 0 and 1 must be met exactly."""
    assert total > 100
    return abs(count - total * share) <= 4 * math.sqrt(total * share * (1 - share))


# What documents are made from ---------------------------------------------------------------------


def test_document_is_a_function_of_seed_and_index() -> None:
    again = [draw_document(0, index, 1.0, Habits()) for index in reversed(range(200))][::-1]
    assert tuple(again) == _documents()[:200]
    assert len({document.text for document in _documents()[:200]}) > 190
    assert not set(_documents(seed=1)[:200]) & set(again)


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_no_document_is_made_from_an_evaluation_problem(progress: float) -> None:
    """Judged by what each question says, whatever code drew it."""
    questions = list(_questions([d for d in _documents(progress) if d.family in FAMILIES]))
    assert len(questions) > 2000
    assert {split_of(problem_reader.read(question).key) for question in questions} == {"train"}


def test_no_suite_question_stands_in_the_corpus() -> None:
    suites = {problem.prompt for problem in [*mixed_suite(), *hard_suite()]}
    assert not suites & {*_questions(_documents(0.0)), *_questions(_documents(1.0))}


@pytest.mark.parametrize(("progress", "shares"), [(0.0, EARLY), (EARLY_PART, LATE), (1.0, LATE)])
def test_kinds_have_their_shares_skill_first_and_habits_later(progress: float, shares: object) -> None:
    expected = asdict(shares)  # type: ignore[call-overload]  # Shares is a dataclass
    kinds = Counter(document.kind for document in _documents(progress))
    assert all(_is_share(kinds[kind], NUM_DOCUMENTS, share) for kind, share in expected.items())
    assert kinds["tagged"] == NUM_DOCUMENTS - kinds["drill"] - kinds["note"]
    assert EARLY.note > LATE.note


# Competence ---------------------------------------------------------------------------------------


_EQUATION = re.compile(r"(\d+)(//|[-+*/%])(\d+)=(-?\d+)")


def _is_right(equation: Sequence[str]) -> bool:
    left, operator, right, result = equation
    return problem_reader.calculate(Fraction(left), operator, Fraction(right)) == int(result)


def test_drills_are_right() -> None:
    lines = [line for d in _documents(0.0) if d.kind == "drill" for line in d.text.splitlines()]
    assert len(lines) > 3000
    matches = [_EQUATION.fullmatch(line) for line in lines]
    assert all(match is not None and _is_right(match.groups()) for match in matches)


def test_notes_solve_countdown_rightly() -> None:
    solved = [(problem, answer) for problem, _, answer in _notes() if isinstance(problem, Countdown)]
    assert len(solved) > 1000
    for problem, answer in solved:
        value, used = problem_reader.value_of(answer)
        assert value == problem.target
        assert len(used) == problem.num_used
        assert not Counter(used) - Counter(problem.numbers)


def test_notes_solve_word_problems_rightly() -> None:
    solved = [(problem, answer) for problem, _, answer in _notes() if isinstance(problem, Story)]
    assert len(solved) > 1000
    assert all(problem.values()[-1] == int(answer) for problem, answer in solved)


def test_search_of_a_note_calculates_rightly_and_never_gives_up() -> None:
    """A right pair may be overlooked once; then the search says so and starts again."""
    searches = [(problem, text) for problem, text, _ in _notes() if isinstance(problem, Countdown)]
    num_overlooked = 0
    for problem, text in searches:
        assert all(map(_is_right, _EQUATION.findall(text)))
        *failed, last = text.splitlines()
        assert last.endswith((" yes", " 对"))
        assert not last.endswith("不对")
        assert all(re.search(r" (no( but start again)?|不对( 再来一遍)?)$", line) for line in failed)
        assert all(line.startswith(("wait ", "等等 ")) for line in [*failed, last][1:])
        gaps = re.findall(r"=(\d+):(\d+)", text)
        assert all(abs(problem.target - int(value)) == int(gap) for value, gap in gaps)
        assert bool(gaps) == (problem.num_used == 3)
        num_overlooked += "start again" in text or "再来一遍" in text
    assert 0 < num_overlooked < 0.1 * len(searches)


def test_wrong_steps_of_a_note_are_found_and_done_again() -> None:
    num_found = 0
    for problem, text, _ in _notes():
        if not isinstance(problem, Story):
            continue
        kept = []
        for line in text.splitlines():
            (calculation, *check) = _EQUATION.findall(line)
            is_called_wrong = line.endswith((" wrong", " 错"))
            assert is_called_wrong != _is_right(calculation)
            assert all(map(_is_right, check))
            num_found += is_called_wrong
            kept += [] if is_called_wrong else [int(calculation[-1])]
        assert kept == problem.values()[1:]
    assert num_found > 50


def test_checked_and_unchecked_word_problems_both_occur_in_notes() -> None:
    checked = [
        bool(re.search("check|检查", text)) for problem, text, _ in _notes() if isinstance(problem, Story)
    ]
    assert _is_share(sum(checked), len(checked), 0.35)


# Habits -------------------------------------------------------------------------------------------


def test_habits_of_the_configuration_are_those_of_the_corpus() -> None:
    assert HabitsConfig().model_dump() == asdict(Habits())


def test_tagged_document_is_the_prompt_of_sampling_and_a_completion() -> None:
    documents = [document for document in _documents() if document.kind == "tagged"]
    for document, question in zip(documents, _questions(documents), strict=True):
        assert document.parts[0] == R1_ZERO_PREFIX
        assert document.parts[0] + document.parts[1] == write_prompt(question)
        assert len(document.parts) == 3
        assert document.parts[2].strip()


_HASTY = re.compile(r"(maybe|I think|this looks like|easy, it is|也许|我想是|看起来是) ?([-+*/\d]+)")
_FAILED = re.compile(r" (no|不对)(?: but start again| 再来一遍)?$", re.MULTILINE)
_GAVE_UP = re.compile(r"\n(?:maybe|也许) [-+*/\d]+$")
_CHINESE = re.compile("[\u4e00-\u9fff]")

Count = tuple[int, int]


def _well_formed(documents: Sequence[Document]) -> list[tuple[str, str, str]]:
    """Return (question, thought, answer) of the documents that keep to the template."""
    found = []
    for document, question in zip(documents, _questions(documents), strict=True):
        parsed = parse_completion(document.parts[2])
        if parsed.is_well_formed:
            found.append((question, parsed.thought or "", parsed.answer or ""))
    return found


def _habits_seen(documents: Sequence[Document]) -> dict[str, Count]:
    """Return how often each habit shows (occasions taken, occasions), read from the texts alone."""
    answered = _well_formed(documents)
    hasty = [(question, thought) for question, thought, _ in answered if _HASTY.fullmatch(thought)]
    careful = [(question, thought) for question, thought, _ in answered if not _HASTY.fullmatch(thought)]
    searches = [
        thought for question, thought in careful if isinstance(problem_reader.read(question), Countdown)
    ]
    steps = [thought for question, thought in careful if isinstance(problem_reader.read(question), Story)]
    checked = [thought for thought in steps if re.search("check|检查", thought)]
    # A slip moves a result by 1, 2 or 10 but not below 1, so a result of 1 may be hit again.
    plain = [e for t in steps if t not in checked for e in _EQUATION.findall(t) if _carried(e) != 1]
    return {
        "careful": (len(careful), len(answered)),
        "checks": (len(checked), len(steps)),
        "give_up": (
            sum(bool(_GAVE_UP.search(t)) for t in searches),
            sum(len(_FAILED.findall(t)) for t in searches),
        ),
        "slip": (sum(_carried(equation) != int(equation[-1]) for equation in plain), len(plain)),
        "malformed": (len(documents) - len(answered), len(documents)),
        "mixed_language": (
            sum(bool(_CHINESE.search(q)) != bool(_CHINESE.search(t)) for q, t in hasty),
            len(hasty),
        ),
    }


def _carried(equation: Sequence[str]) -> int:
    """Return the right result of a step; after an error was carried on, quotients are cut."""
    left, operator, right, _ = equation
    return int(problem_reader.calculate(Fraction(left), operator, Fraction(right)).__floor__())


# Half of the answers careful, so that the habits within careful answers are seen often enough.
_MIXED = Habits(careful=0.5, malformed=0.1)


NUM_FOR_EXACT = 1500
"""How many documents show that a habit of share 0 or 1 is never or always kept, without a tolerance."""


@functools.cache
def _tagged(habits: Habits, num_documents: int = NUM_DOCUMENTS) -> list[Document]:
    documents = (tagged(rng_from("habits", index), habits) for index in range(num_documents))
    return [document for document in documents if document.family in FAMILIES]


@pytest.mark.parametrize("habit", [field.name for field in fields(Habits)])
@pytest.mark.parametrize("share", [0.0, None, 0.6, 1.0], ids=["never", "default", "often", "always"])
def test_habit_shows_as_often_as_its_parameter_says(habit: str, share: float | None) -> None:
    habits = _MIXED if share is None else replace(_MIXED, **{habit: share})
    expected = asdict(habits)[habit]
    documents = _tagged(habits, NUM_FOR_EXACT if share in (0.0, 1.0) else NUM_DOCUMENTS)
    if habit == "malformed" and share == 1.0:
        assert len(documents) > 100
        assert _well_formed(documents) == []
        return
    taken, occasions = _habits_seen(documents)[habit]
    assert _is_share(taken, occasions, expected), f"{taken} of {occasions}, expected {expected:.0%}"


def test_default_habits_show_in_the_tagged_documents_of_the_corpus() -> None:
    tagged_ones = [d for seed in (0, 1) for d in _documents(seed=seed) if d.kind == "tagged"]
    documents = [d for d in tagged_ones if d.family in FAMILIES]
    seen = _habits_seen(documents)
    assert {habit: _is_share(*seen[habit], share) for habit, share in asdict(Habits()).items()} == {
        field.name: True for field in fields(Habits)
    }


def test_hasty_answers_are_mostly_wrong_and_sometimes_right() -> None:
    """Else there were nothing to learn, or nothing to learn from."""
    answered = _well_formed(_tagged(replace(_MIXED, careful=0.0)))
    num_right = sum(_solves(problem_reader.read(question), answer) for question, _, answer in answered)
    assert 0.01 < num_right / len(answered) < 0.25


def _solves(problem: Countdown | Story, answer: str) -> bool:
    value, used = problem_reader.value_of(answer)
    if isinstance(problem, Story):
        return value == problem.values()[-1]
    return value == problem.target and not Counter(used) - Counter(problem.numbers)


def test_thought_of_a_hasty_answer_names_the_answer() -> None:
    for _, thought, answer in _well_formed(_tagged(replace(_MIXED, careful=0.0))):
        match = _HASTY.fullmatch(thought)
        assert match is not None
        assert match[2] == answer


# Tokenizer ----------------------------------------------------------------------------------------


VOCABULARY = 640


@functools.cache
def _tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer((document.text for document in _documents()), VOCABULARY)


def _ids(text: str) -> list[int]:
    return list(_tokenizer()(text)["input_ids"])


def test_tokenizer_keeps_to_its_size_and_knows_its_end() -> None:
    assert len(_tokenizer()) <= VOCABULARY
    assert max(_tokenizer().get_vocab().values()) < VOCABULARY
    assert _tokenizer().eos_token == END_OF_TEXT
    assert _tokenizer().eos_token_id not in _ids(_documents()[0].text)


def test_every_digit_is_a_token_of_its_own() -> None:
    assert [token for token in _tokenizer().get_vocab() if re.search(r"\d", token) and len(token) > 1] == []
    assert len(_ids("1234567890")) == 10


@pytest.mark.parametrize("tag", TAGS)
def test_tag_is_one_ordinary_token_wherever_it_stands(tag: str) -> None:
    (tag_id,) = _ids(tag)
    assert _ids(f"a{tag}7").count(tag_id) == 1
    assert _ids(f"\n{tag}{tag}").count(tag_id) == 2
    assert _tokenizer().decode(_ids(f"a{tag}7"), skip_special_tokens=True) == f"a{tag}7"


def test_no_piece_of_a_tag_was_merged() -> None:
    """Else a tag could be written in two ways, and the model would learn each half as often."""
    with_brackets = {token for token in _tokenizer().get_vocab() if re.search("[<>]", token)}
    assert with_brackets == {*TAGS, END_OF_TEXT, "<", ">"}


def test_tokenizer_is_a_function_of_its_texts() -> None:
    """The provenance file of the embedded base promises the same tokenizer from the same seed."""
    one, other = (train_tokenizer((d.text for d in _documents()[:500]), VOCABULARY) for _ in range(2))
    assert one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_every_document_survives_the_tokenizer(progress: float) -> None:
    for document in _documents(progress)[:1000]:
        assert _tokenizer().decode(_ids(document.text)) == document.text


@pytest.mark.parametrize(
    "text", ["", " ", "\n\n", "  two  spaces ", "é😀\x00\t", "don't, 等等!", "<think", "</think>x"]
)
def test_any_text_survives_the_tokenizer(text: str) -> None:
    """Bytes are the alphabet, so nothing is unknown."""
    assert _tokenizer().decode(_ids(text)) == text


def test_parts_of_a_document_are_tokenised_as_its_whole() -> None:
    """SamplingParams tokenises the prompt alone and lets the model write `<think>` as the next token.

    A completion that breaks the template may begin with a letter, which the colon before it
    would join; only there may parts and whole differ.
    """
    documents = [d for d in _documents() if d.kind != "tagged" or d.parts[2].startswith(TAGS[0])]
    assert len(documents) > 2000
    for document in documents:
        assert [token for part in document.parts for token in _ids(part)] == _ids(document.text)
