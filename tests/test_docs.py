"""The documents: pages made from the code are those of this code, links lead somewhere, the notebook runs."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup
from typer.main import get_command

import write_figure
import write_notebook
import write_reference
from pages import blocks, commands_of, typed_lines
from processes import arguments_of, call_main, run_program
from scripted import save_talking_model, write_problems
from zerone.cli.main import app
from zerone.config import options
from zerone.runs.directory import RunDir

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

needs_mkdocs = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material")),
    reason="the extra docs is not installed",
)


@pytest.mark.parametrize("path", list(write_reference.pages()), ids=lambda path: path.name)
def test_reference_pages_are_those_of_the_code(path: Path) -> None:
    wanted = write_reference.pages()[path]
    assert path.read_text(encoding="utf-8") == wanted, "run: python docs/write_reference.py"


# The notebook -------------------------------------------------------------------------------------


def test_the_notebook_is_that_of_the_program() -> None:
    now = write_notebook.NOTEBOOK.read_text(encoding="utf-8")
    assert now == write_notebook.notebook_text(), "run: python docs/write_notebook.py"


def test_cells_are_told_apart() -> None:
    notebook = write_notebook.to_notebook(
        "# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\na = 1\n\nb = 2\n# %%\nc\n"
    )
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert cells == [("markdown", "# Title\n\nText."), ("code", "a = 1\n\nb = 2"), ("code", "c")]
    assert len({cell["id"] for cell in notebook["cells"]}) == 3


def test_text_outside_of_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with 'import os'"):
        write_notebook.to_notebook("import os\n# %%\na = 1\n")


def test_every_code_cell_is_python_and_all_together_are_the_program() -> None:
    cells = json.loads(write_notebook.NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    compile(code, "first_run", "exec")
    program = write_notebook.SOURCE.read_text(encoding="utf-8").replace("  # noqa: E402", "")
    lines = [line for line in program.splitlines() if line and not line.startswith("#")]
    assert [line for line in code.splitlines() if line] == lines


TINY = [
    "rl.steps=2",
    "rl.problems_per_step=4",
    "rl.group_size=4",
    "sampling.max_tokens=48",
    "eval.problems=4",
    "eval.mixed_samples=1",
    "eval.hard_samples=2",
    "model.threads=1",
    "model.precision=fp32",
]


def test_the_program_of_the_notebook_runs(tmp_path: Path) -> None:
    program = write_notebook.SOURCE.read_text(encoding="utf-8")
    assert program.count("OVERRIDES: list[str] = []") == 1
    small = program.replace("OVERRIDES: list[str] = []", f"OVERRIDES: list[str] = {TINY}")
    said_by_it = run_program(tmp_path, small)
    for said in ("2 steps of 4 problems x 4 answers", "hard   trained", "step 2, reward"):
        assert said in said_by_it
    assert (tmp_path / "runs" / "notebook" / "export" / "chat_template.jinja").exists()


# The site -----------------------------------------------------------------------------------------


def build(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a checkout without any network: requests would go to a closed port."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=folder,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


LOADED = re.compile(
    r"""<(?:script|img|iframe)[^>]*\ssrc=["']?(?:https?:)?//|<link[^>]*\shref=["']?(?:https?:)?//"""
)


@needs_mkdocs
def test_the_site_has_no_broken_links_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 12
    for page in pages:
        assert LOADED.search(page.read_text(encoding="utf-8")) is None, page
    assert (tmp_path / "site" / "first_run.ipynb").exists()


@needs_mkdocs
def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.write("\n[gone](gone.md) and [nowhere](own_data.md#nowhere)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "gone.md" in done.stderr
    assert "#nowhere" in done.stderr


OUTSIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md")


@pytest.mark.parametrize("name", OUTSIDE)
def test_links_from_outside_of_the_site_lead_somewhere(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


MEASURED = re.compile(r"\d+\.\d% \[[^\]]+\]")


def page_text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "least"), [("README.md", 6), ("docs/index.md", 2), ("docs/how_r1_works.md", 4)]
)
def test_figures_with_intervals_are_those_of_the_results(name: str, least: int) -> None:
    """A run that is measured anew changes docs/results.md; no page must keep an old figure."""
    found = MEASURED.findall(page_text(name))
    assert len(found) >= least
    assert set(found) <= set(MEASURED.findall(page_text("docs/results.md")))


