"""Messages are delivered in order to each receiver, tried again, given up, and survive a restart."""

import asyncio

import pytest

from net.mail_server import Mailbox, mail_server
from slipstream.config.alerting import Receiver
from slipstream.config.settings import Alerts, Mail
from slipstream.core import clock
from slipstream.core.alert_groups import Alert, Notification
from slipstream.core.errors import SlipstreamError
from slipstream.core.outbox import Message
from slipstream.monitoring.alerts.delivery import Delivery, DeliveryFailed
from slipstream.monitoring.alerts.evaluator import message_of
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.slab import private_slab
from slipstream.server import outbox as module
from slipstream.server.outbox import Outbox


class Receivers:
    """A sender of a test: what arrived, and who fails how often."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.failing: dict[str, list[SlipstreamError]] = {}
        self.blocked = asyncio.Event()
        self.blocked.set()

    async def send(self, message: Message) -> None:
        await self.blocked.wait()
        if self.failing.get(message.id):
            raise self.failing[message.id].pop(0)
        self.got.append(message.id)


def a_message(number: int, receiver: str = "ops") -> Message:
    return Message(f"{receiver}{number}", "alert", receiver, "High", b"{}", created_wall_ns=number)


@pytest.fixture
def changes() -> list[Message]:
    """What the outbox said of its messages."""
    return []


def an_outbox(receivers: Receivers, changes: list[Message], *, limit: int = 10, keep: float = 1e12) -> Outbox:
    return Outbox(
        {"alert": receivers.send}, changes.append, Meter(private_slab()), limit=limit, keep_seconds=keep
    )


async def settled(outbox: Outbox, *, seconds: float = 5.0) -> None:
    """Run the outbox until nothing waits."""
    task = asyncio.create_task(outbox.run())
    async with asyncio.timeout(seconds):
        while outbox.waiting:
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_order_is_kept_for_each_receiver(changes: list[Message], monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that fails is tried again before the next one of its receiver; others do not wait for it."""
    monkeypatch.setattr("slipstream.core.outbox.FIRST_PAUSE_NS", 1)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)

    async def main() -> list[str]:
        receivers = Receivers()
        receivers.failing["ops1"] = [DeliveryFailed("down", is_final=False)] * 3
        outbox = an_outbox(receivers, changes)
        for message in (a_message(1), a_message(2), a_message(1, "people")):
            outbox.put(message)
        await settled(outbox)
        return receivers.got

    assert asyncio.run(main()) == ["people1", "ops1", "ops2"]
    assert [(each.id, each.state, each.tries) for each in changes if each.id == "ops1"] == [
        ("ops1", "waiting", 0),
        ("ops1", "waiting", 1),
        ("ops1", "waiting", 2),
        ("ops1", "waiting", 3),
        ("ops1", "sent", 4),
    ]


def test_mail_is_sent_again_to_those_who_do_not_have_it(
    changes: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two people one is greylisted at first: each gets the mail once."""
    monkeypatch.setattr("slipstream.core.outbox.FIRST_PAUSE_NS", 1)

    async def main(box: Mailbox) -> None:
        settings = Alerts(receivers={"people": Receiver(kind="mail", to=("a@example.org", "b@example.org"))})
        mail = Mail(host="127.0.0.1", port=box.port, tls="none", sender="slipstream@example.org")

        def changed(message: Message) -> None:
            changes.append(message)
            if message.tries:
                box.refusals.clear()

        senders = {"alert": Delivery(settings, mail).send}
        outbox = Outbox(senders, changed, Meter(private_slab()), limit=10, keep_seconds=1e12)
        alert = Alert("f1", "me", "High", "critical", "c", "6 s", 1_700_000_000_000_000_000)
        outbox.put(message_of(Notification("people", "critical", (alert,), ()), clock.wall_ns()))
        await settled(outbox)

    with mail_server() as box:
        box.refusals["b@example.org"] = "451 greylisted"
        asyncio.run(main(box))

    assert box.recipients == [["a@example.org"], ["b@example.org"]]
    assert [(each.state, each.left) for each in changes[-2:]] == [
        ("waiting", ("b@example.org",)),
        ("sent", ("b@example.org",)),
    ]


def test_dead_message_holds_nobody_up(changes: list[Message]) -> None:
    """What cannot be delivered is given up with its reason, and the next one goes out."""

    async def main() -> list[str]:
        receivers = Receivers()
        receivers.failing["ops1"] = [DeliveryFailed("410 gone", is_final=True)]
        outbox = an_outbox(receivers, changes)
        outbox.put(a_message(1))
        outbox.put(a_message(2))
        await settled(outbox)
        return receivers.got

    assert asyncio.run(main()) == ["ops2"]
    assert [(each.id, each.error) for each in changes if each.state == "dead"] == [("ops1", "410 gone")]


def test_outbox_is_bounded(changes: list[Message]) -> None:
    """Beyond its limit a new message is a dead letter at once."""

    async def main() -> None:
        receivers = Receivers()
        outbox = an_outbox(receivers, changes, limit=2)
        for number in range(3):
            outbox.put(a_message(number))
        assert outbox.waiting == 2

    asyncio.run(main())
    assert [(each.id, each.state) for each in changes] == [
        ("ops0", "waiting"),
        ("ops1", "waiting"),
        ("ops2", "dead"),
    ]


def test_message_under_way_at_the_end_waits_on(changes: list[Message]) -> None:
    """Ending cancels a delivery and leaves its message waiting: the next start sends it."""

    async def main() -> list[str]:
        receivers = Receivers()
        receivers.blocked.clear()
        outbox = an_outbox(receivers, changes)
        outbox.put(a_message(1))
        task = asyncio.create_task(outbox.run())
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert outbox.waiting == 1
        receivers.blocked.set()
        again = an_outbox(receivers, changes)
        again.restore([each for each in changes if each.state == "waiting"])
        await settled(again)
        return receivers.got

    assert asyncio.run(main()) == ["ops1"]


def test_mistake_of_a_sender_is_made_once(changes: list[Message], caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody planned for is logged and gives up its message; it is not tried for ever."""

    async def broken(message: Message) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        outbox = Outbox({"alert": broken}, changes.append, Meter(private_slab()), limit=9, keep_seconds=9)
        outbox.put(a_message(1))
        outbox.put(Message("x", "unknown", "ops", "High", b"", created_wall_ns=2))
        await settled(outbox)

    asyncio.run(main())
    assert [(each.id, each.error) for each in changes if each.state == "dead"] == [
        ("ops1", "ZeroDivisionError()"),
        ("x", "Nobody here delivers messages of kind 'unknown'."),
    ]
    assert "delivery to ops failed" in caplog.text
