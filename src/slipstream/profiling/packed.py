"""CPU profiles as they travel between processes and to pages: each frame once, stacks as numbers.

Profiles of several processes are put together under a frame for each of them.
"""

from collections.abc import Mapping

from msgspec import Struct

from slipstream.profiling.cpu_profile import CpuProfile, Frame, Sample

REST = "beyond the bound"


class PackedProfile(Struct, frozen=True):
    """A profile, packed.

    Attributes:
        frames: every frame once.
        stacks: of each sample, outermost first, as places in `frames`.
        tags: of each sample, the task that ran.
        cpu_ns: of each sample.
        seconds, looks, own_seconds: as in `CpuProfile`.
    """

    frames: tuple[Frame, ...]
    stacks: tuple[tuple[int, ...], ...]
    tags: tuple[str, ...]
    cpu_ns: tuple[int, ...]
    seconds: float
    looks: int
    own_seconds: float


def pack(profile: CpuProfile, stacks_max: int) -> PackedProfile:
    """Pack the most expensive samples; what is beyond the bound becomes one sample without a stack."""
    samples = list(profile.samples[:stacks_max])
    left_ns = sum(sample.cpu_ns for sample in profile.samples[stacks_max:])
    if left_ns:
        samples.append(Sample((), REST, left_ns))
    frames: dict[Frame, int] = {}
    stacks = tuple(
        tuple(frames.setdefault(frame, len(frames)) for frame in sample.stack) for sample in samples
    )
    return PackedProfile(
        tuple(frames),
        stacks,
        tuple(sample.tag for sample in samples),
        tuple(sample.cpu_ns for sample in samples),
        profile.seconds,
        profile.looks,
        profile.own_seconds,
    )


def unpack(packed: PackedProfile) -> CpuProfile:
    """The profile that was packed."""
    samples = tuple(
        Sample(tuple(packed.frames[at] for at in stack), tag, cpu_ns)
        for stack, tag, cpu_ns in zip(packed.stacks, packed.tags, packed.cpu_ns, strict=True)
    )
    return CpuProfile(samples, packed.seconds, packed.looks, packed.own_seconds)


def together(profiles: Mapping[str, CpuProfile]) -> CpuProfile:
    """Profiles of processes, by their names, as one: each below a frame of its name."""
    samples = [
        Sample((Frame(name, "", 0), *sample.stack), sample.tag, sample.cpu_ns)
        for name, profile in profiles.items()
        for sample in profile.samples
    ]
    samples.sort(key=lambda sample: -sample.cpu_ns)
    return CpuProfile(
        tuple(samples),
        max((each.seconds for each in profiles.values()), default=0.0),
        sum(each.looks for each in profiles.values()),
        sum(each.own_seconds for each in profiles.values()),
        tuple(each.own_seconds / max(each.seconds, 1e-9) for each in profiles.values()),
    )
