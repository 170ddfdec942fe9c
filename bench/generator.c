/* The load generator's hot loop: sockets that are logged in already, epoll, frames made once.
 *
 * It reads a plan from standard input, words separated by blanks:
 *
 *   IN_FLIGHT WARMUP_MS MEASURE_MS LINKS
 *   and for each link: SENDER_FD MSGID TARGET_FIELD TARGET CONV TEXT RECEIVERS RECEIVER_FD...
 *
 * Every link sends messages 1, 2, 3 ... of one new conversation, so message n has the seq n; the next one is sent when an
 * acknowledgement makes room among those in flight. Each receiver must get each message once and in order, each
 * acknowledgement must be a success and in order: anything else ends the run with an "error" line and status 1.
 * Receivers send RECEIVED every 50 messages or after 100 ms.
 *
 * It writes lines to standard output: "progress SENT ACKED DELIVERED", "begin" and "end NANOSECONDS ACKED DELIVERED"
 * around the measured time, and when everything that was sent has been acknowledged and delivered:
 * "latency ack P50 P99 MAX" and "latency delivery P50 P99 MAX" in nanoseconds, "done SENT ACKED DELIVERED".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    INPUT = 256 * 1024,     /* bytes of one connection read at once */
    FRAME = 1024,           /* the longest frame that is sent */
    RING = 16384,           /* messages of one link whose times are remembered */
    RECEIPT_MESSAGES = 50,  /* a receiver sends RECEIVED after so many */
    DIGITS = 10             /* of a message's number in its ref and its key */
};

static const int64_t RECEIPT_NS = 100 * 1000000LL;
static const int64_t PROGRESS_NS = 250 * 1000000LL;
static const int64_t DRAIN_NS = 30 * 1000000000LL;
static const int64_t LINGER_NS = 50 * 1000000LL; /* long enough to see a repetition of the last messages */

struct link;

struct connection {
    int fd;
    struct link *link;
    int is_sender;
    int waits_writable;
    char *input;
    size_t input_size;
    char *output;
    size_t output_size, output_capacity;
    uint64_t received, reported; /* receivers: up to which message */
    int64_t reported_at;
};

struct link {
    struct connection *sender;
    char frame[FRAME];
    size_t frame_size, ref_at, key_at;
    char conv[64], text[256], quoted[264];
    size_t quoted_size;
    int kind;
    uint64_t sent, acked;
    int64_t *sent_at;
};

/* Latencies: 128 buckets for each power of two, so a value is known to within 1%. */
enum { SUB_BITS = 7, BUCKETS = 64 << SUB_BITS };

struct histogram {
    uint64_t buckets[BUCKETS], count, largest;
};

static int poller;
static unsigned in_flight;
static int sending = 1, measuring = 0;
static uint64_t total_sent, total_acked, total_delivered;
static struct histogram ack_latency, delivery_latency;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("error ");
    vprintf(format, arguments);
    printf("\n");
    fflush(stdout);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void record(struct histogram *histogram, int64_t latency) {
    uint64_t value = latency < 0 ? 0 : (uint64_t)latency;
    unsigned index = (unsigned)value;
    if (value >> SUB_BITS) {
        unsigned shift = 63 - SUB_BITS - (unsigned)__builtin_clzll(value);
        index = ((shift + 1) << SUB_BITS) + (unsigned)((value >> shift) & ((1 << SUB_BITS) - 1));
    }
    histogram->buckets[index]++;
    histogram->count++;
    if (value > histogram->largest)
        histogram->largest = value;
}

static uint64_t percentile(const struct histogram *histogram, double share) {
    uint64_t wanted = (uint64_t)(share * (double)histogram->count), seen = 0;
    for (unsigned index = 0; index < BUCKETS; index++) {
        seen += histogram->buckets[index];
        if (seen > wanted) {
            unsigned shift = index >> SUB_BITS, low = index & ((1 << SUB_BITS) - 1);
            return shift ? ((uint64_t)(low + (1 << SUB_BITS))) << (shift - 1) : low;
        }
    }
    return histogram->largest;
}

