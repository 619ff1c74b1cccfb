"""What clients may send: every field with its type and limits, nothing converted and nothing ignored.

Values that mean nothing (`null`, an empty list of tools; neutral.py) are taken at every address alike,
and whole numbers also as floats; whatever else this server cannot do is refused rather than passed over.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from zerone.prompts.messages import is_absent, turn_of
from zerone.serve.neutral import IN_PARTS, IN_STREAM_OPTIONS, NEUTRAL, Neutral, asks_for_something
from zerone.types import Message as Turn

MAX_SAMPLES = 64
_MAX_TOKENS = 1_000_000
_INT64 = 2**63
UP_TO_THE_CONTEXT = -1
"""A limit that is none, as llama.cpp and LM Studio write it."""


def _check_characters(text: str) -> str:
    """Refuse lone surrogates, which JSON can write and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a lone surrogate is not a character; send valid Unicode") from error
    return text


def _whole(value: Any) -> Any:
    """Take a whole number that is written as a float, as JavaScript and some configurations do."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _whole_all(values: Any) -> Any:
    if isinstance(values, list) and any(isinstance(value, float) for value in values):
        return [_whole(value) for value in values]
    return values


def _without_empty_stops(stop: Any) -> Any:
    """Leave out stop strings that are empty, which end nothing."""
    if isinstance(stop, list):
        return [one for one in stop if one != ""]
    return None if stop == "" else stop


def _nothing_if_false(value: Any) -> Any:
    """Take the "no" of chat completions for a number that is not asked for."""
    return None if value is False else value


def _check_limit(value: int) -> int:
    if value != UP_TO_THE_CONTEXT and not 1 <= value <= _MAX_TOKENS:
        raise ValueError(f"give a number from 1 to {_MAX_TOKENS}, or -1 for as many as fit into the context")
    return value


TEXT, ITEMS, TOKENS = "<text>", "<items>", "<tokens>"
"""Names of the shapes that a field may have; refusals leave them out of the field's name."""


def _kind_of(value: object) -> str:
    """Say which of two shapes was meant, so that only its faults are told."""
    return TEXT if isinstance(value, str) else ITEMS


def _kind_of_prompt(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], int | float):
        return TOKENS
    return _kind_of(value)


def _kind_in_prompts(value: object) -> str:
    return TEXT if isinstance(value, str) else TOKENS


_One = TypeVar("_One")
_Many = TypeVar("_Many")
TextOr = Annotated[Annotated[_One, Tag(TEXT)] | Annotated[_Many, Tag(ITEMS)], Discriminator(_kind_of)]
"""A kind of text, or a list; complaints are about the one that was meant."""

Whole = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[Whole, Field(ge=1, le=_MAX_TOKENS)]
Limit = Annotated[Whole, AfterValidator(_check_limit)]
Utf8 = Annotated[str, AfterValidator(_check_characters)]
# The lengths stand before the check, or pydantic would speak of items.
Stop = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_check_characters)]
Zero = Annotated[float, Field(ge=0, le=0)]
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, lt=_INT64)]],
    Field(min_length=1, max_length=_MAX_TOKENS),
    BeforeValidator(_whole_all),
]
Text = Annotated[str, Field(min_length=1), AfterValidator(_check_characters)]
OnePrompt = Annotated[
    Annotated[Text, Tag(TEXT)] | Annotated[TokenIds, Tag(TOKENS)], Discriminator(_kind_in_prompts)
]


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How hard to think: with "none" not at all, and there are no grades of the rest."""


class Strict(BaseModel):
    """The base of what is read: no conversion, no unknown field, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    neutral: ClassVar[Mapping[str, Neutral]] = {}
    """What the fields that it does not have may hold all the same."""

    @model_validator(mode="before")
    @classmethod
    def _drop_what_means_nothing(cls, given: Any) -> Any:
        """Take `null` for a field that is absent, whatever its name, and leave out what asks for nothing."""
        if not isinstance(given, dict):
            return given
        return {
            name: value
            for name, value in given.items()
            if (
                value is not None
                if name in cls.model_fields
                else asks_for_something(name, value, cls.neutral)
            )
        }


class StreamOptions(Strict):
    """`stream_options` of OpenAI."""

    neutral = IN_STREAM_OPTIONS

    include_usage: bool | None = None


class ResponseFormat(Strict):
    """`response_format`: only plain text."""

    type: Literal["text"]


class TemplateOptions(Strict):
    """`chat_template_kwargs`: one idea under its two names, for a template is code that others wrote."""

    enable_thinking: bool | None = None
    thinking: bool | None = None


class TextPart(Strict):
    """A piece of a message."""

    neutral = IN_PARTS

    type: Literal["text"]
    text: Utf8

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: Any) -> Any:
        """Take a field that says nothing for one that is not there, as tables of parts have them."""
        if isinstance(given, dict):
            return {name: value for name, value in given.items() if name == "text" or not is_absent(value)}
        return given


