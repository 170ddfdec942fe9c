/* Links under load: so many messages in flight, or so many a second; each message is checked on its way. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static const int64_t RECEIPT_NS = 100 * 1000000LL;
static const int64_t PROGRESS_NS = 250 * 1000000LL;
static const int64_t DRAIN_NS = 120 * 1000000000LL;
static const int64_t LINGER_NS = 50 * 1000000LL; /* long enough to see a repetition of the last messages */
static const int64_t SHORTEST_TICK_NS = 100 * 1000LL;

static unsigned window; /* messages in flight on each link; 0: as many as the rate brings */
static uint64_t quota;  /* messages of each link, if it is not time that ends the run */
static int sending, measuring;
static uint64_t total_sent, total_done, total_delivered;
static struct histogram ack_latency, delivery_latency;

static void queue_message(struct link *link, int64_t since) {
    char frame[FRAME];
    uint64_t number = ++link->sent;
    memcpy(frame, link->frame.bytes, link->frame.size);
    for (size_t place = 0; place < link->place_count; place++) {
        char *digits = frame + link->places[place];
        uint64_t rest = number;
        for (int digit = DIGITS - 1; digit >= 0; digit--, rest /= 10)
            digits[digit] = (char)('0' + rest % 10);
    }
    queue_bytes(link->sender, frame, link->frame.size);
    link->sent_at[number % RING] = since;
    total_sent++;
}

/* Send as many messages as there is room for among those in flight, in one system call. */
static void send_messages(struct link *link) {
    static const char request[] = "<r xmlns='urn:xmpp:sm:3'/>";
    if (!sending || !window || link->sent - link->done >= window || (quota && link->sent >= quota))
        return;
    int64_t now = now_ns();
    while (link->sent - link->done < window && !(quota && link->sent >= quota))
        queue_message(link, now);
    if (link->done_by == 's')
        queue_bytes(link->sender, request, sizeof request - 1);
    flush_output(link->sender);
}

static void send_receipt(struct receiver *receiver, int64_t now) {
    char frame[192];
    if (receiver->connection->output_size)
        return; /* the next one says more */
    int size = snprintf(frame, sizeof frame, "{\"msgid\":25,\"conv\":\"%s\",\"seq\":%llu}\n", receiver->link->conv.bytes,
                        (unsigned long long)(receiver->link->first + receiver->received - 1));
    receiver->reported = receiver->received;
    receiver->reported_at = now;
    queue_bytes(receiver->connection, frame, (size_t)size);
    flush_output(receiver->connection);
}

void take_done(struct link *link, uint64_t number, int64_t now) {
    if (number > link->sent)
        fail("message %llu of link %u was acknowledged before it was sent", (unsigned long long)number, link->index);
    while (link->done < number) {
        link->done++;
        total_done++;
        if (measuring)
            record(&ack_latency, now - link->sent_at[link->done % RING]);
    }
}

void take_delivery(struct connection *connection, unsigned index, uint64_t number, uint64_t seq, const char *frame, size_t size,
                   int64_t now) {
    if (index >= link_count)
        fail("a message of a link that there is not: %.*s", (int)size, frame);
    struct link *link = &links[index];
    struct receiver *receiver = NULL;
    if (link->sender == connection)
        return; /* a room shows everybody his own messages */
    for (size_t each = 0; each < connection->receiver_count && !receiver; each++)
        if (connection->receivers[each]->link == link)
            receiver = connection->receivers[each];
    uint64_t wanted = receiver ? receiver->received + 1 : 0;
    if (!receiver || number != wanted || number > link->sent ||
        (connection->dialect == 'n' && seq != link->first + wanted - 1))
        fail("message %llu of link %u (%s) was to come, but: %.*s", (unsigned long long)wanted, index, link->conv.bytes,
             (int)size, frame);
    if (!memmem(frame, size, link->text.bytes, link->text.size))
        fail("message %llu of link %u has another text: %.*s", (unsigned long long)wanted, index, (int)size, frame);
    receiver->received = number;
    total_delivered++;
    if (measuring) {
        if (link->sent - number >= RING)
            fail("deliveries of link %u are %d messages behind", index, RING);
        record(&delivery_latency, now - link->sent_at[number % RING]);
    }
    if (number > link->first_received) {
        link->first_received = number;
        if (link->done_by == 'd')
            take_done(link, number, now);
    }
}

void after_input(struct connection *connection, int64_t now) {
    if (connection->sends)
        send_messages(connection->sends);
    for (size_t index = 0; index < connection->receiver_count; index++) {
        struct receiver *receiver = connection->receivers[index];
        if (receiver->link->done_by == 'd')
            send_messages(receiver->link);
        else if (connection->dialect == 'n' && receiver->received - receiver->reported >= RECEIPT_MESSAGES)
            send_receipt(receiver, now);
    }
}

static void send_receipts(int64_t now) {
    for (size_t index = 0; index < link_count; index++)
        for (size_t each = 0; each < links[index].receiver_count; each++) {
            struct receiver *receiver = &links[index].receivers[each];
            if (receiver->received > receiver->reported && now - receiver->reported_at >= RECEIPT_NS &&
                receiver->connection->dialect == 'n' && receiver->connection->state == READY)
                send_receipt(receiver, now);
        }
}

static void tell_progress(int64_t now) {
    static int64_t next;
    if (now < next)
        return;
    next = now + PROGRESS_NS;
    say("progress %llu %llu %llu", (unsigned long long)total_sent, (unsigned long long)total_done,
        (unsigned long long)total_delivered);
}

