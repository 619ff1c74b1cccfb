"""Worked examples for few-shot prompts (`prompt.examples`): plain sums, the clearest one first."""

EXAMPLES: tuple[tuple[str, str, str], ...] = (
    ("What is 12 + 7 - 5?", "12 + 7 = 19, 19 - 5 = 14", "14"),
    ("How much is 24 minus 16?", "24 - 16 = 8", "8"),
    ("Calculate 15 - 8 + 6 - 3.", "15 - 8 = 7, 7 + 6 = 13, 13 - 3 = 10", "10"),
)
"""Worked (question, thought, answer), the most telling one first, as a prompt may show only some.

Each thought does one operation at a time and names every intermediate value, in few tokens.
"""
