"""A browser and a scripted server for the pages' tests: one of each a file, a fresh page a test."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from dashboard.backend import Backend, Scene, running
from e2e.browser import Watched, chromium, watched_page


@pytest.fixture(scope="module")
def backend() -> Backend:
    """The scripted API; `backend.scene` is what it plays."""
    return Backend()


@pytest.fixture(scope="module")
def page_server(backend: Backend) -> Iterator[str]:
    """Base URL of a server with the real page and the scripted API."""
    with running(backend) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the file; it ends with the file, so that no other file's event loop is disturbed."""
    with chromium() as started:
        yield started


@pytest.fixture
def scene(backend: Backend) -> Scene:
    """A fresh scene for the test."""
    backend.scene = Scene()
    return backend.scene


@pytest.fixture(scope="module")
def tab(browser: Browser, page_server: str) -> Iterator[Watched]:
    """One tab for the file: a new one a test would take most of its time."""
    with watched_page(browser, page_server) as watched:
        yield watched


@pytest.fixture
def chat(tab: Watched, scene: Scene) -> Iterator[Watched]:
    """The page, fresh and ready; whatever a test does with it, nothing forbidden may have happened."""
    del scene  # only set anew
    tab.forget()
    tab.open()
    tab.page.locator("#picker").wait_for()
    yield tab
    tab.assert_clean()


@pytest.fixture(scope="module")
def blank(browser: Browser, page_server: str) -> Iterator[Watched]:
    """One page for tests that only run a module inside it."""
    with watched_page(browser, page_server) as watched:
        watched.open()
        yield watched
        watched.assert_clean()
