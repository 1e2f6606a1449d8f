"""The embedded model's process: serves one GGUF over HTTP on loopback until its standard input ends.

It imports nothing but the standard library and xllamacpp, and nothing of ours: it is run by its path.
Standard input: one line of JSON (`Orders` of local_process.py), then the lifeline. Standard output: one line.
"""

import json
import os
import signal
import sys
import threading
from typing import Any

EXIT_NOT_INSTALLED = 3
"""Exit status where xllamacpp cannot be imported."""
EXIT_NOT_LOADED = 4
"""Exit status where the model cannot be loaded; the reason is on standard error."""
LAST_WORDS_SECONDS = 0.1
"""How long the library's own log thread gets to write that reason down."""


def main() -> None:
    """Load the model, say where it is served, and end when the parent does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A terminal or an init system signals the whole group; answers still drain then.
        # What ends this process is the end of its lifeline, which a killed parent cannot forget.
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints must not look like an answer of ours
    orders = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_watch_lifeline, name="lifeline", daemon=True).start()
    try:
        import xllamacpp
    except ImportError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(EXIT_NOT_INSTALLED)
    try:
        server = xllamacpp.Server(_parameters(xllamacpp.CommonParams(), orders))
    except (RuntimeError, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        threading.Event().wait(LAST_WORDS_SECONDS)
        os._exit(EXIT_NOT_LOADED)
    answers.write(json.dumps({"url": server.listening_address}) + "\n")
    answers.flush()
    threading.Event().wait()  # keeps `server` alive; the lifeline ends the process


def _watch_lifeline() -> None:
    """Read standard input to its end, then go at once: nobody is left to answer."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def _parameters(parameters: Any, orders: dict[str, Any]) -> Any:
    """The library's parameters for our orders. Everything that is not set here keeps its default."""
    parameters.model.path = orders["path"]
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [orders["key"]]
    parameters.n_parallel = orders["slots"]
    parameters.n_ctx = orders["slots"] * orders["context_tokens"]
    parameters.n_batch = parameters.n_ubatch = orders["batch_tokens"]
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = orders["threads"]
    parameters.n_threads_http = orders["http_threads"]
    parameters.cache_ram_mib = orders["prompt_cache_mib"]
    parameters.fit_params = False  # it would shrink the context behind our back
    parameters.ui = False
    parameters.endpoint_slots = True
    parameters.endpoint_metrics = False
    parameters.verbosity = orders["verbosity"]
    return parameters


if __name__ == "__main__":
    main()
