/* The load generator: connections that log in by a script, and links between them under load.
 *
 * It reads a plan from the file that it is given, then commands from standard input, a line each, and answers on
 * standard output. A plan is made of
 * numbers, each followed by a blank, and of texts, each written as its LENGTH, a colon and its bytes.
 *
 *   CONNECTIONS, and for each: DIALECT PORT SOURCE PONG STEPS, and for each step: SEND EXPECT END
 *   LINKS, and for each: SENDER DONE FIRST CONV TEXT FRAME PLACES PLACE... RECEIVERS RECEIVER...
 *
 * DIALECT is n (the server's own, modern), x (XMPP) or i (IRC). SOURCE is the address to connect from. A step sends SEND,
 * waits until EXPECT has come and after it END; an empty EXPECT is not waited for. PONG is what answers a ping.
 * A link's FRAME has at each PLACE ten digits for the message's number. DONE says when a message no longer counts as in
 * flight: r, its REPLY came; d, its first receiver has it; s, XEP-0198 acknowledged it. FIRST is the seq of message 1.
 *
 *   login FROM COUNT CONCURRENCY            "logged_in COUNT NANOSECONDS P50 P99 MAX"
 *   close FROM COUNT                        "closed COUNT"
 *   load IN_FLIGHT RATE WARMUP_MS MEASURE_MS  IN_FLIGHT for each link, or with a RATE so many messages per second in all;
 *                                           "progress SENT ACKED DELIVERED", "begin", "end NANOSECONDS DONE DELIVERED";
 *                                           when everything that was sent has arrived, "latency WHAT P50 P99 P99.9 MAX"
 *                                           for ack and delivery, "done SENT DONE DELIVERED"
 *   store IN_FLIGHT MESSAGES                so many messages on each link, timed until the last is done; answers as load
 *   drain CONNECTION                        log in and receive what waits: "drained MESSAGES NANOSECONDS"
 *
 * Message n of a link must come to each of its receivers once and in order, with its text, and (n) with the right seq:
 * anything else ends the run with a line "error ..." and status 1. At a given rate a message's time counts from the moment
 * at which it was due, not from when it was sent.
 */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stddef.h>
#include <stdint.h>

enum {
    INPUT = 64 * 1024,     /* bytes of one connection read at once: the longest frame */
    FRAME = 1024,          /* the longest frame that is sent */
    RING = 16384,          /* messages of one link whose times are remembered */
    RECEIPT_MESSAGES = 50, /* a receiver sends RECEIVED after so many */
    DIGITS = 10,           /* of a message's number */
    PLACES = 3             /* where it stands in a frame, at most */
};

struct text {
    char *bytes;
    size_t size;
};

struct step {
    struct text send, expect, end;
};

struct link;

/* One connection's part in a link that it receives from. */
struct receiver {
    struct link *link;
    struct connection *connection;
    uint64_t received, reported; /* up to which message */
    int64_t reported_at;
};

enum state { CLOSED, CONNECTING, SCRIPT, READY };

struct connection {
    int fd;
    enum state state;
    char dialect;
    int port;
    struct text source, pong;
    struct step *steps;
    size_t step_count, step;
    int expected; /* of the current step EXPECT has come */
    int64_t started;
    int waits_writable;
    char *input, *output;
    size_t input_size, output_size, output_capacity;
    struct link *sends;
    struct receiver **receivers;
    size_t receiver_count;
};

struct link {
    unsigned index;
    struct connection *sender;
    char done_by;
    uint64_t first;
    struct text conv, text, frame;
    size_t places[PLACES], place_count;
    struct receiver *receivers;
    size_t receiver_count;
    uint64_t sent, done, first_received;
    int64_t *sent_at;
};

/* plan.c */
extern struct connection *connections;
extern struct link *links;
extern size_t connection_count, link_count;
void read_plan(const char *file);

/* histogram.c: latencies in 128 buckets for each power of two, so a value is known to within 1%. */
enum { SUB_BITS = 7, BUCKETS = 64 << SUB_BITS };
struct histogram {
    uint64_t buckets[BUCKETS], count, largest;
};
void record(struct histogram *histogram, int64_t latency);
uint64_t percentile(const struct histogram *histogram, double share);

/* wire.c: sockets */
int64_t now_ns(void);
_Noreturn void fail(const char *format, ...);
void say(const char *format, ...);
extern int poller;
void open_connection(struct connection *connection);
void close_connection(struct connection *connection);
void queue_bytes(struct connection *connection, const char *bytes, size_t size);
void flush_output(struct connection *connection);
/* Wait for events for at most so many milliseconds and deal with them. */
void wait_events(int timeout_ms);
char *read_command(void); /* the next line of standard input, or NULL where there is none yet */

/* script.c: logging in */
void script_advance(struct connection *connection, int64_t now);
void command_login(size_t from, size_t count, size_t concurrency);

/* dialects.c: what comes in */
void take_input(struct connection *connection, int64_t now);

/* load.c */
void take_done(struct link *link, uint64_t number, int64_t now);
void take_delivery(struct connection *connection, unsigned link, uint64_t number, uint64_t seq, const char *frame, size_t size,
                   int64_t now);
void after_input(struct connection *connection, int64_t now);
void command_load(unsigned in_flight, double rate, int64_t warmup_ms, int64_t measure_ms);
void command_store(unsigned in_flight, uint64_t messages);
void command_drain(size_t index);

#endif
