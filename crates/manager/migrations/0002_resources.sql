-- Snapshots, pools and volumes. `item` is the snapshot as the API shows it; a snapshot without a tag has an empty one here.

CREATE TABLE snapshots (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    tag TEXT NOT NULL,
    machine TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    item TEXT NOT NULL
);

CREATE UNIQUE INDEX snapshots_by_tag ON snapshots (tag) WHERE tag <> '';
CREATE INDEX snapshots_by_age ON snapshots (created_at, id);
CREATE INDEX snapshots_in_tag_order ON snapshots (tag, id);
CREATE INDEX snapshots_by_machine ON snapshots (machine);

CREATE TABLE snapshot_labels (
    snapshot TEXT NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (snapshot, key)
);

CREATE INDEX snapshot_labels_by_value ON snapshot_labels (key, value, snapshot);

-- The pools that are to be kept. One of size 0 is to be ended.
CREATE TABLE pools (
    snapshot TEXT PRIMARY KEY REFERENCES snapshots (id) ON DELETE CASCADE,
    size BIGINT NOT NULL
);

-- The owners of volumes. A volume of another time of creation is another one of the same name.
CREATE TABLE volumes (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
