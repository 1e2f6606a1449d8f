"""From settings to parts: what the settings say of upstreams arrives where it is used."""

import asyncio
import contextlib
import logging

import msgspec
import pytest

from faults.byte_server import body, byte_server
from slipstream.config.settings import Embedder, ModelPrice, Models, Monitoring, Settings, Simulated, Upstream
from slipstream.core.chat import Route
from slipstream.core.errors import ConfigurationError
from slipstream.core.keys import keyring
from slipstream.core.meters import Counters
from slipstream.core.record import Record, open_record
from slipstream.flow.call import Call
from slipstream.flow.handle import handle
from slipstream.models.local_process import LocalAddress
from slipstream.models.openai import OpenAIUpstream
from slipstream.wiring import Parts, build_parts


class Kept:
    """Keeps the records that it takes."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def take(self, record: Record) -> None:
        self.records.append(record)


def built(
    models: Models,
    keys: dict[str, str] | None = None,
    *,
    sink: Kept | None = None,
    monitoring: Monitoring | None = None,
) -> Parts:
    return build_parts(
        Settings(models=models, monitoring=monitoring or Monitoring()),
        sink=sink or Kept(),
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


PAIR = {"big": Simulated(), "small": Simulated()}
NO_EMBEDDER = Embedder(enabled="off")


@pytest.mark.parametrize(
    ("models", "setting", "name"),
    [
        (Models(simulated=PAIR, default="bgi"), "models.default", "bgi"),
        (Models(simulated=PAIR, aliases={"fast": "samll"}), "models.aliases.fast", "samll"),
        (Models(simulated=PAIR, aliases={"fast": "small", "quick": "fast"}), "models.aliases.quick", "fast"),
        (Models(simulated=PAIR, fallbacks={"big": ("tiny",)}), "models.fallbacks.big", "tiny"),
        (Models(simulated=PAIR, fallbacks={"bigg": ("small",)}), "models.fallbacks.bigg", "bigg"),
    ],
)
def test_names_that_nobody_serves_are_refused(models: Models, setting: str, name: str) -> None:
    """A name of the settings that no model has is refused with the setting and the models there are."""
    with pytest.raises(ConfigurationError) as refused:
        built(msgspec.structs.replace(models, embedder=NO_EMBEDDER))

    assert refused.value.message == f"{setting} names the model `{name}`, which nobody serves."
    assert refused.value.hint == "Known models: big, small."


def test_the_embedded_model_by_name_says_what_is_missing() -> None:
    """Beside an upstream it runs only when asked for; whoever names it is told so."""
    with pytest.raises(ConfigurationError, match=r"models\.local\.enabled"):
        built(Models(simulated=PAIR, embedder=NO_EMBEDDER, fallbacks={"big": ("local",)}))


def test_names_that_are_served() -> None:
    """Models, aliases of models, and owners' names in fallbacks; a default may be an alias."""
    parts = built(
        Models(
            simulated=PAIR,
            embedder=NO_EMBEDDER,
            default="fast",
            aliases={"fast": "small"},
            fallbacks={"big": ("fast",), "fast": ("big",)},
        )
    )

    assert [stage.name for stage in parts.catalog.course("", Route.CHAT).stages] == ["small"]
    assert [stage.name for stage in parts.catalog.course("fast", Route.CHAT).stages] == ["small", "big"]
    assert [row.name for row in parts.models() if row.default] == ["small"]
    asyncio.run(parts.aclose())


def test_names_are_warned_of_when_an_upstream_has_listed_its_models(caplog: pytest.LogCaptureFixture) -> None:
    """What an upstream serves is known once it was asked; until then every name may be right."""

    async def main() -> None:
        async with byte_server() as server:
            server.plays["/v1/models"] = (body(b'{"data":[{"id":"big"},{"id":"small"}]}'),)
            upstream = Upstream(url=f"http://127.0.0.1:{server.port}/v1")
            models = Models(
                upstreams={"up": upstream}, embedder=NO_EMBEDDER, default="big", aliases={"fast": "samll"}
            )
            parts = built(models)
            assert not caplog.messages
            parts.start()
            while not parts.catalog.owner_of("big"):
                await asyncio.sleep(0.001)
            await parts.aclose()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.messages == ["models.aliases.fast names the model `samll`, which nobody serves now"]


def test_bounds_of_the_settings_arrive() -> None:
    """How soon an upstream is left alone, for how long, and how long it may ask for."""
    models = Models(
        simulated={"m": Simulated()},
        embedder=NO_EMBEDDER,
        breaker_failures=2,
        breaker_open_seconds=90.0,
        retry_after_seconds=7.0,
    )
    parts = built(models)
    course = parts.catalog.course("m", Route.CHAT)
    states = []
    for now_ns in range(3):
        choice = course.choose(now_ns)
        states.append(choice is not None)
        if choice is not None:
            visit = choice.pick.begin(now_ns, streamed=True)
            visit.fail(now_ns, "ill")
            visit.leave(now_ns)
    (place,) = course.places()

    assert states == [True, True, False]
    assert 80 < place.condition(3)[2] <= 90
    assert parts.way.flights.patience.retry_after_seconds == 7.0
    asyncio.run(parts.aclose())


@pytest.mark.parametrize(
    ("prices", "cost"), [({}, None), ({"sim": ModelPrice(input=0.0, output=1000.0)}, 0.006)]
)
def test_every_record_tells_what_it_cost(prices: dict[str, ModelPrice], cost: float | None) -> None:
    """The way prices a request before it hands its record on; without a price the cost is unknown."""
    sink = Kept()
    models = Models(simulated={"sim": Simulated(output_tokens=6)})
    parts = built(models, sink=sink, monitoring=Monitoring(prices=prices))
    body = b'{"model":"sim","messages":[{"role":"user","content":"Hello"}]}'

    async def main() -> None:
        async with contextlib.aclosing(
            handle(Call(Route.CHAT, body), open_record(route="chat/completions"), parts.way)
        ) as items:
            async for _ in items:
                pass
        await parts.aclose()

    asyncio.run(main())
    (record,) = sink.records

    assert record.output_tokens == 6
    assert record.cost == cost
