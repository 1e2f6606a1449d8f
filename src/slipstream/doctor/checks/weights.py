"""How little weight an upstream may be left with. Pure."""

from collections.abc import Collection, Mapping

from slipstream.config.settings import Upstream

OUT_SHARE = 0.01
"""Of the heaviest of the others: so little leaves an upstream as a reserve, and shows when it is well again.

Less is not advised. Settings take any weight above 0, and a hundredth of a hundredth is seldom asked at all:
no request would tell that it has recovered.
"""


def least_weight(upstreams: Mapping[str, Upstream], others: Collection[str]) -> float | None:
    """The least weight to advise beside `others`; None where none of them is known."""
    weights = [upstreams[name].weight for name in others if name in upstreams]
    return OUT_SHARE * max(weights) if weights else None


def is_least(weight: float, least: float) -> bool:
    """Whether there is no less to go to."""
    return weight <= least * (1 + 1e-9)
