-- The registry: the gateway's record of every client. Ids are text as shown to callers; UUIDv7, so ordered by time.
-- Texts compare byte by byte (COLLATE "C"): lists must not depend on the language of the server. JSON is kept as text,
-- because jsonb changes numbers and refuses U+0000.
CREATE TABLE registrations (
    id                  text COLLATE "C" NOT NULL PRIMARY KEY,
    backend             text COLLATE "C" NOT NULL,
    kind                text   NOT NULL,
    client_id           text COLLATE "C" NOT NULL,
    vendor_ref          text   NOT NULL,
    client_id_issued_at bigint,             -- Unix seconds
    version             bigint NOT NULL,
    created_at          bigint NOT NULL,    -- Unix milliseconds, as every time below
    updated_at          bigint NOT NULL,
    state               text   NOT NULL CHECK (state IN ('active', 'disabled', 'unknown', 'gone')),
    spec                text   NOT NULL,    -- JSON: metadata, policy, vendor
    observed            text,               -- the same; NULL when equal to spec, as it mostly is
    search              bytea  NOT NULL,    -- client_name and client_id without regard to case, UTF-8
    management          bytea,              -- the vendor's own RFC 7592 URI and token, sealed
    access_token        bytea,              -- SHA-256 of the registration access token
    previous_access_token       bytea,      -- the one before it
    previous_access_token_until bigint,
    UNIQUE (backend, client_id)
);

-- lists of one backend, page by page
CREATE INDEX registrations_by_backend ON registrations (backend, id);

CREATE TABLE labels (
    registration_id text COLLATE "C" NOT NULL REFERENCES registrations (id) ON DELETE CASCADE,
    key             text COLLATE "C" NOT NULL,
    value           text COLLATE "C" NOT NULL,
    PRIMARY KEY (registration_id, key)
);

-- lists by label, page by page
CREATE INDEX labels_by_value ON labels (key, value, registration_id);

-- The journal: one row per write. It outlives the registration, hence no foreign key.
CREATE TABLE operations (
    id           text COLLATE "C" NOT NULL PRIMARY KEY,
    action       text   NOT NULL CHECK (action IN ('create', 'update', 'delete', 'rotate')),
    backend      text   NOT NULL,
    registration text,
    state        text COLLATE "C" NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed', 'unknown')),
    outcome      text   NOT NULL CHECK (outcome IN ('not_performed', 'performed', 'unknown')),
    summary      text   NOT NULL,
    created_at   bigint NOT NULL,
    updated_at   bigint NOT NULL,
    attempts     bigint NOT NULL,
    evidence     text   NOT NULL,           -- JSON object
    request_id   text   NOT NULL,
    principal    text   NOT NULL,
    desired      text,                      -- JSON: what was asked for; NULL once it is final
    owner        text   NOT NULL,           -- the process that works on it
    lease_until  bigint NOT NULL,           -- when another process may take it over
    fence        bigint NOT NULL,           -- grows with each owner; results of older ones are refused
    sealed       bytea,                     -- the one-time secret, sealed; NULL when there is none (any more)
    sealed_until bigint
);

-- what is unresolved or went wrong; nearly every row ends as succeeded and so leaves these indexes
CREATE INDEX operations_not_succeeded ON operations (state, id) WHERE state <> 'succeeded';
CREATE INDEX operations_open ON operations (lease_until, id) WHERE state IN ('pending', 'unknown');
-- what is to be destroyed next
CREATE INDEX operations_sealed ON operations (sealed_until) WHERE sealed IS NOT NULL;

-- Idempotency keys: only hashes, with the first request's operation.
CREATE TABLE idempotency_keys (
    key         bytea  NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    fingerprint bytea  NOT NULL CHECK (length(fingerprint) = 32),
    operation   text COLLATE "C" NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    created_at  bigint NOT NULL
);

CREATE INDEX idempotency_keys_by_operation ON idempotency_keys (operation);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- What belongs to the gateway as a whole, such as the key that seals secrets.
CREATE TABLE gateway (
    name  text COLLATE "C" NOT NULL PRIMARY KEY,
    value bytea NOT NULL
);

-- Keys of the gateway's own API; only a hash of the secret part.
CREATE TABLE api_keys (
    id         text COLLATE "C" NOT NULL PRIMARY KEY,
    name       text COLLATE "C" NOT NULL UNIQUE,
    hash       bytea  NOT NULL CHECK (length(hash) = 32),
    scopes     text   NOT NULL,             -- JSON array of strings
    created_at bigint NOT NULL
);

-- Tokens that allow a registration; only a hash of the secret part.
CREATE TABLE initial_access_tokens (
    id         text COLLATE "C" NOT NULL PRIMARY KEY,
    name       text   NOT NULL,
    hash       bytea  NOT NULL CHECK (length(hash) = 32),
    created_at bigint NOT NULL,
    expires_at bigint,                      -- NULL: never
    uses_left  bigint CHECK (uses_left >= 0), -- NULL: any number
    terms      text   NOT NULL              -- JSON object: what it may be used for
);
