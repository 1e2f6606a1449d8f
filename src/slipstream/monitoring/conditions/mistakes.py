"""What is wrong with a condition, at which character, and what was probably meant."""

from slipstream.core.errors import BadRequest

_SHOWN = 100
"""Most characters of a condition that are shown around a mistake."""


class ConditionError(BadRequest):
    """A condition that cannot be understood; `position` is the character it went wrong at, from 0.

    Its message ends in the condition with a caret below that character.
    """

    code = "bad_condition"

    def __init__(self, what: str, text: str, position: int, *, hint: str = "") -> None:
        self.what = what
        self.text = text
        self.position = position
        super().__init__(f"{what}\n{caret(text, position)}", hint=f"\n{hint}" if hint else "")
        self.param = "condition"


def caret(text: str, position: int) -> str:
    """The condition with a caret below a character, cut to what fits a line."""
    shown = "".join(each if each.isprintable() else " " for each in text)
    begin = max(0, min(position - _SHOWN // 2, len(shown) - _SHOWN))
    return f"  {shown[begin : begin + _SHOWN]}\n  {' ' * (position - begin)}^"
