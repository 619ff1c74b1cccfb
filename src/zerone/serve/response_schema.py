"""What clients may send to `/v1/responses`: text in, text out, nothing kept between requests.

In: a body. Out: the chat request that it amounts to. Items that this server gave before may be sent
back as they came; thoughts among them are left out of the prompt, as in a chat. What would need tools,
images or a memory of earlier responses is refused.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from zerone.serve.schemas import (
    ChatRequest,
    Count,
    Effort,
    Limit,
    Message,
    Sampled,
    Strict,
    Text,
    TextOr,
    Utf8,
    Whole,
)

Metadata = dict[Annotated[Utf8, Field(max_length=64)], Annotated[Utf8, Field(max_length=512)]]


class InputPart(BaseModel):
    """A piece of a message or of a thought; what else an answer's pieces have is left unread."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["input_text", "output_text", "reasoning_text"]
    text: Utf8


class InputItem(BaseModel):
    """A message, or a thought that came with an earlier answer."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["message", "reasoning"] | None = None
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: TextOr[Utf8, Annotated[list[InputPart], Field(max_length=256)]] | None = None

    @model_validator(mode="after")
    def _check_message(self) -> Self:
        if self.type != "reasoning" and (self.role is None or self.content is None):
            raise ValueError("a message needs role and content; this server takes text only")
        return self

    @property
    def message(self) -> Message | None:
        """The message, or None for a thought."""
        if self.type == "reasoning" or self.role is None:
            return None
        if not isinstance(self.content, list):
            return Message(role=self.role, content=self.content)
        said = [part.text for part in self.content if part.type != "reasoning_text"]
        return Message(role=self.role, content="".join(said))


class ReasoningOptions(Strict):
    """`reasoning`: whether the model is to think; there are no summaries."""

    effort: Effort | None = None
    summary: None = None


class TextFormat(Strict):
    """`text.format`: only plain text."""

    type: Literal["text"]


class TextOptions(Strict):
    """`text`."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponsesRequest(Sampled):
    """`POST /v1/responses`. Beyond OpenAI's fields: `seed`, `stop`, `top_k` and `thinking_budget`."""

    input: TextOr[Text, Annotated[list[InputItem], Field(min_length=1, max_length=1024)]]
    instructions: Utf8 | None = None
    max_output_tokens: Limit | None = None
    n: Annotated[Whole, Field(ge=1, le=1)] | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    thinking_budget: Count | None = None
    metadata: Annotated[Metadata, Field(max_length=16)] | None = None
    background: Literal[False] | None = None

    @model_validator(mode="after")
    def _check_messages(self) -> Self:
        if not self.messages:
            raise ValueError("input must hold a message")
        return self

    @property
    def messages(self) -> list[Message]:
        """The conversation, with `instructions` as its system message."""
        system = [Message(role="system", content=self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return [*system, Message(role="user", content=self.input)]
        said = [message for item in self.input if (message := item.message) is not None]
        return [*system, *said]

    @property
    def chat(self) -> ChatRequest:
        """The same as a chat request; its parts are checked already."""
        effort = None if self.reasoning is None else self.reasoning.effort
        return ChatRequest.model_construct(
            model=self.model,
            messages=self.messages,
            max_completion_tokens=self.max_output_tokens,
            reasoning_effort=effort,
            thinking_budget=self.thinking_budget,
            **{name: getattr(self, name) for name in ("temperature", "top_p", "top_k", "seed", "stop")},
        )
