"""From settings to parts: what the settings say of upstreams arrives where it is used."""

import asyncio
import contextlib

import pytest

from slipstream.config.settings import ModelPrice, Models, Monitoring, Settings, Simulated, Upstream
from slipstream.core.chat import Route
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
