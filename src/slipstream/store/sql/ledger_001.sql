-- One row an advice that was acted on: what was predicted, and what came of it (NULL while it is not known).
CREATE TABLE advices (
    number INTEGER PRIMARY KEY,
    wall_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    setting TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('applied', 'kept', 'rolled back')),
    now_p50 REAL, now_p95 REAL, now_throughput REAL, now_cost REAL,
    predicted_p50 REAL, predicted_p95 REAL, predicted_throughput REAL, predicted_cost REAL,
    predicted_gain REAL, gain_low REAL, gain_high REAL,
    actual_p50 REAL, actual_p95 REAL, actual_throughput REAL, actual_cost REAL,
    actual_gain REAL, actual_low REAL, actual_high REAL
) STRICT;
CREATE INDEX advices_by_kind ON advices (kind, wall_ns);