class Message(BaseModel):
    """One turn. Thoughts of earlier answers may be sent back; they are left out of the prompt."""

    model_config = ConfigDict(strict=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: TextOr[Utf8, Annotated[list[TextPart], Field(max_length=256)]] | None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None
    reasoning_content: Utf8 | None = None
    reasoning: Utf8 | None = None
    thinking: Utf8 | None = None

    @property
    def thought(self) -> str:
        """The reasoning, under whichever name it came back."""
        return (self.reasoning_content or self.reasoning or self.thinking or "").strip()

    @property
    def turn(self) -> Turn:
        """The message as data and endpoints are read too."""
        content = self.content
        parts = [part.model_dump() for part in content] if isinstance(content, list) else content
        return turn_of(self.role, parts)


class Sampled(Strict):
    """What chat and plain completions have in common."""

    neutral = NEUTRAL

    model: Annotated[Utf8, Field(max_length=256)]
    n: Annotated[Whole, Field(ge=1, le=MAX_SAMPLES)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[Whole, Field(ge=-1, le=_MAX_TOKENS)] | None = None
    seed: Annotated[Whole, Field(ge=-_INT64, lt=_INT64)] | None = None
    stop: Annotated[
        TextOr[Stop, Annotated[list[Stop], Field(max_length=4)]] | None, BeforeValidator(_without_empty_stops)
    ] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    user: Annotated[Utf8, Field(max_length=512)] | None = None

    @model_validator(mode="after")
    def _check_stream_options(self) -> Self:
        if self.wants_usage and not self.stream:
            raise ValueError("stream_options needs stream=true")
        return self

    @property
    def num_samples(self) -> int:
        """How many answers are wanted to each prompt."""
        return self.n or 1

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        if isinstance(self.stop, str):
            return (self.stop,)
        return tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk that counts tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Sampled):
    """`POST /v1/chat/completions`.

    Beyond OpenAI's fields: `thinking_budget`, `enable_thinking` (also in `chat_template_kwargs`),
    and `reasoning_format` "none", which leaves a completion as the model wrote it.
    """

    messages: Annotated[list[Message], Field(min_length=1, max_length=1024)]
    max_completion_tokens: Limit | None = None
    max_tokens: Limit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[Whole, Field(ge=0, le=20)] | None = None
    enable_thinking: bool | None = None
    thinking_budget: Count | None = None
    reasoning_effort: Effort | None = None
    reasoning_format: Literal["split", "none"] | None = None
    chat_template_kwargs: TemplateOptions | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs=true")
        if self.thinking_budget is not None and self.reasoning_format == "none":
            raise ValueError('thinking_budget needs reasoning_format="split"; leave one of the two out')
        if self.continue_final_message and self.messages[-1].role != "assistant":
            raise ValueError("continue_final_message needs a last message that is the assistant's")
        if self.continue_final_message and self.add_generation_prompt:
            raise ValueError("continue_final_message and add_generation_prompt exclude each other")
        if self.add_generation_prompt is False and not self.continues:
            raise ValueError(
                "add_generation_prompt=false needs a last message of the assistant's to continue"
            )
        return self

    @property
    def continues(self) -> bool:
        """Whether the completion goes on from a last message that is the assistant's.

        As vLLM does, one that asks for a generation prompt or for no continuation gets a new turn.
        """
        is_unwanted = self.continue_final_message is False or bool(self.add_generation_prompt)
        return self.messages[-1].role == "assistant" and not is_unwanted

    @property
    def num_wanted(self) -> int | None:
        """How many tokens a completion may have; None is as many as fit into the context."""
        wanted = self.max_completion_tokens or self.max_tokens
        return None if wanted == UP_TO_THE_CONTEXT else wanted

    @property
    def num_top(self) -> int | None:
        """How many likeliest tokens are told, or None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def is_thinking_wanted(self) -> bool:
        """Whether the model is to think before it answers."""
        told = self.chat_template_kwargs or TemplateOptions()
        wishes = (self.enable_thinking, told.enable_thinking, told.thinking)
        return False not in wishes and self.reasoning_effort != "none"


class CompletionRequest(Sampled):
    """`POST /v1/completions`: raw text or tokens in, raw text out."""

    prompt: Annotated[
        Annotated[Text, Tag(TEXT)]
        | Annotated[TokenIds, Tag(TOKENS)]
        | Annotated[list[OnePrompt], Field(min_length=1, max_length=MAX_SAMPLES), Tag(ITEMS)],
        Discriminator(_kind_of_prompt),
    ]
    max_tokens: Limit | None = None
    logprobs: Annotated[Annotated[Whole, Field(ge=0, le=20)] | None, BeforeValidator(_nothing_if_false)] = (
        None
    )

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, of which there may be several."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        texts = [prompt for prompt in self.prompt if not isinstance(prompt, int)]
        ids = [token for token in self.prompt if isinstance(token, int)]
        return [ids] if ids else [*texts]

    @property
    def num_wanted(self) -> int | None:
        """How many tokens a completion may have: 16 by OpenAI's default; None is as many as fit."""
        return None if self.max_tokens == UP_TO_THE_CONTEXT else self.max_tokens or 16

    @model_validator(mode="after")
    def _check_number(self) -> Self:
        if len(self.prompts) * self.num_samples > MAX_SAMPLES:
            raise ValueError(f"prompts times n must be at most {MAX_SAMPLES}")
        return self
