-- Addresses that guests have reported with their machines' own tokens.
CREATE TABLE guest_addresses (
    machine TEXT PRIMARY KEY REFERENCES machines (id) ON DELETE CASCADE,
    ip TEXT,
    ip6 TEXT,
    reported_at BIGINT NOT NULL
);
