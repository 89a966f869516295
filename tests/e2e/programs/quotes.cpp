// A small quote service: it prices orders from the books of its markets, once a second.
// RELEASE 1 keeps a book for every market it lists. RELEASE 2 lists a market that nobody opened a book for.
#include <arpa/inet.h>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#ifndef RELEASE
#define RELEASE 1
#endif

struct Level {
    long price_cents;
    long quantity;
};

struct Book {
    std::string market;
    std::vector<Level> asks;
    long fee_cents = 25;
};

struct Order {
    std::string market;
    long quantity;
};

class Exchange {
public:
    void open(const std::string &market) {
        auto book = std::make_unique<Book>();
        book->market = market;
        book->asks = {{1999, 10}, {2049, 25}};
        books_[market] = std::move(book);
    }

    long quote(const Order &order) { return total_of(find(order.market), order.quantity); }

private:
    Book *find(const std::string &market) {
        auto found = books_.find(market);
        return found == books_.end() ? nullptr : found->second.get();
    }

    long total_of(const Book *book, long quantity) {
        long total = book->fee_cents;
        for (const Level &level : book->asks) {
            long taken = quantity < level.quantity ? quantity : level.quantity;
            total += taken * level.price_cents;
            quantity -= taken;
        }
        return total;
    }

    std::map<std::string, std::unique_ptr<Book>> books_;
};

static long settle(Exchange &exchange, const Order &order) { return exchange.quote(order); }

static void work_through(Exchange &exchange, const std::vector<Order> &orders) {
    for (const Order &order : orders)
        std::printf("order market=%s quantity=%ld total=%ld\n", order.market.c_str(), order.quantity, settle(exchange, order));
}

static void answer_connections(int port) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    if (bind(listener, reinterpret_cast<sockaddr *>(&address), sizeof address) != 0 || listen(listener, 16) != 0) {
        std::perror("listen");
        std::exit(1);
    }
    std::printf("listening on port %d\n", port);
    for (;;) {
        int peer = accept(listener, nullptr, nullptr);
        if (peer >= 0) close(peer);
    }
}

int main() {
    setvbuf(stdout, nullptr, _IOLBF, 0);
    Exchange exchange;
    for (const char *market : {"paris", "tokyo"}) exchange.open(market);
    std::thread(answer_connections, 7070).detach();
    std::vector<Order> orders{{"paris", 12}, {"tokyo", 3}};
    for (int round = 0;; round++) {
        if (RELEASE == 2 && round == 2) orders.push_back({"osaka", 7});
        work_through(exchange, orders);
        std::this_thread::sleep_for(std::chrono::seconds(1));
    }
}
