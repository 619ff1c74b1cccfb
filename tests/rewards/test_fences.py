"""Which fenced block of an answer is the program: CommonMark's fences, and what completions make of them."""

import re
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from zerone.rewards.code import program_of
from zerone.rewards.fences import fenced_blocks

CALL = {"mode": "call", "entry": "add", "tests": [{"args": [1, 2], "expected": 3}]}
METHOD = {"mode": "call", "entry": "Solution.add", "tests": [{"args": [1, 2], "expected": 3}]}
STDIN = {"mode": "stdin", "tests": [{"stdin": "1 2\n", "stdout": "3\n"}]}
NO_INPUT = {"mode": "stdin", "tests": [{"stdin": "", "stdout": "3\n"}]}
ASSERT = {"mode": "assert", "tests": ["assert add(1, 2) == 3", "assert set(add([], [])) == set()"]}

ADD = "def add(a, b):\n    return a + b\n"
SOLUTION = "class Solution:\n    def add(self, a, b):\n        return a + b\n"
READS = "a, b = map(int, input().split())\nprint(a + b)\n"
PRINTS = "print(1 + 2)\n"


def fenced(text: str, info: str = "python", fence: str = "```") -> str:
    return f"{fence}{info}\n{text}{fence}\n"


# Fences -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        fenced(ADD),
        fenced(ADD, ""),
        fenced(ADD, " python"),
        fenced(ADD, "Python3"),
        fenced(ADD, "{.python}"),
        fenced(ADD, "python title=add.py"),
        fenced(ADD, "language-python"),
        fenced(ADD, fence="````"),
        fenced(ADD, fence="~~~"),
        fenced(ADD, "python `x`", fence="~~~~"),
        fenced(ADD).replace("\n", "\r\n"),
        fenced(ADD).replace("\n", "\r"),
        "\ufeff" + fenced(ADD),
        fenced("\ufeff" + ADD),
        fenced(ADD).rstrip("\n"),
        fenced(ADD).rstrip("\n") + "  \t\n",
        fenced(ADD).removesuffix("```\n"),
        fenced(ADD) + "```",
        f"```python\n{ADD}``````\n",
        f"Look:\n```python\n{ADD}    ```\n",
        "  ```python\n  def add(a, b):\n      return a + b\n  ```",
        "1. Write it:\n\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n\n2. Done",
        "10) Write it:\n\n    ```python\n    def add(a, b):\n        return a + b\n    ```",
        "- ```python\n  def add(a, b):\n      return a + b\n  ```",
        "- a\n  - b\n\n    ```py\n    def add(a, b):\n        return a + b\n    ```\n",
        "* Code:\n  ```python\ndef add(a, b):\n    return a + b\n```\n",
        "Code:\n\n    ```python\n    def add(a, b):\n        return a + b\n    ```\n",
        "Code:\n    ```python\n    def add(a, b):\n        return a + b\n    ```\n",
        "\t```python\n\tdef add(a, b):\n\t    return a + b\n\t```\n",
        "```python\n    def add(a, b):\n        return a + b\n```",
        "> ```python\n> def add(a, b):\n>     return a + b\n> ```\n",
        "> ```python\n> def add(a, b):\n>     return a + b\n\nSo it is.",
        f"````markdown\n{fenced(ADD)}````\n",
        f"```markdown\n{fenced(ADD)}```\n",
        f"```\n{fenced(ADD)}```\n",
        ADD,
        f"<div>\n{fenced(ADD)}</div>",
    ],
)
@pytest.mark.parametrize("spec", [CALL, None], ids=["entry known", "nothing known"])
def test_a_fence_of_any_form_is_taken_off(answer: str, spec: Mapping[str, Any] | None) -> None:
    assert program_of(answer, spec) == ADD


@pytest.mark.parametrize(
    "program",
    [
        'def add(a, b):\n    """Add.\n\n    ```\n    add(1, 2)\n    ```\n    """\n    return a + b\n',
        'def add(a, b):\n    """\n    ```python\n    >>> add(1, 2)\n    ```\n    """\n    return a + b\n',
        "def add(a, b):\n    s = '''\n    ~~~\n'''\n    return a + b\n",
        "def add(a, b):\n    return a + b  # ```\n",
        "def add(a, b):\n\treturn a + b\n",
    ],
)
def test_fences_within_a_program_stay_in_it(program: str) -> None:
    for answer in (fenced(program), program, fenced(program, "")):
        assert program_of(answer, CALL) == program


