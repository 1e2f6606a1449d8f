"""What to do about a run's errors: one line, from their kinds and from what the target itself said."""

from collections.abc import Mapping, Sequence

from slipstream.testing.load.words import Said

NOTEWORTHY = 0.01
"""Below this share of errors nothing is advised."""

_BY_KIND = {
    "connect_refused": "check that it runs and listens there",
    "connect_timeout": "its host does not answer: check the address, and what stands between",
    "connect_failed": "check the address, and that this machine may reach it",
    "dns_failed": "nobody knows that host name: check the URL",
    "tls_failed": "its certificate is not trusted, or it speaks no TLS: try --ca-file FILE, or http://",
    "no_ports": "this machine has no local port left: fewer users, or answers that keep their connections",
    "no_files": "this process may open no more files: raise `ulimit -n`, or use fewer users",
    "timeout": "answers took longer than --timeout",
    "reset": "it closed connections while it owed answers: see its log",
    "incomplete": "answers broke off in the middle: see its log",
    "malformed": "what came is no answer of that dialect: check the URL, --dialect and --no-stream",
    "malformed_stream": "what came is no stream of that dialect: check the URL, --dialect and --no-stream",
    "too_large": "an answer was larger than the cap on one",
    "error_event": "the stream itself told of an error: see the target's log",
    "unanswered": "no answer came in the grace period after the run (testing.grace_seconds)",
    "http_3xx": "it points elsewhere: give the URL that it points to",
    "http_401": "it wants a key, or another one: --key-env NAME",
    "http_403": "the key may not do this",
    "http_429": "it refuses more than its limit: less load, or a higher limit there",
}
_BY_STATUS = {
    400: "it does not take such requests: check --dialect and --model",
    404: "nothing is served there, or not that model: check the URL, --dialect and --model",
    405: "that path takes other methods: check the URL and --method",
    422: "it does not take such requests: check --dialect and --model",
    503: "it is not ready: wait until its /readyz says 200",
}


def advice(kinds: Mapping[str, int], said: Sequence[Said], *, ended: int) -> str:
    """One line on the most frequent error; empty where errors are too few to matter.

    Args:
        kinds: errors by kind, as results count them.
        said: what the target said with each status.
        ended: requests that ended, errors among them.
    """
    if not kinds or sum(kinds.values()) < NOTEWORTHY * max(1, ended):
        return ""
    kind = max(kinds, key=lambda each: kinds[each])
    answer = next((each for each in said if kind == _kind_of(each.status)), None)
    do = _BY_KIND.get(kind, "")
    if answer is not None:
        do = _BY_STATUS.get(answer.status, do) or "see the target's log"
    share = "every request" if kinds[kind] >= ended else f"{kinds[kind]:,} of {ended:,} requests"
    status = f" with {answer.status}" if answer is not None else ""
    words = f' and "{answer.words}"' if answer is not None and answer.words else ""
    verb = "was answered" if kinds[kind] >= ended else "were answered"
    if answer is not None:
        return f"{share} {verb}{status}{words}: {do}"
    return f"{share} ended as {kind}: {do}" if do else ""


def _kind_of(status: int) -> str:
    return f"http_{status}" if f"http_{status}" in _BY_KIND else f"http_{status // 100}xx"
