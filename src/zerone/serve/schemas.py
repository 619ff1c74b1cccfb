"""What clients may send: every field with its type and limits, nothing converted and nothing ignored.

Fields that OpenAI's clients send with a value that means nothing (`null`, penalties of 0) are
taken; whatever else this server cannot do is refused rather than passed over.
"""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from zerone.prompts.messages import is_absent, turn_of
from zerone.types import Message as Turn

MAX_SAMPLES = 64
_MAX_TOKENS = 1_000_000
_INT64 = 2**63


def _check_characters(text: str) -> str:
    """Refuse lone surrogates, which JSON can write and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a lone surrogate is no character; send valid Unicode") from error
    return text


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

Count = Annotated[int, Field(ge=1, le=_MAX_TOKENS)]
Utf8 = Annotated[str, AfterValidator(_check_characters)]
# The lengths stand before the check, or pydantic would speak of items.
Stop = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_check_characters)]
Zero = Annotated[float, Field(ge=0, le=0)]
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, lt=_INT64)]], Field(min_length=1, max_length=_MAX_TOKENS)
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


class StreamOptions(Strict):
    """`stream_options` of OpenAI."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class ResponseFormat(Strict):
    """`response_format`: only plain text."""

    type: Literal["text"]


class TemplateOptions(Strict):
    """`chat_template_kwargs`: one idea under its two names, for a template is code that others wrote."""

    enable_thinking: bool | None = None
    thinking: bool | None = None


class TextPart(Strict):
    """A piece of a message."""

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

    @property
    def turn(self) -> Turn:
        """The message as data and endpoints are read too."""
        content = self.content
        parts = [part.model_dump() for part in content] if isinstance(content, list) else content
        return turn_of(self.role, parts)


class Sampled(Strict):
    """What chat and plain completions have in common."""

    model: Annotated[Utf8, Field(max_length=256)]
    n: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=_MAX_TOKENS)] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    stop: TextOr[Stop, Annotated[list[Stop], Field(max_length=4)]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    user: Annotated[Utf8, Field(max_length=512)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, given: Any) -> Any:
        """Take `null` for a field that is not there, whatever its name."""
        if isinstance(given, dict):
            return {name: value for name, value in given.items() if value is not None}
        return given

    @model_validator(mode="after")
    def _check_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
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
    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    enable_thinking: bool | None = None
    thinking_budget: Count | None = None
    reasoning_effort: Effort | None = None
    reasoning_format: Literal["split", "none"] | None = None
    chat_template_kwargs: TemplateOptions | None = None
    response_format: ResponseFormat | None = None
    store: Literal[False] | None = None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs=true")
        if self.thinking_budget is not None and self.reasoning_format == "none":
            raise ValueError('thinking_budget needs reasoning_format="split"; leave one of the two out')
        if self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's")
        return self

    @property
    def num_wanted(self) -> int | None:
        """How many tokens an answer may have."""
        return self.max_completion_tokens or self.max_tokens

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
    max_tokens: Count | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: Literal[False] | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, of which there may be several."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        texts = [prompt for prompt in self.prompt if not isinstance(prompt, int)]
        ids = [token for token in self.prompt if isinstance(token, int)]
        return [ids] if ids else [*texts]

    @model_validator(mode="after")
    def _check_number(self) -> Self:
        if len(self.prompts) * self.num_samples > MAX_SAMPLES:
            raise ValueError(f"prompts times n must be at most {MAX_SAMPLES}")
        return self
