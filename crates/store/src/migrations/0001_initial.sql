-- The registry: the gateway's record of every client. Ids are text as shown to callers; UUIDv7, so ordered by time.
CREATE TABLE registrations (
    id                  TEXT    NOT NULL PRIMARY KEY,
    backend             TEXT    NOT NULL,
    kind                TEXT    NOT NULL,
    client_id           TEXT    NOT NULL,
    vendor_ref          TEXT    NOT NULL,
    client_id_issued_at INTEGER,            -- Unix seconds
    version             INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,   -- Unix milliseconds, as every time below
    updated_at          INTEGER NOT NULL,
    state               TEXT    NOT NULL CHECK (state IN ('active', 'disabled', 'unknown', 'gone')),
    spec                TEXT    NOT NULL,   -- JSON: metadata, policy, vendor
    observed            TEXT,               -- the same; NULL when equal to spec, as it mostly is
    search              TEXT    NOT NULL,   -- client_name and client_id without regard to case
    UNIQUE (backend, client_id)
) STRICT;

-- lists of one backend, page by page
CREATE INDEX registrations_by_backend ON registrations (backend, id);

CREATE TABLE labels (
    registration_id TEXT NOT NULL REFERENCES registrations (id) ON DELETE CASCADE,
    key             TEXT NOT NULL,
    value           TEXT NOT NULL,
    PRIMARY KEY (registration_id, key)
) STRICT, WITHOUT ROWID;

-- lists by label, page by page
CREATE INDEX labels_by_value ON labels (key, value, registration_id);

-- The journal: one row per write. It outlives the registration, hence no foreign key.
CREATE TABLE operations (
    id           TEXT    NOT NULL PRIMARY KEY,
    action       TEXT    NOT NULL CHECK (action IN ('create', 'update', 'delete', 'rotate')),
    backend      TEXT    NOT NULL,
    registration TEXT,
    state        TEXT    NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed', 'unknown')),
    outcome      TEXT    NOT NULL CHECK (outcome IN ('not_performed', 'performed', 'unknown')),
    summary      TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    evidence     TEXT    NOT NULL,          -- JSON object
    request_id   TEXT    NOT NULL,
    principal    TEXT    NOT NULL
) STRICT;

-- what is unresolved or went wrong; nearly every row ends as succeeded and so leaves this index
CREATE INDEX operations_not_succeeded ON operations (state, id) WHERE state <> 'succeeded';

-- Keys of the gateway's own API; only a hash of the secret part.
CREATE TABLE api_keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    scopes     TEXT    NOT NULL,            -- JSON array of strings
    created_at INTEGER NOT NULL
) STRICT;
