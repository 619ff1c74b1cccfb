"""Language consistency: the share of a reasoning's words that are in the language asked for.

In: a reasoning and a language. Out: target-language words / all words (R1 paper, 2.3.2), between 0
and 1; 0 where there are no words. Words are told apart by their script, which decides English
against Chinese exactly and costs nothing; languages that share the Latin script need the optional
detector. docs/rewards.md lists the conventions.
"""

import difflib
import functools
import unicodedata
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence

import regex

from zerone.errors import ConfigError
from zerone.rewards.prose import PROSE_RUN, normalised, prose

_SCRIPT_OF_LANGUAGES = {
    "Latin": "en de fr es it pt nl sv da no fi pl cs sk hu ro tr vi id ms sw ca hr sl et lv lt",
    "Cyrillic": "ru uk bg be sr mk kk",
    "Arabic": "ar fa ur",
    "Devanagari": "hi mr ne",
    "Greek": "el",
    "Hebrew": "he",
    "Bengali": "bn",
    "Tamil": "ta",
    "Telugu": "te",
    "Georgian": "ka",
    "Armenian": "hy",
    "Thai": "th",
    "Lao": "lo",
    "Khmer": "km",
    "Myanmar": "my",
    "Chinese": "zh",
    "Japanese": "ja",
    "Hangul": "ko",
}
SCRIPTS: Mapping[str, str] = {
    code: script for script, codes in _SCRIPT_OF_LANGUAGES.items() for code in codes.split()
}
"""Language code -> what its words are written in. Han and Kana stand apart from other scripts:
`Chinese` are Han characters of sentences without Kana, `Japanese` are Kana and Han beside them."""

_NAMES_OF_LANGUAGES = {
    "en": "english",
    "zh": "chinese mandarin cantonese cn \u4e2d\u6587 \u6c49\u8bed \u6f22\u8a9e \u666e\u901a\u8bdd",
    "ja": "japanese jp \u65e5\u672c\u8a9e \u65e5\u8bed \u65e5\u6587",
    "ko": "korean kr \ud55c\uad6d\uc5b4 \u97e9\u8bed \u97e9\u6587",
    "de": "german deutsch",
    "fr": "french fran\u00e7ais francais",
    "es": "spanish espa\u00f1ol espanol castellano",
    "it": "italian italiano",
    "pt": "portuguese portugu\u00eas portugues",
    "nl": "dutch nederlands",
    "sv": "swedish svenska",
    "da": "danish dansk",
    "no": "norwegian norsk nb nn",
    "fi": "finnish suomi",
    "pl": "polish polski",
    "cs": "czech \u010de\u0161tina cestina",
    "sk": "slovak sloven\u010dina",
    "hu": "hungarian magyar",
    "ro": "romanian rom\u00e2n\u0103 romana",
    "tr": "turkish t\u00fcrk\u00e7e turkce",
    "vi": "vietnamese ti\u1ebfng_vi\u1ec7t",
    "id": "indonesian bahasa_indonesia",
    "ms": "malay bahasa_melayu",
    "sw": "swahili kiswahili",
    "ca": "catalan catal\u00e0",
    "hr": "croatian hrvatski",
    "sl": "slovenian slovene sloven\u0161\u010dina",
    "et": "estonian eesti",
    "lv": "latvian latvie\u0161u",
    "lt": "lithuanian lietuvi\u0173",
    "ru": "russian \u0440\u0443\u0441\u0441\u043a\u0438\u0439",
    "uk": "ukrainian \u0443\u043a\u0440\u0430\u0457\u043d\u0441\u044c\u043a\u0430",
    "bg": "bulgarian \u0431\u044a\u043b\u0433\u0430\u0440\u0441\u043a\u0438",
    "be": "belarusian",
    "sr": "serbian \u0441\u0440\u043f\u0441\u043a\u0438",
    "mk": "macedonian",
    "kk": "kazakh",
    "ar": "arabic \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "fa": "persian farsi \u0641\u0627\u0631\u0633\u06cc",
    "ur": "urdu \u0627\u0631\u062f\u0648",
    "hi": "hindi \u0939\u093f\u0928\u094d\u0926\u0940 \u0939\u093f\u0902\u0926\u0940",
    "mr": "marathi",
    "ne": "nepali",
    "el": "greek \u03b5\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac",
    "he": "hebrew iw \u05e2\u05d1\u05e8\u05d9\u05ea",
    "bn": "bengali bangla \u09ac\u09be\u0982\u09b2\u09be",
    "ta": "tamil",
    "te": "telugu",
    "ka": "georgian",
    "hy": "armenian",
    "th": "thai \u0e44\u0e17\u0e22 \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22",
    "lo": "lao",
    "km": "khmer",
    "my": "burmese myanmar",
}
_CODES: Mapping[str, str] = {
    unicodedata.normalize("NFC", name.replace("_", " ")): code
    for code, names in _NAMES_OF_LANGUAGES.items()
    for name in (code, *names.split())
}
"""Names of languages in English and their own, and codes in use for them, to the codes of SCRIPTS."""

