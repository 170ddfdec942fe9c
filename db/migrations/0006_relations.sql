-- Whom each user has blocked. `blocked` is 0 again where that was taken back; `changed` is when either happened last, in
-- milliseconds since the epoch: nodes that were not told find it by that.
CREATE TABLE Block (
    userid BIGINT NOT NULL,
    other BIGINT NOT NULL,
    blocked BIGINT NOT NULL DEFAULT 1,
    changed BIGINT NOT NULL,
    PRIMARY KEY (userid, other)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE INDEX block_other ON Block (other);

CREATE INDEX block_changed ON Block (changed);

-- Who was removed from a group and may not join it again.
CREATE TABLE Barred (
    groupid BIGINT NOT NULL,
    userid BIGINT NOT NULL,
    PRIMARY KEY (groupid, userid)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

-- `disabled` is when the operator disabled the account, in milliseconds since the epoch; 0 where he has not.
ALTER TABLE User ADD COLUMN disabled BIGINT NOT NULL DEFAULT 0;
