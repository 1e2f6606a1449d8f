-- Rules by who gave them and their name, where each stands, and all that is to be looked at or sent.
CREATE TABLE rules (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    condition TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    created_wall_ns INTEGER NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE states (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    wall_ns INTEGER NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    severity TEXT NOT NULL,
    phase TEXT NOT NULL,
    value TEXT NOT NULL,
    condition TEXT NOT NULL
) STRICT;
CREATE TABLE silences (
    id TEXT NOT NULL PRIMARY KEY,
    expires_wall_ns INTEGER NOT NULL,
    silence BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE told (
    receiver TEXT NOT NULL,
    severity TEXT NOT NULL,
    sent_wall_ns INTEGER NOT NULL,
    alerts BLOB NOT NULL,
    PRIMARY KEY (receiver, severity)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (
    id TEXT NOT NULL PRIMARY KEY,
    created_wall_ns INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'dead')),
    message BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_by_state ON outbox (state, created_wall_ns);
CREATE TABLE marks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    wall_ns INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('deploy', 'config', 'note')),
    text TEXT NOT NULL,
    author TEXT NOT NULL
) STRICT;
CREATE INDEX marks_by_time ON marks (wall_ns);