def test_the_stage_table_of_the_readme_is_that_of_the_results() -> None:
    def shares(name: str, model: str) -> list[str]:
        rows = [line for line in page_text(name).splitlines() if line.startswith(f"| {model} | ")]
        row = next(row for row in rows if row.count("%") >= 5)
        return re.findall(r"(\d+(?:\.\d)?%)", row)

    for model in ("base", "R1-Zero", "R1"):
        reasoning, hard, _, _, language, helpfulness, safety = shares("docs/results.md", model)
        assert shares("README.md", model) == [reasoning, hard, language, helpfulness, safety]


PAGES = sorted(path.name for path in DOCS.glob("*.md"))

NAMED = re.compile(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|jsonl|yaml|svg|png))`")


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", *(f"docs/{page}" for page in PAGES if page != "lab_notebook.md")]
)
def test_files_that_a_page_names_exist(name: str) -> None:
    """Of the repository, or of the package by its path within it."""
    roots = (ROOT, ROOT / "src", ROOT / "src" / "zerone", DOCS)
    named = NAMED.findall(page_text(name))
    assert [path for path in named if not any((root / path).exists() for root in roots)] == []


def test_files_named_on_pages_are_found() -> None:
    assert NAMED.findall("`train/loop.py` `brief.py` `docs/assets/zero.svg`") == [
        "train/loop.py",
        "docs/assets/zero.svg",
    ]
    assert sum(len(NAMED.findall(page_text(f"docs/{page}"))) for page in PAGES) > 60


@pytest.mark.parametrize("name", PAGES)
def test_each_page_opens_with_what_its_reader_can_do_afterwards(name: str) -> None:
    opening = " ".join(page_text(f"docs/{name}").split("\n## ")[0].split()[:120])
    opened = "fter this page" in opening or "after it you can" in opening
    assert opened or name == "lab_notebook.md", opening


# What a reader pastes -----------------------------------------------------------------------------


# What click raises: typer brings a click of its own.
WRONG: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def complaint_of(arguments: list[str]) -> str | None:
    """Return what the command line says against arguments, or None; nothing is run."""
    command: Any = get_command(app)
    name: Any = "zerone"
    rest, context = arguments, None
    try:
        while isinstance(command, TyperGroup):
            context = command.make_context(name, list(rest), parent=context)
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        command.make_context(name, list(rest), parent=context)
    except WRONG as error:
        return str(error.format_message())
    return next((f"no option {key}" for key in _option_keys(arguments) if not _is_option(key)), None)


def _option_keys(arguments: list[str]) -> Iterator[str]:
    for argument in arguments:
        if match := re.match(r"([a-z_0-9*]+(?:\.[A-Za-z_0-9]+)+)=", argument):
            yield match[1]


def _is_option(key: str) -> bool:
    """Whether a key names an option, perhaps of one stage, or of one variant of an ablation."""
    known = options()
    has_entries = key.startswith(("reward.functions.", "data.mixture."))
    return key in known or key.partition(".")[2] in known or has_entries


PASTED = {
    (page.relative_to(ROOT).as_posix(), shlex.join(arguments)): arguments
    for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
    if page.name != "lab_notebook.md"
    for arguments in commands_of(page.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize(("page", "command"), list(PASTED))
def test_commands_of_the_pages_are_understood(page: str, command: str) -> None:
    assert complaint_of(PASTED[page, command]) is None


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("zeor", "No such command"),
        ("zero --reusme", "No such option"),
        ("zero rl.stpes=3", "no option rl.stpes"),
        ("r1 dev1.rl.stpes=3", "no option dev1.rl.stpes"),
        ("reward audit", "Missing"),
        ("eval compare a.json", "Missing"),
        ("sandbox run", "Missing"),
    ],
)
def test_a_command_that_does_not_exist_would_be_found(command: str, complaint: str) -> None:
    assert complaint in str(complaint_of(command.split()))


def test_blocks_of_other_languages_hide_none_of_the_shell() -> None:
    """A page with a diagram once had all its later commands taken for prose."""
    page = "```mermaid\na --> b\n```\ntext\n```sh\nzerone r1\n```\n- x\n  ```sh\n  zerone zero\n  ```\n"
    assert [language for language, _ in blocks(page)] == ["mermaid", "sh", "sh"]
    assert commands_of(page) == [["r1"], ["zero"]]
    assert any(page == "README.md" and "reward.function" in command for page, command in PASTED)


def test_commands_are_read_from_pages() -> None:
    page = "x\n```sh\nzerone zero a.b='#1 x' \\\n  --quiet  # why\nmake zero\n```\n`zerone r1`\n"
    assert commands_of(page) == [["zero", "a.b=#1 x", "--quiet"]]
    assert len(PASTED) > 110


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_environment_is_activated_before_the_first_command(page: str) -> None:
    lines = list(typed_lines((ROOT / page).read_text(encoding="utf-8")))
    made = next(i for i, line in enumerate(lines) if line.startswith("make zero"))
    assert "git clone" in lines[made - 1]
    assert lines[made + 1].startswith("source .venv/bin/activate")
    assert not any(line.startswith("zerone") for line in lines[:made])