_TAG_OF_REGION = regex.compile(r"(?:[-_.@][a-z0-9]+)*|\s?\([^()]*\)")

# Characters that make one word, where words are not set apart by spaces (Korean sets particles to
# them, whose spaces a writer could add or leave out). Counting characters, a share cannot be moved
# by adding or leaving out spaces.
_CHARACTERS_PER_WORD = {
    "Chinese": 1.5,
    "Japanese": 2.0,
    "Hangul": 2.5,
    "Thai": 4.0,
    "Lao": 4.0,
    "Khmer": 4.0,
    "Myanmar": 4.0,
}
_LONGEST_WORD = 20
_LETTERS_PER_WORD = 6
"""Of a longer run of letters: words written without spaces between them count all the same."""

_LARGEST_SHARE = 0.1
_SMALLEST_CAP = 3.0
"""No word makes more than a tenth of a text of more than a few words; `the` makes 7%."""

_MIXED = "mixed scripts"
_FEW_LETTERS = 3
_SHORT_SEGMENT = 10
"""Han characters of a heading or a label in a Japanese text, which need no Kana beside them."""

# Written alike in every language: functions and units.
_FUNCTIONS_AND_UNITS = (
    "sin cos tan cot sec csc log ln lg exp min max gcd lcm mod lim det deg arcsin arccos arctan "
    "mm cm dm km kg mg ml hr kb mb gb hz khz mhz kw kwh"
)
_INTERNATIONAL = frozenset(_FUNCTIONS_AND_UNITS.split())

_SEGMENT_END = regex.compile(r"[\n\u3002\uff01\uff1f!?]|\.(?=\s|$)")
_TOKEN = regex.compile(
    r"(?P<han>\p{Han})|(?P<kana>[\p{Hiragana}\p{Katakana}\u30fc])|(?P<hangul>\p{Hangul})"
    r"|(?P<thai>\p{Thai})|(?P<lao>\p{Lao})|(?P<khmer>\p{Khmer})|(?P<myanmar>\p{Myanmar})"
    r"|(?P<word>[\p{L}--[\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]"
    r"[[\p{L}\p{M}\p{N}_'\u2019]--[\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}"
    r"\p{Myanmar}]]*+)",
    flags=regex.V1,
)
_NOT_LETTERS = regex.compile(r"[^\p{L}]+")
_SPACELESS = {"hangul": "Hangul", "thai": "Thai", "lao": "Lao", "khmer": "Khmer", "myanmar": "Myanmar"}

Detector = Callable[[str], str]
"""Takes a sentence and returns the code of its language."""

_Word = tuple[str, str]
"""A kind (a script, or a language told apart by a detector) and the word itself."""


def language_code(name: str) -> str:
    """Return the code of a language given as `zh`, `zh-CN`, `zh_Hans`, `cn`, `Chinese` or in Chinese.

    Raises ConfigError for one that is not known, with those that come close to it.
    """
    folded = unicodedata.normalize("NFC", name.strip().casefold())
    first = regex.split(r"[-_.@(]", folded)[0]
    joined = " ".join(folded.split())
    code = _CODES.get(joined) or (
        _CODES.get(first.strip()) if _TAG_OF_REGION.fullmatch(folded[len(first.rstrip()) :]) else None
    )
    if code is None:
        close = difflib.get_close_matches(joined[:40], _CODES, n=2, cutoff=0.6)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ConfigError(f"language {name!r} is not known; there are {', '.join(sorted(SCRIPTS))}.{hint}")
    return code


def language_share(text: str, language: str, detector: Detector | None = None) -> float:
    """Return the share of words in a language, of all words of a text.

    A detector tells languages with Latin letters apart, sentence by sentence; without one any
    Latin word counts for each of them.
    """
    code = language_code(language)
    target = SCRIPTS[code]
    if detector is not None and target == "Latin":
        target = f"Latin {code}"
    else:
        detector = None
    words = word_counts(text, detector)
    total = sum(words.values())
    return sum(count for (kind, _), count in words.items() if kind == target) / total if total else 0.0


def word_counts(text: str, detector: Detector | None = None) -> dict[_Word, float]:
    """Return how often each word of a text counts, repeats beyond a tenth of the text left out."""
    counts: defaultdict[_Word, float] = defaultdict(float)
    cleaned = prose(normalised(text))
    segments = [segment for segment in _SEGMENT_END.split(cleaned) if segment]
    is_japanese = _kana_share(cleaned) >= 0.2
    for segment in segments:
        latin = _latin_kind(segment, detector)
        for kind, word, weight in _words(segment, is_japanese):
            counts[(latin if kind == "Latin" else kind, word)] += weight
    return _capped(counts)


