"""The page's bytes and headers, without a browser."""

import http.client
import re
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from slipstream.dashboard import pages

STATIC = Path(str(resources.files("slipstream.dashboard"))) / "static"
OURS = [name for name in pages.ASSETS if not name.startswith("vendor/")]


def get(url: str, path: str, headers: dict[str, str] | None = None) -> tuple[http.client.HTTPResponse, bytes]:
    """One GET with the path exactly as given."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_table_names_exactly_the_files_of_the_package() -> None:
    """A new file is served only after it is named, and no name points nowhere."""
    found = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}

    assert {*pages.PAGES.values(), *pages.ASSETS} == found - {"vendor/uplot/VERSION"}


@pytest.mark.parametrize("path", [*pages.PAGES, *(f"/assets/{name}" for name in pages.ASSETS)])
def test_file_is_sent_with_its_type_and_the_guarding_headers(page_server: str, path: str) -> None:
    """Every answer carries the policy; the browser is told what it gets."""
    response, body = get(page_server, path)

    assert response.status == 200
    assert body
    assert response.getheader("content-security-policy") == pages.CONTENT_SECURITY_POLICY
    assert response.getheader("x-content-type-options") == "nosniff"
    assert response.getheader("referrer-policy") == "no-referrer"
    assert response.getheader("cross-origin-opener-policy") == "same-origin"
    assert response.getheader("cache-control") == "no-cache"
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "txt": "text/plain"}
    expected = types.get(path.rpartition(".")[2], "text/html")
    assert response.getheader("content-type", "").startswith(expected)


def test_known_version_is_not_sent_again(page_server: str) -> None:
    """An entity tag that still holds is answered 304, without a body."""
    tag = get(page_server, "/assets/app.js")[0].getheader("etag", "")

    response, body = get(page_server, "/assets/app.js", {"If-None-Match": f'"other", W/{tag}'})

    assert (304, b"", tag) == (response.status, body, response.getheader("etag"))


@pytest.mark.parametrize(
    "path",
    [
        "/assets/",
        "/assets/nothing.js",
        "/assets/../pages.py",
        "/assets/..%2fpages.py",
        "/assets/%2e%2e/pages.py",
        "/assets/..\\pages.py",
        "/assets//etc/passwd",
        "/assets/index.html",
        "/assets/app.js%00.svg",
        "/assets/APP.JS",
        "/assets/./app.js",
        "/assets/dashboard.html",
        "/assets/vendor",
        "/assets/vendor/uplot/VERSION",
        "/assets/vendor/../app.js",
    ],
)
def test_only_named_assets_are_found(page_server: str, path: str) -> None:
    """A path is a key into the table, never a file's path."""
    assert get(page_server, path)[0].status == 404


@pytest.mark.parametrize("name", pages.PAGES.values())
def test_page_holds_no_inline_script_or_style(name: str) -> None:
    """What the policy forbids is not even tried."""
    text = (STATIC / name).read_text()

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=", text) == []


@pytest.mark.parametrize("name", OURS)
def test_assets_build_no_markup_and_ask_nothing_from_outside(name: str) -> None:
    """No string becomes markup or code; no address but the SVG namespace and the schemes of links."""
    text = (STATIC / name).read_text()

    assert (
        re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser", text
        )
        == []
    )
    assert set() == set(re.findall(r"https?://[\w.]+", text)) - {"http://www.w3.org"}
    assert text.count("\n") <= 400
