/* The load generator's commands; loadgen.h says what it is. */
#include "loadgen.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

static void obey(const char *line) {
    unsigned long long from, count, concurrency;
    unsigned in_flight;
    double rate;
    long long warmup, measured;
    if (sscanf(line, "login %llu %llu %llu", &from, &count, &concurrency) == 3) {
        command_login(from, count, concurrency);
    } else if (sscanf(line, "close %llu %llu", &from, &count) == 2) {
        for (size_t index = from; index < from + count; index++)
            close_connection(&connections[index]);
        say("closed %llu", count);
    } else if (sscanf(line, "load %u %lf %lld %lld", &in_flight, &rate, &warmup, &measured) == 4) {
        command_load(in_flight, rate, warmup, measured);
    } else if (sscanf(line, "store %u %llu", &in_flight, &count) == 2) {
        command_store(in_flight, count);
    } else if (sscanf(line, "drain %llu", &from) == 1) {
        command_drain(from);
    } else {
        fail("no such command: %s", line);
    }
}

int main(int count, char **arguments) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (count != 2)
        fail("it takes one argument, the plan's file");
    read_plan(arguments[1]);
    fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event))
        fail("standard input cannot be waited for");
    say("planned %zu %zu", connection_count, link_count);
    for (;;) {
        const char *line = read_command();
        if (line)
            obey(line);
        else
            wait_events(-1);
    }
}
