// One thread crashes while others wait; small enough for an emulator. (crashing.cpp looks at /proc, which qemu fakes.)
#include <pthread.h>
#include <unistd.h>

struct order {
    long id;
    long weight;
    struct order *next;
    int amount;
};

pthread_barrier_t all_there;

void *idle(void *nothing) {
    pthread_barrier_wait(&all_there);
    pause();
    return nothing;
}

__attribute__((noinline)) void deliver(struct order *order) {
    order->amount = 1;
}

void *work(void *order) {
    deliver(order);
    return order;
}

int main(void) {
    pthread_t idlers[3], worker;
    pthread_barrier_init(&all_there, NULL, 4);
    for (int i = 0; i < 3; i++) pthread_create(&idlers[i], NULL, idle, NULL);
    pthread_barrier_wait(&all_there);
    pthread_create(&worker, NULL, work, NULL);
    pthread_join(worker, NULL);
    return 0;
}
