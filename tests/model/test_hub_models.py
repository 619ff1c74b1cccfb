"""Models by name: huggingface_hub's client against a Hub on loopback, its cache, and every way to fail."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fake_hub import AWAY, Online, commit_of, online
from fakes import byte_tokenizer, tiny_model
from processes import arguments_of, call_main
from zerone import hub
from zerone.errors import ModelError, UserError
from zerone.model.loading import find_directory, load_model, save_model
from zerone.runs.lineage import lineage_of_model

NAME = "some/tiny"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A repository of a model as they are: also with what must not be fetched."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(tiny_model(), byte_tokenizer(), folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {
        "README.md": b"# Tiny",
        "chat_template.jinja": b"{{ messages[0].content }}",
        "pytorch_model.bin": b"a pickle",
        "modeling_tiny.py": b"import os",
        "onnx/config.json": b"{}",
        "original/params.json": b"{}",
        "consolidated.safetensors": b"the same weights again",
    }


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Online]:
    with online(tmp_path / "hub") as found:
        yield found


def refusal(name: str) -> str:
    with pytest.raises(ModelError) as caught:
        find_directory(name)
    return str(caught.value)


def test_a_model_is_fetched_by_its_name_and_only_what_is_needed(web: Online, files: dict[str, bytes]) -> None:
    web.hub.add("models", NAME, files)
    model = load_model(NAME, torch.float32)
    assert sum(p.numel() for p in model.module.parameters()) > 0
    assert sorted(web.hub.fetched) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert {one.split("/")[0] for one in web.hub.requests} <= {"api", "some"}


@pytest.mark.parametrize("name", [NAME, f"hf:{NAME}", f"{NAME}@main", f"hf:{NAME}@main"])
def test_a_name_may_have_a_prefix_and_a_revision(web: Online, files: dict[str, bytes], name: str) -> None:
    web.hub.add("models", NAME, files)
    assert find_directory(name).name == commit_of(files)


def test_a_revision_is_the_one_that_is_named(web: Online, files: dict[str, bytes]) -> None:
    older = files | {"generation_config.json": b'{"temperature": 0.5, "do_sample": true}'}
    web.hub.add("models", NAME, files).files["v1/old"] = older
    assert find_directory(f"{NAME}@v1/old").name == commit_of(older)
    assert find_directory(f"{NAME}@{commit_of(older)}").name == commit_of(older)
    assert find_directory(NAME).name == commit_of(files)


def test_what_is_in_the_cache_is_not_fetched_again(web: Online, files: dict[str, bytes]) -> None:
    web.hub.add("models", NAME, files)
    first = find_directory(NAME)
    web.hub.requests.clear()
    assert find_directory(NAME) == first
    assert web.hub.requests == [], "the same process asks once"
    web.restart()
    assert find_directory(NAME) == first
    assert web.hub.fetched == []


@pytest.mark.parametrize("away", AWAY)
def test_a_cached_model_needs_no_hub(web: Online, files: dict[str, bytes], away: str) -> None:
    web.hub.add("models", NAME, files)
    first = find_directory(NAME)
    web.lose(away)
    web.restart()
    web.hub.requests.clear()
    assert find_directory(NAME) == first
    assert load_model(NAME, torch.float32).path == NAME
    assert web.hub.fetched == []


def test_a_prepared_cache_is_enough(web: Online, files: dict[str, bytes]) -> None:
    """As `hf download` leaves it, and as a cache that is copied to a machine without network holds it."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = web.cache / "models--some--tiny"
    for name, data in files.items():
        path = place / "snapshots" / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    web.go_offline()
    assert find_directory(NAME).name == commit
    assert hub.pinned([NAME]) == {"model": {NAME: commit}}


def test_a_name_stays_at_its_commit_while_the_branch_moves(web: Online, files: dict[str, bytes]) -> None:
    made = web.hub.add("models", NAME, files)
    first = find_directory(NAME)
    made.files |= {"main": files | {"generation_config.json": b"{}"}, "before": files}
    assert find_directory(NAME) == first
    web.restart()
    assert find_directory(NAME) != first
    hub.pin({"model": {NAME: commit_of(files)}})
    assert find_directory(NAME) == first, "a run that is resumed, in a process that asked for another commit"


