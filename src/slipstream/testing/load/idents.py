"""A bounded sample of the ids that the server gave to requests, for looking them up there."""


class Idents:
    """Every n-th id; n doubles whenever the sample is full.

    Args:
        header: the response header with the id.
        most: how many are kept.
    """

    def __init__(self, header: str, most: int) -> None:
        self._needle = b"\r\n%b:" % header.lower().encode("latin-1")
        self._most = most
        self.every = 1 if most else 1 << 60
        self.kept: list[tuple[int, str]] = []

    def take(self, row: int, head: bytes) -> None:
        """Keep the id of a row that is due, if its response has one."""
        if row % self.every:
            return
        fields = head.partition(b"\r\n\r\n")[0] + b"\r\n"
        start = fields.find(self._needle)
        if start < 0:
            start = fields.lower().find(self._needle)
            if start < 0:
                return
        start += len(self._needle)
        end = fields.find(b"\r\n", start)
        self.kept.append((row, fields[start:end].strip().decode("latin-1")))
        while len(self.kept) > self._most:
            self.every *= 2
            self.kept = [each for each in self.kept if each[0] % self.every == 0]
