"""Prose that users read keeps to docs/glossary.md: pages, help texts, messages, report and browser pages.

A list of words that the glossary replaces, each with what to write instead, is looked for in the text outside
of code. A page or a phrase that needs such a word is in `ALLOWED`, with at most twenty lines.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "zerone"

INSTEAD = {
    r"to be had": "available",
    r"but for": "except for",
    r"mend(s|ed|ing)?": "fix",
    r"of (yours|theirs)": "of your own",
    r"(?<!there )(is|are) no": "is not a",
    r"r[au]ns? out of room": "truncated",
    r"(goes|gone|going|went) on": "resume, continue",
    r"golds?": "ground truth",
    r"licences?": "license",
    r"well[- ]formed|in (good|bad) form": "correctly formatted",
    r"(?<!chain of )(?<!chains of )(?<!is )(?<!be )thoughts?": "reasoning",
    r"(?<!standard )deviations?": "standard deviation",
    r"spoilt": "spoiled",
    r"(un)?learnt": "learned",
    r"talked round": "persuaded",
    r"(right|wrong) answers?": "correct, incorrect completion",
    r"answers? (right|wrong)": "correct, incorrect",
    r"(right|wrong) (completions?|programs?|pairs?)": "correct, incorrect",
    r"(all|some|are|judged) (right|wrong)|(?<=% )right": "correct, incorrect",
    r"training answers?|answers (each|sampled|drawn)|sampled answers?": "completions",
    r"punish\w*": "penalize",
    r"to be told|told apart": "distinguished",
    r"lies? apart": "the interval excludes 0",
    r"as it stands": "unchanged",
    r"besides": "also",
    r"shall": "should",
    r"(is|are|was|were) asked as": "prompted as",
    r"silent groups?|groups? that teach": "zero-variance group; group with non-zero advantage",
    r"carry signal": "have non-zero advantages",
    r"rollout phases": "training steps",
}
"""What the glossary replaces -> what to write."""

_WORDS = re.compile("|".join(rf"(?P<w{i}>\b(?:{word})\b)" for i, word in enumerate(INSTEAD)), re.IGNORECASE)

ALLOWED = {
    ("CONTRIBUTING.md", "is no"): "names what not to write",
    ("docs/reference/commands.md", "thought"): "a field of a file has this name",
    ("serve/page.html, labels", "thought"): "a class of the page's style has this name",
    ("docs/lab_notebook.md", "*"): "entries keep the words of their day",
    ("docs/glossary.md", "*"): "names what not to write",
}
"""(file, phrase) that stay, or `*` for all of a file -> why."""


def complaints(text: str) -> list[str]:
    """Return the words of a text that the glossary replaces, with what to write."""
    words = list(INSTEAD.values())
    return [f"{m[0]!r}: write {words[int(str(m.lastgroup)[1:])]!r}" for m in _WORDS.finditer(text)]


# What users read ----------------------------------------------------------------------------------

_NO_PROSE = re.compile(r"^( *)```.*?^\1```|`[^`]*`|\]\([^)]*\)|<!--.*?-->", re.DOTALL | re.MULTILINE)
_PAGES = ("*.md", "docs/*.md", "docs/reference/*.md", "benchmarks/*.md")


def pages() -> dict[str, str]:
    """Return the prose of every page, by its name: without code and addresses."""
    found = sorted(path for pattern in _PAGES for path in ROOT.glob(pattern))
    names = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in found}
    return {name: _NO_PROSE.sub(" ", text) for name, text in names.items()}


def recipes() -> dict[str, str]:
    """Return the comments of the recipes."""
    found = sorted((SOURCE / "recipes").glob("*.yaml"))
    comments = {path.name: re.findall(r"#(.*)", path.read_text(encoding="utf-8")) for path in found}
    return {f"recipes/{name}": "\n".join(lines) for name, lines in comments.items()}


_MARKUP = re.compile(
    r"<(script|style)\b.*?</\1>|\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}|<code>.*?</code>|<[^>]+>", re.DOTALL
)


def templates() -> dict[str, str]:
    """Return the text of the report's, the server's and the viewer's pages."""
    found = sorted(path for ending in ("*.html", "*.html.j2", "*.md.j2") for path in SOURCE.rglob(ending))
    return {
        path.relative_to(SOURCE).as_posix(): _MARKUP.sub(" ", path.read_text(encoding="utf-8"))
        for path in found
    }


