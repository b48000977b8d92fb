/* The mock model server of gateway.py: one thread, epoll, a Unix socket, canned answers.
   usage: upstream SOCKET ANSWER-FILE STREAM-FILE
   A body that holds "stream":true gets the stream, one write per part; parts end with a line of two dashes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX 4096
#define BUFFER 65536

static char *buffers[MAX];
static int lengths[MAX];
static char answer[BUFFER], stream[1 << 20];
static int answer_size, parts, offsets[4096];

static int load(const char *path, char *into, int limit) {
    int file = open(path, O_RDONLY), size = 0, got;
    while ((got = read(file, into + size, limit - size)) > 0) size += got;
    close(file);
    return size;
}

static void reply(int client, const char *body, int size) {
    if (!memmem(body, size, "\"stream\":true", 13)) {
        if (write(client, answer, answer_size) < 0) return;
        return;
    }
    for (int part = 0; part < parts; part++)
        if (write(client, stream + offsets[part], offsets[part + 1] - offsets[part]) < 0) return;
}

static int serve(int client) {
    char *buffer = buffers[client];
    int got = read(client, buffer + lengths[client], BUFFER - lengths[client]);
    if (got <= 0) return 0;
    lengths[client] += got;
    for (;;) {
        char *end = memmem(buffer, lengths[client], "\r\n\r\n", 4);
        if (!end) return 1;
        char *header = strcasestr(buffer, "content-length:");
        int head = end + 4 - buffer, body = header && header < end ? atoi(header + 15) : 0;
        if (lengths[client] < head + body) return 1;
        reply(client, buffer + head, body);
        lengths[client] -= head + body;
        memmove(buffer, buffer + head + body, lengths[client]);
    }
}

int main(int count, char **words) {
    if (count != 4) return 2;
    signal(SIGPIPE, SIG_IGN);
    answer_size = load(words[2], answer, sizeof answer);
    int size = load(words[3], stream, sizeof stream), start = 0;
    for (char *cut; (cut = memmem(stream + start, size - start, "\n--\n", 4)); start = cut + 4 - stream) {
        memmove(stream + offsets[parts], stream + start, cut - stream - start);
        offsets[parts + 1] = offsets[parts] + (cut - stream - start);
        parts++;
    }
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 512)) return 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[64];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int many = epoll_wait(poll, ready, 64, -1);
        for (int each = 0; each < many; each++) {
            int client = ready[each].data.fd;
            if (client == listener) {
                client = accept(listener, 0, 0);
                if (client < 0 || client >= MAX) continue;
                if (!buffers[client]) buffers[client] = calloc(1, BUFFER + 1);
                lengths[client] = 0;
                event.data.fd = client;
                epoll_ctl(poll, EPOLL_CTL_ADD, client, &event);
            } else if (!serve(client)) {
                close(client);
            }
        }
    }
}
