/* Sockets, events, and the lines in which the generator talks to its parent. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int poller;

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("error ");
    vprintf(format, arguments);
    printf("\n");
    fflush(stdout);
    exit(1);
}

void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
}

void open_connection(struct connection *connection) {
    int on = 1;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)connection->port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connection->fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connection->source.size) {
        struct sockaddr_in source = {.sin_family = AF_INET};
        /* The port is chosen at connect, so that the same one serves for several sources. */
        setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (inet_pton(AF_INET, connection->source.bytes, &source.sin_addr) != 1 ||
            bind(connection->fd, (struct sockaddr *)&source, sizeof source))
            fail("bind: %s", strerror(errno));
    }
    if (connect(connection->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    connection->state = CONNECTING;
    connection->step = connection->input_size = connection->output_size = 0;
    connection->expected = 0;
    connection->started = now_ns();
    connection->waits_writable = 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

void close_connection(struct connection *connection) {
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
    connection->state = CLOSED;
}

static void watch(struct connection *connection, int writable) {
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = connection};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
    connection->waits_writable = writable;
}

void queue_bytes(struct connection *connection, const char *bytes, size_t size) {
    if (connection->output_size + size > connection->output_capacity) {
        connection->output_capacity = 2 * connection->output_capacity + size;
        if (!(connection->output = realloc(connection->output, connection->output_capacity)))
            fail("out of memory");
    }
    memcpy(connection->output + connection->output_size, bytes, size);
    connection->output_size += size;
}

void flush_output(struct connection *connection) {
    size_t done = 0;
    while (done < connection->output_size) {
        ssize_t count = send(connection->fd, connection->output + done, connection->output_size - done, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN)
            break;
        if (count < 0)
            break; /* reading says why */
        done += (size_t)count;
    }
    connection->output_size -= done;
    memmove(connection->output, connection->output + done, connection->output_size);
    if ((connection->output_size > 0) != connection->waits_writable)
        watch(connection, connection->output_size > 0);
}

static void read_input(struct connection *connection) {
    ssize_t count =
        recv(connection->fd, connection->input + connection->input_size, INPUT - connection->input_size, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count <= 0)
        fail("the server closed connection %zu: %s", (size_t)(connection - connections),
             count ? strerror(errno) : "end of stream");
    int64_t now = now_ns();
    connection->input_size += (size_t)count;
    if (connection->state == SCRIPT)
        script_advance(connection, now);
    if (connection->state == READY && connection->input_size)
        take_input(connection, now);
    if (connection->state == READY) {
        if (connection->input_size == INPUT)
            fail("a frame is longer than %d bytes", INPUT);
        after_input(connection, now);
    }
}

void wait_events(int timeout_ms) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, timeout_ms);
    for (int index = 0; index < count; index++) {
        struct connection *connection = events[index].data.ptr;
        if (!connection || connection->state == CLOSED)
            continue; /* a timer or standard input, which only end the wait */
        if (connection->state == CONNECTING) {
            int error = 0;
            socklen_t size = sizeof error;
            getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (error)
                fail("connect: %s", strerror(error));
            connection->state = SCRIPT;
            script_advance(connection, now_ns());
        }
        if (events[index].events & EPOLLOUT && connection->state != CLOSED)
            flush_output(connection);
        if (events[index].events & ~(unsigned)EPOLLOUT && connection->state != CLOSED)
            read_input(connection);
    }
}

char *read_command(void) {
    static char buffer[256];
    static size_t size;
    static char line[256];
    char *newline = memchr(buffer, '\n', size);
    if (!newline) {
        ssize_t count = read(STDIN_FILENO, buffer + size, sizeof buffer - size);
        if (count == 0 || (count < 0 && errno != EAGAIN))
            exit(0); /* the parent has gone */
        if (count > 0)
            size += (size_t)count;
        if (!(newline = memchr(buffer, '\n', size)))
            return NULL;
    }
    size_t length = (size_t)(newline - buffer);
    memcpy(line, buffer, length);
    line[length] = 0;
    size -= length + 1;
    memmove(buffer, newline + 1, size);
    return line;
}
