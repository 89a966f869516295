// A program that misuses memory in the way its argument names; C, for tests of root causes at -O0 and -O2.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

struct customer {
    long id;
    char name[24];
    struct customer *parent;
    int level;
};

struct order {
    long number;
    struct customer *customer;
    int amount;
};

#define APART __attribute__((noinline, noclone))
volatile int sink;
void *volatile kept;

APART int level_of(struct order *order) {
    return order->customer->level;
}

APART int bill(struct order *order) {
    int level = level_of(order);
    sink = level;
    return level + 1;
}

APART int charge(struct order *order) {
    int charged = bill(order);
    sink = charged;
    return charged + 2;
}

APART void rename_to(char *place, const char *text) {
    strcpy(place, text);
    sink = place[0];
}

APART void release(char *name) {
    free(name);
    sink = 1;
}

APART int divide(int total, int parts) {
    return total / parts;
}

APART int call_back(int (*handler)(int)) {
    int found = handler(7);
    sink = found;
    return found + 1;
}

APART void fill(char *from, long count) {
    for (long i = 0; i < count; i++) ((volatile char *)from)[i] = 'x';
}

APART long read_all(const long *from, long count) {
    long sum = 0;
    for (long i = 0; i < count; i++) sum += ((volatile const long *)from)[i];
    return sum;
}

APART void smash(const char *text) {
    char label[8];
    strcpy(label, text);
    sink = label[0];
    kept = label;
}

APART void hang_over(long *address) {
    *address = sink;
}

APART int level_of_parent(struct customer *customer, struct order *unused) {
    sink = unused != NULL;
    return customer->parent->level;
}

APART int spread(long at) {
    volatile char room[16 << 20];
    room[at] = 1;
    return room[at];
}

APART int load(const char *from) {
#ifdef __SSE2__
    return _mm_cvtsi128_si32(_mm_load_si128((const __m128i *)from));
#else
    return *from;
#endif
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    struct order *order = calloc(1, sizeof *order);
    struct customer *customer = calloc(1, sizeof *customer);
    order->customer = customer;
    kept = order;
    if (!strcmp(mode, "fine")) abort();
    if (!strcmp(mode, "member")) order->customer = NULL, charge(order);
    if (!strcmp(mode, "null_order")) charge(NULL);
    if (!strcmp(mode, "freed")) {
        free(customer->parent = malloc(48));
        free(order);
        charge(order);
    }
    if (!strcmp(mode, "poison")) order->customer = (void *)0x5a5a5a5a5a5a5a5a, charge(order);
    if (!strcmp(mode, "text")) memcpy(&order->customer, "customer", 8), charge(order);
    if (!strcmp(mode, "flip")) order->customer = (void *)((unsigned long)customer ^ 1UL << 45), charge(order);
    if (!strcmp(mode, "heap")) {
        char *small = malloc(24), *next = malloc(64);
        kept = next;
        rename_to(small, "a name that does not fit into twenty-four bytes of a heap block");
        release(next);
        release(small);
    }
    if (!strcmp(mode, "twice")) {
        char *name = malloc(24);
        kept = name;
        release(name);
        release(name);
    }
    if (!strcmp(mode, "not_heap")) {
        char local[64] = "local";
        kept = local;
        release((char *)kept + 16);
    }
    if (!strcmp(mode, "smash")) smash("a label that is much longer than eight");
    if (!strcmp(mode, "literal")) rename_to((char *)"constant text", "other");
    if (!strcmp(mode, "zero")) sink = divide(argc, sink);
    if (!strcmp(mode, "quotient")) sink = divide(-2147483647 - 1, sink - 1);
    if (!strcmp(mode, "callback")) call_back(NULL);
    if (!strcmp(mode, "data")) call_back((int (*)(int))kept);
    if (!strcmp(mode, "variable")) call_back((int (*)(int))&kept);
    if (!strcmp(mode, "past")) {
        char *end = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(end + 4096, 4096);
        fill(end, 5000);
    }
    if (!strcmp(mode, "past_read")) {
        char *end = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(end + 4096, 4096);
        sink = read_all((long *)end, 1000);
    }
    if (!strcmp(mode, "kill")) kill(getpid(), SIGSEGV), sleep(5);
    if (!strcmp(mode, "large_frame")) sink = spread(argc);
    if (!strcmp(mode, "misaligned")) sink = load((char *)kept + 4);
    if (!strcmp(mode, "reserved")) {
        sink = read_all(mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1);
    }
    if (!strcmp(mode, "two_nulls")) sink = level_of_parent(customer, NULL);
    if (!strcmp(mode, "small")) order->customer = (void *)0x11, charge(order);
    if (!strcmp(mode, "not_start")) release((char *)malloc(64) + 8);
    if (!strcmp(mode, "large_twice")) {
        char *large = malloc(5000), *behind = malloc(64);
        kept = behind;
        release(large);
        release(large);
    }
    if (!strcmp(mode, "number")) hang_over((long *)0x12345678);
    return sink;
}
