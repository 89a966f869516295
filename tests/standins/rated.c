// Crashes whose class of severity is decided by one or two instructions (x86-64): see test_severity.py.
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WILD 0x123456789000L
#define RUN(code, pointer) __asm__ volatile(code : : "r"((long)(pointer)) : "rax", "rcx", "memory")

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "read")) RUN("mov (%0), %%rax\n xor %%eax, %%eax\n call getpid@plt", WILD);
    if (!strcmp(mode, "read_null")) RUN("mov 16(%0), %%rax\n xor %%eax, %%eax\n call getpid@plt", 0);
    if (!strcmp(mode, "read_then_call")) RUN("mov (%0), %%rax\n mov %%rax, %%rcx\n call *%%rcx", WILD);
    if (!strcmp(mode, "read_then_jump")) RUN("mov (%0), %%rax\n add $8, %%rax\n jmp *%%rax", WILD);
    if (!strcmp(mode, "read_then_write")) RUN("mov (%0), %%rax\n movl $1, 24(%%rax)", WILD);
    if (!strcmp(mode, "write")) RUN("movl $1, (%0)", WILD);
    if (!strcmp(mode, "write_null")) RUN("movl $1, 8(%0)", 0);
    if (!strcmp(mode, "call")) RUN("call *(%0)", WILD);
    if (!strcmp(mode, "call_null")) RUN("call *8(%0)", 0);
    if (!strcmp(mode, "jump")) RUN("jmp *(%0)", WILD);
    if (!strcmp(mode, "jump_null")) RUN("jmp *8(%0)", 0);
    if (!strcmp(mode, "return")) RUN("push %0\n ret", 0x4141414141414141L);
    if (!strcmp(mode, "stack_pointer")) RUN("mov %0, %%rsp\n ret", WILD);
    if (!strcmp(mode, "to_address")) RUN("call *%0", WILD);
    if (!strcmp(mode, "to_null")) RUN("call *%0", 0);
    if (!strcmp(mode, "copy")) memmove((void *)WILD, argv[0], 64);
    if (!strcmp(mode, "trap")) __asm__ volatile("int3");
    if (!strcmp(mode, "privileged")) __asm__ volatile("hlt");
    if (!strcmp(mode, "invalid")) __asm__ volatile("ud2");
    if (!strcmp(mode, "limit")) {
        struct rlimit little = {64 << 20, 64 << 20};  // the core is held to it as well
        setrlimit(RLIMIT_FSIZE, &little);
        if (ftruncate(memfd_create("ledger", 0), 65 << 20)) return 1;
    }
    if (!strcmp(mode, "system_call")) {
        struct sock_filter rules[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {4, rules};
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
        syscall(SYS_getppid);
    }
    if (!strcmp(mode, "raised")) raise(SIGSYS);
    return 0;
}