@pytest.mark.parametrize("commit", ["main", "../../etc", "", "0" * 39, None, 7])
def test_what_is_no_commit_in_the_record_of_a_run_is_refused(commit: Any) -> None:
    with pytest.raises(UserError, match="the record of the run is damaged"):
        hub.pin({"model": {NAME: commit}})


SENTENCES = {
    "missing": (
        "some/tinny",
        "there is no model some/tinny on the Hub, or it is private",
        "Check the spelling",
    ),
    "missing here": ("some/tinny", "nor is there a directory some/tinny here", "hf auth login"),
    "private": ("some/private", "there is no model some/private on the Hub, or it is private", "HF_TOKEN"),
    "gated": ("some/gated", "the model some/gated is gated", "Ask for it there, then log in"),
    "revision": (f"{NAME}@v9", "the model some/tiny has no revision 'v9'", "branch, a tag or a commit"),
    "one part": ("hf:tiny", "'hf:tiny' is not a name on the Hugging Face Hub", "OWNER/NAME@REVISION"),
    "three parts": ("hf:a/b/c", "is not a name on the Hugging Face Hub", "OWNER/NAME"),
    "space": ("hf:a b/c", "is not a name on the Hugging Face Hub", "OWNER/NAME"),
    "empty": ("hf:", "is not a name on the Hugging Face Hub", "OWNER/NAME"),
    "two dashes": ("hf:a/b--c", "is not a name on the Hugging Face Hub", "OWNER/NAME"),
    "split": (f"hf:{NAME}#train", "is not a name on the Hugging Face Hub", "OWNER/NAME"),
    "pickles": ("some/pickles", "holds only pickled weights (pytorch_model.bin)", "are never fetched"),
    "adapter": ("some/adapter", "it is an adapter, to be put on its base some/base", "merged into it"),
    "no model": ("some/empty", "has no config.json: it is not a transformers model", "GGUF"),
    "architecture": ("some/other", "model type 'nonsense'", "is not a causal language model"),
    "odd index": ("some/odd", "names pytorch_model.bin as weights", "only safetensors are fetched"),
    "index": ("some/lacking", "has no model-2.safetensors at", "choose another revision"),
}


def _with_faults(web: Online, files: dict[str, bytes]) -> None:
    """Put repositories on the Hub that cannot be used, each for its own reason."""

    def index(*names: str) -> dict[str, bytes]:
        text = json.dumps({"weight_map": {f"w{i}": name for i, name in enumerate(names)}})
        small = {name: data for name, data in files.items() if not name.endswith(".safetensors")}
        return small | {"model.safetensors.index.json": text.encode()}

    web.hub.add("models", NAME, files)
    web.hub.add("models", "some/private", files, is_private=True)
    web.hub.add("models", "some/gated", files, is_gated=True)
    web.hub.add("models", "some/pickles", {n: d for n, d in files.items() if not n.endswith(".safetensors")})
    web.hub.add(
        "models", "some/adapter", {"adapter_config.json": b'{"base_model_name_or_path": "some/base"}'}
    )
    web.hub.add("models", "some/empty", {"README.md": b"nothing"})
    web.hub.add("models", "some/other", files | {"config.json": b'{"model_type": "nonsense"}'})
    web.hub.add("models", "some/odd", index("pytorch_model.bin"))
    lacking = index("model-1.safetensors", "model-2.safetensors")
    web.hub.add("models", "some/lacking", lacking | {"model-1.safetensors": files["model.safetensors"]})


@pytest.mark.parametrize("case", SENTENCES)
def test_each_failure_has_its_own_sentence(web: Online, files: dict[str, bytes], case: str) -> None:
    name, what, remedy = SENTENCES[case]
    _with_faults(web, files)
    said = refusal(name)
    assert what in said
    assert remedy in said
    assert "Traceback" not in said
    assert "Request ID" not in said


@pytest.mark.parametrize("name", ["some/other", "some/adapter", "some/empty", "some/odd"])
def test_what_cannot_be_used_is_refused_before_any_weights_are_fetched(
    web: Online, files: dict[str, bytes], name: str
) -> None:
    _with_faults(web, files)
    refusal(name)
    assert [one for one in web.hub.fetched if one.endswith((".safetensors", ".bin"))] == []


