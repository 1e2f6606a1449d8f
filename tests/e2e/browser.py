"""Debian's Chromium for tests of the pages, with a watch on everything that must not happen."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
AWAY = "node => Math.round(node.scrollHeight - node.clientHeight - node.scrollTop)"
"""How far a node is scrolled away from its end, in pixels."""
PATIENCE_MS = 15_000
"""How long a page may take for what it is expected to do: the machine may be busy."""
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium. Playwright's synchronous face holds the thread's event loop: no asyncio meanwhile."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page and what it did that a page of ours never does."""

    page: Page
    context: BrowserContext
    base_url: str
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> Page:
        """Go to a path of the server and wait until the page's script has run."""
        self.page.goto(self.base_url + path)
        self.page.locator("#send[aria-label]").wait_for()
        return self.page

    def open_with(self, stored: str) -> Page:
        """Open the page with this as the stored conversation."""
        self.page.goto(self.base_url + "/assets/favicon.svg")  # the page itself would write its own over it
        self.page.evaluate("text => sessionStorage.setItem('slipstream.conversation', text)", stored)
        return self.open()

    def forget(self) -> None:
        """Be as new: no storage, no routes, no emulation, nothing seen."""
        self.page.unroute_all(behavior="ignoreErrors")
        self.page.emulate_media(color_scheme="light", reduced_motion="no-preference")
        self.page.goto(self.base_url + "/assets/favicon.svg")  # of the same origin, without the page's script
        self.page.evaluate("() => { sessionStorage.clear(); localStorage.clear(); }")
        for seen in (self.dialogs, self.errors, self.violations, self.foreign, self.console):
            seen.clear()

    def assert_clean(self) -> None:
        """No dialog, no script error, no violation of the content policy, nothing asked from elsewhere."""
        assert self.dialogs == []
        assert self.errors == []
        assert self.violations == []
        assert self.foreign == []

    def assert_silent(self) -> None:
        """Clean, and nothing at all in the browser's console: no failed request either."""
        self.assert_clean()
        assert self.console == []


@contextmanager
def watched_page(
    browser: Browser,
    base_url: str,
    *,
    width: int = 1120,
    height: int = 800,
    scale: float = 1,
    dark: bool = False,
    touch: bool = False,
) -> Iterator[Watched]:
    """A page in a context of its own (no storage shared with another)."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        color_scheme="dark" if dark else "light",
        has_touch=touch,
        is_mobile=touch,
        locale="en-GB",
    )
    context.set_default_timeout(PATIENCE_MS)
    try:
        page = context.new_page()
        watched = Watched(page, context, base_url)
        _watch(watched)
        yield watched
    finally:
        context.close()


def _watch(watched: Watched) -> None:
    page = watched.page

    def dialog(seen: Dialog) -> None:
        watched.dialogs.append(seen.message)
        seen.dismiss()

    def console(message: ConsoleMessage) -> None:
        text = message.text
        watched.console.append(text)
        if "Content Security Policy" in text or "TrustedHTML" in text or "Trusted Type" in text:
            watched.violations.append(text)

    page.on("dialog", dialog)
    page.on("console", console)
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(watched.base_url) else watched.foreign.append(request.url)
        ),
    )
