/* Reading the plan. */
#include "loadgen.h"

#include <stdio.h>
#include <stdlib.h>

struct connection *connections;
struct link *links;
size_t connection_count, link_count;

static FILE *plan;

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail("out of memory");
    return memory;
}

static long long read_number(void) {
    long long number;
    if (fscanf(plan, "%lld", &number) != 1)
        fail("the plan lacks a number");
    return number;
}

static struct text read_text(void) {
    long long size = read_number();
    struct text text = {allocate((size_t)size + 1, 1), (size_t)size};
    if (getc(plan) != ':' || fread(text.bytes, 1, text.size, plan) != text.size)
        fail("the plan lacks a text");
    return text;
}

static char read_letter(void) {
    struct text text = read_text();
    char letter = text.bytes[0];
    free(text.bytes);
    return letter;
}

static struct connection *read_connection(void) {
    long long index = read_number();
    if (index < 0 || (size_t)index >= connection_count)
        fail("the plan has no connection %lld", index);
    return &connections[index];
}

static void read_connections(void) {
    connection_count = (size_t)read_number();
    connections = allocate(connection_count, sizeof *connections);
    for (size_t index = 0; index < connection_count; index++) {
        struct connection *connection = &connections[index];
        connection->fd = -1;
        connection->dialect = read_letter();
        connection->port = (int)read_number();
        connection->source = read_text();
        connection->pong = read_text();
        connection->step_count = (size_t)read_number();
        connection->steps = allocate(connection->step_count, sizeof *connection->steps);
        for (size_t step = 0; step < connection->step_count; step++) {
            connection->steps[step].send = read_text();
            connection->steps[step].expect = read_text();
            connection->steps[step].end = read_text();
        }
        connection->input = allocate(INPUT, 1);
    }
}

static void read_link(struct link *link) {
    link->sender = read_connection();
    link->sender->sends = link;
    link->done_by = read_letter();
    link->first = (uint64_t)read_number();
    link->conv = read_text();
    link->text = read_text();
    link->frame = read_text();
    link->place_count = (size_t)read_number();
    if (link->frame.size > FRAME || link->place_count > PLACES)
        fail("a frame of the plan is too long");
    for (size_t place = 0; place < link->place_count; place++)
        link->places[place] = (size_t)read_number();
    link->sent_at = allocate(RING, sizeof *link->sent_at);
    link->receiver_count = (size_t)read_number();
    link->receivers = allocate(link->receiver_count, sizeof *link->receivers);
    for (size_t index = 0; index < link->receiver_count; index++) {
        struct connection *connection = read_connection();
        link->receivers[index].link = link;
        link->receivers[index].connection = connection;
        size_t size = (connection->receiver_count + 1) * sizeof *connection->receivers;
        if (!(connection->receivers = realloc(connection->receivers, size)))
            fail("out of memory");
        connection->receivers[connection->receiver_count++] = &link->receivers[index];
    }
}

void read_plan(const char *file) {
    if (!(plan = fopen(file, "r")))
        fail("%s cannot be read", file);
    read_connections();
    link_count = (size_t)read_number();
    if (link_count > 9999)
        fail("more than 9,999 links");
    links = allocate(link_count, sizeof *links);
    for (size_t index = 0; index < link_count; index++) {
        links[index].index = (unsigned)index;
        read_link(&links[index]);
    }
    fclose(plan);
}
