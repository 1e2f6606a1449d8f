"""Claim: the writer commits several times the rows a second of a commit a row; a take costs about 1 us.

Load: synthetic records with 6 steps. Peer: the standard library's sqlite3 with the same table and the same
pragmas, one commit a row, as request loggers commonly do it; its rows are made beforehand, ours are not.
Both in one run and on one disk, interleaved. `ratio` is the median of the rounds' own ratios, so that what
else the machine does (`load_average`) slows both sides of it; `ratio_of_medians` stands beside it.
"""

import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import apsw

from slipstream.config.settings import Recording
from slipstream.core.meters import Counters
from slipstream.core.record import Record, Step
from slipstream.store.records import SCHEMA
from slipstream.store.rows import to_row
from slipstream.store.writer import RecordWriter

RESULT = Path(__file__).parent / "results" / "records.json"
ROUNDS, OURS, PEERS, TAKES = 9, 20_000, 2_000, 20_000


def made(count: int, label: str) -> list[Record]:
    now = time.time_ns()
    steps = [Step(name, 1_000, 2_000) for name in ("keys", "admit", "select", "open", "relay", "record")]
    return [
        Record(
            id=f"req_{label}{number:020x}",
            arrived_wall_ns=now + number * 1_000,
            route="chat/completions",
            model_asked="auto",
            model=f"model-{number % 5}",
            upstream="local",
            key_id="key_0123456789ab",
            tenant="default",
            parameters_hash="0123456789abcdef",
            prompt_hash="fedcba9876543210",
            prompt_tokens=812,
            output_tokens=164,
            duration_ns=1_800_000_000,
            outcome="served",
            status=200,
            steps=steps,
        )
        for number in range(count)
    ]


def writer_rows_per_second(folder: Path, label: str) -> float:
    records = made(OURS, label)
    writer = RecordWriter(folder / f"{label}.db", Recording(queue=OURS + 1), Counters())
    writer.start()
    writer.flush(10)
    start = time.perf_counter()
    writer.take_many(records)
    assert writer.flush(120)
    seconds = time.perf_counter() - start
    assert writer.close()
    return OURS / seconds


def peer_rows_per_second(folder: Path, label: str) -> float:
    rows = [to_row(record) for record in made(PEERS, label)]
    connection = sqlite3.connect(folder / f"{label}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.executescript(SCHEMA.scripts[0])
    insert = f"INSERT INTO requests VALUES (NULL, {', '.join('?' * len(rows[0]))})"
    start = time.perf_counter()
    for row in rows:
        connection.execute(insert, row)
    seconds = time.perf_counter() - start
    connection.close()
    return PEERS / seconds


def take_microseconds(folder: Path, label: str) -> float:
    """What `take` costs its caller on average, with the writer's thread at work beside it."""
    records = made(TAKES, label)
    writer = RecordWriter(folder / f"{label}.db", Recording(queue=TAKES + 1), Counters())
    writer.start()
    writer.flush(10)
    spent = 0
    for first in range(0, TAKES, 200):  # in bursts, as requests end, rather than one long fight for the GIL
        start = time.perf_counter_ns()
        for record in records[first : first + 200]:
            writer.take(record)
        spent += time.perf_counter_ns() - start
        time.sleep(0.005)
    assert writer.close(60)
    return spent / TAKES / 1_000


def main() -> None:
    load = os.getloadavg()[0]
    rows: dict[str, list[float]] = {"writer_rows_per_s": [], "peer_rows_per_s": [], "take_us": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(ROUNDS):
            rows["writer_rows_per_s"].append(writer_rows_per_second(folder, f"w{number}"))
            rows["peer_rows_per_s"].append(peer_rows_per_second(folder, f"p{number}"))
            rows["take_us"].append(take_microseconds(folder, f"t{number}"))
    medians = {name: round(statistics.median(values), 2) for name, values in rows.items()}
    ratios = [
        ours / peer for ours, peer in zip(rows["writer_rows_per_s"], rows["peer_rows_per_s"], strict=True)
    ]
    result = {
        "claim": "records: batches through the writer against one commit a row",
        "medians": medians,
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "ratio_of_medians": round(medians["writer_rows_per_s"] / medians["peer_rows_per_s"], 2),
        "rounds": {name: [round(value, 2) for value in values] for name, values in rows.items()},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
            "python": platform.python_version(),
            "apsw_sqlite": apsw.sqlite_lib_version(),
            "peer_sqlite": sqlite3.sqlite_version,
        },
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
