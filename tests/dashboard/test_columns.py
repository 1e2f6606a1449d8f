"""The columns that grow while the page is live: no second is lost, none is made up."""

import pytest

from e2e.browser import Watched

RUN = """async ({told, kept, pushed, seconds}) => {
  const { Columns } = await import("/assets/columns.js");
  const columns = new Columns();
  for (const frame of kept) columns.keep(frame);
  columns.replace(told);
  for (const frame of pushed) { columns.keep(frame); columns.push(frame, seconds); }
  return [columns.times, Object.fromEntries(columns.lines("a").map(({label, values}) => [label, values]))];
}"""
TOLD = {
    "times": [10, 11, 12],
    "step": 1,
    "pictures": [{"id": "a", "lines": [{"label": "x", "values": [1, 2, None]}]}],
}


def frame(at: int, **lines: float | None) -> dict[str, object]:
    return {"at": at, "lines": {"a": lines}}


@pytest.mark.parametrize(
    ("kept", "pushed", "times", "lines"),
    [
        pytest.param([], [frame(12, x=5)], [10, 11, 12], {"x": [1, 2, 5]}, id="the second that was under way"),
        pytest.param([frame(12, x=5), frame(13, x=6)], [frame(14, x=7)], [11, 12, 13, 14], {"x": [2, 5, 6, 7]},
                     id="frames that came before the range"),
        pytest.param([], [frame(14, x=7)], [11, 12, 13, 14], {"x": [2, None, None, 7]}, id="a missed second is a gap"),
        pytest.param([], [frame(13, y=0), frame(14, y=3)], [11, 12, 13, 14], {"x": [2, None, None, None], "y": [None, None, None, 3]},
                     id="a line begins with its first value"),
        pytest.param([], [frame(99, x=7)], [10, 11, 12], {"x": [1, 2, None]}, id="after a long sleep the range is asked for anew"),
    ],
)  # fmt: skip
def test_frames_join_the_range(
    blank: Watched,
    kept: list[dict[str, object]],
    pushed: list[dict[str, object]],
    times: list[int],
    lines: dict[str, list[float | None]],
) -> None:
    """Whatever comes first, the range or a frame, each second stands once and in its place."""
    seen = blank.page.evaluate(RUN, {"told": TOLD, "kept": kept, "pushed": pushed, "seconds": 4})

    assert seen == [times, lines]
