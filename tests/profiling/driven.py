"""Time that a test drives."""


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000

    def pass_ms(self, ms: float) -> None:
        """Let so much of it go by."""
        self.now_ns += int(ms * 1e6)
