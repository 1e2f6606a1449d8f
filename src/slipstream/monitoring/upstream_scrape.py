"""Reads the metrics of upstreams that have them (vLLM, llama.cpp) into ours, every few seconds.

Only the origins that the settings name are asked. One that has no metrics is asked again once a minute;
one that fails is counted, and what it told before is forgotten.
"""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from slipstream.core.errors import SlipstreamError
from slipstream.monitoring.scrape_text import GAUGES, Scraped, scraped
from slipstream.net.client import ClientOptions, HttpClient

ANSWER_BYTES = 8 * 1024 * 1024
TIMEOUT_SECONDS = 5.0
NONE_SECONDS = 60.0
"""How soon an upstream that had no metrics is asked again: it may have been replaced."""

SetGauge = Callable[[str, float | None, str], None]
CountError = Callable[[str, str], None]


def metrics_url(url: str) -> str:
    """Where an upstream keeps its metrics: beside its `/v1`."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


class UpstreamScraper:
    """Asks one upstream, on the running loop.

    Args:
        name: of the upstream, the label.
        url: its base URL of the settings.
        key: its API key, empty for none.
        set_gauge: sets a gauge of the upstream, None unsets it.
        count: counts an error of the upstream.
        ca_file: PEM file of the authority to trust instead of the system's.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        key: str = "",
        set_gauge: SetGauge,
        count: CountError,
        ca_file: str = "",
    ) -> None:
        self._name = name
        options = ClientOptions(connections=1, connect_seconds=TIMEOUT_SECONDS, ca_file=ca_file)
        self._client = HttpClient(metrics_url(url), options)
        self._headers = ((b"authorization", b"Bearer " + key.encode()),) if key else ()
        self._set = set_gauge
        self._count = count
        self._before: Scraped | None = None

    async def run(self, every_seconds: float) -> None:
        """Ask again and again until cancelled."""
        try:
            while True:
                has_metrics = await self.look()
                await asyncio.sleep(every_seconds if has_metrics else max(every_seconds, NONE_SECONDS))
        finally:
            await self._client.aclose()

    async def look(self) -> bool:
        """Ask once. Whether it is worth asking again soon: not where there are no metrics to be had."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status, body = await self._ask()
        except (SlipstreamError, TimeoutError):
            self._failed()
            return True
        if status >= 500 or status == 429:
            self._failed()
            return True
        seen = scraped(body.decode("utf-8", "replace")) if status == 200 else None
        if seen is None:
            self._forget()
            return False
        told = seen.since(self._before)
        self._before = seen
        for gauge in GAUGES:
            self._set(gauge, told.get(gauge), self._name)
        return True

    async def _ask(self) -> tuple[int, bytes]:
        response = await self._client.request("GET", "/metrics", self._headers)
        try:
            return response.status, await response.read(ANSWER_BYTES)
        finally:
            response.close()

    def _failed(self) -> None:
        self._count("upstream_scrape_errors", self._name)
        self._forget()

    def _forget(self) -> None:
        self._before = None
        for gauge in GAUGES:
            self._set(gauge, None, self._name)
