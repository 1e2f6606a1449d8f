"""What all workers say of their upstreams, as one number each."""

from slipstream.core.health import EndpointSnapshot
from slipstream.server.upstream_health import upstream_health


def endpoint(upstream: str, model: str, state: str) -> EndpointSnapshot:
    return EndpointSnapshot(upstream, model, state, "", 0.0, 0, 0, 0, None, 1.0, False, 0)


def test_one_worker_that_leaves_it_alone_is_enough() -> None:
    """An upstream takes requests while one of its models does, in every worker."""
    first = [endpoint("east", "m", "open"), endpoint("east", "n", "closed"), endpoint("west", "m", "closed")]
    second = [endpoint("east", "m", "closed"), endpoint("west", "m", "ejected")]

    assert upstream_health([first, second]) == {"east": 1, "west": 0}
    assert upstream_health([]) == {}
