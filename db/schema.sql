-- The schema of trio-chat, as MySQL and MariaDB run it; SQLite's is derived from this file (trio_chat/store/schema.py).
-- One statement ends with a semicolon at the end of a line. Later changes: db/migrations/.

-- Accounts. `password` is an argon2 hash; `state` mirrors Presence; `changed` is when state last changed, in
-- milliseconds since the epoch, rising with every change. `named` says that its name is in NameClaim. `epoch` is raised
-- where all its logins are ended, `revoked` is when one or all last were: nodes that were not told find them by it.
-- `deleted` is when the account was, or 0: the row stays, for its messages' places. `disabled` is when the operator disabled the
-- account, or 0.
CREATE TABLE User (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    password VARCHAR(255) NOT NULL,
    state ENUM('online', 'offline') NOT NULL DEFAULT 'offline',
    changed BIGINT NOT NULL DEFAULT 0,
    named BIGINT NOT NULL DEFAULT 0,
    epoch BIGINT NOT NULL DEFAULT 0,
    revoked BIGINT NOT NULL DEFAULT 0,
    deleted BIGINT NOT NULL DEFAULT 0,
    disabled BIGINT NOT NULL DEFAULT 0
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE UNIQUE INDEX user_name ON User (name);

CREATE INDEX user_changed ON User (changed);

CREATE INDEX user_named ON User (named);

CREATE INDEX user_revoked ON User (revoked);

-- `friendid` is on the list of `userid`.
CREATE TABLE Friend (
    userid BIGINT NOT NULL,
    friendid BIGINT NOT NULL,
    PRIMARY KEY (userid, friendid)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE INDEX friend_friendid ON Friend (friendid);

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

CREATE TABLE AllGroup (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    groupname VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    groupdesc VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
    named BIGINT NOT NULL DEFAULT 0
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE UNIQUE INDEX allgroup_name ON AllGroup (groupname);

CREATE INDEX allgroup_named ON AllGroup (named);

-- What names are compared by (trio_chat/names.py), as SHA-256: the canonical form, and what it looks like. Who comes first
-- has it; the row of a deleted account stays.
CREATE TABLE NameClaim (
    kind ENUM('user', 'user-skeleton', 'group', 'group-skeleton') NOT NULL,
    form BINARY(32) NOT NULL,
    owner BIGINT NOT NULL,
    PRIMARY KEY (kind, form)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

-- `joined` is when, in milliseconds since the epoch: nodes that were not told find new members by it.
CREATE TABLE GroupUser (
    groupid BIGINT NOT NULL,
    userid BIGINT NOT NULL,
    grouprole ENUM('creator', 'normal') NOT NULL DEFAULT 'normal',
    joined BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (groupid, userid)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE INDEX groupuser_userid ON GroupUser (userid);

CREATE INDEX groupuser_joined ON GroupUser (joined);

-- Who was removed from a group and may not join it again.
CREATE TABLE Barred (
    groupid BIGINT NOT NULL,
    userid BIGINT NOT NULL,
    PRIMARY KEY (groupid, userid)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

-- The head of each conversation's log. `last_ts` is the time of its latest message, in milliseconds since the epoch, and
-- never falls; `changed` is about the same, rounded down so that its index is not rewritten for each message: nodes that were
-- not told find new messages by it.
CREATE TABLE Conversation (
    conv VARCHAR(48) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    last_seq BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    last_ts BIGINT NOT NULL DEFAULT 0
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE INDEX conversation_changed ON Conversation (changed);

-- The log: the truth about every message. `target` is the receiving user or the group; `sender_key` is what makes a
-- resent message the same message (binary: a trailing space matters).
CREATE TABLE Message (
    conv VARCHAR(48) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    seq BIGINT NOT NULL,
    sender BIGINT NOT NULL,
    target BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    time VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    sender_key VARBINARY(256),
    msg MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    PRIMARY KEY (conv, seq)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE UNIQUE INDEX message_key ON Message (sender, sender_key);

-- How far each account has received (and read) each of its conversations. `marked` is when `seen` last moved, in
-- milliseconds since the epoch: nodes that were not told find read marks by it. Who has left a group keeps its row, with
-- the greatest `received` there is: nothing is his to receive any more, and `marked` is when he left.
CREATE TABLE DeliveryCursor (
    userid BIGINT NOT NULL,
    conv VARCHAR(48) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    received BIGINT NOT NULL DEFAULT 0,
    seen BIGINT NOT NULL DEFAULT 0,
    marked BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (userid, conv)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE INDEX deliverycursor_marked ON DeliveryCursor (marked);

-- Digests of the secrets that log an account in again; times in milliseconds since the epoch. `client` and `address` are
-- those of its latest use.
CREATE TABLE Token (
    digest BINARY(32) NOT NULL PRIMARY KEY,
    userid BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    created BIGINT NOT NULL DEFAULT 0,
    used BIGINT NOT NULL DEFAULT 0,
    client VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
    address VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT ''
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE INDEX token_userid ON Token (userid);

CREATE INDEX token_expires ON Token (expires);

-- Codes that let somebody register, as digests; `uses` is how often each still does, `expires` in ms since the epoch.
CREATE TABLE Invitation (
    digest BINARY(32) NOT NULL PRIMARY KEY,
    uses BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    created BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

-- Deleted accounts whose texts are being erased; until `due`, in ms since the epoch, some may still come in.
CREATE TABLE Erasure (
    userid BIGINT NOT NULL PRIMARY KEY,
    due BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

-- Wrong passwords: for an account from a place, a place, an account (digests). `latest` is when the latest one came,
-- `forgotten` when none of them counts any more; milliseconds since the epoch.
CREATE TABLE Guess (
    subject BINARY(16) NOT NULL PRIMARY KEY,
    forgotten BIGINT NOT NULL,
    latest BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE INDEX guess_forgotten ON Guess (forgotten);

-- The running nodes, a row for each life of one. A node whose `beat` stands still is dead.
CREATE TABLE Node (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    bus VARCHAR(255) NOT NULL,
    beat BIGINT NOT NULL DEFAULT 0
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

-- Who is connected where.
CREATE TABLE Presence (
    userid BIGINT NOT NULL,
    node BIGINT NOT NULL,
    PRIMARY KEY (userid, node)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE INDEX presence_node ON Presence (node);

-- What each user has not received yet, in the family's own form: a view, so no row per absent member is ever written.
CREATE VIEW OfflineMessage AS
SELECT
    c.userid AS userid,
    CASE WHEN m.conv LIKE 'g:%'
        THEN JSON_OBJECT('msgid', 10, 'id', m.sender, 'name', u.name, 'groupid', m.target, 'msg', m.msg, 'time', m.time)
        ELSE JSON_OBJECT('msgid', 6, 'id', m.sender, 'name', u.name, 'toid', m.target, 'msg', m.msg, 'time', m.time)
    END AS message
FROM DeliveryCursor c
JOIN Message m ON m.conv = c.conv AND m.seq > c.received
JOIN User u ON u.id = m.sender;
