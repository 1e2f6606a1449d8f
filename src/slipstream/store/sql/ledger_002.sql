-- A fix that is being tried has its row from before the setting is changed, with what takes it back where
-- that process dies: the file it stands in, and the file as it was before ('' = there was none). `note` says
-- what became of one that was broken off. SQLite cannot widen a CHECK: the table is written anew.
CREATE TABLE advices_wider (
    number INTEGER PRIMARY KEY,
    wall_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    setting TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('applying', 'applied', 'kept', 'rolled back', 'interrupted')),
    now_p50 REAL, now_p95 REAL, now_throughput REAL, now_cost REAL,
    predicted_p50 REAL, predicted_p95 REAL, predicted_throughput REAL, predicted_cost REAL,
    predicted_gain REAL, gain_low REAL, gain_high REAL,
    actual_p50 REAL, actual_p95 REAL, actual_throughput REAL, actual_cost REAL,
    actual_gain REAL, actual_low REAL, actual_high REAL,
    file TEXT NOT NULL DEFAULT '',
    file_before TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT ''
) STRICT;
INSERT INTO advices_wider (
    number, wall_ns, kind, subject, setting, before, after, state,
    now_p50, now_p95, now_throughput, now_cost,
    predicted_p50, predicted_p95, predicted_throughput, predicted_cost, predicted_gain, gain_low, gain_high,
    actual_p50, actual_p95, actual_throughput, actual_cost, actual_gain, actual_low, actual_high
)
SELECT
    number, wall_ns, kind, subject, setting, before, after, state,
    now_p50, now_p95, now_throughput, now_cost,
    predicted_p50, predicted_p95, predicted_throughput, predicted_cost, predicted_gain, gain_low, gain_high,
    actual_p50, actual_p95, actual_throughput, actual_cost, actual_gain, actual_low, actual_high
FROM advices;
DROP TABLE advices;
ALTER TABLE advices_wider RENAME TO advices;
CREATE INDEX advices_by_kind ON advices (kind, wall_ns);
