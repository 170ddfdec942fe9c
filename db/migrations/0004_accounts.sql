-- Names are compared by what they look like, logins can be listed and ended, accounts deleted, and invited to.
ALTER TABLE User ADD COLUMN named BIGINT NOT NULL DEFAULT 0;

ALTER TABLE User ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;

ALTER TABLE User ADD COLUMN revoked BIGINT NOT NULL DEFAULT 0;

ALTER TABLE User ADD COLUMN deleted BIGINT NOT NULL DEFAULT 0;

CREATE INDEX user_named ON User (named);

CREATE INDEX user_revoked ON User (revoked);

CREATE INDEX friend_friendid ON Friend (friendid);

ALTER TABLE AllGroup ADD COLUMN named BIGINT NOT NULL DEFAULT 0;

CREATE INDEX allgroup_named ON AllGroup (named);

ALTER TABLE Token ADD COLUMN created BIGINT NOT NULL DEFAULT 0;

ALTER TABLE Token ADD COLUMN used BIGINT NOT NULL DEFAULT 0;

ALTER TABLE Token ADD COLUMN client VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '';

ALTER TABLE Token ADD COLUMN address VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '';

CREATE TABLE NameClaim (
    kind ENUM('user', 'user-skeleton', 'group', 'group-skeleton') NOT NULL,
    form BINARY(32) NOT NULL,
    owner BIGINT NOT NULL,
    PRIMARY KEY (kind, form)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE Invitation (
    digest BINARY(32) NOT NULL PRIMARY KEY,
    uses BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    created BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE Erasure (
    userid BIGINT NOT NULL PRIMARY KEY,
    due BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;
