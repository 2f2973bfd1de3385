-- The same tables with checks that cost less: SQLite makes a temporary tree for `IN` with more than two values, each time
-- that a row is written, and none for `OR`. Foreign keys are off while tables are replaced.
CREATE TABLE new_registrations (
    id                  TEXT    NOT NULL PRIMARY KEY,
    backend             TEXT    NOT NULL,
    kind                TEXT    NOT NULL,
    client_id           TEXT    NOT NULL,
    vendor_ref          TEXT    NOT NULL,
    client_id_issued_at INTEGER,            -- Unix seconds
    version             INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,   -- Unix milliseconds, as every time below
    updated_at          INTEGER NOT NULL,
    state               TEXT    NOT NULL
        CHECK (state = 'active' OR state = 'disabled' OR state = 'unknown' OR state = 'gone'),
    spec                TEXT    NOT NULL,   -- JSON: metadata, policy, vendor
    observed            TEXT,               -- the same; NULL when equal to spec, as it mostly is
    search              TEXT    NOT NULL,   -- client_name and client_id without regard to case
    management          BLOB,               -- the vendor's own RFC 7592 URI and token, sealed
    access_token        BLOB,               -- SHA-256 of the registration access token
    previous_access_token       BLOB,       -- the one before it
    previous_access_token_until INTEGER,
    dcr                 TEXT,               -- JSON: its route, its terms, its software statement, SHA-256 of its secret
    UNIQUE (backend, client_id)
) STRICT;

INSERT INTO new_registrations
SELECT id, backend, kind, client_id, vendor_ref, client_id_issued_at, version, created_at, updated_at, state, spec,
       observed, search, management, access_token, previous_access_token, previous_access_token_until, dcr
FROM registrations;

DROP TABLE registrations;
ALTER TABLE new_registrations RENAME TO registrations;
CREATE INDEX registrations_by_backend ON registrations (backend, id);

CREATE TABLE new_operations (
    id           TEXT    NOT NULL PRIMARY KEY,
    action       TEXT    NOT NULL
        CHECK (action = 'create' OR action = 'update' OR action = 'delete' OR action = 'rotate'),
    backend      TEXT    NOT NULL,
    registration TEXT,
    state        TEXT    NOT NULL
        CHECK (state = 'pending' OR state = 'succeeded' OR state = 'failed' OR state = 'unknown'),
    outcome      TEXT    NOT NULL
        CHECK (outcome = 'not_performed' OR outcome = 'performed' OR outcome = 'unknown'),
    summary      TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    evidence     TEXT    NOT NULL,                     -- JSON object
    request_id   TEXT    NOT NULL,
    principal    TEXT    NOT NULL,
    desired      TEXT,                                 -- JSON: what was asked for; NULL once it is final
    owner        TEXT    NOT NULL DEFAULT '',          -- the process that works on it
    lease_until  INTEGER NOT NULL DEFAULT 0,           -- when another process may take it over
    fence        INTEGER NOT NULL DEFAULT 1,           -- grows with each owner; results of older ones are refused
    sealed       BLOB,                                 -- the one-time secret, sealed; NULL when there is none (any more)
    sealed_until INTEGER
) STRICT;

INSERT INTO new_operations
SELECT id, action, backend, registration, state, outcome, summary, created_at, updated_at, attempts, evidence,
       request_id, principal, desired, owner, lease_until, fence, sealed, sealed_until
FROM operations;

DROP TABLE operations;
ALTER TABLE new_operations RENAME TO operations;
CREATE INDEX operations_not_succeeded ON operations (state, id) WHERE state <> 'succeeded';
CREATE INDEX operations_sealed ON operations (sealed_until) WHERE sealed IS NOT NULL;