def test_a_longer_fence_holds_shorter_ones_of_its_kind_and_any_of_the_other() -> None:
    inner = 'def add(a, b):\n    """\n```\n~~~~~\n"""\n    return a + b\n'
    assert program_of(fenced(inner, fence="````"), CALL) == inner


PIECES = ["```", "```py", " ```\t", "``` x", "````", "~~~", "~~~~py", "``", "x", "", "\n", "\n", "\n", "  x"]


@given(st.lists(st.sampled_from(PIECES)))
def test_blocks_at_the_margin_are_those_of_a_commonmark_parser(parts: list[str]) -> None:
    text = "".join(parts)
    theirs = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    ours = fenced_blocks(text)
    # But for indentation, of which ours takes as much off every line.
    contents = [[line.strip() for line in token.content.split("\n") if line.strip()] for token in theirs]
    assert [[line.strip() for line in block.text.split("\n") if line.strip()] for block in ours] == contents
    assert [block.language for block in ours] == [
        re.findall(r"[\w+#-]*", token.info.strip())[0] for token in theirs
    ]


@pytest.mark.parametrize(
    "text",
    [
        "- a\n\n  ```py\n  x\n   y\n  ```\n- b\n",
        "1. a\n   1. b\n      ~~~\n      x\n      ~~~\n",
        "> - ```\n>   x\n>   ```\n",
        "> > ```\n> > x\n> > ```\n",
        "```a`b```\n",
        "~~~ a`b\nx\n~~~",
        "```\nx\n~~~\n```",
        "`````\nx\n```\n`````",
        "   ```\n   x\n ```",
        "```\n\n\n```",
        "```\n    ```\n```",
        "123456789. ```\n           x\n           ```",
    ],
)
def test_blocks_in_containers_are_those_of_a_commonmark_parser(text: str) -> None:
    theirs = [token.content for token in MarkdownIt().parse(text) if token.type == "fence"]
    assert [block.text for block in fenced_blocks(text)] == theirs


@pytest.mark.parametrize(
    "answer",
    [
        "```x\n" * 40_000,
        "`" * 200_000,
        "```" + "`a" * 100_000,
        ">" * 200_000 + "\n",
        "> " * 60_000 + "```\n" + "> " * 40_000,
        "- " * 99_000 + "```",
        "```\n" + "\t" * 190_000 + "x",
        "```\n" * 50_000,
        "~~~\nx = 1\n~~~\n" * 15_000,
        "```python\n" + "x" * 190_000,
        "```python\n" + "x = " * 40_000,
        "```python\n" + "a, " * 60_000,
        "```python\n" + "from " * 30_000,
        "```python\n" + "import a\n" * 20_000,
        "```python\n" + "if " * 60_000,
        "```markdown\n" + "```x\n" * 40_000,
        (">" * 20 + "```\n") * 8_000,
        " " * 190_000 + "```",
        "1. " * 60_000,
    ],
    ids=range(19),
)
def test_hostile_fences_take_no_time(answer: str) -> None:
    start = time.process_time()
    for spec in (CALL, STDIN, METHOD, None):
        program_of(answer, spec)
    # A quarter of this is usual; a search that is quadratic in 200,000 characters takes minutes.
    assert time.process_time() - start < 8.0


# The choice ---------------------------------------------------------------------------------------

DISTRACTIONS = {
    "an example of use": fenced("print(add(1, 2))  # 3\n"),
    "an unlabelled example": fenced("add(1, 2)\n", ""),
    "a session": fenced(">>> add(1, 2)\n3\n"),
    "a doctest session": fenced(">>> add(1, 2)\n3\n", "pycon"),
    "an output": fenced("3\n", ""),
    "an output with a name": fenced("3\n", "output"),
    "a text": fenced("1 + 2 = 3\n", "text"),
    "a complexity": fenced("O(n)\n", ""),
    "a complexity in Python's name": fenced("O(n log n)\n"),
    "a shell line": fenced("python solution.py\n", "bash"),
    "an unlabelled shell line": fenced("$ python solution.py < input.txt\n", ""),
    "an install line": fenced("pip install numpy\n", "sh"),
    "JSON": fenced('{"a": 1}\n', "json"),
    "another language": fenced("int add(int a, int b) { return a + b; }\n", "cpp"),
    "assertions": fenced("assert add(1, 2) == 3\nassert add(0, 0) == 0\n"),
    "an empty block": fenced("", ""),
    "a recurrence": fenced("dp[i] = dp[i-1] + dp[i-2]\n", ""),
    "an open fence": "```\nand then",
    "a diagram": fenced("1 -> 2 -> 3\n", "mermaid"),
}


