// A program that crashes in the way its argument names. Tests look crash lines up by the marks at their ends.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

struct DbError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Order {
    long id;
    long weight;
    Order* next;
    int amount;
};

namespace Shop {

template <typename T>
struct Ledger {
    T* first = nullptr;
    int total(int rate) {
        return first->amount * rate;  // mark:offset
    }
};

int read_null(int* price) {
    return *price;  // mark:null
}

int follow(Order* order) {
    return order->next->amount;  // mark:wild
}

int descend(int depth) {
    char page[256];
    memset(page, depth, sizeof page);
    return descend(depth + 1) ^ page[depth % 256];  // mark:overflow
}

void give_up() {
    abort();  // mark:abort
}

void check(int quantity) {
    assert(quantity > 0 && "an order has items");  // mark:assert
}

void query(const std::string& host) {
    throw DbError("connection refused: " + host);  // mark:exception
}

void free_twice(char* name) {
    free(name);
    free(name);  // mark:double_free
}

void copy_name(const char* from) {
    char name[8];
    strcpy(name, from);
    printf("%s\n", name);
}  // mark:smash

int divide(int sum, int count) {
    return sum / count;  // mark:fpe
}

void unreachable() {
    __builtin_trap();  // mark:illegal
}

int read_past(const char* path) {
    int file = open(path, O_RDWR | O_CREAT, 0600);
    if (ftruncate(file, 16) != 0) return 1;
    char* data = static_cast<char*>(mmap(nullptr, 8192, PROT_READ, MAP_SHARED, file, 0));
    return data[5000];  // mark:bus
}

void* work(void* order) {
    static_cast<Order*>(order)->amount = 1;  // mark:thread
    return nullptr;
}

std::atomic<int> idlers_there{0};

void on_crash(int signal_number) {
    static const char text[] = "crashed\n";
    if (write(2, text, sizeof text - 1) < 0) _exit(1);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

void give_up_on_crash(int) {
    abort();
}

void* idle(void*) {
    ++idlers_there;
    pause();
    return nullptr;
}

void promise_nothing() noexcept {
    query("10.0.0.5:5432");
}

void query_twice() {
    try {
        query("10.0.0.6:5432");
    } catch (const DbError&) {
        throw std::logic_error("no other host");
    }
}

struct Shape {
    Shape() { draw(); }
    void draw() { paint(); }
    virtual void paint() = 0;
};

struct Circle : Shape {
    void paint() override {}
};

void on_alarm(int) {
    abort();  // mark:alarm
}

void on_user_signal(int) {
    read_null(nullptr);
}

void spin() {
    for (std::atomic<long> i{0};; ++i) {
    }
}

// True once no other thread runs: each idler is then in pause, the only thing it waits in.
bool others_sleep() {
    int sleeping = 0;
    DIR* tasks = opendir("/proc/self/task");
    while (dirent* task = readdir(tasks)) {
        if (task->d_name[0] == '.') continue;
        char line[512] = "";
        if (FILE* stat = fopen(("/proc/self/task/" + std::string(task->d_name) + "/stat").c_str(), "r")) {
            fgets(line, sizeof line, stat);
            fclose(stat);
        }
        sleeping += strstr(line, ") S ") != nullptr;
    }
    closedir(tasks);
    return sleeping == 5;
}

}  // namespace Shop

int main(int argc, char** argv) {
    std::string mode = argc > 1 ? argv[1] : "";
    std::vector<int> prices{3, 5, 8};
    if (mode == "null") return Shop::read_null(nullptr);
    if (mode == "offset") return Shop::Ledger<Order>{}.total(argc);
    if (mode == "wild") {
        Order order{1, 2, reinterpret_cast<Order*>(0x4141414141414141), 0};
        return Shop::follow(&order);
    }
    if (mode == "unmapped") {
        Order order{1, 2, reinterpret_cast<Order*>(0x123456789000), 0};
        return Shop::follow(&order);
    }
    if (mode == "jump") return reinterpret_cast<int (*)()>(argc - 2L)();
    if (mode == "overflow") return Shop::descend(0);
    if (mode == "abort") Shop::give_up();
    if (mode == "assert") Shop::check(argc - 2);
    if (mode == "exception") Shop::query("10.0.0.3:5432");
    if (mode == "number") throw 42;
    if (mode == "caught") {  // an exception that was handled is not why it aborts afterwards
        try {
            Shop::query("10.0.0.4:5432");
        } catch (const DbError&) {
        }
        Shop::give_up();
    }
    if (mode == "double_free") {
        char* name = static_cast<char*>(malloc(24));
        Shop::free_twice(name);
    }
    if (mode == "smash") Shop::copy_name("a name that is longer than eight characters");
    if (mode == "fpe") return Shop::divide(7, argc - 2);
    if (mode == "illegal") Shop::unreachable();
    if (mode == "bus") return Shop::read_past("short.bin");
    if (mode == "thread") {
        pthread_t idlers[5], worker;
        for (pthread_t& each : idlers) pthread_create(&each, nullptr, Shop::idle, nullptr);
        for (int i = 0; i < 10000 && (Shop::idlers_there < 5 || !Shop::others_sleep()); ++i) usleep(1000);
        pthread_create(&worker, nullptr, Shop::work, nullptr);
        pthread_join(worker, nullptr);
    }
    if (mode == "wait") {
        printf("ready %d\n", getpid());
        fflush(stdout);
        pause();
    }
    if (mode == "self") raise(SIGSEGV);
    if (mode == "noexcept") Shop::promise_nothing();
    if (mode == "nested") Shop::query_twice();
    if (mode == "pure") Shop::Circle();
    if (mode == "watchdog") {
        signal(SIGALRM, Shop::on_alarm);
        ualarm(20000, 0);
        Shop::spin();
    }
    if (mode == "in_handler") {
        signal(SIGUSR1, Shop::on_user_signal);
        raise(SIGUSR1);
    }
    if (mode == "raised_fpe") raise(SIGFPE);
    if (mode == "handled_abort") {
        signal(SIGSEGV, Shop::give_up_on_crash);
        return Shop::Ledger<Order>{}.total(argc);
    }
    if (mode == "handled") {
        signal(SIGSEGV, Shop::on_crash);
        return Shop::read_null(nullptr);
    }
    return 0;
}
