"""The closed world of general requests: every name, fact, topic and act, in English and Chinese.

Problems are drawn from these tables, the corpus answers from them, and the judge reads answers by
them, so that it knows all that may truly be said. Tables are keyed by language; what stands under
one key in both languages means the same. Templates: {a} names, {t} thing, {v} value, {x} act.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Pair = Mapping[str, tuple[str, ...]]
"""Texts by language."""

LANGUAGES = ("en", "zh")


def _words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


NAMES: Pair = {
    "en": _words("Tom Ann Ben Eva Max Mia Sam Zoe Leo Kim Amy Dan Lily Jack Rosa Paul"),
    "zh": _words("小明 小红 小华 小丽 小天 小雪 小月 小星"),
}
AND = {"en": " and ", "zh": "和"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """A kind of greeting: how it is asked for, how it begins and what may follow it."""

    asks: Pair
    openers: Pair
    courtesies: Pair


OCCASIONS: Mapping[str, Occasion] = {
    "hello": Occasion(
        asks={"en": ("Say hello to {a}.", "Greet {a} for me."), "zh": ("对{a}说你好。", "向{a}问好。")},
        openers={"en": ("Hello", "Hi"), "zh": ("你好",)},
        courtesies={"en": ("It is good to see you.", "How are you?"), "zh": ("很高兴见到你。",)},
    ),
    "morning": Occasion(
        asks={"en": ("Say good morning to {a}.",), "zh": ("对{a}说早上好。",)},
        openers={"en": ("Good morning",), "zh": ("早上好",)},
        courtesies={"en": ("Have a nice day.", "How are you?"), "zh": ("今天很好。",)},
    ),
    "evening": Occasion(
        asks={"en": ("Say good evening to {a}.",), "zh": ("对{a}说晚上好。",)},
        openers={"en": ("Good evening",), "zh": ("晚上好",)},
        courtesies={"en": ("It is good to see you.", "How are you?"), "zh": ("很高兴见到你。",)},
    ),
    "night": Occasion(
        asks={"en": ("Say good night to {a}.",), "zh": ("对{a}说晚安。",)},
        openers={"en": ("Good night",), "zh": ("晚安",)},
        courtesies={"en": ("See you soon.",), "zh": ("明天见。",)},
    ),
    "welcome": Occasion(
        asks={"en": ("Say welcome to {a}.",), "zh": ("对{a}说欢迎。",)},
        openers={"en": ("Welcome",), "zh": ("欢迎你", "欢迎")},
        courtesies={"en": ("It is good to see you.",), "zh": ("很高兴见到你。",)},
    ),
    "bye": Occasion(
        asks={"en": ("Say goodbye to {a}.", "Say goodbye to {a} for me."), "zh": ("对{a}说再见。",)},
        openers={"en": ("Goodbye", "Bye"), "zh": ("再见",)},
        courtesies={"en": ("See you soon.", "Have a nice day."), "zh": ("明天见。",)},
    ),
    "thanks": Occasion(
        asks={"en": ("Say thank you to {a}.", "Thank {a} for me."), "zh": ("对{a}说谢谢。",)},
        openers={"en": ("Thank you", "Thanks"), "zh": ("谢谢你", "谢谢")},
        courtesies={"en": ("You are very kind.",), "zh": ("你很好。",)},
    ),
}

CLAIMS: Mapping[str, Pair] = {
    "who": {
        "en": ("I am zerone's model.", "I am a small model.", "I am a small model made with zerone."),
        "zh": ("我是zerone的模型。", "我是一个小模型。"),
    },
    "can": {
        "en": ("I can solve number problems.", "I can answer short questions.", "I can write short texts."),
        "zh": ("我能算数。", "我能回答问题。", "我能写句子。"),
    },
    "maker": {
        "en": ("I was made with zerone.", "I was trained with zerone."),
        "zh": ("我是用zerone做的。",),
    },
    "human": {"en": ("I am not a human.", "I am no human."), "zh": ("我不是人。",)},
    "see": {"en": ("I cannot see.", "I cannot see pictures."), "zh": ("我看不见。", "我看不见图画。")},
    "news": {"en": ("I do not know the news.",), "zh": ("我不知道新闻。",)},
    "sums": {"en": ("I can solve number problems.",), "zh": ("我能算数。",)},
}
"""What the model may say of itself, for each question about it; anything else is no true claim."""

FALSE_CLAIMS: Pair = {
    "en": (
        "I am a human.",
        "I am a doctor.",
        "I am the best model.",
        "I can see pictures.",
        "I know the news.",
        "I know all.",
    ),
    "zh": ("我是人。", "我是医生。", "我是最好的模型。", "我能看见图画。", "我知道新闻。"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfQuestion:
    """A question about the model; `opening` is the yes or no that may stand before the answer."""

    asks: Pair
    opening: Mapping[str, str] | None = None


_NO, _YES = {"en": "No", "zh": "不"}, {"en": "Yes", "zh": "对"}
SELF_QUESTIONS: Mapping[str, SelfQuestion] = {
    "who": SelfQuestion(asks={"en": ("Who are you?", "What are you?"), "zh": ("你是谁？", "你是什么？")}),
    "can": SelfQuestion(asks={"en": ("What can you do?", "What do you do?"), "zh": ("你能做什么？",)}),
    "maker": SelfQuestion(
        asks={"en": ("How were you made?", "What were you made with?"), "zh": ("你是用什么做的？",)}
    ),
    "human": SelfQuestion(asks={"en": ("Are you a human?",), "zh": ("你是人吗？",)}, opening=_NO),
    "see": SelfQuestion(
        asks={"en": ("Can you see pictures?", "Can you see?"), "zh": ("你能看见图画吗？",)}, opening=_NO
    ),
    "news": SelfQuestion(asks={"en": ("Do you know the news?",), "zh": ("你知道新闻吗？",)}, opening=_NO),
    "sums": SelfQuestion(
        asks={"en": ("Can you solve number problems?",), "zh": ("你能算数吗？",)}, opening=_YES
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A kind of fact: how it is asked, how a sentence says it, and the facts themselves.

    `facts` holds (thing, value) by language; a value may be written in several ways, split by `|`.
    """

    asks: Pair
    says: Pair
    facts: Mapping[str, tuple[tuple[str, str], ...]]


