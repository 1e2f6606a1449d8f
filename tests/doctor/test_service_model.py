"""How long an upstream takes, fitted: the numbers come back, unseen answers are met, luck is shared."""

import random
import statistics

import pytest

from slipstream.doctor.service_model import Observation, fitted, held_out


def seen(count: int, *, streamed: bool = True, seed: int = 1) -> list[Observation]:
    """First token 0.2 s + 0.1 ms a prompt token + 20 ms for each that is there; 10 ms a token."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        prompt, output, there = rng.uniform(5, 2000), float(rng.randint(2, 60)), float(rng.randint(1, 12))
        first = (0.2 + 0.0001 * prompt + 0.02 * there) * rng.lognormvariate(0, 0.1)
        rest = (output - 1) * 0.01 * rng.lognormvariate(0, 0.1)
        whole = first + rest
        made.append(Observation(prompt, output, streamed, there, there, first if streamed else whole, whole))
    return made


def test_the_line_of_a_stream_comes_back() -> None:
    """a, b and c within a few percent, and the time a token."""
    model = fitted(seen(800))
    assert model.first is not None
    assert model.pace is not None

    a, b, c = model.first.coefficients
    assert (a, b, c) == (
        pytest.approx(0.2, rel=0.1),
        pytest.approx(1e-4, rel=0.1),
        pytest.approx(0.02, rel=0.1),
    )
    assert model.pace.at(5.0) == pytest.approx(0.01, rel=0.05)
    assert model.together_max == 12


@pytest.mark.parametrize("streamed", [True, False])
def test_unseen_answers_are_met(streamed: bool) -> None:
    """Quantiles of answers that it was not fitted to, within a tenth."""
    checked = held_out(seen(800, streamed=streamed))

    assert checked is not None
    assert abs(checked.p50_error) < 0.1
    assert abs(checked.p95_error) < 0.1


def test_with_few_answers_nothing_is_known() -> None:
    """Eleven make no model, and none is pretended."""
    assert not fitted(seen(11)).is_known
    assert held_out(seen(20)) is None
    assert fitted([]).expected(seen(1)[0]) is None


def test_the_same_luck_takes_longer_where_more_is_asked() -> None:
    """Luck is one draw: with it a longer prompt, a longer answer and a fuller server each take longer."""
    model = fitted(seen(300))

    def whole(prompt: float, output: float, there: float) -> float:
        drawn = model.draw(prompt, output, there, streamed=True, chance=random.Random(9))
        return drawn.first + drawn.rest

    least = whole(100, 10, 1)
    assert least < whole(2000, 10, 1)
    assert least < whole(100, 50, 1)
    assert least < whole(100, 10, 10)


def test_what_is_drawn_spreads_as_what_was_seen() -> None:
    """The middle and the spread of draws are those of the answers."""
    given = seen(400)
    model = fitted(given)
    drawn = [
        model.draw(each.prompt, each.output, each.together, streamed=True, chance=random.Random(at))
        for at, each in enumerate(given)
    ]
    told, real = [each.first for each in drawn], [each.first for each in given]

    assert statistics.median(told) == pytest.approx(statistics.median(real), rel=0.1)
    assert statistics.stdev(told) == pytest.approx(statistics.stdev(real), rel=0.25)
