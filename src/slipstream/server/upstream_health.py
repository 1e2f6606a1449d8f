"""Whether upstreams take requests, of what every worker says of its own breakers. Pure."""

from collections.abc import Iterable

from slipstream.core.health import EndpointSnapshot


def upstream_health(workers: Iterable[Iterable[EndpointSnapshot]]) -> dict[str, int]:
    """1 for an upstream that takes requests of all workers, 0 where a worker leaves all of it alone.

    An upstream is left alone by a worker when none of its models is `closed`: its breaker is open, it was
    ejected, it has asked to be let be, or one request is trying it.
    """
    healthy: dict[str, int] = {}
    for endpoints in workers:
        takes: dict[str, bool] = {}
        for each in endpoints:
            takes[each.upstream] = takes.get(each.upstream, False) or each.state == "closed"
        for upstream, is_taking in takes.items():
            healthy[upstream] = min(healthy.get(upstream, 1), int(is_taking))
    return healthy
