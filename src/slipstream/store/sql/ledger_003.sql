-- What was met without the fix under the load that verified it, beside what was met with it (actual_*).
ALTER TABLE advices ADD COLUMN without_p50 REAL;
ALTER TABLE advices ADD COLUMN without_p95 REAL;
ALTER TABLE advices ADD COLUMN without_throughput REAL;
ALTER TABLE advices ADD COLUMN without_cost REAL;
