// An HTTP server that works for each answer: busy PORT MILLISECONDS. Every request costs so much CPU time, then 200.
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void stop(int number) {
    (void)number;
    _exit(0);
}

static long spent(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, stop);
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 2) != 0) {
        perror("listen");
        return 1;
    }
    printf("listening on port %s\n", argv[1]);
    for (;;) {
        int peer = accept(listener, NULL, NULL);
        if (peer < 0) continue;
        struct timeval patience = {.tv_sec = 2};
        setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        char request[2048];
        const char *answer = "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
        if (read(peer, request, sizeof request) > 0) {
            for (long until = spent() + atol(argv[2]); spent() < until;) continue;
            if (write(peer, answer, strlen(answer)) < 0) perror("write");
        }
        close(peer);
    }
}
