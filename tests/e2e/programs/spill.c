// Ends by a null store, after it took memory as its argument says:
//   heap MB      that many megabytes of noise, which nobody can compress
//   sparse GB    that many gigabytes that are mapped, and a page in each written: the kernel leaves holes in the core
//   many N       N children that end so at the same moment; the parent stays
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t state = 88172645463325252u;

static uint64_t noise(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void spill(volatile int *where) {
    *where = 1;
}

static void children(long count) {
    int start[2];
    if (pipe(start) != 0) exit(1);
    for (long n = 0; n < count; n++)
        if (fork() == 0) {
            char byte;
            close(start[1]);
            if (read(start[0], &byte, 1) == 0) spill(NULL);
            _exit(1);
        }
    sleep(1);
    close(start[1]);
    for (;;) pause();
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    size_t count = strtoul(argv[2], NULL, 10);
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("%s %zu\n", argv[1], count);
    if (strcmp(argv[1], "many") == 0) children((long)count);
    if (strcmp(argv[1], "heap") == 0) {
        uint64_t *words = malloc(count << 20);
        state ^= (uint64_t)(uintptr_t)words * 2654435761u;
        for (size_t n = 0; words && n < (count << 20) / 8; n++) words[n] = noise();
    }
    if (strcmp(argv[1], "sparse") == 0)
        for (size_t n = 0; n < count; n++) {
            char *piece = mmap(NULL, (size_t)1 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (piece != MAP_FAILED) memcpy(piece + (512u << 20), "here", 4);
        }
    spill(NULL);
    return 0;
}
