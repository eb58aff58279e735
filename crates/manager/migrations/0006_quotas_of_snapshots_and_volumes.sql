-- Quotas cover snapshots and volumes, too. The bytes are unknown (null) in rows of earlier versions, until the next start.

ALTER TABLE quotas ADD COLUMN snapshots BIGINT;
ALTER TABLE quotas ADD COLUMN snapshot_bytes BIGINT;
ALTER TABLE quotas ADD COLUMN volumes BIGINT;
ALTER TABLE quotas ADD COLUMN volume_bytes BIGINT;

ALTER TABLE snapshots ADD COLUMN bytes BIGINT;
CREATE INDEX snapshots_by_owner ON snapshots (owner);

ALTER TABLE volumes ADD COLUMN bytes BIGINT;
CREATE INDEX volumes_by_owner ON volumes (owner);
