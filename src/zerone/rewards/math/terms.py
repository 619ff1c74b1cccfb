"""The grammar of terms: tokens become a tree, or a reason why not.

In: tokens of one term (no commas, no relations). Out: a tree of numbers, symbols and operations.
What does not fit the grammar is refused, never half read: this is what keeps text around a number
from being passed over. Recursive descent; the guards bound the depth.

Conventions: `2^10` is 1024 and `\\sqrt13` the root of 13, but `\\frac12` is a half; `1/2x` is x/2;
an integer before a fraction of integers is a mixed number; several letters are a product.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from zerone.rewards.math.guards import MAX_DEPTH, MAX_FACTORS


class Unreadable(Exception):
    """The text is not an answer that can be judged; the message says why."""


class ForeignNotation(Unreadable):
    """LaTeX that this grammar does not know; math-verify may."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written; `places` counts the digits after a decimal point, None without one."""

    value: Fraction
    places: int | None = None


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable or a constant (`pi`, `e`, `i`, `infinity`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """`+ * / ^ neg ! root binom abs floor ceil degree log` or a function's name, applied to terms."""

    name: str
    arguments: tuple["Term", ...]


Term = Number | Symbol | Operation

_FUNCTION_NAMES = """
sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth ln log lg exp
"""
_SYMBOL_NAMES = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega
Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar boundA boundB boundC boundD
"""
_DECORATION_NAMES = """
overline vec hat bar mathbf mathbb mathcal tilde overrightarrow boldsymbol
"""
_OTHER_COMMANDS = """
text rfloor rceil rvert notin pm mp le ge ne in cup cap circ end begin or and lor land vee wedge mid to equiv
approx sim pmod emptyset infty rangle rbrace
"""
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_GREEK = frozenset(_SYMBOL_NAMES.split())
_DECORATIONS = frozenset(_DECORATION_NAMES.split())
_NO_FACTOR = frozenset(_OTHER_COMMANDS.split())
"""Commands that cannot follow a factor to be multiplied with it."""

_CONSTANTS = {"pi": "pi", "infty": "infinity", "infinity": "infinity", "oo": "infinity", "imath": "i"}
PLAIN_NAMES = FUNCTIONS | {"sqrt", "pi", "infinity", "oo", "theta", "alpha", "beta", "lambda"}
_ENCLOSED = {"(": (")", ""), "{": ("}", ""), "[": ("]", ""), "\\{": ("\\}", ""), "|": ("|", "abs")} | {
    f"\\{opening}": (f"\\{closing}", name)
    for opening, closing, name in map(
        str.split, ("mid mid abs", "lvert rvert abs", "lfloor rfloor floor", "lceil rceil ceil")
    )
}
"""Opening sign -> what closes it, and what it does."""
_LETTERS = re.compile(r"\\mathrm\s*\{\s*([A-Za-z]{1,4})\s*\}")  # where no unit can stand


def has_variables(term: Term) -> bool:
    """Whether a term holds a letter that is no constant."""
    match term:
        case Number():
            return False
        case Symbol(name):
            return name not in ("pi", "e", "i", "infinity")
        case Operation(_, arguments):
            return any(map(has_variables, arguments))


def parse_term(tokens: Sequence[str]) -> Term:
    """Return the term that all the tokens are; raise Unreadable."""
    return _Parser(tokens).parse()


def read_number(token: str) -> Number | None:
    """Return the number that a token is, or None."""
    if not token[0].isdigit() and (token[0] != "." or len(token) == 1):
        return None
    if not token.isascii():
        raise Unreadable("digits of another script")
    if "\\overline" in token:
        return _repeating(token)
    whole, point, decimals = token.replace(",", "").partition(".")
    if not decimals:
        return Number(Fraction(int(whole)))
    return Number(Fraction(int(f"{whole}{decimals}"), 10 ** len(decimals)), len(decimals) if point else None)


def _repeating(token: str) -> Number:
    whole, _, rest = token.partition(".")
    fixed, _, group = rest.partition("\\overline")
    period = group.strip(" {}")
    value = Fraction(int(f"0{whole}{fixed}"), 10 ** len(fixed))
    return Number(value + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed)))


class _Parser:
    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = list(tokens)
        self._position = 0
        self._depth = 0
        self._num_bars = 0

    def parse(self) -> Term:
        term = self._sum()
        if self._peek():
            raise Unreadable(f"it does not go on as a formula ({self._peek()[:20]})")
        return term

    def _peek(self, ahead: int = 0) -> str:
        position = self._position + ahead
        return self._tokens[position] if position < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._position += 1
        return token

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise Unreadable(f"a bracket is not closed ({token} is missing)")

    def _sum(self) -> Term:
        terms = [self._product()]
        while self._peek() in ("+", "-"):
            negative = self._next() == "-"
            term = self._product()
            terms.append(Operation("neg", (term,)) if negative else term)
        return terms[0] if len(terms) == 1 else Operation("+", tuple(terms))

    def _product(self) -> Term:
        if self._peek() in ("+", "-"):
            negative = self._next() == "-"
            term = self._product()
            return Operation("neg", (term,)) if negative else term
        left = self._factor()
        for _ in range(MAX_FACTORS):
            if self._peek() in ("*", "/"):
                operator = self._next()
                right = self._signed_factor()
            elif self._starts_factor():
                operator, right = "*", self._factor()
            else:
                return left
            left = Operation(operator, (left, right))
        raise Unreadable("a product of too many factors")

    def _signed_factor(self) -> Term:
        if self._peek() in ("+", "-"):
            negative = self._next() == "-"
            term = self._signed_factor()
            return Operation("neg", (term,)) if negative else term
        return self._factor()

    def _starts_factor(self) -> bool:
        token = self._peek()
        if token[:1].isdigit() or token[:1] == ".":
            return self._multiplies_number()
        if token == "|":
            # Where none is open, a bar opens.
            return not self._num_bars
        return token in ("(", "{", "[", "\\sqrt", "\\frac", "\\binom") or (
            token[:1].isalpha()
            or (token[:1] == "\\" and token[1:2].isalpha() and token[1:] not in _NO_FACTOR)
        )

    def _multiplies_number(self) -> bool:
        """Whether the number that follows is a factor: `(n-2) 2`, `n 2^{k}`; never `3 4` or `1.2.3`."""
        before = self._peek(-1)
        has_power = self._peek(1) == "^" and (before in ("}", "!") or before[-1:].isalpha())
        return before == ")" or has_power

    def _factor(self) -> Term:
        term = self._atom()
        while True:
            match self._peek():
                case "^":
                    self._next()
                    term = self._power(term)
                case "!":
                    self._next()
                    if self._peek() == "!":
                        raise Unreadable("a double factorial")
                    term = Operation("!", (term,))
                case _:
                    return term

    def _power(self, term: Term) -> Term:
        if self._peek() == "\\circ" or (self._peek() == "{" and self._peek(1) == "\\circ"):
            if self._next() == "{":
                self._next()
                self._expect("}")
            return Operation("degree", (term,))
        exponent = self._exponent()
        # x^y^z is x^(y^z), as it is set.
        if self._peek() == "^":
            self._next()
            exponent = self._power(exponent)
        return Operation("^", (term, exponent))

    def _exponent(self) -> Term:
        if self._peek() == "-":
            self._next()
            return Operation("neg", (self._simple_atom(),))
        return self._simple_atom()

    def _simple_atom(self) -> Term:
        """Return an atom that is no mixed number: `2^3\\frac12` is no power with exponent 3 1/2."""
        number = read_number(self._peek()) if self._peek() else None
        if number is None:
            return self._atom()
        self._next()
        return number

    def _atom(self) -> Term:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable("its terms are nested too deep")
        term = self._read_atom()
        self._depth -= 1
        return term

    def _read_atom(self) -> Term:
        token = self._next()
        if not token:
            raise Unreadable("it breaks off")
        if (number := read_number(token)) is not None:
            return self._mixed(number)
        if token in _ENCLOSED:
            return self._enclosed(token)
        letters = _LETTERS.fullmatch(token)
        if letters or (token[0].isalpha() and token.isascii()):
            return self._word(letters[1] if letters else token)
        if token[0] == "\\":
            return self._command(token[1:])
        raise Unreadable(f"a sign that begins nothing ({token[:20]})")

    def _enclosed(self, token: str) -> Term:
        closing, name = _ENCLOSED[token]
        self._num_bars += token == "|"
        inner = self._sum()
        self._expect(closing)
        self._num_bars -= token == "|"
        return Operation(name, (inner,)) if name else inner

    def _mixed(self, whole: Number) -> Term:
        """Return a number, taken together with a fraction of integers right behind it."""
        start = self._position
        if whole.value.denominator == 1 and whole.places is None:
            match self._fraction():
                case Number(top, None), Number(bottom, None) if bottom:
                    return Number(whole.value + top / bottom)
        self._position = start
        return whole

    def _fraction(self) -> tuple[Term | None, Term | None]:
        """Read the fraction of a mixed number: `\\frac45` or `4/5` behind a space."""
        if self._peek() == "\\frac":
            self._next()
            return self._argument(), self._argument()
        if self._peek()[:1].isdigit() and self._peek(1) == "/" and self._peek(2)[:1].isdigit():
            top, _, bottom = self._next(), self._next(), self._next()
            return read_number(top), read_number(bottom)
        return None, None

    def _word(self, word: str) -> Term:
        if word in PLAIN_NAMES:
            return self._command(word)
        known = next((name for name in PLAIN_NAMES if len(name) > 2 and word.startswith(name)), None)
        if known and len(word) == len(known) + 1:
            raise Unreadable(f"a word in a formula ({word})")
        if len(word) > 4 or word.lower() in ("nan", "inf"):
            raise Unreadable(f"a word in a formula ({word[:20]})")
        # Only the last letter takes what follows (a subscript, an exponent).
        self._tokens[self._position - 1 : self._position] = list(word)
        return self._subscripted(word[0])

    def _command(self, name: str) -> Term:
        if name in ("frac", "binom"):
            arguments = (self._argument(), self._argument())
            return Operation("/" if name == "frac" else "binom", arguments)
        if name == "sqrt":
            return self._root()
        if name in FUNCTIONS:
            return self._function(name)
        if name in _CONSTANTS:
            return Symbol(_CONSTANTS[name])
        if name in _GREEK:
            return self._subscripted(name)
        if name in _DECORATIONS:
            return self._decorated(name)
        if not name.startswith("begin{") and (not name.isalpha() or name in _NO_FACTOR):
            raise Unreadable(f"a command that cannot stand there (\\{name[:20]})")
        raise ForeignNotation(f"a command that is not known (\\{name[:20]})")

    def _argument(self) -> Term:
        """Return an argument as TeX takes it: a group, or a single digit or sign."""
        token = self._peek()
        if token.isdigit():
            if not token.isascii():
                raise Unreadable("digits of another script")
            self._tokens[self._position : self._position + 1] = list(filter(None, [token[0], token[1:]]))
            return Number(Fraction(int(self._next())))
        if token.isalpha() and len(token) > 1 and token not in PLAIN_NAMES:
            self._tokens[self._position : self._position + 1] = [token[0], token[1:]]
        return self._atom()

    def _root(self) -> Term:
        degree: Term = Number(Fraction(2))
        if self._peek() == "[":
            self._next()
            degree = self._sum()
            self._expect("]")
        return Operation("root", (self._simple_atom(), degree))

    def _subscripted(self, name: str) -> Term:
        if self._peek() != "_":
            return Symbol(name)
        self._next()
        token = self._next()
        if token == "{":
            inside = []
            while self._peek() and self._peek() != "}":
                inside.append(self._next())
            self._expect("}")
            token = "".join(inside)
        if not re.fullmatch(r"[A-Za-z0-9,+-]{1,12}|\\text\s*\{[A-Za-z0-9 ]*\}", token):
            raise Unreadable("a subscript that is not a name")
        return Symbol(f"{name}_{token}")

    def _decorated(self, name: str) -> Term:
        token = self._next()
        if token == "{":
            token = self._next()
            self._expect("}")
        if not (token.isalpha() or token[1:] in _GREEK):
            raise ForeignNotation(f"a command on what is not a letter (\\{name})")
        return self._subscripted(f"{name}.{token}")

    def _function(self, name: str) -> Term:
        subscript: Term | None = None
        power: Term | None = None
        while self._peek() in ("_", "^"):
            if self._next() == "_":
                subscript = self._argument()
            else:
                power = self._exponent()
        argument = self._function_argument()
        if name == "log" and subscript is not None:
            term = Operation("log", (argument, subscript))
        elif subscript is not None:
            raise Unreadable(f"a function with a subscript (\\{name})")
        elif power == Operation("neg", (Number(Fraction(1)),)) and f"arc{name}" in FUNCTIONS:
            return Operation(f"arc{name}", (argument,))
        else:
            term = Operation(name, (argument,))
        return term if power is None else Operation("^", (term, power))

    def _function_argument(self) -> Term:
        """Return what a function applies to: a group, or the factors up to a sign or a function."""
        if self._peek() in ("(", "{", "[", "\\{"):
            return self._atom()
        if self._peek() == "-":
            self._next()
            return Operation("neg", (self._function_argument(),))
        argument = self._factor()
        while (
            self._starts_factor()
            and self._peek().lstrip("\\") not in FUNCTIONS
            and not (self._peek() == "(" or self._peek()[0].isdigit())
        ):
            argument = Operation("*", (argument, self._factor()))
        if self._peek() == "/" and self._peek(1)[:1].isdigit() and isinstance(argument, Symbol):
            raise Unreadable("a function of a quotient without brackets")
        return argument
