"""The addresses of the server: an ASGI application over models that are being scheduled.

In: models, keys, prices. Out: what uvicorn runs. Every address but `/health` needs a key where
there are keys (guard.py); every error has OpenAI's shape (refusals.py).
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

import zerone
from zerone.engine.api import SamplingParams
from zerone.errors import VerifierError
from zerone.serve.answers import AnswerStream, answer_whole, events_of
from zerone.serve.exchange import Asked, Exchange, deliver_in, room_for
from zerone.serve.guard import Guard
from zerone.serve.keys import Keys
from zerone.serve.models import Served
from zerone.serve.origins import open_to
from zerone.serve.page import page_response
from zerone.serve.refusals import (
    Refusal,
    answer_failure,
    answer_http,
    answer_invalid,
    answer_refusal,
    unavailable,
)
from zerone.serve.response_schema import ResponsesRequest
from zerone.serve.response_wire import ResponseWire, response_events
from zerone.serve.schemas import ChatRequest, CompletionRequest, Sampled
from zerone.serve.telemetry import Prices, Telemetry
from zerone.serve.wire import ChatWire, CompletionWire, Wire

_ROUTES = (
    *("/", "/health", "/metrics", "/v1/models"),
    *("/v1/chat/completions", "/v1/completions", "/v1/responses"),
)


def create_app(
    models: Sequence[Served], keys: Keys | None, prices: Prices, origins: Sequence[str] = ()
) -> ASGIApp:
    """Return the guarded application; the first model is the one that the chat page talks to.

    Web pages of `origins` may ask too.
    """
    telemetry = Telemetry(models, prices)
    app = FastAPI(
        title="zerone",
        version=zerone.__version__,
        docs_url=None,  # both would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan_of(models),
        exception_handlers={
            Refusal: answer_refusal,
            RequestValidationError: answer_invalid,
            HTTPException: answer_http,
            Exception: answer_failure,
        },
    )
    _add_inference(app, {model.name: model for model in models}, telemetry)
    _add_inspection(app, models, telemetry)

    def count(path: str, status: int, key: str) -> None:
        telemetry.count_request(path if path in _ROUTES else "other", status, key)

    return open_to(Guard(app=app, keys=keys, count=count), origins)


def _lifespan_of(models: Sequence[Served]) -> Any:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        deliver = deliver_in(asyncio.get_running_loop())
        for model in models:
            model.scheduler.start(deliver)
        yield
        for model in models:
            model.scheduler.stop()

    return lifespan


def _add_inspection(app: FastAPI, models: Sequence[Served], telemetry: Telemetry) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return page_response()

    @app.get("/health")
    @app.head("/health", include_in_schema=False)
    async def health() -> JSONResponse:
        faults = {model.name: fault for model in models if (fault := model.scheduler.fault) is not None}
        if faults:
            return JSONResponse({"status": "unavailable", "models": faults}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [_model_json(model) for model in models]}

    @app.get("/v1/models/{name:path}")
    async def retrieve_model(name: str) -> dict[str, Any]:
        return _model_json(_pick({model.name: model for model in models}, name))


def _model_json(model: Served) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "zerone",
        "max_model_len": model.context,
        "fingerprint": model.fingerprint,  # of the weights: the name may stay where they change
        # Other models have seen single questions only, and earlier turns mislead them.
        "is_multi_turn": model.prompter.uses_template,
        "suggestions": list(model.suggestions),  # what the chat page offers to ask
    }


def _pick(models: Mapping[str, Served], name: str) -> Served:
    if name not in models:
        raise Refusal(
            404,
            f"there is no such model here; there is {', '.join(models)}",
            param="model",
            code="model_not_found",
        )
    return models[name]


def _add_inference(app: FastAPI, models: Mapping[str, Served], telemetry: Telemetry) -> None:
    async def answer(request: Request, body: Sampled, asked: Asked, wire: Wire) -> Response:
        exchange = Exchange(asked, telemetry)
        if body.stream:
            return AnswerStream(exchange, events_of(exchange, wire, wants_usage=body.wants_usage))
        return await answer_whole(request, exchange, wire)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        model = _pick(models, body.model)
        asked = await to_thread.run_sync(_ask_chat, model, body, request.state.key)
        wire = ChatWire(
            model, streams=bool(body.stream), counts=body.wants_usage, has_logprobs=bool(body.logprobs)
        )
        return await answer(request, body, asked, wire)

    @app.post("/v1/completions")
    async def completions(request: Request, body: CompletionRequest) -> Response:
        model = _pick(models, body.model)
        asked = await to_thread.run_sync(_ask_completion, model, body, request.state.key)
        wire = CompletionWire(model, counts=body.wants_usage, has_logprobs=body.logprobs is not None)
        return await answer(request, body, asked, wire)

    @app.post("/v1/responses")
    async def responses(request: Request, body: ResponsesRequest) -> Response:
        model = _pick(models, body.model)
        asked = await to_thread.run_sync(_ask_response, model, body, request.state.key)
        exchange, wire = Exchange(asked, telemetry), ResponseWire(model, body)
        if body.stream:
            return AnswerStream(exchange, response_events(exchange, wire))
        return await answer_whole(request, exchange, wire)


def _ask_chat(model: Served, body: ChatRequest, key: str) -> Asked:
    try:
        prompt = model.prompter.encode_chat(
            body.messages, thinks=body.is_thinking_wanted, continues=body.continues
        )
    except VerifierError as error:
        raise unavailable(f"the chat template cannot be rendered now: {error}") from error
    return Asked(
        model=model,
        prompts=(prompt.ids,),
        num_samples=body.num_samples,
        sampling=_sampling(
            model,
            body,
            max_tokens=room_for(model, (prompt.ids,), body.num_wanted),
            num_top=body.num_top,
            trained_stop=model.trained_stop,
            thinking_budget=body.thinking_budget,
        ),
        seed=_seed(body),
        split=None if body.reasoning_format == "none" else prompt.split,
        key=key,
    )


def _ask_response(model: Served, body: ResponsesRequest, key: str) -> Asked:
    try:
        return _ask_chat(model, body.chat, key)
    except Refusal as refusal:
        raise refusal.renamed("input", "max_output_tokens") from refusal


def _ask_completion(model: Served, body: CompletionRequest, key: str) -> Asked:
    try:
        return _complete(model, body, key)
    except Refusal as refusal:
        raise refusal.renamed("prompt", "max_tokens") from refusal


def _complete(model: Served, body: CompletionRequest, key: str) -> Asked:
    prompts = [
        model.prompter.encode_text(prompt) if isinstance(prompt, str) else _checked_ids(model, prompt)
        for prompt in body.prompts
    ]
    if not all(prompts):
        raise Refusal(400, "a prompt must have at least one token", param="prompt", code="invalid_value")
    return Asked(
        model=model,
        prompts=prompts,
        num_samples=body.num_samples,
        sampling=_sampling(
            model, body, max_tokens=room_for(model, prompts, body.num_wanted), num_top=body.logprobs
        ),
        seed=_seed(body),
        split=None,
        key=key,
    )


def _seed(body: Sampled) -> int:
    return secrets.randbits(63) if body.seed is None else body.seed


def _checked_ids(model: Served, ids: list[int]) -> tuple[int, ...]:
    if max(ids) >= len(model.tokenizer):
        raise Refusal(
            400,
            f"prompt: this model has {len(model.tokenizer)} tokens, numbered from 0",
            param="prompt",
            code="invalid_value",
        )
    return tuple(ids)


def _sampling(
    model: Served,
    body: Sampled,
    *,
    max_tokens: int,
    num_top: int | None,
    trained_stop: tuple[str, ...] = (),
    thinking_budget: int | None = None,
) -> SamplingParams:
    """Put together what the request says and, where it says nothing, the model's own settings."""
    return SamplingParams(
        temperature=model.temperature if body.temperature is None else body.temperature,
        top_p=model.top_p if body.top_p is None else body.top_p,
        top_k=model.top_k if body.top_k is None else max(0, body.top_k),  # -1 is off, as in vLLM
        max_tokens=max_tokens,
        stop=trained_stop,
        cut_stop=body.stops,
        num_top=num_top,
        reasoning_budget=thinking_budget,
    )
