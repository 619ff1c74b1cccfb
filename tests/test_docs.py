"""The documents: pages made from the code are those of this code, links lead somewhere, the notebook runs."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import write_notebook
import write_reference
from processes import environment_of_runs

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
    done = subprocess.run(
        [sys.executable, "-c", small],
        cwd=tmp_path,
        env=environment_of_runs(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for said in ("2 steps of 4 problems x 4 answers", "hard   trained", "step 2, reward"):
        assert said in done.stdout
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
        page.write("\n[gone](gone.md) and [nowhere](own.md#nowhere)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "gone.md" in done.stderr
    assert "#nowhere" in done.stderr


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "SECURITY.md"])
def test_links_from_outside_of_the_site_lead_somewhere(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


MEASURED = re.compile(r"\d+\.\d% \[[^\]]+\]")


@pytest.mark.parametrize("name", ["index.md", "how_r1_works.md"])
def test_figures_with_intervals_are_those_of_the_readme(name: str) -> None:
    """A run that is measured anew changes README.md; the pages must not keep the old figures."""
    found = MEASURED.findall((DOCS / name).read_text(encoding="utf-8"))
    readme = MEASURED.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(found) >= 6
    assert set(found) <= set(readme)