def test_readme_is_short_and_says_at_once_what_it_does_not_do() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130
    first_screen = "\n".join(lines[:25])
    for said in (
        "Not for, today",
        "no run on a GPU has been measured",
        "Independent of DeepSeek",
        "bubblewrap",
    ):
        assert said in first_screen


@pytest.mark.parametrize(("given", "index"), [([], False), (["TORCH_INDEX=https://example.org/cpu"], True)])
def test_make_takes_torch_from_an_index_if_one_is_given(
    tmp_path: Path, given: list[str], index: bool
) -> None:
    """With and without an index the version is the pinned one, before anything else is installed."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        ["make", "-n", "install", *given], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    installs = [line for line in done.stdout.splitlines() if " install " in line]
    pinned = re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert pinned[0] in installs[0]
    assert ("--index-url https://example.org/cpu" in installs[0]) is index
    assert "-e ." in installs[1]
    assert "--index-url" not in installs[1]


# Files that others read ---------------------------------------------------------------------------


def test_the_figure_of_the_readme_stands_alone() -> None:
    text = write_figure.FIGURE.read_text(encoding="utf-8")
    tree = ElementTree.fromstring(text)
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(text) < 40_000
    assert not re.search(r"href|url\(|@import|<script|<image", text)
    assert write_figure.style() in text, "run: python docs/write_figure.py RUN"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    measured = re.findall(r"(?:pass@1|cons@16) went from (\S+) to (\S+);", text)
    assert len(measured) == 2
    assert all(f"{share} [" in readme for shares in measured for share in shares), "the table's figures"


def test_the_figure_is_drawn_from_a_run(tmp_path: Path) -> None:
    save_talking_model(tmp_path / "base")
    write_problems(tmp_path / "problems.jsonl")
    code, out, err = call_main(tmp_path, *arguments_of(tmp_path, "run", "rl.steps=2"))
    assert code == 0, out + err
    text = write_figure.figure_text(RunDir(tmp_path / "run"))
    tree = ElementTree.fromstring(text)
    charts = [node.get("aria-label") for node in tree if node.get("class") == "chart"]
    assert charts == ["Accuracy during training", "Response length"]
    assert ".series path" in text and "prefers-color-scheme: dark" in text


def test_citation_and_issue_templates_are_yaml_with_their_fields() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert {path.name for path in forms} == {"bug.yml", "config.yml", "feature.yml"}
    for path in forms:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert path.name == "config.yml" or {"name", "description", "body"} <= set(read)
