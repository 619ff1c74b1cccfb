"""LaTeX and plain text in one spelling, cut into tokens.

In: an answer that passed the guards. Out: its tokens, as strings. Spacing and style commands go,
Unicode signs become their LaTeX commands, synonyms become one. A thousands separator is kept inside
its number (`1,234`) until the reader knows whether it stands in brackets, where commas separate.
"""

import re

ROW_END = "\u2064"
"""Stands for `\\\\`; the guards keep the character itself out of answers."""

_SIGNS = str.maketrans(
    {
        "\u2212": "-",
        "\u2013": "-",
        "\u00d7": "*",
        "\u22c5": "*",
        "\u00b7": "*",
        "\u00f7": "/",
        "\u2044": "/",
        "\u00bc": "\\frac{1}{4}",
        "\u00bd": "\\frac{1}{2}",
        "\u00be": "\\frac{3}{4}",
        "\u00b2": "^2",
        "\u00b3": "^3",
        "\u00b0": "^\\circ ",
        "\u03c0": "\\pi ",
        "\u03b8": "\\theta ",
        "\u03b1": "\\alpha ",
        "\u03b2": "\\beta ",
        "\u03bb": "\\lambda ",
        "\u221a": "\\sqrt ",
        "\u221e": "\\infty ",
        "\u222a": "\\cup ",
        "\u2208": "\\in ",
        "\u2205": "\\emptyset ",
        "\u2264": "\\le ",
        "\u2265": "\\ge ",
        "\u2260": "\\ne ",
        "\u00b1": "\\pm ",
        "\u2213": "\\mp ",
        "\u20ac": "\\euro ",
        "\u00a3": "\\pounds ",
        "\u00a5": "\\yen ",
        "\u3000": " ",
        "\u00a0": " ",
        **{chr(0xFF01 + i): chr(0x21 + i) for i in range(94)},
    }
)
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (
            r"\\\\(?:\[[\d.]+[a-z]+\])?",
            ROW_END,
        ),  # the end of a matrix row: its strokes begin no other command
        (r"\\[()\[\]]", " "),
        (r"\\\$", r"\\dollar "),
        (r"\\begin\s*\{array\}\s*\{[lcr|\s]*\}", r"\\begin{matrix}"),
        (r"\\end\s*\{array\}", r"\\end{matrix}"),
        (r"\\colon(?![A-Za-z])", ":"),
        (r"\\[!,]|\{,\}(?=\d)", "\u2063"),  # a separator inside a number, if digits follow
        (r"(?<=\d),?\u2063\s*(?=\d{3}(?!\d))", ""),
        (r"(?<=\d),\u2063", ","),
        (r"\u2063", " "),
        (r"\\[;: ]|~|\\q?quad(?![A-Za-z])|\\(?:thinspace|displaystyle|limits)(?![A-Za-z])", " "),
        (r"\\(?:left|right|bigg?[lrm]?|Bigg?[lrm]?|middle)(?![A-Za-z])\s*\.?", ""),
        (r"\\([dtc])frac(?![A-Za-z])", r"\\frac"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (r"\*\*", "^"),
        (r"\\(?:cdot|times|ast)(?![A-Za-z])", "*"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"\\(?:leq|leqslant)(?![A-Za-z])|<=", r"\\le "),
        (r"\\(?:geq|geqslant)(?![A-Za-z])|>=", r"\\ge "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\(?:varnothing|empty)(?![A-Za-z])", r"\\emptyset"),
        (r"\\degree(?:s)?(?![A-Za-z])", r"^\\circ"),
        (r"\\(?:lbrace)(?![A-Za-z])", r"\\{"),
        (r"\\(?:rbrace)(?![A-Za-z])", r"\\}"),
        (r"\\[lr]vert(?![A-Za-z])", "|"),
        (r"\\(?:textbf|textrm|textit|mbox|textnormal)(?![A-Za-z])", r"\\text"),
        (r"\\operatorname\s*\{\s*([a-z]+)\s*\}", r"\\\1 "),
        (r"\\math(?:bf|it|sf)\s*\{\s*([A-Za-z])\s*\}|\\mathrm\s*\{\s*([ei])\s*\}", r"\1\2"),
        (r"\\(?:math(?:rm|bf|it|sf)|boldsymbol|bm)\s*\{([^{}A-Za-z\\]*)\}", r"\1"),
        (r"\\mathrm(?![A-Za-z])", r"\\text"),
        (r"\\mathbb\s+([A-Z])", r"\\mathbb{\1}"),
        (r"\\(?:var)(epsilon|theta|phi|rho)(?![A-Za-z])", r"\\\1"),
        (r"\\tg(?![A-Za-z])", r"\\tan"),
    )
]
_EMPHASIS = re.compile(r"\s*(?:\*\*(.+)\*\*|`(.+)`)\s*[.]?\s*", re.DOTALL)
_CLOSING = re.compile(r"(?<!\.)\.\s*$|[\s,;]+$")
_TOKEN = re.compile(
    r"\s+|\\text\s*\{[^{}]*\}|\\(?:begin|end)\s*\{\s*[a-z]*\*?\s*\}"
    r"|\d{1,3}(?:,\d{3})+(?!,?\d)(?:\.\d+)?"
    r"|\d*\.\d*\\overline\s*\{\d+\}|\d+\.?\d*|\.\d+"
    r"|\\[A-Za-z]+|\\.|[A-Za-z]+|.",
    re.DOTALL,
)


def clean(text: str) -> str:
    """Return an answer in one spelling, without the signs of mathematics mode around it."""
    text = text.translate(_SIGNS).strip()
    while match := _EMPHASIS.fullmatch(text):
        text = (match[1] or match[2]).strip()
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    # Dollar signs in pairs delimit mathematics; a single one is money.
    text = text.replace("$", " " if text.count("$") % 2 == 0 else "\\dollar ")
    return _CLOSING.sub("", text.strip()).strip()


def tokenise(text: str) -> tuple[str, ...]:
    """Return the tokens of a cleaned text, white space left out."""
    return tuple(token for token in _TOKEN.findall(text) if not token.isspace())
