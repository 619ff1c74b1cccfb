"""Foreign text made safe to look at: what a model, a program, a data set or a server wrote.

In: any text. Out: the same with every character that acts instead of showing written as an escape,
so that it can neither move a cursor, reorder a line nor fail to be encoded. Every terminal, log and
page passes foreign text through here; text of one line also has its line ends escaped, or it could
pass for a line of ours.
"""

import unicodedata

_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def visible(text: str) -> str:
    """Escape characters that act instead of showing; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(char if _is_shown(char) else repr(char)[1:-1] for char in text)


def on_one_line(text: str) -> str:
    """Escape line ends and tabs too, for a text that stands within a line of ours."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def marked(text: str, mark: str = "| ") -> str:
    """Return a text as a block in which each line begins with a mark, so that none passes for ours."""
    return "".join(f"{mark}{line}\n" for line in visible(text).removesuffix("\n").split("\n")) if text else ""


def _is_shown(char: str) -> bool:
    return char in "\n\t" or unicodedata.category(char) not in _HIDING
