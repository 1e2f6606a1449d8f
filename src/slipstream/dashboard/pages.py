"""The chat page and its assets as routes: fixed bytes from the package, nothing computed from a request.

Only the names in `ASSETS` are served; a request's path is a key into that table and never becomes a
file's path. It does not know models, keys or records: the page asks the API for those itself.
"""

import hashlib
from importlib import resources

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

INDEX = "index.html"
"""The page at `/`."""

ASSETS = (
    "answer.css",
    "api.js",
    "app.js",
    "blocks.js",
    "chat.css",
    "composer.js",
    "conversation.js",
    "dom.js",
    "favicon.svg",
    "format.js",
    "highlight.js",
    "inline.js",
    "look.css",
    "markdown.js",
    "message.js",
    "notices.js",
    "scroll.js",
    "server.js",
    "sse.js",
    "theme.js",
    "timing.js",
    "waterfall.js",
)
"""Every file served under `/assets/`; a test compares it with the folder."""

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # No string may become markup or script: `innerHTML` throws, in our own code as well.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked again at every load, answered 304: after an upgrade no page mixes old and new modules.
    "Cache-Control": "no-cache",
}


class Asset(msgspec.Struct, frozen=True):
    """One file as it is sent.

    Attributes:
        body: its bytes.
        headers: everything but the length, with type and entity tag.
    """

    body: bytes
    headers: dict[str, str]

    def answer(self, request: Request) -> Response:
        """The file, or 304 where the browser holds this very version."""
        tags = request.headers.get("if-none-match", "")
        if self.headers["ETag"] in (tag.strip().removeprefix("W/") for tag in tags.split(",")):
            return Response(status_code=304, headers={**self.headers})
        return Response(self.body, headers={**self.headers})


def routes() -> list[BaseRoute]:
    """The routes `/` and `/assets/{name}`; the files are read here, once."""
    index = _read(INDEX)
    assets = {name: _read(name) for name in ASSETS}

    async def page(request: Request) -> Response:
        return index.answer(request)

    async def asset(request: Request) -> Response:
        found = assets.get(request.path_params["name"])
        if found is None:
            return Response("Not found.\n", 404, {**HEADERS, "Content-Type": "text/plain; charset=utf-8"})
        return found.answer(request)

    return [Route("/", page, name="chat"), Route("/assets/{name}", asset, name="asset")]


def _read(name: str) -> Asset:
    body = resources.files("slipstream.dashboard").joinpath("static", name).read_bytes()
    digest = hashlib.sha256(body).hexdigest()
    kind = _TYPES[name.rpartition(".")[2]]
    return Asset(body, {**HEADERS, "Content-Type": kind, "ETag": f'"{digest[:32]}"'})
