"""The pages and their assets as routes: fixed bytes from the package, nothing computed from a request.

Only the names in `ASSETS` are served; a request's path is a key into that table and never becomes a
file's path. It does not know models, keys or records: the pages ask for those themselves.
"""

import hashlib
from collections.abc import Awaitable, Callable
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
    "txt": "text/plain; charset=utf-8",
}

INDEX = "index.html"
"""The page at `/`."""
DASHBOARD = "dashboard.html"
"""The page at `/dashboard`."""
PROFILE = "profile.html"
"""The page at `/profile`."""
DOCTOR = "doctor.html"
"""The page at `/doctor`."""
PAGES = {"/": INDEX, "/dashboard": DASHBOARD, "/profile": PROFILE, "/doctor": DOCTOR}

ASSETS = (
    "alerts.js",
    "answer.css",
    "api.js",
    "app.js",
    "blocks.js",
    "board-api.js",
    "board-parts.css",
    "board-url.js",
    "board.css",
    "board.js",
    "chart-look.js",
    "chat.css",
    "columns.js",
    "composer.js",
    "conversation.js",
    "doctor-bars.js",
    "doctor-ledger.js",
    "doctor-report.js",
    "doctor.css",
    "doctor.js",
    "dom.js",
    "favicon.svg",
    "figure.js",
    "flame.js",
    "format.js",
    "heatmap.js",
    "highlight.js",
    "inline.js",
    "look.css",
    "markdown.js",
    "message.js",
    "models.js",
    "notices.js",
    "profile-request.js",
    "profile-tables.js",
    "profile.css",
    "profile.js",
    "requests.js",
    "scroll.js",
    "server.js",
    "sse.js",
    "strips.js",
    "theme.js",
    "tiles.js",
    "tables.js",
    "timing.js",
    "units.js",
    "vendor/uplot/LICENSE.txt",
    "vendor/uplot/uPlot.iife.min.js",
    "vendor/uplot/uPlot.min.css",
    "waterfall-of.js",
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
    """The routes of the pages and `/assets/{name}`; the files are read here, once."""
    assets = {name: _read(name) for name in ASSETS}

    async def asset(request: Request) -> Response:
        found = assets.get(request.path_params["name"])
        if found is None:
            return Response("Not found.\n", 404, {**HEADERS, "Content-Type": "text/plain; charset=utf-8"})
        return found.answer(request)

    pages = [Route(path, _page(_read(name)), name=name) for path, name in PAGES.items()]
    return [*pages, Route("/assets/{name:path}", asset, name="asset")]


def _page(found: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        return found.answer(request)

    return page


def _read(name: str) -> Asset:
    body = resources.files("slipstream.dashboard").joinpath("static", name).read_bytes()
    digest = hashlib.sha256(body).hexdigest()
    kind = _TYPES[name.rpartition(".")[2]]
    return Asset(body, {**HEADERS, "Content-Type": kind, "ETag": f'"{digest[:32]}"'})
