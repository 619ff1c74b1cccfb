"""Data sets by name: configurations, splits and revisions of a Hub on loopback, and every way to fail."""

import gzip
import importlib.util
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fake_hub import AWAY, Online, commit_of, online
from zerone import hub
from zerone.data.demonstrations import read_demonstrations
from zerone.data.hub import by_name, split_of_name
from zerone.data.jsonl import Fields, read_problems
from zerone.data.preferences import read_examples
from zerone.data.records import read_rows
from zerone.data.sources import open_source
from zerone.errors import DataError

needs_datasets = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="the extra hf is not installed"
)
needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="the extra parquet is not installed"
)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Online]:
    with online(tmp_path / "hub") as found:
        yield found


def jsonl(*rows: Mapping[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def rows_at(name: str, **options: Any) -> list[Any]:
    """Return the first value of each row of a source."""
    return [next(iter(json.loads(line.content).values())) for line in open_source(name, **options).lines()]


def refusal(name: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(open_source(name, **options).lines())
    return str(caught.value)


CARD = b"""---
license: mit
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: main/test-*
- config_name: socratic
  data_files:
  - split: train
    path:
    - socratic/a.jsonl
    - socratic/b.jsonl
---
# GSM8K
"""

FILES = {
    "README.md": CARD,
    "main/train-00000-of-00002.jsonl": jsonl({"q": "m0"}, {"q": "m1"}),
    "main/train-00001-of-00002.jsonl": jsonl({"q": "m2"}),
    "main/test-00000-of-00001.jsonl": jsonl({"q": "t0"}),
    "socratic/a.jsonl": jsonl({"q": "s0"}),
    "socratic/b.jsonl": jsonl({"q": "s1"}),
    "gsm8k.py": b"import os",
}

NAME = "openai/gsm8k"


@pytest.mark.parametrize(
    ("suffix", "wanted"),
    [
        ("", ["m0", "m1", "m2"]),
        ("/main", ["m0", "m1", "m2"]),
        ("#train", ["m0", "m1", "m2"]),
        ("#test", ["t0"]),
        ("/main#test", ["t0"]),
        ("@main#test", ["t0"]),
        ("/socratic@main#train", ["s0", "s1"]),
        ("/socratic", ["s0", "s1"]),
        ("/main/train-00001-of-00002.jsonl", ["m2"]),
        ("/main/*.jsonl", ["t0", "m0", "m1", "m2"]),
        ("/socratic/b.jsonl@main", ["s1"]),
        ("@v1", ["old"]),
        ("@refs/pr/1#train", ["old"]),
    ],
)
def test_configuration_revision_and_split_are_suffixes(web: Online, suffix: str, wanted: list[str]) -> None:
    older = {"data/train.jsonl": jsonl({"q": "old"})}
    web.hub.add("datasets", NAME, FILES).files.update({"v1": older, "refs/pr/1": older})
    assert rows_at(f"hf:{NAME}{suffix}") == wanted


def test_only_the_files_of_the_split_are_fetched_and_never_a_program(web: Online) -> None:
    web.hub.add("datasets", NAME, FILES)
    rows_at(f"hf:{NAME}#test")
    assert web.hub.fetched == ["README.md", "main/test-00000-of-00001.jsonl"]


CARDS = {
    "a list of patterns": "- config_name: default\n  data_files: [x/one.jsonl, x/two.jsonl]",
    "one pattern": "- config_name: default\n  data_files: x/*.jsonl",
    "by split": "- config_name: default\n  data_files: {train: x/*.jsonl}",
    "a folder": "- config_name: only\n  data_dir: x",
    "patterns in a folder": "- config_name: only\n  data_dir: ./x\n  data_files: '*.jsonl'".replace(
        "./x", "x"
    ),
    "any depth": "- config_name: only\n  data_files: '**/*.jsonl'",
    "the default": "- config_name: other\n  data_files: y.jsonl\n- config_name: mine\n  default: true\n"
    "  data_files: x/*.jsonl",
    "called default": "- config_name: other\n  data_files: y.jsonl\n- config_name: default\n"
    "  data_files: x/*.jsonl",
}


@pytest.mark.parametrize("case", CARDS)
def test_a_readme_may_say_in_many_ways_what_a_split_is(web: Online, case: str) -> None:
    card = f"---\nconfigs:\n{CARDS[case]}\n---\nText\n".encode()
    rows = {"x/one.jsonl": jsonl({"q": 1}), "x/two.jsonl": jsonl({"q": 2})}
    web.hub.add("datasets", "a/b", {"README.md": card, **rows})
    assert rows_at("hf:a/b") == [1, 2]


@pytest.mark.parametrize(
    ("files", "split", "wanted"),
    [
        (["train.jsonl", "test.jsonl"], "train", ["train.jsonl"]),
        (["train.jsonl", "test.jsonl"], "test", ["test.jsonl"]),
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], "test", [1]),
        (["rows.jsonl"], "train", ["rows.jsonl"]),
        (["a.jsonl", "b.jsonl"], "train", ["a.jsonl", "b.jsonl"]),
        (["my_train_set.json", "dev.json"], "validation", ["dev.json"]),
        (["test.jsonl", "test2.jsonl", "test6.jsonl"], "test", [0, 1, 2]),
        (["valid/part.jsonl", "train/part.jsonl"], "validation", ["valid/part.jsonl"]),
        (["train_prefs-00000-of-00001.jsonl", "train_sft-00000-of-00001.jsonl"], "train_prefs", [0]),
        (["latest.jsonl", "contest.jsonl", "attest.jsonl"], "train", [2, 1, 0]),
    ],
)
def test_without_a_word_in_the_readme_names_tell_splits(
    files: list[str], split: str, wanted: list[Any]
) -> None:
    named = [files[one] if isinstance(one, int) else one for one in wanted]
    assert by_name(files).get(split) == named


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("eval-results.jsonl", "test"),
        ("VAL.json", "validation"),
        ("data/x.parquet", None),
        ("constrained.jsonl", None),
        ("train/val.jsonl", "validation"),
        ("openr1-math-00000-of-00010.parquet", None),
        ("extended-00000-of-00010.parquet", "extended"),
    ],
)
def test_a_split_is_a_word_of_its_own(name: str, split: str | None) -> None:
    found = split_of_name(name)
    assert (found in ("math", None)) if split is None else found == split


