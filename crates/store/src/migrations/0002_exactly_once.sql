-- What makes a write safe to repeat and to find out about.
ALTER TABLE operations ADD COLUMN desired TEXT;                          -- JSON: what was asked for; NULL once it is final
ALTER TABLE operations ADD COLUMN owner TEXT NOT NULL DEFAULT '';        -- the process that works on it
ALTER TABLE operations ADD COLUMN lease_until INTEGER NOT NULL DEFAULT 0; -- when another process may take it over
ALTER TABLE operations ADD COLUMN fence INTEGER NOT NULL DEFAULT 1;      -- grows with each owner; results of older ones are refused
ALTER TABLE operations ADD COLUMN sealed BLOB;                           -- the one-time secret, sealed; NULL when there is none (any more)
ALTER TABLE operations ADD COLUMN sealed_until INTEGER;

-- what is to be destroyed next; nearly every row has left this index
CREATE INDEX operations_sealed ON operations (sealed_until) WHERE sealed IS NOT NULL;

-- Idempotency keys: only hashes, with the first request's operation.
CREATE TABLE idempotency_keys (
    key         BLOB    NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    operation   TEXT    NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_operation ON idempotency_keys (operation);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- What belongs to the gateway as a whole, such as the key that seals secrets.
CREATE TABLE gateway (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
