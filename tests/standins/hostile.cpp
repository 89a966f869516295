// Dies of an exception whose text, like the names of process and thread, is what an attacker chose.
#include <stdexcept>
#include <string>
#include <sys/prctl.h>
#include <thread>
#include <unistd.h>

struct Hostile : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void raise_it(const std::string& text) {
    throw Hostile(text);
}

int main(int argc, char** argv) {
    prctl(PR_SET_NAME, argv[1]);
    std::thread other([&] {
        prctl(PR_SET_NAME, argv[1]);
        pause();
    });
    usleep(50000);
    raise_it(argv[argc - 1]);
}
