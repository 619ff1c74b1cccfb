"""The words by which answers in prose state, deny, doubt and correct a choice, in English and Chinese.

In: nothing. Out: compiled patterns for choice_extraction.py, which says how they are used. A letter of
a choice is a capital A to J that touches no other Latin letter or digit; Chinese characters may touch
it. Every repetition is bounded, so each search is linear in the length of the text.
"""

import re

BOX, BOX_END = "\ue000", "\ue001"
"""Private characters that stand around the content of a box in the text that is searched."""

_BEGIN, _END = r"(?<![A-Za-z0-9_'])", r"(?![A-Za-z0-9_'])"
_LETTER = rf"([A-J]){_END}"
_OTHER = rf"[(\[【]?[A-HJ]{_END}"
"""A letter that is listed with another one; `I` is a word."""
_OPEN, _CLOSE = r"[\"'(\[【]?", r"[\"')\]】]?"
_ITEM = r"(?:the )?(?:answer |option |choice |letter ){0,2}"


def _words(*alternatives: str) -> str:
    return f"(?:{'|'.join(alternatives)})"


def _pattern(*parts: str) -> re.Pattern[str]:
    return re.compile("".join(parts), re.IGNORECASE | re.MULTILINE)


LETTER = re.compile(rf"{_BEGIN}[A-J]{_END}")
DISTINCT = re.compile(rf"{_BEGIN}(?:[B-HJ]{_END}|A{_END}(?! [a-z]))|(?<=[(\[])[A-J](?=[)\]])")
"""Letters that are named; not `A` or `I` as a word."""

# What is the answer -------------------------------------------------------------------------------

_NOT_IN_GAP = _words("choices", "options", "not", "never", "cannot", "wrong", "incorrect", "whether", "if")
_GAP = rf"(?:(?!\b[A-J]\b|\b{_NOT_IN_GAP}\b|n't)[^\n.:;!?=])"
_IS = r"(?:\bis\b|\bare\b|\b(?:would|should|must|will|has to|have to) be\b|:|=|->|[\u2192\u21d2])"
_CHINESE_IS = r"(?:应该|应当|应|就|则)?(?:是|为|选择|选|:){1,3}"

ANSWER_IS = _pattern(
    rf"(?<!wrong )(?<!incorrect )(?<!not the )(?<!not an )(?<!no )\b(?:answer|ans)\b{_GAP}{{0,80}}?{_IS}",
    r"(?:[ \t]*(?::|=|->))?",
    r"|\b(?:correct|right|best|true) (?:choice|option|statement|one|response|letter|alternative|answer)\b",
    rf"{_GAP}{{0,60}}?{_IS}(?:[ \t]*:)?",
    r"|^[ \t]*(?:the )?(?:final |correct )*(?:answer|ans)\b[ \t]*(?=\n|\([A-J]\))",
    r"|^[ \t]*答:",
    r"|[\[【](?:正确)?(?:答案|解答)[\]】]:?",
    rf"|(?:(?:正确|最终|最佳|标准|最合适)的?(?:选项|选择)|答案){_CHINESE_IS}",
    r"|(?:正确|符合题意|成立)的(?:一项)?(?:是|为|:)",
    r"|(?<![不未勿没可错别被])(?<!不[应能会该])(?<!不应该)选(?:择|项|取)?:?",
    rf"(?=[ \t]*[(\[【]?[ \t]*(?:选项)?[ \t]*[A-J]{_END})",
)
"""What stands before a letter that is the answer."""

SUPPOSED = _pattern(
    r"\b(?:if|suppose|supposing|assume|assuming|whether|say)(?: that)?(?: the| my)?",
    r"(?: correct| right| final| best)*[ \t]*$",
)
"""What makes a question or a supposition of an answer behind it."""

_TAKE = _words(
    *("choose", "pick", "select", "opt for", "go(?:ing)? with", "settle on", "answer with"),
    *("chose", "picked", "selected"),
)
TAKES = _pattern(
    rf"(?<!not )(?<!n't )(?<!never )\b{_TAKE}\b:?[ \t]*{_ITEM}{_OPEN}{_LETTER}{_CLOSE}",
    rf"(?=[ \t]*(?:[.,;:!](?![ \t]*(?:and |or )?{_OTHER})|$|because\b|since\b))",
)
"""`I choose C`: the letter must end what is said, since other things than answers are chosen too."""

