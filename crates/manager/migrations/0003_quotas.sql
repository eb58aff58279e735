-- What the machines of a user may use in all. A user without a row has no limits; neither has a column that is null.

CREATE TABLE quotas (
    owner TEXT PRIMARY KEY,
    machines BIGINT,
    cpus BIGINT,
    memory_mib BIGINT,
    disk_bytes BIGINT
);
