"""Asks a running server the same thing again and again beside a test."""

import threading

from e2e.serving import Serving


class Asking:
    """Asks the same prompt again and again beside the test; `fields` are added to each request."""

    def __init__(self, server: Serving, prompt: str, **fields: object) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(server, prompt, fields))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self, server: Serving, prompt: str, fields: dict[str, object]) -> None:
        while not self._over.is_set():
            server.ask(prompt, **fields)