def _texts(node: ast.AST) -> Iterator[str]:
    """Yield the literal texts of a message, with a blank where a value stands."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(p.value) if isinstance(p, ast.Constant) else "_" for p in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for inner in ast.iter_child_nodes(node):
            yield from _texts(inner)


def messages() -> dict[str, str]:
    """Return the texts of every error that is raised, by module."""
    found: dict[str, str] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None]
        texts = [text for error in raised for text in _texts(error)]
        found[path.relative_to(SOURCE).as_posix()] = re.sub(r"`[^`]*`", " ", "\n".join(texts))
    return found


def labels() -> dict[str, str]:
    """Return what reports and browser pages write from code: titles, labels and sentences, by file."""
    found: dict[str, str] = {}
    for path in sorted((SOURCE / "report").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        texts = [text for node in ast.walk(tree) if node not in said for text in _texts_here(node)]
        found[f"{path.relative_to(SOURCE).as_posix()}, labels"] = "\n".join(texts)
    for path in sorted([*(SOURCE / "view" / "page").glob("*.js"), SOURCE / "serve" / "page.html"]):
        quoted = re.findall(r"\"([^\"\n]*)\"|`([^`]*)`", path.read_text(encoding="utf-8"))
        found[f"{path.relative_to(SOURCE).as_posix()}, labels"] = "\n".join(a or b for a, b in quoted)
    return found


def _texts_here(node: ast.AST) -> Iterator[str]:
    """Yield the text of a node that is one itself."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        yield from _texts(node)


READ = {**pages(), **recipes(), **templates(), **messages(), **labels()}


@pytest.mark.parametrize("name", list(READ))
def test_prose_keeps_to_the_glossary(name: str) -> None:
    if (name, "*") in ALLOWED:
        return
    allowed = [phrase for file, phrase in ALLOWED if file == name]
    found = [complaint for complaint in complaints(READ[name]) if not any(p in complaint for p in allowed)]
    assert found == [], "see docs/glossary.md"


def test_exceptions_are_few_needed_and_have_a_reason() -> None:
    assert len(ALLOWED) <= 20
    for (name, phrase), reason in ALLOWED.items():
        assert len(reason.split()) >= 4
        found = complaints(READ[name])
        assert found and (phrase == "*" or any(phrase in complaint for complaint in found)), (name, phrase)


# The list finds what it is for ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "No isolation is to be had here.",
        "Equal but for case.",
        "something to mend",
        "a function of yours",
        "Answers that ran out of room",
        "a run goes on",
        "Golds are read",
        "the licence of the base",
        "82% are well formed",
        "a well-formed completion",
        "A thought is folded",
        "divided by the group's deviation",
        "a wrong answer",
        "This is no date.",
        "the judge is talked round",
        "groups that teach",
        "24.7% right",
        "all wrong",
        "a right program",
        "the training answers",
        "sampled answers",
        "Long ones were punished",
    ],
)
def test_a_replaced_word_is_found(text: str) -> None:
    assert len(complaints(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "chain of thought, chains of thought",
        "There is no switch. Where there are no words.",
        "standard deviation",
        "golden runs, goldfish",
        "the mechanism that R1-Zero is thought to show",
        "the license, recommended, correct completions, an ongoing run",
    ],
)
def test_words_of_the_field_are_left_alone(text: str) -> None:
    assert complaints(text) == []


@pytest.mark.parametrize(
    ("page", "prose"),
    [
        ("a `gold` b", "a   b"),
        ("a [gold](of/gold.md) b", "a [gold  b"),
        ("a\n```sh\nzerone --gold 3\n```\nb", "a\n \nb"),
        ("- a\n  ```\n  gold\n  ```\n  b", "- a\n \n  b"),
    ],
)
def test_code_and_addresses_are_no_prose(page: str, prose: str) -> None:
    assert _NO_PROSE.sub(" ", page) == prose


def test_every_kind_of_text_is_read() -> None:
    for name in ("README.md", "docs/index.md", "docs/reference/options.md", "recipes/zero.yaml"):
        assert len(READ[name].split()) > 5, name
    assert "To resume" in READ["report/parts.html.j2"]
    assert "already holds a run; resume it" in READ["runs/start.py"]
    assert "holds no run; give a directory" in READ["report/record.py"]
    assert "Recovered after a failed try" in READ["report/figures.py, labels"]
    assert "share of correct completions" in READ["view/page/across.js, labels"]
    assert "Regenerate" in READ["serve/page.html, labels"]
