CREATE TABLE registrations (
    id          TEXT PRIMARY KEY,
    backend     TEXT NOT NULL,
    kind        TEXT NOT NULL,
    client_id   TEXT NOT NULL,
    vendor_ref  TEXT NOT NULL,
    issued_at   INTEGER,
    version     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    state       TEXT NOT NULL,
    spec        TEXT NOT NULL,
    observed    TEXT NOT NULL,
    -- name and client id in lower case, made by the program: SQLite folds ASCII only
    search      TEXT NOT NULL,
    UNIQUE (backend, client_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE labels (
    registration TEXT NOT NULL REFERENCES registrations (id) ON DELETE CASCADE,
    key          TEXT NOT NULL,
    value        TEXT NOT NULL,
    PRIMARY KEY (registration, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX labels_by_value ON labels (key, value, registration);

CREATE TABLE operations (
    id           TEXT PRIMARY KEY,
    action       TEXT NOT NULL,
    backend      TEXT NOT NULL,
    -- no reference: the journal outlives the registration
    registration TEXT,
    state        TEXT NOT NULL,
    outcome      TEXT NOT NULL,
    summary      TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    evidence     TEXT NOT NULL,
    request_id   TEXT NOT NULL,
    principal    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- what is open is looked for at every start
CREATE INDEX operations_open ON operations (state, id) WHERE state IN ('pending', 'unknown');

CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    hash       BLOB NOT NULL CHECK (length(hash) = 32),
    scopes     TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
