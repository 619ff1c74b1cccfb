"""The web application of `zerone view`: one page, and the JSON that it asks for.

In: GET requests of a browser on this machine. Out: paged answers from `store.py`. Everything is read
only. Rollouts are private and partly hostile text: other sites must not read them, so requests for
another host name (DNS rebinding) and requests that another site's page sends are refused; and what
they hold must not act, so the page runs only its own script, by its hash.
"""

import base64
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic_core import to_json
from starlette.middleware.trustedhost import TrustedHostMiddleware

from zerone.errors import RunDirError
from zerone.runs.directory import RunDir
from zerone.view import store
from zerone.view.pieces import Pieces, find_tokenizer
from zerone.view.store import GroupOrder, Json, RolloutOrder, Search, Tokens

MAX_TOKENS = 1024
"""Tokens of a completion within its group; the whole of a longer one comes when it is asked for."""
MAX_PAGE, PAGE_SIZE = 200, 100
_SCRIPTS = ("state.js", "elements.js", "group.js", "find.js", "across.js", "app.js")

Number = Annotated[int, Query(ge=0, lt=2**31)]
PageSize = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Text = Annotated[str, Query(max_length=1000)]


def make_app(run: RunDir) -> FastAPI:
    """Return the application over one run."""
    app = FastAPI(title="zerone view", docs_url=None, redoc_url=None, openapi_url=None)
    page, policy = read_page()

    pieces = Pieces(find_tokenizer(run))
    first_answers(run, pieces, {})  # so that the tokens of the first view are known as text

    @app.get("/")
    def index(request: Request) -> HTMLResponse:
        found = first_answers(run, pieces, request.query_params) if _is_for_page(request) else {}
        # A data block, which the policy says nothing of; nothing in it may end it.
        known = to_json(found, inf_nan_mode="null")
        shown = page.replace("{known}", known.decode().replace("<", "\\u003c"))
        return HTMLResponse(shown, headers={"Content-Security-Policy": policy})

    for router in (_groups_of(run, pieces), _rollouts_of(run, pieces)):
        app.include_router(router, prefix="/api")
    app.add_exception_handler(RunDirError, _cannot_read)
    app.middleware("http")(_guard)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return app


def read_page() -> tuple[str, str]:
    """Return the page with style and script inside, and the content policy that allows just these."""
    folder = resources.files("zerone") / "view" / "page"
    style = (folder / "style.css").read_text(encoding="utf-8")
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    page = (folder / "page.html").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.replace("{style}", style).replace("{script}", script), policy


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _groups_of(run: RunDir, pieces: Pieces) -> APIRouter:
    router = APIRouter()

    @router.get("/run")
    def show_run() -> Json:
        return _overview(run, pieces)

    @router.get("/groups")
    def list_groups(
        step: Number, order: GroupOrder = GroupOrder.POSITION, offset: Number = 0, limit: PageSize = PAGE_SIZE
    ) -> Json:
        return store.groups(run, step, order, offset, limit)

    @router.get("/group")
    def show_group(step: Number, position: Number) -> Response:
        shown = _group(run, pieces, step, position)
        if shown is None:
            raise HTTPException(404, f"step {step} has no group {position}")
        # Thousands of tokens, which FastAPI would look through one by one.
        return Response(to_json(shown, inf_nan_mode="null"), media_type="application/json")

    @router.get("/across")
    def show_across(step: Number, position: Number) -> Json:
        found = store.across(run, step, position)
        if found is None:
            raise HTTPException(404, f"step {step} has no group {position}")
        return found

    return router


def _group(run: RunDir, pieces: Pieces, step: int, position: int) -> Json | None:
    found = store.group(run, step, position)
    if found is None:
        return None
    head, rollouts = found
    return head | {"rollouts": [_with_pieces(*each, pieces, MAX_TOKENS) for each in rollouts]}


def first_answers(run: RunDir, pieces: Pieces, asked: Mapping[str, str]) -> Json:
    """Return what the page will ask for first where its address says `asked`, by what it asks.

    Sent along with the page, they save it three turns. Where the run cannot be read, there are none: the
    page asks for itself, and shows why.
    """
    known: Json = {}
    with contextlib.suppress(RunDirError):
        known["run?"] = overview = _overview(run, pieces)
        steps = {str(entry["step"]): entry["step"] for entry in overview["steps"]}
        if not steps or asked.get("view", "group") != "group":
            return known
        step = steps.get(asked.get("step", ""), overview["steps"][-1]["step"])
        order = asked.get("order", "")
        order = order if order in list(GroupOrder) else GroupOrder.POSITION.value
        listed = store.groups(run, step, GroupOrder(order), 0, PAGE_SIZE)
        known[f"groups?{urlencode({'step': step, 'order': order})}"] = listed
        positions = {str(group["position"]): group["position"] for group in listed["groups"]}
        position = positions.get(asked.get("group", ""), next(iter(positions.values()), 0))
        if group := _group(run, pieces, step, position):
            known[f"group?{urlencode({'step': step, 'position': position})}"] = group
    return known


def _overview(run: RunDir, pieces: Pieces) -> Json:
    return store.overview(run) | {"has_tokenizer": pieces.has_tokenizer}


def _rollouts_of(run: RunDir, pieces: Pieces) -> APIRouter:
    router = APIRouter()

    @router.get("/rollout")
    def show_rollout(step: Number, position: Number, sample: Number) -> Json:
        found = store.rollout(run, step, position, sample)
        if found is None:
            raise HTTPException(404, f"group {position} of step {step} has no sample {sample}")
        return _with_pieces(*found, pieces, None)

    @router.get("/find")
    def find(
        text: Text = "",
        outcome: Text = "",
        step: Number | None = None,
        order: RolloutOrder = RolloutOrder.RUN,
        is_ascending: bool = False,
        from_step: Number = 0,
        offset: Number = 0,
        limit: PageSize = 50,
    ) -> Json:
        search = Search(
            text=text,
            outcome=outcome,
            step=step,
            order=order,
            is_ascending=is_ascending,
            from_step=from_step,
            offset=offset,
        )
        return store.find(run, search, limit)

    return router


def _with_pieces(rollout: Json, tokens: Tokens, pieces: Pieces, limit: int | None) -> Json:
    """Return a rollout with its tokens as pieces of text, each with the log-probability of its whole."""
    texts: list[str] = []
    logprobs: list[float] = []
    sizes: list[int] = []
    at = 0
    for text, size in pieces.cut(tokens.ids[:limit], rollout.pop("text")):
        texts.append(text)
        logprobs.append(round(sum(tokens.logprobs[at : at + size]), 4))
        sizes.append(size)
        at += size
    return rollout | {"pieces": texts, "logprobs": logprobs, "sizes": sizes}


def _is_for_page(request: Request) -> bool:
    """Whether no other site is behind a request. Other programs on this machine (curl) do not say."""
    return request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    # A link from elsewhere may open the page; the data is for the page alone.
    if request.url.path.startswith("/api/") and not _is_for_page(request):
        return JSONResponse({"detail": "only the page of zerone view may ask for this"}, 403)
    response = await call_next(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response


def _cannot_read(request: Request, error: Exception) -> Response:
    """Answer what the page can show; the next request may succeed, as when the writer was busy."""
    return JSONResponse({"detail": str(error)}, 503)