def _words(segment: str, is_japanese: bool) -> Iterator[tuple[str, str, float]]:
    """Yield (kind, word, weight) of a sentence or line."""
    han = _han_kind(segment, is_japanese)
    runs = deque(match.span() for match in PROSE_RUN.finditer(segment))
    for match in _TOKEN.finditer(segment):
        group, token = match.lastgroup, match.group()
        if group == "han":
            yield han, token, 1 / _CHARACTERS_PER_WORD[han]
        elif group == "kana":
            yield "Japanese", token, 1 / _CHARACTERS_PER_WORD["Japanese"]
        elif group == "word":
            while runs and runs[0][1] <= match.start():
                runs.popleft()
            in_run = bool(runs) and runs[0][0] <= match.start()
            yield from _alphabetic(token, in_run)
        else:
            kind = _SPACELESS[str(group)]
            yield kind, token, 1 / _CHARACTERS_PER_WORD[kind]


def _alphabetic(token: str, in_run: bool) -> Iterator[tuple[str, str, float]]:
    """Yield what a token of an alphabetic script counts as: at most one word, or its length's worth."""
    letters = token if token.isalpha() else _NOT_LETTERS.sub("", token)
    if len(letters) < 2:
        return  # a variable
    scripts = {"Latin"} if letters.isascii() else set(map(_script, letters))
    is_short = len(letters) <= _FEW_LETTERS
    if not in_run:
        if is_short and token != letters and scripts == {"Latin"} and any(c.isdigit() for c in token):
            return  # a variable with its number, or a number with its unit
        if is_short and scripts == {"Latin", "Greek"}:
            return  # a difference or a product of variables
        if letters.isupper() and len(letters) <= _FEW_LETTERS + 1:
            return  # points, sides and abbreviations
        if letters.casefold() in _INTERNATIONAL:
            return
    # One word in two alphabets is a disguise: it counts, and for no language.
    kind = scripts.pop() if len(scripts) == 1 else _MIXED
    length = len(letters) if len(letters) <= _LONGEST_WORD else _LETTERS_PER_WORD
    for start in range(0, len(letters), length):
        yield kind, letters[start : start + length].casefold(), 1.0


_SCRIPT_PATTERNS = {
    name: regex.compile(rf"\p{{{name}}}")
    for name in (*_SCRIPT_OF_LANGUAGES, "Cherokee", "Coptic", "Gothic")
    if name not in ("Chinese", "Japanese")
}


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """Return the script of a letter, `other` for one that no listed language uses."""
    return next((name for name, pattern in _SCRIPT_PATTERNS.items() if pattern.match(letter)), "other")


_HAN = regex.compile(r"\p{Han}")
_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}]")


def _kana_share(text: str) -> float:
    kana, han = len(_KANA.findall(text)), len(_HAN.findall(text))
    return kana / (kana + han) if kana else 0.0


def _han_kind(segment: str, is_japanese: bool) -> str:
    """Tell which language Han characters belong to: no Japanese sentence does without Kana."""
    share = _kana_share(segment)
    if share >= 0.125 or (is_japanese and not share and len(_HAN.findall(segment)) <= _SHORT_SEGMENT):
        return "Japanese"
    return "Chinese"


def _capped(counts: Mapping[_Word, float]) -> dict[_Word, float]:
    """Bound what one word can make of the whole, so that padding with a few words is in vain."""
    cap = max(_SMALLEST_CAP, _LARGEST_SHARE * sum(counts.values()))
    # A cap lowers the total and with it the cap; ten rounds come within 1% of where that ends.
    for _ in range(10):
        total = sum(min(count, cap) for count in counts.values())
        cap = max(_SMALLEST_CAP, _LARGEST_SHARE * total)
    return {word: min(count, cap) for word, count in counts.items()}


# Languages of one script --------------------------------------------------------------------------

_SENTENCE_WORDS = 4
_LATIN_WORD = regex.compile(r"\p{Latin}{2,}")


def _latin_kind(segment: str, detector: Detector | None) -> str:
    """Return the kind of a sentence's Latin words; too short a sentence cannot be told."""
    if detector is None or len(_LATIN_WORD.findall(segment)) < _SENTENCE_WORDS:
        return "Latin"
    return f"Latin {detector(segment[:2000])}"


@functools.cache
def lingua_detector(languages: Sequence[str]) -> Detector:
    """Return a detector among these languages by the `lingua` package (extra `language`).

    Raises ConfigError where it is not installed or does not know a language.
    """
    try:
        from lingua import IsoCode639_1, LanguageDetectorBuilder
    except ImportError as error:
        raise ConfigError(
            "telling languages with Latin letters apart needs lingua: pip install 'zerone[language]'"
        ) from error
    codes = [language_code(name) for name in languages]
    if len(set(codes)) < 2:
        raise ConfigError(f"languages {', '.join(codes)}: lingua needs two or more to choose from")
    unknown = [code for code in codes if not hasattr(IsoCode639_1, code.upper())]
    if unknown:
        raise ConfigError(f"lingua does not know {unknown[0]!r}")
    isos = [getattr(IsoCode639_1, code.upper()) for code in codes]
    built = LanguageDetectorBuilder.from_iso_codes_639_1(*isos).build()

    def detect(sentence: str) -> str:
        found = built.detect_language_of(sentence)
        return "unknown" if found is None else str(found.iso_code_639_1.name).lower()

    return detect