def test_a_folder_is_a_part_where_the_readme_names_none(web: Online) -> None:
    files = {"en/train.jsonl": jsonl({"q": "e"}), "cn/train.jsonl": jsonl({"q": "c"})}
    web.hub.add("datasets", "a/b", files)
    assert rows_at("hf:a/b/cn") == ["c"]
    assert "no configuration or folder 'fr'; there are the folders cn, en" in refusal("hf:a/b/fr")


SENTENCES = {
    "missing": ("hf:openai/gsm8kk", "there is no data set openai/gsm8kk on the Hub", "Check the spelling"),
    "gated": ("hf:a/gated", "the data set a/gated is gated", "Ask for it there, then log in"),
    "private": ("hf:a/private", "there is no data set a/private on the Hub, or it is private", "HF_TOKEN"),
    "revision": (f"hf:{NAME}@v9", "has no revision 'v9'", "branch, a tag or a commit"),
    "configuration": (f"hf:{NAME}/sokratic", "no configuration 'sokratic'", "there are: main, socratic"),
    "split": (f"hf:{NAME}#dev", "has no split 'dev'; there are: train, test", f"hf:{NAME}#train"),
    "split of a part": (f"hf:{NAME}/socratic#test", "no split 'test'; there are: train", "/socratic#train"),
    "several": ("hf:a/several", "has several configurations: x, y", "hf:a/several/x"),
    "file": (f"hf:{NAME}/main/x.jsonl", "has no file 'main/x.jsonl' of rows", ""),
    "no rows": ("hf:a/images", "has no files of rows that can be read", "program in it"),
    "no owner": ("hf:gsm8k", "'hf:gsm8k' is not a name on the Hugging Face Hub", "hf:OWNER/NAME"),
    "empty": ("hf:", "is not a name on the Hugging Face Hub", "hf:OWNER/NAME"),
    "two splits": (f"hf:{NAME}#a#b", "is not a name on the Hugging Face Hub", "#SPLIT"),
    "order": (f"hf:{NAME}#train@main", "is not a name on the Hugging Face Hub", "@REVISION and #SPLIT"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_each_failure_has_its_own_sentence(web: Online, case: str) -> None:
    web.hub.add("datasets", NAME, FILES)
    web.hub.add("datasets", "a/gated", FILES, is_gated=True)
    web.hub.add("datasets", "a/private", FILES, is_private=True)
    configs = "".join(f"- {{config_name: {name}, data_files: {name}.jsonl}}\n" for name in "xy")
    several = f"---\nconfigs:\n{configs}---".encode()
    web.hub.add("datasets", "a/several", {"README.md": several, "x.jsonl": jsonl({"q": 1})})
    web.hub.add("datasets", "a/images", {"loader.py": b"import os", "train/0.png": b"x"})
    name, what, remedy = SENTENCES[case]
    said = refusal(name)
    assert what in said
    assert remedy in said


def test_a_name_that_is_no_file_and_has_no_prefix_is_told_how_to_write_it() -> None:
    assert "a data set on the Hub is hf:openai/gsm8k" in refusal("openai/gsm8k")
    assert "hf:" not in refusal("data/problems.jsonl")


@pytest.mark.parametrize("away", AWAY)
def test_a_cached_data_set_needs_no_hub(web: Online, away: str) -> None:
    web.hub.add("datasets", NAME, FILES)
    wanted = rows_at(f"hf:{NAME}")
    web.lose(away)
    web.restart()
    assert rows_at(f"hf:{NAME}") == wanted
    if away == "offline":
        assert "HF_HUB_OFFLINE is set" in refusal(f"hf:{NAME}/socratic")


@pytest.mark.parametrize("with_list", [True, False])
def test_a_cache_that_was_filled_by_half_is_not_taken_for_the_whole(web: Online, with_list: bool) -> None:
    web.hub.add("datasets", NAME, FILES)
    source = open_source(f"hf:{NAME}")
    list(source.lines())
    (place,) = (web.cache / "datasets--openai--gsm8k" / "snapshots").iterdir()
    (place / "main" / "train-00001-of-00002.jsonl").unlink()
    if not with_list:
        for path in (web.cache / "datasets--openai--gsm8k" / "trees").iterdir():
            path.unlink()
    web.go_offline()
    said = refusal(f"hf:{NAME}")
    assert "is not whole" in said
    assert "HF_HUB_OFFLINE" in said


def test_offline_and_without_network_the_sentences_differ(web: Online) -> None:
    web.break_network()
    assert "cannot be reached" in refusal(f"hf:{NAME}")
    web.go_offline()
    assert "HF_HUB_OFFLINE is set" in refusal(f"hf:{NAME}")


def test_a_name_stays_at_its_commit_while_the_branch_moves(web: Online) -> None:
    made = web.hub.add("datasets", NAME, FILES)
    first = open_source(f"hf:{NAME}")
    newer = FILES | {"main/train-00000-of-00002.jsonl": jsonl({"q": "new"})}
    made.files.update({"main": newer, "before": FILES})
    again = open_source(f"hf:{NAME}")
    assert (
        first.about
        == again.about
        == {
            "path": f"hf:{NAME}",
            "revision": commit_of(FILES),
            "split": "train",
        }
    )
    assert first.sha256() == again.sha256()
    web.restart()
    assert open_source(f"hf:{NAME}").sha256() != first.sha256()
    assert hub.pinned([f"hf:{NAME}"]) == {"dataset": {f"hf:{NAME}": commit_of(newer)}}


def test_complaints_name_the_file_and_the_line(web: Online) -> None:
    rows = b'{"prompt": "1+1?", "answer": "2"}\n{"prompt": "2+2?"}\n'
    web.hub.add("datasets", "a/b", {"train.jsonl": rows})
    with pytest.raises(DataError, match=r"hf:a/b/train\.jsonl:2: no field 'answer'"):
        read_problems("hf:a/b", Fields())


def test_files_may_be_packed(web: Online) -> None:
    web.hub.add("datasets", "a/b", {"train.jsonl.gz": gzip.compress(jsonl({"q": 1}))})
    assert rows_at("hf:a/b") == [1]
    web.hub.add("datasets", "a/c", {"train.json": b'[{"q": 1}, {"q": 2}]'})
    assert rows_at("hf:a/c") == [1, 2]


@needs_pyarrow
def test_parquet_is_read(web: Online) -> None:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"question": ["1+1?"], "answer": ["It is 2.\n#### 2"]}), file)
    web.hub.add("datasets", NAME, {"README.md": CARD, "main/train-0.parquet": file.getvalue()})
    read = read_problems(f"hf:{NAME}", Fields())
    assert (read.read_as, [problem.spec["answer"] for problem in read.problems]) == ("GSM8K", ["2"])


