-- One row an API key, by digest; the secret itself is nowhere. Revoked keys stay, so that a record's key has a name.
CREATE TABLE keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    tenant TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('user', 'admin')),
    created_wall_ns INTEGER NOT NULL,
    revoked_wall_ns INTEGER
) STRICT;
CREATE UNIQUE INDEX keys_by_active_name ON keys (name) WHERE revoked_wall_ns IS NULL;
