/* What a server sends, in each dialect: acknowledgements, deliveries, pings. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <string.h>

static uint64_t number_at(const char *text, const char *end) {
    uint64_t number = 0;
    while (text < end && (*text == ' ' || *text == '"' || *text == '\''))
        text++;
    for (; text < end && *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (uint64_t)(*text - '0');
    return number;
}

/* What follows `name` in a frame, or its end. */
static const char *after(const char *frame, size_t size, const char *name, size_t name_size) {
    const char *found = memmem(frame, size, name, name_size);
    return found ? found + name_size : frame + size;
}
#define AFTER(frame, size, name) after(frame, size, name, sizeof(name) - 1)
#define FIELD(frame, size, name) AFTER(frame, size, "\"" name "\":")

/* "0017-0000000001": the link and the message's number, wherever a dialect has them. */
static void take_numbered(struct connection *connection, const char *mark, uint64_t seq, const char *frame, size_t size,
                          int64_t now) {
    const char *end = frame + size;
    if (end - mark < 5 + DIGITS)
        fail("a message without its number: %.*s", (int)size, frame);
    take_delivery(connection, (unsigned)number_at(mark, mark + 4), number_at(mark + 5, mark + 5 + DIGITS), seq, frame, size,
                  now);
}

static void answer_ping(struct connection *connection) {
    queue_bytes(connection, connection->pong.bytes, connection->pong.size);
    flush_output(connection);
}

static void take_native(struct connection *connection, const char *frame, size_t size, int64_t now) {
    const char *end = frame + size;
    uint64_t kind = number_at(FIELD(frame, size, "msgid"), end);
    if (kind == 24) {
        const char *code = FIELD(frame, size, "errno");
        if (code == end || number_at(code, end) != 0 || !connection->sends)
            fail("a message failed: %.*s", (int)size, frame);
        uint64_t number = number_at(FIELD(frame, size, "ref"), end);
        uint64_t seq = number_at(FIELD(frame, size, "seq"), end);
        if (number != connection->sends->done + 1 || seq != connection->sends->first + number - 1)
            fail("the acknowledgement of message %llu of %s was to come, but: %.*s",
                 (unsigned long long)connection->sends->done + 1, connection->sends->conv.bytes, (int)size, frame);
        take_done(connection->sends, number, now);
    } else if (kind == 6 || kind == 10) {
        const char *key = FIELD(frame, size, "key");
        take_numbered(connection, key < end ? key + 1 : end, number_at(FIELD(frame, size, "seq"), end), frame, size, now);
    } else if (kind == 22) {
        answer_ping(connection);
    } else if (kind != 29) { /* PRESENCE is of no interest here */
        fail("an unexpected frame: %.*s", (int)size, frame);
    }
}

static void take_irc(struct connection *connection, const char *frame, size_t size, int64_t now) {
    if (size > 5 && !memcmp(frame, "PING ", 5)) {
        answer_ping(connection);
    } else if (size > 6 && !memcmp(frame, "ERROR ", 6)) {
        fail("the server said %.*s", (int)size, frame);
    } else {
        const char *command = memchr(frame, ' ', size);
        if (command && (size_t)(frame + size - command) > 9 && !memcmp(command, " PRIVMSG ", 9))
            take_numbered(connection, AFTER(command, (size_t)(frame + size - command), " :"), 0, frame, size, now);
    }
}

/* Lines; returns how much of the input was taken. */
static size_t take_lines(struct connection *connection, int64_t now) {
    char *line = connection->input, *end = connection->input + connection->input_size, *newline;
    while ((newline = memchr(line, '\n', (size_t)(end - line)))) {
        if (connection->dialect == 'n')
            take_native(connection, line, (size_t)(newline - line), now);
        else
            take_irc(connection, line, (size_t)(newline - line), now);
        line = newline + 1;
    }
    return (size_t)(line - connection->input);
}

/* Stanzas. Only messages and acknowledgements are of interest: from one of them to the next everything is skipped. */
static size_t take_stanzas(struct connection *connection, int64_t now) {
    const char *at = connection->input, *end = connection->input + connection->input_size;
    for (;;) {
        const char *tag = at;
        while ((tag = memchr(tag, '<', (size_t)(end - tag)))) {
            if (end - tag < 9)
                return (size_t)(tag - connection->input); /* it may become one */
            if (!memcmp(tag, "<message ", 9) || !memcmp(tag, "<a ", 3) || !memcmp(tag, "<stream:e", 9))
                break;
            tag++;
        }
        if (!tag)
            return connection->input_size;
        if (tag[1] == 's')
            fail("the server said %.*s", (int)(end - tag), tag);
        const char *close = tag[1] == 'a' ? ">" : "</message>";
        const char *next = after(tag, (size_t)(end - tag), close, strlen(close));
        if (next == end && (end - tag < (long)strlen(close) || memcmp(end - strlen(close), close, strlen(close))))
            return (size_t)(tag - connection->input);
        size_t size = (size_t)(next - tag);
        if (tag[1] == 'a') {
            const char *count = AFTER(tag, size, " h=");
            if (connection->sends && connection->sends->done_by == 's')
                take_done(connection->sends, number_at(count, next), now);
        } else if (AFTER(tag, size, "type='error'") < next || AFTER(tag, size, "type=\"error\"") < next) {
            fail("a message failed: %.*s", (int)size, tag);
        } else {
            const char *body = AFTER(tag, size, "<body>");
            if (body < next) /* a room's subject has none */
                take_numbered(connection, body, 0, tag, size, now);
        }
        at = next;
    }
}

void take_input(struct connection *connection, int64_t now) {
    size_t taken = connection->dialect == 'x' ? take_stanzas(connection, now) : take_lines(connection, now);
    connection->input_size -= taken;
    memmove(connection->input, connection->input + taken, connection->input_size);
}