BOXED = re.compile(f"{BOX}([^{BOX}{BOX_END}]*){BOX_END}")
JOINS = re.compile(r"[ \t]*|\s*(?:[,/&+]|and|or|和|或|与|还是)[\s,]*(?:and|or)?\s*")
"""What stands between two boxes that are one answer."""

FOLLOWS = re.compile(r"[ \t]*(?:\n[ \t]*){0,3}([^\n]{1,200})")
_IDLE = _words(
    *("clearly", "obviously", "definitely", "indeed", "actually", "therefore", "thus", "hence", "then"),
    *("simply", "still", "again", "the", "letter", "answer", "option", "choice", "statement", "response"),
    *("选项", "选"),
)
LED = _pattern(
    rf"(?:{_IDLE}[ \t,:]+|选项|选){{0,3}}",
    rf"[\"'(\[【{BOX}]{{0,3}}[ \t]?{_LETTER}[ \t]?[\"')\]】{BOX_END}]{{0,3}}",
)
"""A segment that begins with a letter, after words that change nothing."""

EXPLAINS = _pattern(
    r"[ \t]*(?:$|[.,;:!)(【\u2014\u2013]|-(?!\w)|",
    _words(
        *("because", "since", r"as\b", r"for\b", "which", "where", "with", "due", r"in\b", "from", "given"),
        *(
            "here",
            "again",
            "rather",
            "instead of",
            r"not\b",
            r"and\b",
            r"but\b",
            "因为",
            "由于",
            "而",
            "项",
            "选项",
        ),
    ),
    ")",
)
"""What may follow a letter that stands for its choice and begins no name."""

MORE = re.compile(
    r"[ \t]*(?:[,/&+|、和与或及]|还是|以及|\band\b|\bor\b|\bas well as\b)+[ \t]*(?:and|or)?[ \t]*"
    rf"(?:either )?(?:the )?(?:option |choice |选项)?{_OTHER}"
)
"""A letter that is listed beside the one before it."""

# What takes an answer back ------------------------------------------------------------------------

DOUBT = re.compile(
    r"\?|\bguess\w*\b|\b(?:not|un)[ -]?(?:sure|certain)\b|\bdon't know\b|\b(?:maybe|perhaps|probably|possibly"
    r"|presumably|likely|uncertain)\b"
    r"|\b(?:or|may|might|could)(?: also)?(?: be)? (?:option |choice )?[(\[]?[A-J]\b"
    r"|吗|猜|不确定|也许|大概|可能|或者?[A-J]"
)
DENIED = _pattern(
    r"[ \t]*(?:definitely |certainly |clearly )?(?:not\b|never\b|n't\b|neither\b|none\b|不是|非)[ \t]*",
    rf"(?:option |choice )?[(\[]?(?:{_LETTER})?",
)
_HARD = _words(
    *("wait", "oops", "no(?=[,.!])", "nope", "correction", "scratch that", "my (?:mistake|bad)", "sorry"),
    *("on second thoughts?", "(?:but )?that(?:'s| is| was) (?:wrong|incorrect|not (?:right|correct))"),
    *("i was wrong", "i made an? (?:mistake|error)", "不对", "等等", "等一下", "更正", "我错了", "错了"),
)
_SOFT = _words(
    *("actually", "hmm+", "hold on", "let me", "rechecking", "checking", "looking again", r"re-?examin\w+"),
    *("重新", "其实", "再检查"),
)
CORRECTS = _pattern(
    rf"(?:^|(?<=[.!?;\n,])[ \t]*)(?:(?P<hard>{_HARD})|{_SOFT})(?![a-z'])[,.!:]?[ \t]*",
)
"""A hard correction takes back what was said; a soft one lets what follows replace it."""