static void watch(struct connection *connection, int writable) {
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = connection};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
    connection->waits_writable = writable;
}

static void flush_output(struct connection *connection) {
    size_t done = 0;
    while (done < connection->output_size) {
        ssize_t count = send(connection->fd, connection->output + done, connection->output_size - done, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN)
            break;
        if (count < 0)
            fail("send: %s", strerror(errno));
        done += (size_t)count;
    }
    connection->output_size -= done;
    memmove(connection->output, connection->output + done, connection->output_size);
    if ((connection->output_size > 0) != connection->waits_writable)
        watch(connection, connection->output_size > 0);
}

static void put_number(char *digits, uint64_t number) {
    for (int place = DIGITS - 1; place >= 0; place--, number /= 10)
        digits[place] = (char)('0' + number % 10);
}

/* Send as many messages as there is room for among those in flight, in one system call. */
static void send_messages(struct link *link) {
    struct connection *sender = link->sender;
    if (!sending || link->sent - link->acked >= in_flight)
        return;
    int64_t now = now_ns();
    while (link->sent - link->acked < in_flight && sender->output_size + link->frame_size <= sender->output_capacity) {
        char *frame = sender->output + sender->output_size;
        uint64_t number = ++link->sent;
        memcpy(frame, link->frame, link->frame_size);
        put_number(frame + link->ref_at, number);
        put_number(frame + link->key_at, number);
        sender->output_size += link->frame_size;
        link->sent_at[number % RING] = now;
        total_sent++;
    }
    flush_output(sender);
}

static void send_receipt(struct connection *receiver, int64_t now) {
    if (receiver->output_size)
        return; /* the next one says more */
    receiver->output_size = (size_t)snprintf(receiver->output, receiver->output_capacity,
                                             "{\"msgid\":25,\"conv\":\"%s\",\"seq\":%llu}\n", receiver->link->conv,
                                             (unsigned long long)receiver->received);
    receiver->reported = receiver->received;
    receiver->reported_at = now;
    flush_output(receiver);
}

/* What follows `name` in a frame, or its end. */
static const char *field(const char *frame, size_t size, const char *name, size_t name_size) {
    const char *found = memmem(frame, size, name, name_size);
    return found ? found + name_size : frame + size;
}
#define FIELD(frame, size, name) field(frame, size, "\"" name "\":", sizeof("\"" name "\":") - 1)