def test_other_formats_need_the_library_and_say_which(web: Online, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    web.hub.add("datasets", "a/b", {"train.csv": b"question,answer\n1+1?,2\n"})
    assert "needs the library datasets; install it by `pip install 'zerone[hf]'`" in refusal("hf:a/b")


@needs_datasets
def test_other_formats_are_read_by_the_library(web: Online) -> None:
    web.hub.add("datasets", "a/b", {"train.csv": b"question,answer\n1+1?,2\n"})
    assert rows_at("hf:a/b") == ["1+1?"]


def test_demonstrations_preferences_and_suites_have_names_too(web: Online) -> None:
    said = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    web.hub.add("datasets", "a/sft", {"train.jsonl": jsonl(said)})
    assert len(read_demonstrations("hf:a/sft").demonstrations) == 1
    pair = {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}
    web.hub.add("datasets", "a/pairs", {"train.jsonl": jsonl(pair)})
    assert read_examples("hf:a/pairs")[0] == "helpfulness"
    web.hub.add("datasets", "a/suite", {"test.jsonl": jsonl({"problem": "1+1?", "answer": "2"})})
    for name in ("hf:a/suite", "hub:a/suite", "hub:a/suite::test", "hub:a/suite/test.jsonl"):
        (row,) = read_rows(name)
        assert row.text("problem") == "1+1?"
    assert row.place == "hf:a/suite/test.jsonl:1"