IT_IS = _pattern(
    r"(?:(?:it|this|that|so|the answer)(?:'s| is| must be| should be| would be| has to be)?",
    r"|应该是|应该选|应为|应选|是)?",
    rf"[ \t]*(?:option |choice )?[(\[]?{_LETTER}[)\]]?[ \t]*(?=[.,!;\n]|$)",
)
"""What a correction says instead."""

# What is said of a choice -------------------------------------------------------------------------

BARE_LINE = re.compile(r"[(\[]?([A-J])[)\]]?[ \t]*[.:!]?")
LABELLED_LINE = re.compile(r"^[ \t]*[(\[]?([A-J])[)\]]?[ \t]*[.):、][ \t]*\S", re.MULTILINE)
SENTENCE_END = re.compile(r"[.!?;](?=[ \t]|$|[\u4e00-\u9fff])")

_CHOICE = r"(?:\b(?:option|choice|answer|statement|alternative)s?[ \t]*|选项[ \t]*)"
_INDEED = _words(
    "therefore", "indeed", "clearly", "thus", "definitely", "obviously", "hence", "then", "in fact"
)
PRAISED = re.compile(
    rf"(?<![A-Za-z0-9_'(]){_CHOICE}?[(\[]?{_BEGIN}{_LETTER}[)\]]?(?:[:.,]?[ \t]*\([^()\n]{{0,80}}\)|,)?[ \t]*"
    rf"(?:(?:is|must be|has to be|should be)[ \t]+(?:{_INDEED}[ \t]+)?(?:the[ \t]+)?"
    r"(?:(?:only|most|best|single|one|final)[ \t]+)*(?:correct|right|answer|best|appropriate|true)\b"
    r"(?![ \t]+(?:about|that|in part|only if|except|if|when|but))"
    r"|(?:选项|项)?[ \t]*(?:是|为)?(?:唯一)?正确(?:的|答案|选项)?)"
)
_SO = _words(
    *(
        "so",
        "therefore",
        "thus",
        "hence",
        "consequently",
        "accordingly",
        "in conclusion",
        "overall",
        "finally",
    ),
    *("in summary", "to conclude"),
)
CONCLUDES = _pattern(rf"[ \t]*(?:(?:and |but )?{_SO}\b|因此|所以|故|综上|于是|由此)[ \t,:]*")
_POINT = _words(
    *("only", "leav(?:e|es|ing)", "left with", "correspond(?:s|ing)? to", "match(?:es|ing)?", "which is"),
    *("that is", "this is", "given by", "namely", "described (?:in|by)"),
)
POINTS_TO = _pattern(
    rf"\b{_POINT}\b[^\n.;!?]{{0,30}}?(?:\b(?:option|choice|answer)[ \t]*[(\[]?|(?<!\w)[(\[]){_LETTER}"
)
MENTION = re.compile(
    rf"{_CHOICE}[(\[]?{_LETTER}"
    r"|(?<![\w)])[(\[]([A-J])[)\]](?=[ \t]*(?:[,:]|$)|[ \t]+(?:is|must|matches|holds|follows|fits)\b)"
    r"|(?:\b(?:is|be|it's|to|with|choose|as|be:)[ \t]+|^)([A-J])$"
)

DENIES = _pattern(
    r"\b(?:not|never|cannot|can't|wrong|incorrect|false|eliminat\w*|exclud\w*|rul(?:e|es|ed|ing) out",
    r"|discard\w*|reject\w*|neither|nor|none|except|unlike|than|instead of|impossible|invalid|inconsistent",
    r"|contradict\w*|fails?|unlikely|but|though|although)\b|n't\b|[不错非]|排除",
)
SUPPOSES = _pattern(
    r"\b(?:if|unless|whether|suppose|assum\w+|seems?|appears?|might|could|would|may|why|how)\b",
    "|如果|是否|假设",
)
OPENS = _pattern(r"^[ \t]*(?:but|however|and|so|yet)\b")
LIMITS = _pattern(r"[ \t,]*(?:but|if|only|when|except)\b")
CLAUSE_END = _pattern(r"\b(?:because|since|as|for|while|whereas)\b|[,;]|因为|由于")
