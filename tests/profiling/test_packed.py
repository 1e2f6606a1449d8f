"""CPU profiles on their way between processes: nothing is lost but what is said to be."""

from hypothesis import given
from hypothesis import strategies as st

from slipstream.profiling.cpu_profile import CpuProfile, Frame, Sample
from slipstream.profiling.packed import pack, together, unpack

FRAMES = st.builds(Frame, st.sampled_from("abc"), st.sampled_from(["x.py", "y.py"]), st.integers(1, 9))
SAMPLES = st.builds(
    Sample, st.lists(FRAMES, max_size=4).map(tuple), st.sampled_from(["", "req_1"]), st.integers(1, 10**9)
)
PROFILES = st.lists(SAMPLES, max_size=8).map(lambda samples: CpuProfile(tuple(samples), 1.0, 9, 0.1))


@given(PROFILES)
def test_packing_loses_nothing(profile: CpuProfile) -> None:
    """Within the bound, what is unpacked is what was packed."""
    assert unpack(pack(profile, len(profile.samples))) == profile


@given(PROFILES, st.integers(0, 8))
def test_what_is_beyond_the_bound_is_still_in_the_sum(profile: CpuProfile, most: int) -> None:
    """No CPU time vanishes; at most one sample comes on top of the bound."""
    packed = pack(profile, most)

    assert len(packed.stacks) <= most + 1
    assert sum(packed.cpu_ns) == sum(sample.cpu_ns for sample in profile.samples)


@given(st.dictionaries(st.sampled_from(["worker 0", "worker 1", "supervisor"]), PROFILES))
def test_processes_are_put_together_below_their_names(profiles: dict[str, CpuProfile]) -> None:
    """The whole is the sum of its parts, and each part is found under its process."""
    whole = together(profiles)
    totals = {spot.name: spot.total_seconds for spot in whole.functions()}

    assert abs(whole.cpu_seconds - sum(each.cpu_seconds for each in profiles.values())) < 1e-9
    for name, profile in profiles.items():
        if profile.samples:
            assert abs(totals[name] - profile.cpu_seconds) < 1e-9
