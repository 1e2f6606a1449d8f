"""Reads one reference to a metric: bare, as `p99(name{label="x"}, 5m)`, or as `p99 of name over 5 min`."""

from collections.abc import Collection

from slipstream.core.metrics import LABEL_LENGTH_MAX
from slipstream.core.nearest import nearest
from slipstream.monitoring.conditions.stream import Stream
from slipstream.monitoring.conditions.subjects import (
    AGGREGATES,
    ALIASES,
    COUNTING,
    SUBJECTS,
    Subject,
    quantile,
)
from slipstream.monitoring.conditions.syntax import Absent, Burn, Labels, Reading
from slipstream.monitoring.conditions.tokens import Token, unquoted

READINGS_MAX = 16
"""Most references of one condition."""
_SHORT_PER_LONG = 12


class References:
    """Reads the references of one condition.

    Args:
        stream: the condition.
        slos: names of the objectives that `burn` may ask of; None = any.
    """

    def __init__(self, stream: Stream, slos: Collection[str] | None) -> None:
        self._stream = stream
        self._slos = slos
        self._count = 0

    def read(self) -> Reading | Burn | Absent:
        """The reference that stands here."""
        stream = self._stream
        name = stream.take()
        self._count += 1
        if self._count > READINGS_MAX:
            raise stream.mistake(f"A condition refers to at most {READINGS_MAX} metrics.", name)
        called = stream.take_if("(")
        if name.text == "burn" and called:
            return self._burn()
        if called:
            return self._called(name)
        if stream.take_if("of"):
            subject = self._subject(stream.take())
            return self._reading(subject, self._aggregate(name, subject), self._labels(subject), self._over())
        subject = self._subject(name)
        return self._reading(subject, subject.aggregate, self._labels(subject), self._over())

    def _called(self, name: Token) -> Reading | Absent:
        stream = self._stream
        if (
            name.text != "absent"
            and ALIASES.get(name.text, name.text) not in AGGREGATES
            and not quantile(name.text)
        ):
            meant = nearest(name.text, {*AGGREGATES, "burn", "absent"})
            raise stream.mistake(f"There is no aggregate `{name.text}`.", name, hint=meant)
        subject = self._subject(stream.take())
        labels = self._labels(subject)
        window = stream.duration() if stream.take_if(",") else 0
        stream.expect(")")
        if name.text == "absent":
            return Absent(subject.metric.name, labels, window or subject.window_seconds or 60)
        return self._reading(subject, self._aggregate(name, subject), labels, window)

    def _burn(self) -> Burn:
        stream = self._stream
        token = stream.take()
        slo = unquoted(token) if token.kind == "string" else token.text
        if token.kind not in {"string", "name"}:
            raise stream.mistake("Here the name of an objective is needed.", token)
        if self._slos is not None and slo not in self._slos:
            hint = nearest(slo, self._slos) or f"Write it in the settings: [slo.{slo}] objective = 99.9"
            raise stream.mistake(f"There is no objective `{slo}`.", token, hint=hint)
        stream.expect(",")
        window = stream.next
        seconds = stream.duration()
        if seconds < _SHORT_PER_LONG * 5:
            raise stream.mistake("A burn rate needs a window of at least 1 min.", window)
        stream.expect(")")
        return Burn(slo, seconds)

    def _subject(self, token: Token) -> Subject:
        if token.text not in SUBJECTS or token.kind != "name":
            what = f"There is no metric `{token.text}`." if token.text else "Here a metric is missing."
            is_aggregate = ALIASES.get(token.text, token.text) in AGGREGATES or quantile(token.text)
            hint = f"An aggregate has its metric in brackets: `{token.text}(response_time, 5m)`."
            raise self._stream.mistake(
                what, token, hint=hint if is_aggregate else nearest(token.text, SUBJECTS)
            )
        return SUBJECTS[token.text]

    def _aggregate(self, token: Token, subject: Subject) -> str:
        name = ALIASES.get(token.text, token.text)
        if not subject.allows(name):
            metric = subject.metric
            may = ", ".join(f"`{each}`" for each in subject.aggregates)
            raise self._stream.mistake(
                f"`{token.text}` of `{metric.name}` has no meaning: it is a {metric.kind}.",
                token,
                hint=f"Known: {may}.",
            )
        if subject.metric.kind == "counter" and name == "count":
            return "delta"
        return "value" if subject.metric.kind == "derived" else name

    def _labels(self, subject: Subject) -> Labels:
        stream = self._stream
        if not stream.take_if("{"):
            return ()
        found: dict[str, str] = {}
        while not stream.take_if("}"):
            name = stream.take()
            if name.text not in subject.metric.labels:
                has = ", ".join(f"`{each}`" for each in subject.metric.labels) or "none"
                hint = nearest(name.text, subject.metric.labels) or f"Its labels: {has}."
                raise stream.mistake(f"`{subject.metric.name}` has no label `{name.text}`.", name, hint=hint)
            if name.text in found:
                raise stream.mistake(f"The label `{name.text}` stands here for the second time.", name)
            stream.expect("=")
            value = stream.take()
            if value.kind != "string":
                raise stream.mistake(
                    "The value of a label stands in quotes.", value, hint=f'Write {name.text}="…".'
                )
            found[name.text] = unquoted(value)[:LABEL_LENGTH_MAX]
            if not stream.take_if(",") and stream.next.text != "}":
                raise stream.mistake("Here `,` or `}` is needed.", stream.next)
        return tuple(sorted(found.items()))

    def _over(self) -> int:
        return self._stream.duration() if self._stream.take_if("over") else 0

    def _reading(self, subject: Subject, aggregate: str, labels: Labels, window: int) -> Reading:
        counts = aggregate in COUNTING or (aggregate == "rate" and subject.metric.kind == "histogram")
        dimension = "number" if counts else subject.dimension
        seconds = 0 if aggregate == "last" else window or subject.window_seconds or 60
        return Reading(aggregate, subject.metric.name, labels, seconds, dimension)
