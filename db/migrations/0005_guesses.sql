-- Wrong passwords: for an account from a place, a place, an account (digests).
CREATE TABLE Guess (
    subject BINARY(16) NOT NULL PRIMARY KEY,
    forgotten BIGINT NOT NULL,
    latest BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE INDEX guess_forgotten ON Guess (forgotten);