@pytest.mark.parametrize("distraction", DISTRACTIONS.values(), ids=DISTRACTIONS.keys())
@pytest.mark.parametrize(
    ("program", "spec"),
    [(ADD, CALL), (ADD, ASSERT), (SOLUTION, METHOD), (READS, STDIN), (PRINTS, NO_INPUT)],
    ids=["call", "assert", "method", "stdin", "no input"],
)
@pytest.mark.parametrize("info", ["python", ""])
def test_the_program_is_not_what_stands_around_it(
    distraction: str, program: str, spec: Mapping[str, Any], info: str
) -> None:
    if spec is NO_INPUT:  # an example that prints may then be the program
        distraction = distraction.replace("print", "f")
    answer = f"Here:\n\n{fenced(program, info)}\nAnd:\n\n{distraction}\nDone."
    assert program_of(answer, spec) == program
    if distraction.count("```") == 2:
        assert program_of(f"First:\n\n{distraction}\nSo:\n\n{fenced(program, info)}", spec) == program


@pytest.mark.parametrize(
    "distraction", [text for text in DISTRACTIONS.values() if not text.startswith("```python")]
)
def test_without_tests_the_program_is_the_last_block_in_its_language(distraction: str) -> None:
    assert program_of(fenced(ADD) + distraction) == ADD


@pytest.mark.parametrize(
    ("answer", "program", "spec"),
    [
        (fenced("def add(a, b):\n    return 0\n") + fenced(ADD), ADD, CALL),
        (fenced(ADD) + fenced("def other(a):\n    return a\n"), ADD, CALL),
        (fenced("def add(a, b):\n    return 0\n") + fenced(ADD, ""), ADD, CALL),
        (fenced("add = lambda a, b: a + b\n") + fenced("3\n", ""), "add = lambda a, b: a + b\n", CALL),
        (fenced("from operator import add\n") + fenced("add(1, 2)\n"), "from operator import add\n", CALL),
        (fenced("import operator as add\n") + fenced("x\n"), "import operator as add\n", CALL),
        (fenced(f"import math\n\n{ADD}") + fenced("math.pi\n"), f"import math\n\n{ADD}", CALL),
        (fenced(ADD) + fenced("def add(a, b): ...\n", "pseudocode"), ADD, CALL),
        (fenced(ADD) + "Or:\n```python\ndef add(a, b):\n    retu", ADD, CALL),
        (fenced("x = 3\n") + "Now:\n```python\n" + ADD, ADD, CALL),
        (fenced("x = 1\n", "") + "```python\nx = 2", "x = 1\n", None),
        (fenced("x = 1\n") + fenced("x = 2\n", "py") + "Done.", "x = 2\n", None),
        (fenced(SOLUTION) + fenced("print(Solution().add(1, 2))\n"), SOLUTION, METHOD),
        (fenced(SOLUTION) + fenced("class Node:\n    pass\n"), SOLUTION, METHOD),
        (fenced(ADD) + fenced("print(add(1, 2))\n"), ADD, METHOD),
        (fenced(ADD) + fenced(SOLUTION), SOLUTION, METHOD),
        (fenced(SOLUTION) + fenced(ADD), SOLUTION, METHOD),
        (
            fenced(READS) + fenced("import sys\nprint(sum(map(int, sys.stdin.read().split())))\n", ""),
            None,
            STDIN,
        ),
        (fenced(READS) + fenced("def gcd(a, b):\n    return a\n"), READS, STDIN),
        (fenced(PRINTS) + fenced("x = 3\n"), PRINTS, NO_INPUT),
        (fenced("public class A {}\n", "java"), "public class A {}\n", STDIN),
        (fenced("    return a + b\n") + fenced("3\n", ""), "    return a + b\n", CALL),
        ("Only text, O(n).", "Only text, O(n).", CALL),
    ],
)
def test_the_last_block_that_can_be_the_program_is_taken(
    answer: str, program: str | None, spec: Mapping[str, Any] | None
) -> None:
    expected = "import sys\nprint(sum(map(int, sys.stdin.read().split())))\n" if program is None else program
    assert program_of(answer, spec) == expected
    # The same where the tests stand under `answer`, and with lines that end as on Windows.
    assert program_of(answer.replace("\n", "\r\n"), spec and {"answer": spec, "wall_s": 1.0}) == expected


def test_a_suite_whose_tests_cannot_be_used_says_nothing_of_the_program() -> None:
    for spec in ({}, {"tests": "x"}, {"tests": [3]}, {"mode": "assert", "tests": [None]}, {"entry": 3}):
        assert program_of(fenced(ADD), spec) == ADD
