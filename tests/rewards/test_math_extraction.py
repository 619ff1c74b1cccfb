"""Where the answer of a completion is, and that looking for it costs one pass."""

import time

import pytest

from zerone.rewards.math.extraction import extract_math_answer, find_box


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<think>a</think><answer>3</answer>", "3"),
        ("<think>a</think>\n<answer> 3 </answer> bye", "3"),
        (r"<think>\boxed{1}</think> So $\boxed{2}$.", "2"),
        (r"<think>\boxed{1}</think> So it is.", None),
        (r"<think>a</think>\boxed{1}</think>\boxed{2}", "2"),
        (r"<think>a <answer>3</answer></think>", None),
        (r"\boxed{1} and \boxed{2", "1"),
        ("<answer>1</answer><answer>2</answer>", "2"),
        ("<answer>1</answer><answer>2", "1"),
        (r"<answer>so \boxed{5}</answer>", "5"),
        (r"<answer>5</answer> \boxed{6}", "6"),
        (r"\boxed{6} <answer>5</answer>", "5"),
        (r"<answer>-\boxed{5}</answer>", None),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{a\}b}", r"a\}b"),
        (r"\boxed{}", ""),
        ("no answer here", None),
        ("", None),
    ],
)
def test_the_answer_is_the_last_complete_box_or_block_after_the_thought(
    completion: str, answer: str | None
) -> None:
    assert extract_math_answer(completion) == answer


@pytest.mark.parametrize(
    "text",
    [
        r"$-\boxed{42}$",
        r"$1\boxed{42}$",
        r"$\boxed{42}.5$",
        r"$\boxed{42}^2$",
        r"\boxed{4}2",
        r"$\boxed{4}$2",
        r"-$\boxed{4}$",
        r"$x+\boxed{42}$",
        r"2(\boxed{3})",
        r"\frac{\boxed{1}}{2}",
        r"10^{\boxed{2}}",
        r"\sqrt{\boxed{4}}",
        r"\boxed{3} million",
        r"$\boxed{3}$ \text{thousand}",
        r"\boxed{6}\cdot 7",
        r"\boxed{6}/7",
        r"$\boxed{4}!$",
        r"$6 \times \boxed{7}$",
        r"$6 \times$ \boxed{7}",
        r"6 \times $\boxed{7}$",
        r"$\boxed{6}$ \times 7",
        r"\sqrt \boxed{4}",
        r"$x \neq \boxed{5}$",
        r"\pm \boxed{4}",
        r"$\log_2 \boxed{8}$",
        r"$\pi \boxed{5}$",
        r"$x \boxed{5}$",
        r"$(x+1) \boxed{5}$",
        r"$n! \boxed{5}$",
        r"$\boxed{5} x$",
        r"\(\boxed{5} x\)",
        r"$$\boxed{5} (x+1)$$",
        r"\boxed{5} x 3",
        r"negative \boxed{5}",
        r"minus $\boxed{5}$",
        r"\(\boxed{3}\) million",
        *(f"\\boxed{{5}}{word}" for word in ("万", "亿", " 亿", "多", "分之一", r"\text{万}")),
        "$\\boxed{5}$万",
        *(f"{word}\\boxed{{5}}" for word in ("负", "答案不是", "三分之", "6乘")),
        "负 $\\boxed{5}$",
    ],
)
def test_what_touches_a_box_is_not_passed_over(text: str) -> None:
    assert find_box(text) is None


@pytest.mark.parametrize(
    "text",
    [
        r"$\boxed{42}$",
        r"$$x = \boxed{42}.$$",
        r"\[ \boxed{42} \]",
        r"\(\boxed{42}\)",
        r"**\boxed{42}**",
        r"The answer is \boxed{42}.",
        r"The answer: $\boxed{42}$, as asked.",
        r"\begin{align*} x &= \boxed{42}. \end{align*}",
        r"\begin{align} \\ &\boxed{42} \\ \end{align}",
        r"$\boxed{42}\text{ cm}^2$",
        r"$\boxed{42}\%$",
        r"$\boxed{42}^\circ$",
        r"$6\cdot 7 = \boxed{42} = x$",
        r"$1+41 \equiv \boxed{42} \pmod{50}$",
        r"{\boxed{42}}",
        r"$\mathbf{\boxed{42}}$",
        "\u7b54\u6848\uff1a\\boxed{42}\u3002",
        "\n\\boxed{42}\n",
        r"$x = \boxed{42}$",
        r"\boxed{42}.",
        r"\boxed{42}$ dollars",
        r"answer is \boxed{42} cm",
        r"$\boxed{42} cm$",
        r"\boxed{42} m.",
        r"It costs $5 and $6, so the total is \boxed{42}.",
        r"The value of $x$ is \boxed{42} (in cm).",
        r"$x \equiv \boxed{42} (\text{mod } 70)$",
        r"\textbf{Answer:} \boxed{42}",
        r"$\therefore \boxed{42}$",
        r"$f(x) \ge \boxed{42}$",
        "> \\boxed{42}",
        "答案是\\boxed{42}千米",
        "答案为 $\\boxed{42}$ 元",
    ],
)
def test_a_box_in_the_usual_surroundings_is_read(text: str) -> None:
    assert find_box(text) == "42"


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 140_000,
        r"\boxed{1}" * 110_000,
        r"\boxed{" * 60_000 + "1" + "}" * 60_000,
        "{" * 1_000_000,
        "}" * 1_000_000,
        "\\" * 1_000_000,
        "$ " * 500_000,
        "<answer>" * 125_000,
        "</answer>" * 110_000,
        "</think>" * 125_000,
        " " * 1_000_000,
    ],
    ids=lambda text: text[:9],
)
def test_a_megabyte_of_hostile_text_costs_one_pass(text: str) -> None:
    start = time.process_time()
    extract_math_answer(text)
    extract_math_answer(text + r" \boxed{7} " + text)
    # Quadratic work on a megabyte takes minutes.
    assert time.process_time() - start < 3
