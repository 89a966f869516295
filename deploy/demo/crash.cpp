// A small checkout service with a real bug: an order of a customer who signed out is priced with that customer's
// discount. The session table answers nullptr, and a worker thread reads a member of it.
//
//   g++ -std=c++17 -g -O0 -pthread -o checkout crash.cpp && ./checkout
#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

struct Customer {
    std::string name;
    int discount_percent;
};

struct Order {
    int number;
    int customer_id;
    int cents;
};

class Sessions {
public:
    void sign_in(int id, Customer customer) { active_[id] = std::move(customer); }
    void sign_out(int id) { active_.erase(id); }

    // nullptr when the customer has no session
    const Customer* find(int id) const {
        auto found = active_.find(id);
        return found == active_.end() ? nullptr : &found->second;
    }

private:
    std::map<int, Customer> active_;
};

class OrderQueue {
public:
    void push(const Order& order) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            orders_.push_back(order);
        }
        ready_.notify_one();
    }

    Order pop() {
        std::unique_lock<std::mutex> lock(mutex_);
        ready_.wait(lock, [this] { return !orders_.empty(); });
        Order order = orders_.front();
        orders_.pop_front();
        return order;
    }

private:
    std::mutex mutex_;
    std::condition_variable ready_;
    std::deque<Order> orders_;
};

int price_order(const Order& order, const Sessions& sessions) {
    const Customer* customer = sessions.find(order.customer_id);
    return order.cents * (100 - customer->discount_percent) / 100;  // the bug: customer may be nullptr
}

void handle_order(const Order& order, const Sessions& sessions) {
    std::printf("order %d: %d cents\n", order.number, price_order(order, sessions));
    std::fflush(stdout);
}

void worker(OrderQueue& queue, const Sessions& sessions) {
    for (;;) handle_order(queue.pop(), sessions);
}

void report_metrics() {
    for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
}

template <typename Function>
std::thread named(const char* name, Function function) {
    return std::thread([name, function] {
        pthread_setname_np(pthread_self(), name);
        function();
    });
}

int main() {
    Sessions sessions;
    sessions.sign_in(7, {"Ada", 10});
    sessions.sign_in(8, {"Grace", 20});

    OrderQueue queue;
    std::vector<std::thread> threads;
    threads.push_back(named("metrics", report_metrics));
    for (const char* name : {"worker-1", "worker-2", "worker-3"})
        threads.push_back(named(name, [&queue, &sessions] { worker(queue, sessions); }));

    queue.push({1001, 7, 4990});
    queue.push({1002, 8, 12900});
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    sessions.sign_out(8);
    queue.push({1003, 8, 2500});  // Grace signed out a moment ago

    for (auto& thread : threads) thread.join();
}
