/* Logging in: each connection plays its script, so many at a time. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <string.h>

static const int64_t LOGIN_NS = 120 * 1000000000LL;

static struct histogram times;
static size_t running, finished;

/* A step that asks for nothing is over when it has been sent. */
static void begin_step(struct connection *connection, int64_t now) {
    while (connection->step < connection->step_count) {
        struct step *step = &connection->steps[connection->step];
        queue_bytes(connection, step->send.bytes, step->send.size);
        connection->expected = 0;
        if (step->expect.size)
            break;
        connection->step++;
    }
    if (connection->step == connection->step_count) {
        connection->state = READY;
        record(&times, now - connection->started);
        running--;
        finished++;
    }
    flush_output(connection);
}

/* Look for a text in the input, and drop all up to its end; without it, all but what may be its beginning. */
static int consume(struct connection *connection, const struct text *text) {
    char *found = text->size ? memmem(connection->input, connection->input_size, text->bytes, text->size) : connection->input;
    size_t drop = connection->input_size < text->size ? 0 : connection->input_size - text->size + 1;
    if (found)
        drop = (size_t)(found - connection->input) + text->size;
    connection->input_size -= drop;
    memmove(connection->input, connection->input + drop, connection->input_size);
    return found != NULL;
}

void script_advance(struct connection *connection, int64_t now) {
    if (connection->step == 0 && !connection->expected && !connection->input_size) {
        begin_step(connection, now);
        return;
    }
    while (connection->state == SCRIPT) {
        struct step *step = &connection->steps[connection->step];
        if (!connection->expected) {
            if (!consume(connection, &step->expect))
                return;
            connection->expected = 1;
        }
        if (!consume(connection, &step->end))
            return;
        connection->step++;
        begin_step(connection, now);
    }
}

void command_login(size_t from, size_t count, size_t concurrency) {
    int64_t start = now_ns();
    size_t next = from;
    running = finished = 0;
    memset(&times, 0, sizeof times);
    while (finished < count) {
        while (running < concurrency && next < from + count) {
            open_connection(&connections[next++]);
            running++;
        }
        wait_events(100);
        if (now_ns() - start > LOGIN_NS) {
            for (size_t index = from; index < from + count; index++) {
                struct connection *connection = &connections[index];
                if (connection->state != READY)
                    fail("%zu of %zu logged in; connection %zu waits in step %zu, and has %.*s", finished, count, index,
                         connection->step, (int)connection->input_size, connection->input);
            }
        }
    }
    say("logged_in %zu %lld %llu %llu %llu", count, (long long)(now_ns() - start),
        (unsigned long long)percentile(&times, 0.50), (unsigned long long)percentile(&times, 0.99),
        (unsigned long long)times.largest);
}
