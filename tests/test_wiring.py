"""From settings to parts: what the settings say of upstreams arrives where it is used."""

import asyncio

from slipstream.config.settings import Models, Settings, Upstream
from slipstream.core.chat import Route
from slipstream.core.keys import keyring
from slipstream.core.meters import Counters
from slipstream.core.record import Record
from slipstream.models.local_process import LocalAddress
from slipstream.models.openai import OpenAIUpstream
from slipstream.wiring import Parts, build_parts


class Nowhere:
    """Takes no record."""

    def take(self, record: Record) -> None:
        """Let it go."""


def built(models: Models, keys: dict[str, str] | None = None) -> Parts:
    return build_parts(
        Settings(models=models),
        sink=Nowhere(),
        counters=Counters(),
        keyring=lambda: keyring([], required=False),
        local_address=lambda: LocalAddress(state="off", url="", key="", detail=""),
        upstream_keys=keys,
    )


def test_upstreams_of_one_model_are_peers() -> None:
    """Weights and prompt caches of the settings, one endpoint for each upstream and model."""
    models = Models(
        upstreams={
            "east": Upstream(url="http://127.0.0.1:9/v1", models=("m", "n"), weight=3.0),
            "west": Upstream(url="http://127.0.0.1:9/v1", models=("m",), caches_prompts=True),
        },
        fallbacks={"m": ("n",)},
    )
    parts = built(models)
    seen = [(s.upstream, s.model, s.weight, s.caches_prompts) for s in parts.catalog.snapshot()]
    course = parts.catalog.course("m", Route.CHAT)

    assert seen == [("east", "m", 3.0, False), ("west", "m", 1.0, True), ("east", "n", 3.0, False)]
    assert [stage.name for stage in course.stages] == ["m", "n"]
    assert course.keeps_conversations
    asyncio.run(parts.aclose())


def test_one_upstream_is_nothing_to_choose_from() -> None:
    """The usual case has no choice to make."""
    parts = built(Models(upstreams={"only": Upstream(url="http://127.0.0.1:9/v1")}))

    assert parts.catalog.course("whatever", Route.CHAT).only is not None
    asyncio.run(parts.aclose())


def test_keys_that_stand_in_no_file_reach_their_upstream() -> None:
    """A key that is handed over is sent with the requests."""
    parts = built(Models(upstreams={"live": Upstream(url="http://127.0.0.1:9/v1")}), {"live": "secret"})
    (model,) = parts.catalog.models()
    assert isinstance(model, OpenAIUpstream)

    assert (b"authorization", b"Bearer secret") in model._headers
    asyncio.run(parts.aclose())
