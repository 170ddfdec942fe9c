-- `last_ts` is the exact time of a conversation's latest message; `changed`, which has an index, is rounded down from now on. Where
-- `last_ts` is the smaller one, `changed` is exact.
ALTER TABLE Conversation ADD COLUMN last_ts BIGINT NOT NULL DEFAULT 0;
