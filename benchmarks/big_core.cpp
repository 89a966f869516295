// A server in miniature, for benchmarks: 200 threads deep in work or waiting, some 600 MB of heap, and a null store.
// Of the heap, 40 % are small objects, 20 % log text, 20 % random bytes, 20 % zeroed pages of which a quarter is used.
#include <pthread.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace store {

struct Row {
    long id;
    std::string name;
    Row* next;
};

struct Table {
    std::vector<std::unique_ptr<Row>> rows;
    std::vector<std::string> log;
    std::vector<std::vector<uint64_t>> noise;
    std::vector<char*> pages;
};

Row* volatile missing = nullptr;  // volatile: the compiler must not see that it stays null
std::mutex lock;
std::condition_variable never;
pthread_barrier_t ready;

template <typename T>
struct Visitor {
    T* target;
    int depth;
    __attribute__((noinline)) long visit(const std::string& key, const char* label, long sum);
    __attribute__((noinline)) long enter(const std::string& key, const char* label, long sum) {
        long found = visit(key, label, sum + depth);
        return found + key.size();
    }
};

__attribute__((noinline)) void wait_for_ever(const char* why) {
    pthread_barrier_wait(&ready);
    std::unique_lock<std::mutex> held(lock);
    never.wait(held, [why] { return why == nullptr; });
}

__attribute__((noinline)) void update(Row* row, long value) {
    row->id = value;
}

template <typename T>
long Visitor<T>::visit(const std::string& key, const char* label, long sum) {
    if (depth == 0) {
        if (target == nullptr) {
            pthread_barrier_wait(&ready);
            update(missing, sum);
        }
        wait_for_ever(label);
    }
    Visitor<T> inner{target, depth - 1};
    long found = inner.enter(key, label, sum * 3);
    return found + label[0];
}

void fill(Table& table, size_t bytes, unsigned seed) {
    std::mt19937_64 dice(seed);
    for (size_t used = 0; used < bytes * 2 / 5; used += 112)
        table.rows.push_back(std::make_unique<Row>(Row{long(used), "row " + std::to_string(used), nullptr}));
    for (size_t used = 0; used < bytes / 5; used += 144)
        table.log.push_back("2026-11-20T10:00:00Z INFO store request finished path=/orders/" + std::to_string(used) +
                            " status=200 duration_ms=" + std::to_string(dice() % 900));
    for (size_t used = 0; used < bytes / 5; used += 1 << 16) {
        std::vector<uint64_t> block(1 << 13);
        for (uint64_t& value : block) value = dice();
        table.noise.push_back(std::move(block));
    }
    for (size_t used = 0; used < bytes / 5; used += 1 << 20) {
        char* page = static_cast<char*>(calloc(1, 1 << 20));
        memset(page, 'p', 1 << 18);
        table.pages.push_back(page);
    }
}

void serve(int number, size_t bytes) {
    Table table;
    fill(table, bytes, number);
    std::string key = "customer-" + std::to_string(number) + "-with-a-name-on-the-heap";
    std::string label = "worker " + std::to_string(number) + " serves the requests of one tenant";
    Visitor<Table> visitor{&table, 5 + number % 9};
    visitor.enter(key, label.c_str(), number);
}

}  // namespace store

int main(int argc, char** argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 200;
    size_t bytes = (argc > 2 ? atoi(argv[2]) : 600) * size_t(1 << 20);
    pthread_barrier_init(&store::ready, nullptr, threads + 1);
    std::vector<std::thread> all;
    for (int number = 0; number < threads; number++)
        all.emplace_back(store::serve, number, number < 8 ? bytes / 10 : bytes / 5 / (threads - 8));
    store::Visitor<store::Table> visitor{nullptr, 6};
    return int(visitor.enter("the last request", "main", argc));
}
