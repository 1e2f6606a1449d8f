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


def test_what_looking_took_is_told_by_process_and_in_all() -> None:
    """The sum of three processes is no process's cost: the worst one's is told, and the sum as a sum."""
    costs = {"worker 0": 0.004, "worker 1": 0.02, "supervisor": 0.006}
    profiles = {name: CpuProfile((), 2.0, 200, own) for name, own in costs.items()}
    said = str(together(profiles)).splitlines()[0]

    assert said.endswith(
        "600 looks in 3 processes, which took up to 1.00% of a core in each, 1.50% in all together"
    )
    alone = str(together({"supervisor": profiles["supervisor"]})).splitlines()[0]
    assert alone.endswith("200 looks, which took 0.30% of a core")