def test_who_may_read_a_gated_or_private_model_reads_it(web: Online, files: dict[str, bytes]) -> None:
    _with_faults(web, files)
    web.log_in()
    assert find_directory("some/gated").name == find_directory("some/private").name == commit_of(files)


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (401, "log in again"),
        (403, "log in again"),
        (429, "status 429"),
        (500, "status 500"),
        (503, "status 503"),
    ],
)
def test_a_hub_that_refuses_is_told_by_its_status(web: Online, status: int, what: str) -> None:
    web.hub.status = status
    assert what in refusal(NAME) or (status == 401 and "it is private" in refusal(NAME))


def test_without_network_the_sentence_says_so(web: Online) -> None:
    web.break_network()
    said = refusal(NAME)
    assert "cannot be reached" in said
    assert "check the network" in said
    assert "HF_HUB_OFFLINE is set" not in said


def test_offline_nothing_is_asked_and_the_sentence_says_so(web: Online, files: dict[str, bytes]) -> None:
    web.hub.add("models", NAME, files)
    web.go_offline()
    said = refusal(NAME)
    assert "HF_HUB_OFFLINE is set" in said
    assert str(web.cache) in said
    assert web.hub.requests == []


def test_offline_a_model_that_was_fetched_by_half_is_refused(web: Online, files: dict[str, bytes]) -> None:
    web.hub.add("models", NAME, files)
    for weights in [path for path in find_directory(NAME).iterdir() if path.suffix == ".safetensors"]:
        weights.unlink()
    web.go_offline()
    assert "is not whole in the cache" in refusal(NAME)


@pytest.mark.parametrize(
    ("name", "is_asked"),
    [
        ("some/tiny", True),
        ("hf:some/tiny", True),
        ("some/tiny@main", True),
        ("hf:here/tiny", True),
        ("here/tiny", False),
        ("here/there", False),
        ("./some/tiny", False),
        ("../some/tiny", False),
        ("~/tiny", False),
        ("/some/tiny", False),
        ("some/tiny/model", False),
        ("tiny", False),
        ("some/..", False),
    ],
)
def test_only_a_name_is_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_asked: bool
) -> None:
    (tmp_path / "here" / "there").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub.is_model_name(name) is is_asked


def test_a_path_that_is_missing_says_how_a_name_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "hf:OWNER/NAME where a directory OWNER is here" in refusal("models/qwen")


# In a run -----------------------------------------------------------------------------------------


def _run(folder: Path, *changes: str) -> tuple[int, str]:
    arguments = [one for one in arguments_of(folder, "run", *changes) if not one.startswith("model.path")]
    code, _, err = call_main(folder, *arguments, f"model.path={NAME}", "rl.steps=1", "--quiet")
    return code, err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [json.dumps({"prompt": f"{i} + {i}?", "answer": str(2 * i)}) for i in range(30)]
    (tmp_path / "problems.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def test_a_run_records_the_commit_and_goes_back_to_it(
    web: Online, files: dict[str, bytes], folder: Path
) -> None:
    made = web.hub.add("models", NAME, files)
    code, err = _run(folder)
    assert code == 0, err
    environment = json.loads((folder / "run" / "environment.json").read_text(encoding="utf-8"))
    assert environment["model"] == NAME
    assert environment["model_commits"] == {NAME: commit_of(files)}
    lineage = json.loads((folder / "run" / "model" / "lineage.json").read_text(encoding="utf-8"))
    base = next(node for node in lineage["nodes"].values() if node["name"] == "base")
    assert base["about"]["revision"] == commit_of(files)
    made.files |= {"main": files | {"generation_config.json": b"{}"}, "before": files}
    web.restart()
    code, err = _run(folder, "--resume")
    assert (code, "has changed" in err) == (0, False), err


def test_the_lineage_of_a_model_of_the_hub_does_not_depend_on_what_else_is_cached(
    web: Online, files: dict[str, bytes]
) -> None:
    web.hub.add("models", NAME, files)
    before = lineage_of_model(NAME)
    (find_directory(NAME) / "README.md").write_text("fetched by another program")
    assert lineage_of_model(NAME) == before


@pytest.mark.parametrize("command", ["export", "eval"])
def test_other_commands_take_names_too(
    web: Online, files: dict[str, bytes], tmp_path: Path, command: str
) -> None:
    web.hub.add("models", NAME, files)
    out = ["--to", "hf", "--out", str(tmp_path / "out")]
    rest = (
        out
        if command == "export"
        else ["--suite", "sums", "--k", "1", "--limit", "1", "sampling.max_tokens=8"]
    )
    code, _, err = call_main(tmp_path, command, NAME, *rest)
    assert code == 0, err
