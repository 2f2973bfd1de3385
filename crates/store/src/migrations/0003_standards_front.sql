-- What the standards face (RFC 7591, RFC 7592) needs.
ALTER TABLE registrations ADD COLUMN management BLOB;                    -- the vendor's own RFC 7592 URI and token, sealed
ALTER TABLE registrations ADD COLUMN access_token BLOB;                  -- SHA-256 of the registration access token
ALTER TABLE registrations ADD COLUMN previous_access_token BLOB;         -- the one before it
ALTER TABLE registrations ADD COLUMN previous_access_token_until INTEGER;

-- Tokens that allow a registration; only a hash of the secret part.
CREATE TABLE initial_access_tokens (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,                     -- NULL: never
    uses_left  INTEGER CHECK (uses_left >= 0), -- NULL: any number
    terms      TEXT    NOT NULL             -- JSON object: what it may be used for
) STRICT;
