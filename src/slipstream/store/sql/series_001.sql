CREATE TABLE series (
    number INTEGER PRIMARY KEY,
    metric TEXT NOT NULL,
    labels TEXT NOT NULL,
    UNIQUE (metric, labels)
) STRICT;
CREATE TABLE point (
    series INTEGER NOT NULL,
    tier INTEGER NOT NULL,
    at INTEGER NOT NULL,
    sum REAL NOT NULL,
    count INTEGER NOT NULL,
    low REAL NOT NULL,
    high REAL NOT NULL,
    sketch BLOB,
    PRIMARY KEY (series, tier, at)
) STRICT, WITHOUT ROWID;
