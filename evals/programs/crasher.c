// A service whose second release reads through a null pointer: crasher [RELEASE].
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct order {
    int id;
    int *total;
};

static void stop(int number) {
    (void)number;
    _exit(0);
}

static int total_of(const struct order *order) { return *order->total; }

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, stop);
    int sum = 40;
    struct order order = {7, argc > 1 && atoi(argv[1]) > 1 ? NULL : &sum};
    puts("serving orders");
    usleep(300000);
    printf("order %d: %d\n", order.id, total_of(&order));
    for (;;) pause();
}
