"""LaTeX and plain text in one spelling, cut into tokens.

In: an answer that passed the guards. Out: its tokens, as strings. Spacing and style commands go,
Unicode signs become their LaTeX commands, synonyms become one. A thousands separator is kept inside
its number (`1,234`) until the reader knows whether it stands in brackets, where commas separate.
"""

import re
import unicodedata

ROW_END = "\u2064"
"""Stands for `\\\\`; the guards keep the character itself out of answers."""

_VULGAR = (
    "\u00bc1/4 \u00bd1/2 \u00be3/4 \u21501/7 \u21511/9 \u21521/10 \u21531/3 \u21542/3 \u21551/5 \u21562/5"
)
_VULGAR += " \u21573/5 \u21584/5 \u21591/6 \u215a5/6 \u215b1/8 \u215c3/8 \u215d5/8 \u215e7/8"
_FRACTIONS = {
    sign: f"\\frac{{{top}}}{{{bottom}}}"
    for sign, top, bottom in ((part[0], *part[1:].split("/")) for part in _VULGAR.split())
}
_RAISED = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b\u207d\u207e\u207f\u2071"
_LOWERED = "\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089\u208a\u208b\u208d\u208e\u2099\u1d62"
_PLAIN = "0123456789+-()ni"
CHINESE = re.compile(r"[\u4e00-\u9fff]+")
_CHINESE_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        ("或者?", " or "),
        ("[和与及且]", " and "),
        (r"(?<=\d)\s*度(?![\u4e00-\u9fff])", r"^\\circ "),
    )
]
_RUNS = [
    (re.compile(f"[{signs}]+"), mark, str.maketrans(signs, _PLAIN))
    for signs, mark in ((_RAISED, "^"), (_LOWERED, "_"))
]
"""Raised and lowered signs side by side are one exponent, one index."""

