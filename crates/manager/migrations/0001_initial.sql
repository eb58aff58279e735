-- Runs unchanged on SQLite and on PostgreSQL. Times are microseconds since 1970. Documents are JSON.

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    disabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    -- SHA-256 of the secret, which is never stored.
    hash TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    machine TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT
);

-- `item` is the machine as the API shows it. The other columns repeat what lists are filtered and sorted by.
CREATE TABLE machines (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    desired TEXT NOT NULL,
    version BIGINT NOT NULL,
    cpus BIGINT NOT NULL,
    memory_mib BIGINT NOT NULL,
    disk_bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    ended_at BIGINT,
    spec TEXT,
    item TEXT NOT NULL
);

CREATE UNIQUE INDEX machines_by_live_name ON machines (name) WHERE ended_at IS NULL;
CREATE INDEX machines_by_age ON machines (created_at, id);
CREATE INDEX machines_by_name ON machines (name, id);
CREATE INDEX machines_by_expiry ON machines (expires_at);
CREATE INDEX machines_by_owner ON machines (owner, created_at, id);

CREATE TABLE machine_labels (
    machine TEXT NOT NULL REFERENCES machines (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (machine, key)
);

CREATE INDEX machine_labels_by_value ON machine_labels (key, value, machine);

CREATE TABLE operations (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    resource_kind TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    -- What is to be done, for a manager that starts while the operation is unfinished.
    request TEXT NOT NULL,
    item TEXT NOT NULL
);

CREATE INDEX operations_by_age ON operations (created_at, id);
CREATE INDEX operations_by_status ON operations (status);
CREATE INDEX operations_by_resource ON operations (resource_id, created_at);

CREATE TABLE events (
    seq BIGINT PRIMARY KEY,
    time BIGINT NOT NULL,
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    resource_kind TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    item TEXT NOT NULL
);

CREATE INDEX events_by_resource ON events (resource_id, seq);
CREATE INDEX events_by_owner ON events (owner, seq);

CREATE TABLE idempotency_keys (
    user_id TEXT NOT NULL,
    key TEXT NOT NULL,
    request_digest TEXT NOT NULL,
    -- Null while the first request is being answered.
    status BIGINT,
    headers TEXT,
    body TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, key)
);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
