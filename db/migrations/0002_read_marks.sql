-- `marked` is when `seen` last moved, in milliseconds since the epoch: nodes that were not told find read marks by it.
ALTER TABLE DeliveryCursor ADD COLUMN marked BIGINT NOT NULL DEFAULT 0;

CREATE INDEX deliverycursor_marked ON DeliveryCursor (marked);
