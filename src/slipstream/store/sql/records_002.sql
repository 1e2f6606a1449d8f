-- What the gateway itself spends on a request; unknown for those recorded before.
ALTER TABLE requests ADD COLUMN gateway_cpu_ns INTEGER;
