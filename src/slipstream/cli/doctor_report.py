"""What the doctor says, for a terminal: symptoms, causes, evidence, expected gain, what is ruled out."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from slipstream.doctor.split import PARTS

if TYPE_CHECKING:
    from slipstream.doctor.diagnosis import Cause, Diagnosis
    from slipstream.doctor.finding import Point
    from slipstream.doctor.outcome import Interval, Outcome
    from slipstream.doctor.predict import Advice, Prediction
    from slipstream.doctor.split import Split
    from slipstream.doctor.symptoms import Symptom
    from slipstream.doctor.verify import Verified

IDS_SHOWN = 2
SHARE_SHOWN, GAP_SHOWN = 0.005, 0.05
"""Parts of the time from which on they are shown."""


def show(found: "Diagnosis", console: Console) -> None:
    """Print a diagnosis."""
    said = console.print
    colour = "red" if found.causes else "yellow" if found.symptoms else "green"
    said(f"[bold {colour}]{escape(found.verdict)}[/]", highlight=False)
    if found.requests:
        span = f"{_clock(found.since_wall_ns)} to {_clock(found.until_wall_ns)}"
        said(f"[dim]{found.requests:,} requests; judged: {span}[/]", highlight=False)
    for symptom in found.symptoms:
        whom = f"; it hits {', '.join(symptom.hits)}" if symptom.hits else ""
        text = f"\n[bold]symptom[/] {symptom.group}{_when(symptom)}: {escape(symptom.text + whom)}"
        said(text, highlight=False, soft_wrap=False)
    if found.split is not None and (found.causes or any(symptom.is_met for symptom in found.symptoms)):
        _split(found.split, console)
    for cause in found.causes:
        _cause(cause, console)
    if any(point.requests for cause in found.causes for point in cause.finding.evidence):
        said(
            "\n[dim]where the time of one of these requests went: slipstream profile request ID[/]",
            highlight=False,
        )
    if found.ruled_out:
        said("\n[bold]ruled out[/]")
    for each in found.ruled_out:
        said(f"  [dim]{each.check}: {escape(each.why)}[/]", highlight=False)


def _when(symptom: "Symptom") -> str:
    if symptom.is_now:
        return ""
    if symptom.since_wall_ns is None:
        return " all the time"
    if symptom.until_wall_ns is None:
        return f" since {_clock(symptom.since_wall_ns)}"
    return f" from {_clock(symptom.since_wall_ns)} to {_clock(symptom.until_wall_ns)}"


def _split(told: "Split", console: "Console") -> None:
    console.print(f"\n[bold]first split[/] {escape(told.text)}", highlight=False)
    shown = [each for each in told.parts if each.share >= SHARE_SHOWN or abs(each.gap) >= GAP_SHOWN]
    for each in sorted(shown, key=lambda part: -part.gap):
        line = f"{PARTS[each.part]}: {each.share:.0%} of their time, {each.gap:.0%} of what makes them slow"
        console.print(f"  [dim]{line}[/]", highlight=False)


def _cause(cause: "Cause", console: Console) -> None:
    finding = cause.finding
    share = f"{finding.share:.0%} of the slow requests' time"
    console.print(
        f"\n[bold]cause {cause.number}[/] {escape(finding.cause)} [dim]({share})[/]", highlight=False
    )
    for point in finding.evidence:
        _point("+", point, console)
    for point in finding.against:
        _point("-", point, console)
    if cause.advice is not None:
        _advice(cause, cause.advice, console)
    if cause.record:
        console.print(f"  [dim]this advice so far: {escape(cause.record)}[/]", highlight=False)


def _point(sign: str, point: "Point", console: Console) -> None:
    ids = ", ".join(point.requests[:IDS_SHOWN])
    where = f" [dim]({escape(ids)})[/]" if ids else ""
    console.print(f"  {sign} {escape(point.text)}{where}", highlight=False)


def _advice(cause: "Cause", advice: "Advice", console: Console) -> None:
    fix = advice.fix
    what = f"[cyan]{escape(fix.setting)} = {fix.after}[/] (now {fix.before}): " if fix.setting else ""
    console.print(f"  [bold]fix[/] {what}{escape(fix.text)}", highlight=False)
    if advice.prediction is not None:
        for line in predicted(advice.prediction):
            console.print(f"    {line}", highlight=False)
    else:
        console.print(f"    [yellow]its gain cannot be told: {escape(advice.doubt)}[/]", highlight=False)
    if fix.setting and fix.is_live:
        console.print(f"    apply and verify it: slipstream doctor --apply {cause.number}", highlight=False)
    elif fix.setting:
        console.print("    write it into slipstream.toml and start the server again", highlight=False)


def predicted(told: "Prediction") -> list[str]:
    """A prediction in lines."""
    gain = _spread(told.gain_interval, "{:+.0%}", sign=-1)
    now, then = told.now, told.then
    p95, p50 = _spread(told.p95, "{:.2f}"), _spread(told.p50, "{:.2f}")
    served = f"{now.throughput:.2f} -> {then.throughput:.2f} answers/s"
    off = f"without the fix the replay is {round(told.replay_error, 2) + 0.0:+.0%} off what was recorded"
    return [
        f"expected p95 {now.p95:.2f} s -> {then.p95:.2f} s ({p95}), {-told.gain:+.0%} ({gain})",
        f"expected p50 {now.p50:.2f} s -> {then.p50:.2f} s ({p50}), {served}",
        *(f"expected {each}" for each in _costs(now, then)),
        f"[dim]by replaying {told.requests:,} requests; {off}; intervals hold 90 %[/]",
    ]


def _costs(one: "Outcome", other: "Outcome") -> list[str]:
    if one.cost is None or other.cost is None:
        return []
    return [f"${one.cost:.2g} -> ${other.cost:.2g} a request"]


def show_verified(done: "Verified", console: Console) -> None:
    """Print what verifying a fix has come to."""
    colour = "green" if done.is_kept else "yellow"
    if not done.is_told:
        console.print(f"[bold {colour}]{escape(done.verdict)}[/]", highlight=False)
        return
    gain = _spread(done.gain_interval, "{:+.0%}", sign=-1)
    served = f"{done.without.throughput:.2f} -> {done.with_fix.throughput:.2f} answers/s"
    lines = [
        f"verified over {done.requests:,} requests in {done.rounds} rounds, with and without in turn:",
        f"  p95 {done.without.p95:.2f} s -> {done.with_fix.p95:.2f} s, {-done.gain:+.0%} ({gain})",
        f"  p50 {done.without.p50:.2f} s -> {done.with_fix.p50:.2f} s, {served}",
        *(f"  {each}" for each in _costs(done.without, done.with_fix)),
    ]
    for line in lines:
        console.print(line, highlight=False)
    console.print(f"[bold {colour}]{escape(done.verdict)}[/]", highlight=False)


def _spread(interval: "Interval", form: str, *, sign: int = 1) -> str:
    low, high = sorted((sign * interval.low, sign * interval.high))
    return f"{form.format(low)} to {form.format(high)}"


def _clock(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns / 1e9, UTC).astimezone().strftime("%H:%M:%S")
