"""What of a text is prose: code, formulas, URLs and commands taken out, look-alikes made equal.

In: a reasoning as the model wrote it. Out: the same without what is written alike in every
language. A policy that is paid for its language would hide words where they are not counted, so what
is taken out of code and formulas is only what belongs there: letters of other scripts than Latin
and Greek stay, and so does any long run of plain words. Every step is one pass over the text.
"""

import unicodedata
from bisect import bisect_left
from collections.abc import Iterator

import regex

# Longer runs of combining marks are no language, and putting them in order costs their square.
_MARK_RUN = regex.compile(r"(\p{M}{4})\p{M}+")
# Format characters (zero-width joiners and spaces, soft hyphens, byte order marks) and other
# blanks: inside a word they would split it, or join two.
_UNSEEN = regex.compile(r"[\p{Cf}\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufe00-\ufe0f]+")


_LONGEST = 1_000_000
"""Characters that are looked at; some ligatures stand for eighteen."""


def normalised(text: str) -> str:
    """Return a text with unseen characters removed and compatibility forms replaced (NFKC).

    Full-width and mathematical letters become the plain letters that they stand for.
    """
    return unicodedata.normalize("NFKC", _MARK_RUN.sub(r"\1", _UNSEEN.sub("", text[:_LONGEST])))[:_LONGEST]


PROSE_RUN = regex.compile(
    r"(?<![\p{L}\p{M}\p{N}_\\'\u2019])\p{Latin}[\p{Latin}\p{M}'\u2019]*+"
    r"(?:[\s`$.,;:!?]++\p{Latin}[\p{Latin}\p{M}'\u2019]*+){7,}+"
)
"""Eight plain words in a row are prose, wherever they stand and whatever quotes each of them."""

_DELIMITER = regex.compile(r"```|`|\$\$|(?<!\\)\$|\\[()\[\]]|\\begin\{|\\end\{(?:[A-Za-z]{1,20}\*?\})?|\n")
_CLOSER = {"```": "```", "`": "`", "$$": "$$", "$": "$", r"\(": r"\)", r"\[": r"\]", r"\begin{": r"\end{"}
_ON_ONE_LINE = ("`", "$")
_NOT_OF_FORMULAS = regex.compile(r"[[\p{L}\p{M}]--[\p{Latin}\p{Greek}\p{Common}]]+", flags=regex.V1)
_URL = regex.compile(r"(?:https?://|www\.)[!-~]{1,200}")
# A backslash makes no word a command, or every word could be hidden behind one.
_COMMAND = regex.compile(
    r"\\(?:[dt]?frac|sqrt|boxed|fbox|text(?:bf|it|rm|tt)?|math(?:rm|bf|bb|cal|it)|operatorname|left|right|"
    r"[bB]igg?[lr]?|cdots?|ldots|times|div|pm|mp|ast|leq?|geq?|neq?|approx|equiv|sim|cong|propto|infty|"
    r"s?um|prod|int|lim|log|ln|exp|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|min|max|gcd|lcm|p?mod|"
    r"bmod|binom|choose|overline|underline|hat|vec|bar|angle|triangle|circ|degree|perp|parallel|mid|in|"
    r"notin|subset(?:eq)?|cup|cap|emptyset|forall|exists|therefore|because|implies|iff|to|mapsto|"
    r"(?:[lL]eft|[rR]ight|[lL]ongright)(?:right)?arrow|q?quad|begin|end|hline|alpha|beta|gamma|delta|"
    r"epsilon|theta|lambda|mu|pi|rho|sigma|tau|phi|omega|Delta|Sigma|Omega)(?![A-Za-z])"
)


def prose(text: str) -> str:
    """Return what is left of a normalised text without code, formulas, URLs and LaTeX commands."""
    runs = [match.span() for match in PROSE_RUN.finditer(text)]
    starts = [start for start, _ in runs]
    kept, position = list[str](), 0
    for start, end in _regions(text):
        kept.append(text[position:start])
        inside = max(0, bisect_left(starts, start) - 1)
        while inside < len(runs) and runs[inside][0] < end:
            kept.append(text[max(start, runs[inside][0]) : max(start, min(end, runs[inside][1]))])
            inside += 1
        kept.extend(_NOT_OF_FORMULAS.findall(text, start, end))
        position = end
    kept.append(text[position:])
    return _COMMAND.sub(" ", _URL.sub(" ", " ".join(kept)))


def _regions(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of code and formulas, closing signs included; unclosed ones are none."""
    delimiters = list(_DELIMITER.finditer(text))
    last = {_sign(delimiter): delimiter.start() for delimiter in delimiters}
    opener, start = "", 0
    for delimiter in delimiters:
        sign = _sign(delimiter)
        if not opener:
            if last.get(_CLOSER.get(sign, ""), -1) > delimiter.start() and _may_open(text, delimiter):
                opener, start = sign, delimiter.start()
        elif sign == _CLOSER[opener] and _may_close(text, delimiter):
            yield start, delimiter.end()
            opener = ""
        elif sign == "\n" and opener in _ON_ONE_LINE:
            opener = ""


def _sign(delimiter: "regex.Match[str]") -> str:
    """Return which delimiter it is; the end of an environment goes up to its name's brace."""
    sign = delimiter.group()
    return r"\end{" if sign.startswith(r"\end{") else sign


def _may_open(text: str, delimiter: "regex.Match[str]") -> bool:
    """A dollar sign before a space begins no formula: it costs 5 $ and no more."""
    return delimiter.group() != "$" or not text[delimiter.end() : delimiter.end() + 1].isspace()


def _may_close(text: str, delimiter: "regex.Match[str]") -> bool:
    """A dollar sign after a space ends none: $5 today and $6 tomorrow."""
    return delimiter.group() != "$" or not text[delimiter.start() - 1].isspace()
