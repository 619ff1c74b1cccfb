"""What is released: messages name extras that exist; wheel and sdist work in a clean environment."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import zerone
from zerone.trackers.tracking import EXTRAS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "zerone"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OFFERED: dict[str, list[str]] = PROJECT["optional-dependencies"]

# Extras ---------------------------------------------------------------------------------------------

NAMED = re.compile(r"""(?:zerone|['"]\.)\[([a-z][a-z_0-9, -]*)\]""")


def texts_of(path: Path) -> Iterator[str]:
    """Yield all literal text of a file: of Python the strings, joined where they are parts of one."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def named_extras(texts: Iterator[str]) -> set[str]:
    """Return the extras of zerone that texts name: `zerone[a,b]`, and `.[a,b]` of a checkout."""
    found = (match[1] for text in texts for match in NAMED.finditer(text))
    return {name.strip() for names in found for name in names.split(",")}


SAYING = [
    path
    for pattern in ("src/zerone/**/*", "docs/*.md", "docs/reference/*.md", "*.md", "benchmarks/*", "Makefile")
    for path in sorted(ROOT.glob(pattern))
    if path.suffix in (".py", ".md", ".yaml", ".html", ".j2", "") and path.is_file()
]


@pytest.mark.parametrize(
    "path",
    [path for path in SAYING if named_extras(texts_of(path))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_every_extra_that_is_named_exists(path: Path) -> None:
    assert named_extras(texts_of(path)) <= set(OFFERED)


def test_messages_with_an_extra_are_found() -> None:
    source = [path.relative_to(SOURCE).as_posix() for path in SAYING if path.is_relative_to(SOURCE)]
    naming = [name for name in source if named_extras(texts_of(SOURCE / name))]
    assert {"model/lora.py", "data/files.py", "engine/vllm.py", "rewards/language.py"} <= set(naming)
    assert len(naming) >= 9


@pytest.mark.parametrize(
    ("text", "extras"),
    [
        ("pip install 'zerone[vllm]'", {"vllm"}),
        ("pip install -e '.[eval, docs]'", {"eval", "docs"}),
        ("zerone [vllm], list[int], x[a]", set()),
        ("zerone[nothing_here]", {"nothing_here"}),
    ],
)
def test_extras_are_read_from_text(text: str, extras: set[str]) -> None:
    assert named_extras(iter([text])) == extras


def distribution(requirement: str) -> str:
    return re.split(r"[\s<>=!~;\[]", requirement)[0].lower()


@pytest.mark.parametrize("extra", sorted(set(OFFERED) - {"docs"}))
def test_who_names_an_extra_needs_a_package_of_it(extra: str) -> None:
    """The module that says `zerone[x]` also names one of x's packages, so the advice fits the failure."""
    naming = [
        path
        for path in SAYING
        if path.suffix == ".py"
        and path.is_relative_to(SOURCE)
        and (
            extra in named_extras(texts_of(path)) or (path.name == "tracking.py" and extra in EXTRAS.values())
        )
    ]
    assert naming, f"nothing in src says what zerone[{extra}] is for"
    packages = {distribution(one) for one in OFFERED[extra]}
    names = (
        packages | {name.replace("-", "_") for name in packages} | {name.split("-")[0] for name in packages}
    )
    near = [path.parent.glob("*.py") for path in naming]
    said = "\n".join(one.read_text(encoding="utf-8").lower() for paths in near for one in paths)
    assert any(re.search(rf"\b{re.escape(name)}\b", said) for name in names), (extra, names)


@pytest.mark.parametrize(("tracker", "extra"), sorted((k, v) for k, v in EXTRAS.items() if v is not None))
def test_trackers_are_brought_by_the_extras_that_the_message_names(tracker: str, extra: str) -> None:
    assert tracker in {distribution(requirement) for requirement in OFFERED[extra]}


def test_make_dev_installs_extras_that_exist() -> None:
    assert named_extras(texts_of(ROOT / "Makefile")) >= {"eval", "docs"}


# Wheel and sdist ------------------------------------------------------------------------------------


def ran(*command: object, cwd: Path, timeout: float = 900) -> str:
    """Run a command that knows nothing of this checkout, and return what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def tracked() -> set[str]:
    """Return the files of the package, without what Python leaves beside them."""
    found = (path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(SOURCE.parent).as_posix() for path in found}


@pytest.mark.slow
def test_wheel_and_sdist_work_in_a_clean_environment(tmp_path: Path) -> None:
    """Only pip's own index is asked: for the build's tools, and for what the wheel requires."""
    checkout, dist, away = tmp_path / "checkout", tmp_path / "dist", tmp_path / "away"
    away.mkdir()
    shutil.copytree(SOURCE, checkout / "src" / "zerone", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, checkout)
    ran(sys.executable, "-m", "venv", tmp_path / "clean", cwd=away)
    python = tmp_path / "clean" / "bin" / "python"
    ran(python, "-m", "pip", "install", "-q", "build", cwd=away)
    ran(python, "-m", "build", "--outdir", dist, checkout, cwd=away)  # the sdist, and the wheel from it
    (wheel,), (sdist,) = list(dist.glob("*.whl")), list(dist.glob("*.tar.gz"))
    _check_contents(wheel, sdist)

    ran(python, "-m", "pip", "install", "-q", "torch==2.13.0", cwd=away)
    ran(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=away)
    command = python.with_name("zerone")
    assert ran(command, "--version", cwd=away).split()[-1].startswith(zerone.__version__)
    assert "tiny" in ran(command, "recipes", cwd=away)
    record = json.loads(
        ran(command, "eval", "embedded", "--suite", "mixed", "--limit", "4", "--k", "1", "--json", cwd=away)
    )
    assert record["num_problems"] == 4
    small = ("rl.steps=1", "rl.problems_per_step=2", "rl.group_size=4", "eval.problems=4", "model.threads=1")
    ran(command, "zero", "--recipe", "tiny", *small, "--run-dir", away / "run", cwd=away)
    ran(command, "report", away / "run", "--out", away / "report.html", cwd=away)
    ran(command, "export", away / "run", "--to", "hf", "--out", away / "model", cwd=away)
    assert "<svg" in (away / "report.html").read_text(encoding="utf-8")
    assert (away / "model" / "chat_template.jinja").exists() and (away / "model" / "README.md").exists()

    ran(python, "-m", "pip", "uninstall", "-q", "-y", "zerone", cwd=away)
    ran(python, "-m", "pip", "install", "-q", "--no-deps", sdist, cwd=away)
    assert ran(command, "--version", cwd=away).split()[-1].startswith(zerone.__version__)


def _check_contents(wheel: Path, sdist: Path) -> None:
    """Both hold every file of the package; the wheel offers the extras of pyproject.toml."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert tracked() == {name for name in names if name.startswith("zerone/")}
    for needed in (
        "zerone/world/embedded/model.safetensors",
        "zerone/world/embedded/tokenizer.json",
        "zerone/recipes/zero.yaml",
        "zerone/report/page.html.j2",
    ):
        assert needed in names
    assert set(re.findall(r"^Provides-Extra: (\S+)$", text, re.MULTILINE)) == set(OFFERED)
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in tracked()} <= members
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= members


def test_the_installed_distribution_is_of_this_version() -> None:
    assert importlib.metadata.version("zerone") == zerone.__version__
