// A small HTTP server: web PORT [PATH…]. It answers 200 for each PATH, 404 for any other.
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static void stop(int number) {
    (void)number;
    _exit(0);
}

static int serves(int count, char **paths, const char *asked) {
    for (int i = 0; i < count; i++)
        if (strcmp(paths[i], asked) == 0) return 1;
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, stop);
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 32) != 0) {
        perror("listen");
        return 1;
    }
    printf("listening on port %s\n", argv[1]);
    for (;;) {
        int peer = accept(listener, NULL, NULL);
        if (peer < 0) continue;
        struct timeval patience = {.tv_sec = 2};
        setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        char request[2048] = "", path[1024] = "";
        ssize_t got = read(peer, request, sizeof request - 1);
        if (got > 0 && sscanf(request, "%*15s %1023s", path) == 1) {
            int ok = serves(argc - 2, argv + 2, path);
            const char *answer = ok ? "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
                                    : "HTTP/1.0 404 Not Found\r\nContent-Length: 10\r\n\r\nnot found\n";
            printf("GET %s %d\n", path, ok ? 200 : 404);
            if (write(peer, answer, strlen(answer)) < 0) perror("write");
        }
        close(peer);
    }
}
