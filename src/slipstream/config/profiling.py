"""The settings of the section `profiling`: what is watched all the time, and how far a profile may go."""

from typing import Annotated

from msgspec import Meta

from slipstream.config.section import Count, Seconds, Section


class Profiling(Section, frozen=True, kw_only=True):
    """What is watched for stalls, and the bounds of profiles of a running server."""

    stalls: Annotated[
        bool, Meta(description="Whether event loops are watched and the line that held one up is named.")
    ] = True
    stall_ms: Annotated[
        int, Meta(ge=50, le=60_000, description="From how late on an event loop counts as held up.")
    ] = 100
    gc_ms: Annotated[
        int, Meta(ge=1, le=60_000, description="From how long on a garbage collection is listed as a stall.")
    ] = 20
    kept: Annotated[
        int, Meta(ge=1, le=10_000, description="Stalls that are kept; the oldest go and are counted.")
    ] = 200
    hertz: Annotated[
        int, Meta(ge=1, le=1000, description="How often a second a CPU profile looks at the stacks.")
    ] = 100
    seconds: Annotated[Seconds, Meta(description="Longest profile of a running server.")] = 60.0
    records: Annotated[Count, Meta(description="Most records that a table of steps is made of.")] = 2000
