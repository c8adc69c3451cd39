"""The page at `/`: three files, read once, sent with a policy that lets nothing else in."""

from functools import cache
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import Response

_DIRECTORY = Path(__file__).parent / "web"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/web/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/web/page.css": ("page.css", "text/css; charset=utf-8"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def add(app: FastAPI) -> None:
    """Serve the page and its parts."""
    for path, (name, media_type) in _FILES.items():
        app.add_api_route(path, _endpoint(name, media_type), methods=["GET"], include_in_schema=False)


def _endpoint(name: str, media_type: str):
    async def page() -> Response:
        return Response(_content(name), headers=_HEADERS, media_type=media_type)

    return page


@cache
def _content(name: str) -> bytes:
    return (_DIRECTORY / name).read_bytes()
