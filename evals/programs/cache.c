// A cache that warms up: cache MIB takes that much memory and stays; `cache forever` never has enough.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void stop(int number) {
    (void)number;
    _exit(0);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, stop);
    long wanted = argc > 1 && strcmp(argv[1], "forever") != 0 ? atol(argv[1]) : -1;
    for (long mib = 0; wanted < 0 || mib < wanted; mib++) {
        char *block = malloc(1 << 20);
        if (block == NULL) return 1;
        memset(block, (int)(mib | 1), 1 << 20);
        if (mib % 8 == 0) printf("cache holds %ld MiB\n", mib + 1);
        struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
        nanosleep(&pause, NULL);
    }
    printf("cache is warm\n");
    for (;;) pause();
}