def _facts(lines: str) -> tuple[tuple[str, str], ...]:
    """Read `thing: value, thing: value`."""
    pairs = (item.split(": ") for item in lines.split(", "))
    return tuple((thing, value) for thing, value in pairs)


def _both_ways(lines: str) -> tuple[tuple[str, str], ...]:
    pairs = _facts(lines)
    return (*pairs, *((value, thing) for thing, value in pairs))


_DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_DAYS_ZH = _words("星期一 星期二 星期三 星期四 星期五 星期六 星期日")


def _following(days: tuple[str, ...], step: int) -> tuple[tuple[str, str], ...]:
    return tuple((day, days[(i + step) % 7]) for i, day in enumerate(days))


RELATIONS: Mapping[str, Relation] = {
    "colour": Relation(
        asks={"en": ("What colour is {t}?", "Which colour has {t}?"), "zh": ("{t}是什么颜色？",)},
        says={"en": ("{t} is {v}.",), "zh": ("{t}是{v}的。",)},
        facts={
            "en": _facts(
                "snow: white, milk: white, grass: green, blood: red, coal: black, the sky: blue, "
                "the sea: blue, a lemon: yellow, a banana: yellow"
            ),
            "zh": _facts(
                "雪: 白色, 牛奶: 白色, 草: 绿色, 血: 红色, 煤: 黑色, 天: 蓝色, 大海: 蓝色, "
                "柠檬: 黄色, 香蕉: 黄色"
            ),
        },
    ),
    "opposite": Relation(
        asks={"en": ("What is the opposite of {t}?",), "zh": ("{t}的反义词是什么？",)},
        says={"en": ("The opposite of {t} is {v}.",), "zh": ("{t}的反义词是{v}。",)},
        facts={
            "en": _both_ways(
                "hot: cold, big: small, day: night, long: short, good: bad, black: white, up: down"
            ),
            "zh": _both_ways("热: 冷, 大: 小, 长: 短, 好: 坏, 黑: 白, 上: 下"),
        },
    ),
    "legs": Relation(
        asks={"en": ("How many legs has {t}?",), "zh": ("{t}有几条腿？",)},
        says={"en": ("{t} has {v} legs.",), "zh": ("{t}有{v}条腿。",)},
        facts={
            "en": _facts(
                "a dog: four|4, a cat: four|4, a cow: four|4, a horse: four|4, a bird: two|2, a bee: six|6, "
                "a spider: eight|8"
            ),
            "zh": _facts("狗: 四|4, 猫: 四|4, 牛: 四|4, 马: 四|4, 鸟: 两|2|二"),
        },
    ),
    "after": Relation(
        asks={"en": ("Which day comes after {t}?",), "zh": ("{t}后面是星期几？",)},
        says={"en": ("{v} comes after {t}.",), "zh": ("{t}后面是{v}。",)},
        facts={"en": _following(_DAYS, 1), "zh": _following(_DAYS_ZH, 1)},
    ),
    "before": Relation(
        asks={"en": ("Which day comes before {t}?",), "zh": ("{t}前面是星期几？",)},
        says={"en": ("{v} comes before {t}.",), "zh": ("{t}前面是{v}。",)},
        facts={"en": _following(_DAYS, -1), "zh": _following(_DAYS_ZH, -1)},
    ),
    "capital": Relation(
        asks={"en": ("What is the capital of {t}?",), "zh": ("{t}的首都是哪里？",)},
        says={
            "en": ("The capital of {t} is {v}.", "{v} is the capital of {t}."),
            "zh": ("{t}的首都是{v}。",),
        },
        facts={
            "en": _facts("France: Paris, Italy: Rome, China: Beijing, Japan: Tokyo, Spain: Madrid"),
            "zh": _facts("法国: 巴黎, 中国: 北京, 日本: 东京"),
        },
    ),
}

