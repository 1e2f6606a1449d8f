"""What the supervisor sends to others and asks of others on its own: a collector, the upstreams' metrics.

Each of them may fail without harm to the server; that is theirs to count.
"""

import asyncio
import os
import platform
import secrets

import slipstream
from slipstream.config.settings import Settings, Upstream
from slipstream.core import clock
from slipstream.models.openai import upstream_key
from slipstream.monitoring.otlp_exporter import OtlpExporter
from slipstream.monitoring.prices import is_hosted
from slipstream.monitoring.upstream_scrape import UpstreamScraper
from slipstream.server.measuring import TICK_SECONDS, Measuring
from slipstream.server.recording import Recorder


class Exporting:
    """Built before the server serves, so that a wrong setting is told at once.

    Raises `ConfigurationError` for a collector or a key that cannot be used.
    """

    def __init__(self, settings: Settings, measuring: Measuring, recorder: Recorder) -> None:
        self._readings = measuring.readings
        self._seconds = settings.monitoring.scrape_seconds
        self._exporter: OtlpExporter | None = None
        if settings.monitoring.otlp.url:
            self._exporter = OtlpExporter(
                settings.monitoring.otlp,
                measuring.readings,
                resource=resource(),
                count=measuring.meter.count,
            )
            recorder.each_record(self._exporter.take)
        self._scrapers = [
            UpstreamScraper(
                name,
                upstream.url,
                key=upstream_key(name, upstream),
                set_gauge=measuring.meter.set,
                count=measuring.meter.count,
                ca_file=upstream.ca_file,
            )
            for name, upstream in settings.models.upstreams.items()
            if _is_asked(upstream, settings.monitoring.scrape_upstreams)
        ]

    async def run(self) -> None:
        """Send and ask until cancelled; at once over where there is nobody to."""
        async with asyncio.TaskGroup() as tasks:
            if self._exporter is not None:
                tasks.create_task(self._exporter.run())
            for scraper in self._scrapers:
                tasks.create_task(scraper.run(self._seconds))

    async def aclose(self) -> None:
        """Send what is left, for as long as one sending may take; the last second is looked at first."""
        if self._exporter is not None:
            await asyncio.sleep(TICK_SECONDS)
            self._readings.tick(clock.monotonic_ns(), clock.wall_ns())
            await self._exporter.aclose()


def _is_asked(upstream: Upstream, choice: str) -> bool:
    """Whether an upstream's metrics are asked for.

    By default of servers without TLS, which are one's own: a hosted one has none, and is not to be bothered
    once a minute. Never through a proxy, whose way is that of requests alone.
    """
    if upstream.proxy or choice == "off" or is_hosted(upstream.url):
        return False
    return choice == "on" or upstream.url.startswith("http://")


def resource() -> dict[str, object]:
    """Who sends, as OpenTelemetry's conventions name it; the same for the life of this server."""
    return {
        "service.name": os.environ.get("OTEL_SERVICE_NAME", "slipstream"),
        "service.version": slipstream.__version__,
        "service.instance.id": secrets.token_hex(8),
        "host.name": platform.node(),
        "process.pid": os.getpid(),
        "telemetry.sdk.name": "slipstream",
        "telemetry.sdk.language": "python",
    }