/* Frames are followed by their terminator, so a number always ends. */
static uint64_t number_at(const char *text) {
    uint64_t number = 0;
    while (*text == ' ' || *text == '"')
        text++;
    for (; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (uint64_t)(*text - '0');
    return number;
}

static void take_acknowledgement(struct link *link, const char *frame, size_t size, int64_t now) {
    uint64_t number = number_at(FIELD(frame, size, "ref")), wanted = link->acked + 1;
    const char *errno_at = FIELD(frame, size, "errno");
    if (errno_at == frame + size || number_at(errno_at) != 0)
        fail("a message to %s failed: %.*s", link->conv, (int)size, frame);
    if (number != wanted || wanted > link->sent || number_at(FIELD(frame, size, "seq")) != wanted)
        fail("the acknowledgement of message %llu of %s was to come, but: %.*s", (unsigned long long)wanted, link->conv,
             (int)size, frame);
    link->acked++;
    total_acked++;
    if (measuring)
        record(&ack_latency, now - link->sent_at[wanted % RING]);
}

static void take_delivery(struct connection *receiver, const char *frame, size_t size, int64_t now) {
    struct link *link = receiver->link;
    uint64_t wanted = receiver->received + 1;
    const char *key = FIELD(frame, size, "key");
    /* "0017-0000000001": the link and the message's number. */
    const char *digits = key + strlen("\"0017-");
    uint64_t number = digits < frame + size ? number_at(digits) : 0;
    if (number != wanted || wanted > link->sent || number_at(FIELD(frame, size, "seq")) != wanted)
        fail("message %llu of %s was to come, but: %.*s", (unsigned long long)wanted, link->conv, (int)size, frame);
    if (!memmem(frame, size, link->quoted, link->quoted_size))
        fail("message %llu of %s has another text: %.*s", (unsigned long long)wanted, link->conv, (int)size, frame);
    if (link->sent - number >= RING)
        fail("deliveries of %s are %d messages behind", link->conv, RING);
    receiver->received = wanted;
    total_delivered++;
    if (measuring)
        record(&delivery_latency, now - link->sent_at[wanted % RING]);
}

static void take_frame(struct connection *connection, const char *frame, size_t size, int64_t now) {
    int kind = (int)number_at(FIELD(frame, size, "msgid"));
    if (kind == 24 && connection->is_sender)
        take_acknowledgement(connection->link, frame, size, now);
    else if (kind == connection->link->kind && !connection->is_sender)
        take_delivery(connection, frame, size, now);
    else if (kind != 22 && kind != 29) /* PING and PRESENCE ask for nothing here */
        fail("an unexpected frame: %.*s", (int)size, frame);
}

static void read_input(struct connection *connection) {
    ssize_t count =
        recv(connection->fd, connection->input + connection->input_size, INPUT - connection->input_size, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count <= 0)
        fail("the server closed a connection: %s", count ? strerror(errno) : "end of stream");
    int64_t now = now_ns();
    size_t size = connection->input_size + (size_t)count;
    char *frame = connection->input, *end = connection->input + size, *newline;
    char *search = connection->input + connection->input_size;
    while ((newline = memchr(search, '\n', (size_t)(end - search)))) {
        take_frame(connection, frame, (size_t)(newline - frame), now);
        search = frame = newline + 1;
    }
    connection->input_size = (size_t)(end - frame);
    if (connection->input_size == INPUT)
        fail("a frame is longer than %d bytes", INPUT);
    memmove(connection->input, frame, connection->input_size);
    if (connection->is_sender)
        send_messages(connection->link);
    else if (connection->received - connection->reported >= RECEIPT_MESSAGES)
        send_receipt(connection, now);
}

static struct connection *make_connection(struct connection *connection, int fd, struct link *link, int is_sender) {
    connection->fd = fd;
    connection->link = link;
    connection->is_sender = is_sender;
    connection->input = malloc(INPUT);
    connection->output_capacity = is_sender ? (size_t)in_flight * FRAME : FRAME;
    connection->output = malloc(connection->output_capacity);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (!connection->input || !connection->output || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("descriptor %d of the plan: %s", fd, strerror(errno));
    return connection;
}

/* The frame with room for its number in two places. */
static void make_frame(struct link *link, unsigned index, const char *target_field, long target) {
    char numbers[DIGITS + 1] = "0000000000";
    int ref_at = snprintf(link->frame, FRAME, "{\"msgid\":%d,\"ref\":\"", link->kind);
    int key_at = ref_at + snprintf(link->frame + ref_at, (size_t)(FRAME - ref_at),
                                   "%s\",\"%s\":%ld,\"msg\":\"%s\",\"key\":\"%04u-", numbers, target_field, target, link->text,
                                   index);
    int size = key_at + snprintf(link->frame + key_at, (size_t)(FRAME - key_at), "%s\"}\n", numbers);
    if (size >= FRAME)
        fail("a frame of the plan is too long");
    link->ref_at = (size_t)ref_at;
    link->key_at = (size_t)key_at;
    link->frame_size = (size_t)size;
}

int main(void) {
    unsigned warmup_ms, measure_ms, link_count;
    if (scanf("%u %u %u %u", &in_flight, &warmup_ms, &measure_ms, &link_count) != 4 || in_flight < 1 || link_count > 9999)
        fail("the plan's first line");
    poller = epoll_create1(0);
    struct link *links = calloc(link_count, sizeof *links);
    struct connection *connections = NULL;
    struct connection **receivers = NULL;
    size_t receiver_count = 0;
    for (unsigned index = 0; index < link_count; index++) {
        struct link *link = &links[index];
        int fd;
        char target_field[32];
        long target;
        unsigned members;
        if (scanf("%d %d %31s %ld %63s %255s %u", &fd, &link->kind, target_field, &target, link->conv, link->text,
                  &members) != 7)
            fail("link %u of the plan", index);
        make_frame(link, index, target_field, target);
        link->quoted_size = (size_t)snprintf(link->quoted, sizeof link->quoted, "\"%s\"", link->text);
        link->sent_at = calloc(RING, sizeof *link->sent_at);
        connections = calloc(members + 1, sizeof *connections);
        receivers = realloc(receivers, (receiver_count + members) * sizeof *receivers);
        if (!link->sent_at || !connections || !receivers)
            fail("out of memory");
        link->sender = make_connection(&connections[0], fd, link, 1);
        for (unsigned member = 1; member <= members; member++) {
            if (scanf("%d", &fd) != 1)
                fail("receivers of link %u of the plan", index);
            receivers[receiver_count++] = make_connection(&connections[member], fd, link, 0);
        }
    }
    uint64_t receivers_each = link_count ? receiver_count / link_count : 0;

    int64_t start = now_ns(), begin = start + warmup_ms * 1000000LL, end = begin + measure_ms * 1000000LL;
    int64_t begun = 0, next_progress = start, next_receipts = start, whole_at = 0;
    uint64_t acked_at_begin = 0, delivered_at_begin = 0;
    for (unsigned index = 0; index < link_count; index++)
        send_messages(&links[index]);
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(poller, events, 256, 10);
        for (int index = 0; index < count; index++) {
            struct connection *connection = events[index].data.ptr;
            if (events[index].events & EPOLLOUT)
                flush_output(connection);
            if (events[index].events & ~(unsigned)EPOLLOUT)
                read_input(connection);
        }
        int64_t now = now_ns();
        if (!begun && now >= begin) {
            begun = now;
            measuring = 1;
            acked_at_begin = total_acked;
            delivered_at_begin = total_delivered;
            printf("begin\n");
            fflush(stdout);
        }
        if (sending && begun && now >= end) {
            sending = measuring = 0;
            printf("end %lld %llu %llu\n", (long long)(now - begun), (unsigned long long)(total_acked - acked_at_begin),
                   (unsigned long long)(total_delivered - delivered_at_begin));
            fflush(stdout);
        }
        if (now >= next_progress) {
            next_progress = now + PROGRESS_NS;
            printf("progress %llu %llu %llu\n", (unsigned long long)total_sent, (unsigned long long)total_acked,
                   (unsigned long long)total_delivered);
            fflush(stdout);
        }
        if (now >= next_receipts) {
            next_receipts = now + RECEIPT_NS / 5;
            for (size_t index = 0; index < receiver_count; index++) {
                struct connection *receiver = receivers[index];
                if (receiver->received > receiver->reported && now - receiver->reported_at >= RECEIPT_NS)
                    send_receipt(receiver, now);
            }
        }
        if (!sending) {
            int whole = total_acked == total_sent && total_delivered == total_sent * receivers_each;
            if (whole && !whole_at)
                whole_at = now;
            if (whole && now - whole_at >= LINGER_NS)
                break;
            if (now - end > DRAIN_NS)
                fail("%llu messages sent, %llu acknowledged, %llu delivered of %llu", (unsigned long long)total_sent,
                     (unsigned long long)total_acked, (unsigned long long)total_delivered,
                     (unsigned long long)(total_sent * receivers_each));
        }
    }
    const struct histogram *histograms[] = {&ack_latency, &delivery_latency};
    const char *names[] = {"ack", "delivery"};
    for (int index = 0; index < 2; index++)
        printf("latency %s %llu %llu %llu\n", names[index], (unsigned long long)percentile(histograms[index], 0.50),
               (unsigned long long)percentile(histograms[index], 0.99), (unsigned long long)histograms[index]->largest);
    printf("done %llu %llu %llu\n", (unsigned long long)total_sent, (unsigned long long)total_acked,
           (unsigned long long)total_delivered);
    return 0;
}
