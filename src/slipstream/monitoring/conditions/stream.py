"""The tokens of one condition and a place among them; what both parsers below share."""

from slipstream.core.nearest import nearest
from slipstream.monitoring.conditions.mistakes import ConditionError
from slipstream.monitoring.conditions.tokens import Token, tokens
from slipstream.monitoring.conditions.units import DURATIONS

WINDOW_SECONDS_MAX = 90 * 86400
CLAUSE_WORDS = ("for", "keep", "clear", "min", "no")
_CLAUSES = {("min", "count"), ("no", "data"), ("clear", "when")}


class Stream:
    """Reads a condition from left to right. Raises `ConditionError`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._at = 0

    @property
    def next(self) -> Token:
        """The token that stands here."""
        return self._tokens[self._at]

    @property
    def after(self) -> Token:
        """The one behind it."""
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    def take(self) -> Token:
        """Go on by one."""
        token = self.next
        if token.kind != "end":
            self._at += 1
        return token

    def take_if(self, text: str) -> bool:
        """Go on if this is what stands here."""
        if self.next.kind in {"sign", "name"} and self.next.text == text:
            self.take()
            return True
        return False

    def expect(self, text: str) -> None:
        """Go on; anything else is a mistake."""
        if not self.take_if(text):
            found = f", not `{self.next.text}`" if self.next.text else ""
            raise self.mistake(f"Here `{text}` is needed{found}.", self.next)

    def expect_end(self) -> None:
        """Nothing may follow."""
        token = self.next
        if token.kind == "end":
            return
        if token.text == "=":
            raise self.mistake("`=` compares nothing.", token, hint="Write `==`.")
        hint = nearest(token.text, ("and", "or", *CLAUSE_WORDS))
        raise self.mistake(f"`{token.text}` is one word too many.", token, hint=hint)

    def at_clause(self) -> bool:
        """Whether a clause of two words begins here: `min` is a unit as well."""
        return (self.next.text, self.after.text) in _CLAUSES

    def duration(self) -> int:
        """A time with its unit, in whole seconds; parts may follow each other: `1h 30m`."""
        begin = self.next
        seconds = self._duration_part()
        while self.next.kind == "number" and self.after.text in DURATIONS:
            seconds += self._duration_part()
        if not 1 <= seconds <= WINDOW_SECONDS_MAX or seconds != int(seconds):
            raise self.mistake("A time is whole seconds, from 1 s to 90 d.", begin)
        return int(seconds)

    def mistake(self, what: str, token: Token, *, hint: str = "") -> ConditionError:
        """The error for a token."""
        return ConditionError(what, self._text, token.start, hint=hint)

    def _duration_part(self) -> float:
        number = self.take()
        if number.kind != "number":
            raise self.mistake("Here a time is needed, such as `5m`.", number)
        unit = self.take()
        if unit.text not in DURATIONS:
            is_word = unit.kind == "name" and unit.text not in CLAUSE_WORDS
            what = f"`{unit.text}` is no unit of time." if is_word else "A time needs its unit."
            raise self.mistake(what, unit, hint="Units of time: " + ", ".join(DURATIONS) + ".")
        return float(number.text) * DURATIONS[unit.text]
