"""Which web pages may ask from a browser: none, unless `--origin` names theirs (CORS).

A browser lets a page read what another address answers only where that address says so. The page of this
server needs none of it.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from zerone.errors import ConfigError

ANY, OF_FILES = "*", "null"
"""Any page, and what browsers send for a page that is a file."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


def read_origins(given: Sequence[str]) -> tuple[str, ...]:
    """Return origins as browsers write them; raises ConfigError for what is not one."""
    return tuple(_read(one.strip()) for one in given)


def _read(given: str) -> str:
    if given in (ANY, OF_FILES):
        return given
    fault = ConfigError(
        f"--origin {given!r} is not the origin of a page: give scheme, host and port as in "
        "http://localhost:3000, without a path, or * for any page"
    )
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError as error:
        raise fault from error
    is_bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    if not (parts.scheme and parts.hostname and is_bare and given.isascii() and given.isprintable()):
        raise fault
    if "*" in given or " " in given:
        raise fault
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    has_port = port is not None and port != _DEFAULT_PORTS.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{port}" if has_port else "")


def open_to(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let pages of these origins ask; their keys go along in a header, never in cookies."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),  # the official client sends a dozen of its own
        allow_private_network=True,  # a page on the web asks a machine at home
        expose_headers=("Retry-After",),
    )
