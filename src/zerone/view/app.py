"""The web application of `zerone view`: one page, and the JSON that it asks for.

In: GET requests of a browser on this machine. Out: paged answers from `store.py`. Everything is read
only. Rollouts are private and partly hostile text: other sites must not read them, so requests for
another host name (DNS rebinding) and requests that another site's page sends are refused; and what
they hold must not act, so the page runs only its own script, by its hash.
"""

import base64
import hashlib
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from zerone.errors import RunDirError
from zerone.run_dir import RunDir
from zerone.view import store
from zerone.view.pieces import Pieces, find_tokenizer
from zerone.view.store import GroupOrder, Json, RolloutOrder, Search, Tokens

MAX_TOKENS = 1024
"""Tokens of a completion within its group; the whole of a longer one comes when it is asked for."""
MAX_PAGE = 200
_SCRIPTS = ("state.js", "elements.js", "group.js", "find.js", "across.js", "app.js")

Number = Annotated[int, Query(ge=0, lt=2**31)]
PageSize = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Text = Annotated[str, Query(max_length=1000)]


def make_app(run: RunDir) -> FastAPI:
    """Return the application over one run."""
    app = FastAPI(title="zerone view", docs_url=None, redoc_url=None, openapi_url=None)
    page, policy = read_page()

    @app.get("/")
    def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    pieces = Pieces(find_tokenizer(run))
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
        return store.overview(run) | {"has_tokenizer": pieces.has_tokenizer}

    @router.get("/groups")
    def list_groups(
        step: Number, order: GroupOrder = GroupOrder.POSITION, offset: Number = 0, limit: PageSize = 100
    ) -> Json:
        return store.groups(run, step, order, offset, limit)

    @router.get("/group")
    def show_group(step: Number, position: Number) -> Json:
        found = store.group(run, step, position)
        if found is None:
            raise HTTPException(404, f"step {step} has no group {position}")
        head, rollouts = found
        return head | {"rollouts": [_with_pieces(*each, pieces, MAX_TOKENS) for each in rollouts]}

    @router.get("/across")
    def show_across(step: Number, position: Number) -> Json:
        found = store.across(run, step, position)
        if found is None:
            raise HTTPException(404, f"step {step} has no group {position}")
        return found

    return router


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


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    # A link from elsewhere may open the page; the data is for the page alone. Other programs on this
    # machine (curl) send no such header.
    asked_by = request.headers.get("sec-fetch-site", "none")
    if request.url.path.startswith("/api/") and asked_by not in ("same-origin", "none"):
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
