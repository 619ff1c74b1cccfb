"""The loop of curation: counts, refusals, and that a killed run ends like one left alone."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from zerone.curation.assembly import PIECE, Piece, Rules, assemble, pieces_of
from zerone.curation.drafts import Draft
from zerone.curation.tally import KEPT, Tally, table_5
from zerone.data.demonstrations import read_demonstrations
from zerone.errors import EndpointError, RunDirError, TooFewSamplesError
from zerone.pipeline.curation_stage import write_counts
from zerone.prompts.r1 import Style, write_completion
from zerone.types import Outcome, Problem

IDENTITY = {"what": "test", "seed": 0}


def problems(count: int, verifier: str = "number") -> list[Problem]:
    return [
        Problem(
            id=f"{verifier}-{i}",
            family="sums",
            level=1 + i % 3,
            language="en",
            prompt=f"What is {i}+1 ({verifier})?",
            verifier=verifier,
            spec={"answer": str(i + 1)},
        )
        for i in range(count)
    ]


def draw(asked: Sequence[Problem]) -> list[list[Draft]]:
    """Answer each problem rightly, rightly again, wrongly, and without tags."""
    return [
        [
            Draft(problem=problem, source="test", number=k, text=text, style=Style.TAGS)
            for k, text in enumerate(_texts(str(problem.spec["answer"])))
        ]
        for problem in asked
    ]


def _texts(answer: str) -> list[str]:
    thought = f"I count on to {answer}."
    return [
        write_completion(thought, answer),
        write_completion(thought, answer),
        write_completion(thought, "0"),
        answer,
    ]


def count_tokens(text: str) -> int:
    return len(text.split())


RULES = Rules(cap=2, minimum=1)


def build(path: Path, pieces: Sequence[Piece], rules: Rules = RULES, **identity: Any) -> dict[str, Any]:
    return assemble(path, IDENTITY | identity, pieces, rules, count_tokens)


def test_counts_are_exact_and_every_line_is_a_demonstration(tmp_path: Path) -> None:
    card = build(tmp_path / "d.jsonl", pieces_of("test", problems(50), draw))
    assert (card["samples"], card["drawn"]) == (50, 200)
    assert card["dropped"] == {"duplicate": 50, "malformed": 50, "wrong": 50}
    assert card["sources"]["test"]["math"]["kept"] == 50
    assert card["levels"] == {"sums/1": 17, "sums/2": 17, "sums/3": 16}
    assert card["table"][-1] == {"domain": "total", "samples": 50, "rounds": 1.0, "tokens": 6.0}
    assert len(read_demonstrations(tmp_path / "d.jsonl").demonstrations) == 50
    assert json.loads((tmp_path / "d.card.json").read_text(encoding="utf-8")) == card
    assert "| duplicate | 50 |" in (tmp_path / "d.card.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.card.json", "d.card.md", "d.jsonl"]


def test_the_summary_of_a_pipeline_counts_drops_by_domain_and_reason_over_all_sources(tmp_path: Path) -> None:
    def cell(**dropped: int) -> dict[str, Any]:
        return {"drawn": 20, "kept": 4, "dropped": dropped}

    card = {
        "table": [],
        "dropped": {"wrong": 9, "too long": 2},
        "sources": {
            "r1_zero": {"code": cell(wrong=1), "math": cell(wrong=3, malformed=4)},
            "designed": {"general": cell(), "math": cell(wrong=5, malformed=1)},
        },
    }
    path = write_counts(tmp_path, "cold_start", card)
    found = json.loads(path.read_text(encoding="utf-8"))["data"]["cold_start"]
    assert (found["table"], found["dropped"]) == (card["table"], card["dropped"])
    assert found["dropped_by_domain"] == {
        "code": {"wrong": 1},
        "math": {"wrong": 8, "malformed": 5},
        "general": {},
    }


def test_every_piece_tells_how_much_is_done(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    pieces = pieces_of("test", problems(3 * PIECE), draw)
    assemble(tmp_path / "d.jsonl", IDENTITY, pieces, RULES, count_tokens, lambda *it: told.append(it))
    assert [share for share, _ in told] == pytest.approx([1 / 3, 2 / 3, 1])
    assert told[0][1] == f"1/3 test: {PIECE} kept of {4 * PIECE}"


def test_a_finished_data_set_is_not_made_again(tmp_path: Path) -> None:
    pieces = pieces_of("test", problems(4), draw)
    first = build(tmp_path / "d.jsonl", pieces)

    def never(asked: Sequence[Problem]) -> list[list[Draft]]:
        raise AssertionError("drawn again")

    assert build(tmp_path / "d.jsonl", pieces_of("test", problems(4), never)) == first
    with pytest.raises(RunDirError, match=r"seed: 0 \(now: 1\)"):
        build(tmp_path / "d.jsonl", pieces, seed=1)


class Killed(BaseException):
    """Stands for a death between two instructions."""


@pytest.mark.parametrize("survived", [0, 1, 3])
def test_a_killed_run_ends_like_one_left_alone(tmp_path: Path, survived: int) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    asked = problems(4 * PIECE)
    build(whole, pieces_of("test", asked, draw))
    left = iter(range(survived))

    def mortal(asked: Sequence[Problem]) -> list[list[Draft]]:
        if next(left, None) is None:
            raise Killed
        return draw(asked)

    with pytest.raises(Killed):
        build(killed, pieces_of("test", asked, mortal))
    assert not killed.exists()
    card = build(killed, pieces_of("test", asked, draw))
    assert killed.read_bytes() == whole.read_bytes()
    assert card["dropped"] == {"duplicate": 128, "malformed": 128, "wrong": 128}


@pytest.mark.parametrize("cut", [0, 1, 90, 200, 330, 460])
def test_a_journal_cut_at_any_byte_goes_on(tmp_path: Path, cut: int) -> None:
    """A piece is on disk before its line in the journal, which a crash may cut anywhere."""
    asked = problems(3 * PIECE)
    whole = tmp_path / "whole.jsonl"
    build(whole, pieces_of("test", asked, draw))

    def stopping(asked: Sequence[Problem]) -> list[list[Draft]]:
        if asked[0].id == f"number-{2 * PIECE}":
            raise Killed
        return draw(asked)

    path = tmp_path / "d.jsonl"
    with pytest.raises(Killed):
        build(path, pieces_of("test", asked, stopping))
    journal, part = tmp_path / "d.jsonl.journal", tmp_path / "d.jsonl.part"
    journal.write_bytes(journal.read_bytes()[:-cut] if cut else journal.read_bytes())
    with part.open("ab") as file:
        file.write(b'{"prompt": "half a li')
    build(path, pieces_of("test", asked, draw))
    assert path.read_bytes() == whole.read_bytes()


def test_other_work_over_a_journal_is_refused_with_the_difference(tmp_path: Path) -> None:
    def dying(asked: Sequence[Problem]) -> list[list[Draft]]:
        raise Killed

    with pytest.raises(Killed):
        build(tmp_path / "d.jsonl", pieces_of("test", problems(3), dying))
    with pytest.raises(RunDirError, match=r"cap: 2 \(now: 5\)"):
        build(tmp_path / "d.jsonl", pieces_of("test", problems(3), draw), Rules(cap=5, minimum=1))


def test_too_few_survivors_are_an_error_with_counts_and_the_work_is_kept(tmp_path: Path) -> None:
    path, pieces = tmp_path / "d.jsonl", pieces_of("test", problems(5), draw)
    with pytest.raises(TooFewSamplesError) as caught:
        build(path, pieces, Rules(cap=2, minimum=6))
    assert "5 samples of 20 are left for d.jsonl, 6 are wanted" in str(caught.value)
    assert "5 duplicate, 5 malformed, 5 wrong" in str(caught.value)
    assert not path.exists()
    assert build(path, pieces, Rules(cap=2, minimum=5))["samples"] == 5
    with pytest.raises(TooFewSamplesError):
        build(path, pieces, Rules(cap=2, minimum=6))


def test_reasoning_stops_where_the_mix_is_full(tmp_path: Path) -> None:
    general = pieces_of("test", problems(10, "judge"), draw)
    reasoning = pieces_of("test", problems(3 * PIECE), draw)
    rules = Rules(cap=1, minimum=1, ratio=3.0, judge=lambda problem, answer: Outcome.CORRECT)
    card = build(tmp_path / "d.jsonl", [*general, *reasoning], rules)
    samples = {row["domain"]: row["samples"] for row in card["table"]}
    assert samples == {"math": 30, "general": 10, "total": 40}
    assert card["dropped"]["over the mix"] == 4  # two right answers to each of two problems
    assert card["problems_skipped"] == 2 * PIECE


def test_what_a_refiner_spoils_is_counted_apart(tmp_path: Path) -> None:
    def refine(drafts: Sequence[Draft]) -> list[Draft | None]:
        spoilt = Draft(problem=drafts[0].problem, source="test", number=0, text="no tags", style=Style.TAGS)
        return [spoilt, None, *drafts[2:]]

    rules = Rules(cap=2, minimum=1, refine=refine)
    card = build(tmp_path / "d.jsonl", pieces_of("test", problems(2), draw), rules)
    assert card["dropped"]["refined: malformed"] == 1
    assert card["dropped"]["unrefined"] == 1
    assert card["samples"] == 1


def test_two_writers_at_once_are_refused(tmp_path: Path) -> None:
    pieces = pieces_of("test", problems(2), draw)

    def meddling(asked: Sequence[Problem]) -> list[list[Draft]]:
        with pytest.raises(RunDirError, match="being written by another process"):
            build(tmp_path / "d.jsonl", pieces)
        return draw(asked)

    assert build(tmp_path / "d.jsonl", pieces_of("test", problems(2), meddling))["samples"] == 2


def test_the_table_is_the_papers() -> None:
    rows = table_5(
        [
            {"domain": "general", "rounds": 3, "tokens": 10},
            {"domain": "math", "rounds": 1, "tokens": 100},
            {"domain": "math", "rounds": 1, "tokens": 301},
        ]
    )
    assert rows == [
        {"domain": "math", "samples": 2, "rounds": 1.0, "tokens": 200.5},
        {"domain": "general", "samples": 1, "rounds": 3.0, "tokens": 10.0},
        {"domain": "total", "samples": 3, "rounds": 1.67, "tokens": 137.0},
    ]


def test_counts_survive_being_written() -> None:
    tally = Tally()
    for fate in (KEPT, KEPT, "wrong"):
        tally.add("r1_zero", "math", fate)
    again = Tally.of_rows(json.loads(json.dumps(tally.rows())))
    assert again.by_source() == {"r1_zero": {"math": {"drawn": 3, "kept": 2, "dropped": {"wrong": 1}}}}
    assert (again.num_drawn, again.num_kept, again.dropped()) == (3, 2, {"wrong": 1})


def test_a_judge_without_a_usable_verdict_on_many_answers_stops_the_work(tmp_path: Path) -> None:
    def judged_by(outcomes: Sequence[Outcome]) -> Rules:
        given = iter(outcomes)
        return Rules(cap=2, minimum=1, judge=lambda problem, answer: next(given))

    mute = [Outcome.INFRASTRUCTURE_ERROR] * 100
    pieces = pieces_of("test", problems(8, "judge"), draw)
    with pytest.raises(EndpointError, match="no usable verdict on any of 24 completions"):
        build(tmp_path / "mute.jsonl", pieces, judged_by(mute))
    card = build(tmp_path / "mute.jsonl", pieces, judged_by([Outcome.CORRECT, *mute]))
    assert card["dropped"]["unjudged"] == 23, "the piece was done anew, by one that says something"


def test_an_error_of_one_answer_does_not_wait_for_the_judge_of_another(tmp_path: Path) -> None:
    speaks = threading.Event()

    def judge(problem: Problem, answer: str) -> Outcome:
        if problem.id.endswith("0"):
            raise EndpointError("away")
        speaks.wait(timeout=30)
        return Outcome.CORRECT

    try:
        with pytest.raises(EndpointError, match="away"):
            build(
                tmp_path / "d.jsonl",
                pieces_of("test", problems(2, "judge"), draw),
                Rules(cap=2, minimum=1, judge=judge),
            )
        assert not speaks.is_set()
    finally:
        speaks.set()


def test_a_full_disk_is_said_and_the_work_goes_on_once_there_is_room(tmp_path: Path) -> None:
    """A limit on the size of files, in a process of its own, stands for the end of the disk."""
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from test_curation_assembly import build, draw, pieces_of, problems\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "build(Path(sys.argv[1]), pieces_of('test', problems(50), draw))\n"
    )
    path = tmp_path / "full.jsonl"
    found = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("zerone.errors.RunDirError: cannot write") and "free some space" in last
    pieces = pieces_of("test", problems(50), draw)
    build(tmp_path / "left_alone.jsonl", pieces)
    build(path, pieces)
    assert path.read_bytes() == (tmp_path / "left_alone.jsonl").read_bytes()
