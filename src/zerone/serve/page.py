"""The chat page: one file, sent with a policy that lets it do nothing but talk to this server."""

import base64
import functools
import hashlib
import re
from importlib import resources

from starlette.responses import HTMLResponse


@functools.cache
def _page() -> tuple[str, dict[str, str]]:
    """Return the page and its headers; its own script and style are allowed by their digests."""
    html = (resources.files("zerone.serve") / "page.html").read_text(encoding="utf-8")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_digests(html, 'script')}",
            f"style-src {_digests(html, 'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    return html, {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def _digests(html: str, tag: str) -> str:
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def page_response() -> HTMLResponse:
    """Return the page."""
    html, headers = _page()
    return HTMLResponse(html, headers=headers)
