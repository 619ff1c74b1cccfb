"""Which language a response is in, by the library that the published checker uses.

In: a response and a language code. Out: whether it is in it. The library draws lots; it gets a fixed
seed here, so that a figure is the same each time.
"""

from functools import cache
from threading import Lock
from typing import Any

from zerone.errors import UserError

_ONE_AT_A_TIME = Lock()


@cache
def _library() -> Any:
    try:
        import langdetect
    except ImportError as error:
        raise UserError(
            "IFEval tells languages apart by the library langdetect; install it by pip install 'zerone[eval]'"
        ) from error
    langdetect.DetectorFactory.seed = 0
    # The library fills its table of languages on first use, and shows it to other threads half full.
    with _ONE_AT_A_TIME:
        langdetect.detector_factory.init_factory()
    return langdetect


def require_detector() -> None:
    """Raise UserError where the library is missing; to be called before anything is sampled."""
    _library()


def is_language(text: str, language: str) -> bool:
    """Whether a text is in a language; a text without letters counts as any, as published."""
    library = _library()
    try:
        return bool(library.detect(text) == language)
    except library.LangDetectException:
        return True