/* Whether all that was sent is acknowledged, and delivered to those who are here. */
static int is_whole(void) {
    for (size_t index = 0; index < link_count; index++) {
        struct link *link = &links[index];
        if (link->done < link->sent)
            return 0;
        for (size_t each = 0; each < link->receiver_count; each++)
            if (link->receivers[each].received < link->sent && link->receivers[each].connection->state == READY)
                return 0;
    }
    return 1;
}

static int make_timer(int64_t tick_ns) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec spec = {.it_interval = {.tv_nsec = tick_ns}, .it_value = {.tv_nsec = tick_ns}};
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    if (timer < 0 || timerfd_settime(timer, 0, &spec, NULL) || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event))
        fail("no timer");
    return timer;
}

/* Send all messages that are due by now, each link in its turn. */
static void send_due(int64_t start, double interval, uint64_t *count, int64_t now) {
    for (int64_t due; (due = start + (int64_t)((double)*count * interval)) <= now; ++*count) {
        struct link *link = &links[*count % link_count];
        queue_message(link, due);
        flush_output(link->sender);
        if (link->sent - link->done >= RING)
            fail("the server is %d messages behind", RING);
    }
}

static void begin_run(void) {
    memset(&ack_latency, 0, sizeof ack_latency);
    memset(&delivery_latency, 0, sizeof delivery_latency);
    measuring = 0;
    sending = 1;
    for (size_t index = 0; index < link_count; index++)
        send_messages(&links[index]);
}

static void finish_run(int64_t seconds_ns, uint64_t done, uint64_t delivered) {
    say("end %lld %llu %llu", (long long)seconds_ns, (unsigned long long)done, (unsigned long long)delivered);
    int64_t ended = now_ns(), whole_at = 0, now;
    while ((now = now_ns()) - ended < DRAIN_NS && !(whole_at && now - whole_at >= LINGER_NS)) {
        wait_events(10);
        tell_progress(now);
        send_receipts(now);
        whole_at = is_whole() ? (whole_at ? whole_at : now) : 0;
    }
    if (!whole_at)
        fail("not all that was sent arrived: %llu messages sent, %llu acknowledged, %llu delivered",
             (unsigned long long)total_sent, (unsigned long long)total_done, (unsigned long long)total_delivered);
    const struct histogram *histograms[] = {&ack_latency, &delivery_latency};
    const char *names[] = {"ack", "delivery"};
    for (int index = 0; index < 2; index++)
        say("latency %s %llu %llu %llu %llu", names[index], (unsigned long long)percentile(histograms[index], 0.50),
            (unsigned long long)percentile(histograms[index], 0.99), (unsigned long long)percentile(histograms[index], 0.999),
            (unsigned long long)histograms[index]->largest);
    say("done %llu %llu %llu", (unsigned long long)total_sent, (unsigned long long)total_done,
        (unsigned long long)total_delivered);
}

void command_load(unsigned in_flight, double rate, int64_t warmup_ms, int64_t measure_ms) {
    window = rate > 0 ? 0 : in_flight;
    quota = 0;
    begin_run();
    int64_t start = now_ns(), begin = start + warmup_ms * 1000000, begun = 0, next_receipts = start, now = start;
    double interval = rate > 0 ? 1e9 / rate : 0;
    int64_t tick = (int64_t)interval < SHORTEST_TICK_NS ? SHORTEST_TICK_NS : (int64_t)interval;
    int timer = rate > 0 ? make_timer(tick < 999999999 ? tick : 999999999) : -1;
    uint64_t due = 0, done_at_begin = 0, delivered_at_begin = 0;
    while (!begun || now - begun < measure_ms * 1000000) {
        wait_events(10);
        now = now_ns();
        if (rate > 0)
            send_due(start, interval, &due, now);
        if (!begun && now >= begin) {
            begun = now;
            measuring = 1;
            done_at_begin = total_done;
            delivered_at_begin = total_delivered;
            say("begin");
        }
        tell_progress(now);
        if (now >= next_receipts) {
            next_receipts = now + RECEIPT_NS / 5;
            send_receipts(now);
        }
    }
    sending = measuring = 0;
    if (timer >= 0)
        close(timer);
    finish_run(now - begun, total_done - done_at_begin, total_delivered - delivered_at_begin);
}

void command_store(unsigned in_flight, uint64_t messages) {
    window = in_flight;
    quota = links[0].sent + messages;
    uint64_t done_at_begin = total_done, delivered_at_begin = total_delivered;
    say("begin");
    int64_t start = now_ns(), now = start;
    begin_run();
    measuring = 1;
    while (total_done - done_at_begin < messages * link_count) {
        wait_events(10);
        now = now_ns();
        tell_progress(now);
        if (now - start > 2 * DRAIN_NS)
            fail("%llu of %llu messages were stored", (unsigned long long)(total_done - done_at_begin),
                 (unsigned long long)(messages * link_count));
    }
    sending = measuring = 0;
    finish_run(now_ns() - start, total_done - done_at_begin, total_delivered - delivered_at_begin);
}

void command_drain(size_t index) {
    struct connection *connection = &connections[index];
    uint64_t before = total_delivered, wanted = 0;
    for (size_t each = 0; each < connection->receiver_count; each++)
        wanted += connection->receivers[each]->link->sent - connection->receivers[each]->received;
    int64_t start = now_ns();
    open_connection(connection);
    while (total_delivered - before < wanted) {
        wait_events(100);
        if (now_ns() - start > DRAIN_NS)
            fail("%llu of %llu messages came", (unsigned long long)(total_delivered - before), (unsigned long long)wanted);
    }
    int64_t taken = now_ns() - start;
    int64_t until = now_ns() + LINGER_NS;
    for (int64_t now; (now = now_ns()) < until || connection->output_size;) {
        send_receipts(now + RECEIPT_NS);
        wait_events(10);
    }
    say("drained %llu %lld", (unsigned long long)wanted, (long long)taken);
}
