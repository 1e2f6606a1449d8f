-- One row a request; the columns are the fields of core.record.Record, in their order.
CREATE TABLE requests (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    origin_ns INTEGER NOT NULL,
    arrived_wall_ns INTEGER NOT NULL,
    route TEXT NOT NULL,
    dialect TEXT NOT NULL,
    key_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    model_asked TEXT NOT NULL,
    model TEXT NOT NULL,
    upstream TEXT NOT NULL,
    stream INTEGER NOT NULL,
    parameters_hash TEXT NOT NULL,
    prompt_hash TEXT NOT NULL,
    request_bytes INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL,
    prompt_tokens INTEGER,
    output_tokens INTEGER,
    cached_tokens INTEGER,
    tokens_estimated INTEGER NOT NULL,
    cost REAL,
    queue_wait_ns INTEGER,
    in_flight INTEGER NOT NULL,
    first_byte_ns INTEGER,
    first_token_ns INTEGER,
    last_token_ns INTEGER,
    chunks INTEGER NOT NULL,
    chunk_gap_mean_ns INTEGER,
    chunk_gap_p95_ns INTEGER,
    chunk_gap_max_ns INTEGER,
    duration_ns INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER NOT NULL,
    error_type TEXT NOT NULL,
    error_code TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    default_system_prompt INTEGER NOT NULL,
    default_temperature INTEGER NOT NULL,
    default_repeat_penalty INTEGER NOT NULL,
    steps BLOB NOT NULL,
    steps_dropped INTEGER NOT NULL
) STRICT;
-- Every index ends in the arrival (and, unseen, in the row's number): newest first without a sort.
CREATE INDEX requests_by_arrival ON requests (arrived_wall_ns);
CREATE INDEX requests_by_model ON requests (model, arrived_wall_ns);
CREATE INDEX requests_by_outcome ON requests (outcome, arrived_wall_ns);
CREATE INDEX requests_by_route ON requests (route, arrived_wall_ns);
CREATE INDEX requests_by_key ON requests (key_id, arrived_wall_ns);