_SIGNS = str.maketrans(
    {
        **_FRACTIONS,
        # Letters of mathematical fonts are the letters; their digits stay what they are.
        **{chr(code): unicodedata.normalize("NFKC", chr(code)) for code in range(0x1D400, 0x1D6A4)},
        "\u2212": "-",
        "\u2013": "-",
        "\u00d7": "*",
        "\u22c5": "*",
        "\u00b7": "*",
        "\u00f7": "/",
        "\u2044": "/",
        "\u00b0": "^\\circ ",
        "\u03c0": "\\pi ",
        "\u03b8": "\\theta ",
        "\u03b1": "\\alpha ",
        "\u03b2": "\\beta ",
        "\u03bb": "\\lambda ",
        "\u221a": "\\sqrt ",
        "\u221b": "\\sqrt[3] ",
        "\u2032": "'",
        "\u2220": "\\angle ",
        "\u2216": "\\setminus ",
        "\u211d": "\\mathbb{R}",
        "\u3001": ", ",  # with the space: 1 and 234, not 1,234
        "\u3002": ".",
        "\u221e": "\\infty ",
        "\u222a": "\\cup ",
        "\u2208": "\\in ",
        "\u2205": "\\emptyset ",
        "\u2264": "\\le ",
        "\u2265": "\\ge ",
        "\u2a7d": "\\le ",
        "\u2a7e": "\\ge ",
        "\u2260": "\\ne ",
        "\u2248": "\\approx ",
        "\u2223": "\\mid ",
        "\u230a": "\\lfloor ",
        "\u230b": "\\rfloor ",
        "\u2308": "\\lceil ",
        "\u2309": "\\rceil ",
        "\u2126": "\\Omega ",
        "\u03a9": "\\Omega ",
        "\u03bc": "\\mu ",
        "\u00b5": "\\mu ",
        "\u2124": "\\mathbb{Z}",
        "\u2115": "\\mathbb{N}",
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
_FONTS = r"(?:math(?:bf|it|sf|tt|cal|scr|frak|normal)|boldsymbol|bm|pmb)(?![A-Za-z])"
_REWRITES = [
    (needle, re.compile(pattern), replacement)
    for needle, pattern, replacement in (
        # The end of a matrix row: its strokes begin no other command.
        ("\\\\", r"\\\\(?:\[[\d.]+[a-z]+\])?", ROW_END),
        ("", r"\\[()\[\]]", " "),
        (
            "begin",
            r"(?:\\left\s*)?\\(?:\{|lbrace)\s*\\begin\s*\{(?:array|aligned|matrix)\}(?:\s*\{[lcr|@{}\s]*\})?"
            r"((?:(?!\\begin|\\end)(?s:.))*)\\end\s*\{(?:array|aligned|matrix)\}\s*\\right\s*\.",
            r"\\begin{cases}\1\\end{cases}",
        ),
        ("begin", r"\\(begin|end)\s*\{[dr]cases\}", r"\\\1{cases}"),
        ("$", r"\\\$", r"\\dollar "),
        ("begin", r"\\begin\s*\{array\}\s*\{[lcr|\s]*\}", r"\\begin{matrix}"),
        ("begin", r"\\end\s*\{array\}", r"\\end{matrix}"),
        ("colon", r"\\colon(?![A-Za-z])", ":"),
        ("", r"\\[!,]|\{,\}(?=\d)", "\u2063"),  # a separator inside a number, if digits follow
        ("\u2063", r"(?<=\d),?\u2063\s*(?=\d{3}(?!\d))", ""),
        ("\u2063", r"(?<=\d),\u2063", ","),
        ("\u2063", r"\u2063", " "),
        ("", r"\\[;: ]|~|\\q?quad(?![A-Za-z])|\\(?:thinspace|displaystyle|limits)(?![A-Za-z])", " "),
        ("left", r"\\left\s*(?:\||\\vert(?![A-Za-z]))", r"\\lvert "),
        ("right", r"\\right\s*(?:\||\\vert(?![A-Za-z]))", r"\\rvert "),
        ("", r"\\(?:left|right|bigg?[lrm]?|Bigg?[lrm]?|middle)(?![A-Za-z])\s*\.?", ""),
        ("frac", r"\\([dtc])frac(?![A-Za-z])", r"\\frac"),
        ("binom", r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        ("**", r"\*\*", "^"),
        ("", r"\\(?:cdot|times|ast)(?![A-Za-z])", "*"),
        ("div", r"\\div(?![A-Za-z])", "/"),
        ("", r"\\(?:leqq?|leqslant)(?![A-Za-z])|<=", r"\\le "),
        ("", r"\\(?:geqq?|geqslant)(?![A-Za-z])|>=", r"\\ge "),
        ("\\n", r"\\neq(?![A-Za-z])|\\not\s*=", r"\\ne "),
        ("", r"\\(?:doteq|approxeq|simeq)(?![A-Za-z])", r"\\approx "),
        ("\\not", r"\\notin(?![A-Za-z])|\\not\s*\\in(?![A-Za-z])", r"\\notin "),
        ("lt", r"\\lt(?![A-Za-z])", "<"),
        ("gt", r"\\gt(?![A-Za-z])", ">"),
        ("", r"\\(?:varnothing|empty|oslash)(?![A-Za-z])", r"\\emptyset"),
        ("degree", r"\\degree(?:s)?(?![A-Za-z])", r"^\\circ"),
        ("brace", r"\\(?:lbrace)(?![A-Za-z])", r"\\{"),
        ("brace", r"\\(?:rbrace)(?![A-Za-z])", r"\\}"),
        ("vert", r"\\vert(?![A-Za-z])", "|"),
        ("", r"\\(?:textbf|textrm|textit|textsf|texttt|mbox|textnormal)(?![A-Za-z])", r"\\text"),
        ("operatorname", r"\\operatorname\s*\{\s*([a-z]+)\s*\}", r"\\\1 "),
        # Fonts on letters do not count; upright ones may be a unit, and stay known as such.
        ("", rf"\\{_FONTS}\s*\{{\s*(\\?[A-Za-z]+|[^{{}}A-Za-z\\]*)\s*\}}", r" \1 "),
        ("", rf"\\{_FONTS}\s*(?=[A-Za-z](?![A-Za-z])|\\[A-Za-z])|\\(?:bf|it|cal|sf)(?![A-Za-z])", " "),
        (
            "",
            r"\\(?:text|mathrm)\s*\{\s*((?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|ln|log|exp|lg)\s*\}",
            r"\\\1 ",
        ),
        ("mathrm", r"\\mathrm\s*(?:\{\s*([ei])\s*\}|\{([^{}A-Za-z\\]*)\})", r"\1\2"),
        ("\\rm", r"\{\s*\\rm(?![A-Za-z])\s*((?:[^{}]|\^\s*\{[^{}]*\})*)\}", r"\\mathrm{\1}"),
        ("\\rm", r"\\rm\s+([A-Za-z]+)", r"\\mathrm{\1}"),
        ("}{", r"\\(?:SI|qty)\s*\{([^{}]*)\}\{", r"\1\\text{"),
        ("{", r"\\(?:unit|si)\s*\{", r"\\text{"),
        ("mathrm", r"\\mathrm\s+([A-Za-z])(?![A-Za-z])", r"\\mathrm{\1}"),
        ("mathrm", r"\\text\s*\{\s*(\\mathrm\s*\{[^{}]*\})\s*\}", r"\1"),
        *[("^", r"(\\(?:mathrm|text)\s*\{[^{}]*\^)\s*\{\s*(-?\s*\d)\s*\}", r"\1\2")] * 4,
        ("mathrm", r"\\mathrm(?!\s*\{\s*[A-Za-z]{1,4}\s*\})(?![A-Za-z])", r"\\text"),
        ("mathbb", r"\\mathbb\s+([A-Z])", r"\\mathbb{\1}"),
        ("var", r"\\(?:var)(epsilon|theta|phi|rho)(?![A-Za-z])", r"\\\1"),
        ("tg", r"\\tg(?![A-Za-z])", r"\\tan"),
    )
]
"""What must occur for a pattern to be tried, the pattern, and what stands in its place."""

_SCIENTIFIC = re.compile(
    r"(?<![\w.\\])(?:(\d+(?:\.\d+)?)[eE](\d{1,4})|(\d+\.\d+|1|\d+(?=[eE][-+]0))[eE]([-+]\d{1,4}))(?!\w|\.\d)"
)
"""1e5, 2.5e-3, 2e-05; but `2e-3` is twice Euler's number less 3."""

_EMPHASIS = re.compile(r"\s*(?:\*\*(.+)\*\*|`(.+)`)\s*[.]?\s*", re.DOTALL)
_CLOSING = re.compile(r"(?<!\.)\.(?:\s+\.|[\s,;])*$|[\s,;]+$")
_TOKEN = re.compile(
    r"\s+|\\(?:text|mathrm)\s*\{[^{}]*\}|\\(?:begin|end)\s*\{\s*[a-z]*\*?\s*\}"
    r"|\d{1,3}(?:,\d{3})+(?!,?\d)(?:\.\d+)?"
    r"|\d*\.\d*\\overline\s*\{\d+\}|\d+\.?\d*|\.\d+"
    r"|\\[A-Za-z]+|\\.|[A-Za-z]+|[\u4e00-\u9fff]+|.",
    re.DOTALL,
)


def _from_unicode(text: str) -> str:
    for run, mark, plain in _RUNS:
        text = run.sub(rf"{mark}{{\g<0>}}", text).translate(plain)
    text = text.translate(_SIGNS)
    if not CHINESE.fullmatch(text):
        for pattern, replacement in _CHINESE_REWRITES:
            text = pattern.sub(replacement, text)
    return text


def clean(text: str) -> str:
    """Return an answer in one spelling, without the signs of mathematics mode around it."""
    if not text.isascii():
        text = _from_unicode(text)
    text = text.strip()
    while match := _EMPHASIS.fullmatch(text):
        text = (match[1] or match[2]).strip()
    for needle, pattern, replacement in _REWRITES:
        if needle in text:
            text = pattern.sub(replacement, text)
    if "e" in text or "E" in text:
        text = _SCIENTIFIC.sub(lambda found: f"({found[1] or found[3]}*10^{{{found[2] or found[4]}}})", text)
    # Dollar signs in pairs delimit mathematics; a single one is money.
    text = text.replace("$", " " if text.count("$") % 2 == 0 else "\\dollar ")
    return _CLOSING.sub("", text.strip()).strip()


def tokenise(text: str) -> tuple[str, ...]:
    """Return the tokens of a cleaned text, white space left out."""
    return tuple(token for token in _TOKEN.findall(text) if not token.isspace())


_LOWERED_WORD = re.compile(r"[A-Z][a-z]{2,}|No|It|In|We|If|Is|An|As|At|By|On|Or|So|To")


def plain_form(text: str) -> tuple[str, ...]:
    """Return a text as it is compared where no grammar reads it: tokens of one spelling, words in lower case.

    Spaces, dollar signs, styles, `\\text` around words and a full stop at the end do not count.
    """
    tokens: list[str] = []
    for token in tokenise(clean(" ".join(text.split()))):
        inside = (
            token.partition("{")[2].removesuffix("}") if token.startswith(("\\text", "\\mathrm")) else token
        )
        tokens.extend(tokenise(inside) if inside is not token else [token])
    return tuple(token.lower() if _LOWERED_WORD.fullmatch(token) else token for token in tokens)