ASKERS: Pair = {"en": ("{a} asks: {q}", "{a} ask: {q}"), "zh": ("{a}问：{q}", "{a}问：{q}")}
"""How a question is put by one person, and by two."""

COUNTS: Pair = {"en": ("one", "two", "three", "four"), "zh": ("一", "两", "三", "四")}
FORMS: Mapping[str, Mapping[str, str]] = {
    "any": {"en": "", "zh": ""},
    "word": {"en": " Use one word.", "zh": "用一个词回答。"},
    "sentence": {"en": " Use one sentence.", "zh": "用一句话回答。"},
    "two": {"en": " Use two sentences.", "zh": "用两句话回答。"},
}

CATEGORIES: Mapping[str, Pair] = {
    "fruits": {
        "en": _words("apple pear plum lemon banana melon"),
        "zh": ("苹果", "梨", "柠檬", "香蕉"),
    },
    "animals": {
        "en": _words("dog cat cow horse bird bee spider"),
        "zh": ("狗", "猫", "牛", "马", "鸟"),
    },
    "colours": {
        "en": _words("white black red blue green yellow"),
        "zh": ("白色", "黑色", "红色", "蓝色", "绿色", "黄色"),
    },
    "days": {"en": _DAYS, "zh": _DAYS_ZH},
    "drinks": {"en": _words("tea milk water juice coffee"), "zh": ("茶", "牛奶", "水", "咖啡")},
}
CATEGORY_NAMES: Mapping[str, Mapping[str, str]] = {
    "fruits": {"en": "fruits", "zh": "水果"},
    "animals": {"en": "animals", "zh": "动物"},
    "colours": {"en": "colours", "zh": "颜色"},
    "days": {"en": "days", "zh": "星期里的日子"},
    "drinks": {"en": "drinks", "zh": "喝的东西"},
}
