"""A filter of system calls: what no parser and no debugger of a core has use for is refused by the kernel.

It holds where namespaces cannot be made, too, and it closes what an unprivileged process could still ask for: new user
namespaces, and with them mounts; other processes' memory; kernel interfaces with a long record of holes. The form is
that of seccomp(2); numbers are of asm/unistd_64.h and of asm-generic/unistd.h (arm64 and riscv64 use the latter).
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}
_X86_64 = {
    "ptrace": 101, "syslog": 103, "mknod": 133, "pivot_root": 155, "chroot": 161, "acct": 163, "mount": 165,
    "umount2": 166, "swapon": 167, "reboot": 169, "init_module": 175, "delete_module": 176, "kexec_load": 246,
    "add_key": 248, "request_key": 249, "keyctl": 250, "mknodat": 259, "unshare": 272, "perf_event_open": 298,
    "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310,
    "process_vm_writev": 311, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
}  # fmt: skip
_GENERIC = {
    "mknodat": 33, "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "acct": 89, "unshare": 97,
    "kexec_load": 104, "init_module": 105, "delete_module": 106, "syslog": 116, "ptrace": 117, "reboot": 142,
    "add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224, "perf_event_open": 241,
    "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270,
    "process_vm_writev": 271, "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip
_EVERYWHERE = {
    "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "pidfd_getfd": 438, "mount_setattr": 442,
}  # fmt: skip
_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220}
_SOCKET = {"x86_64": 41, "aarch64": 198, "riscv64": 198}
_CLONE3 = 435
_NEW_SPACES = 0x7E020000  # CLONE_NEW* of clone(2)
_X32 = 0x40000000
_AF_UNIX = 1

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2


def filter_system_calls(*, network: bool) -> bool:
    """Refuse them to this process and all that it starts, for good. Without `network` only local sockets can be made.

    False where the machine's architecture is unknown here or the kernel has no filters.
    """
    program = _program(platform.machine(), network)
    if not program:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0) == 0)


def _program(machine: str, network: bool) -> bytes:
    """The filter in the kernel's form; each step is (operation, value, steps to skip if true, if false)."""
    if machine not in _AUDIT:
        return b""
    numbers = [*(_X86_64 if machine == "x86_64" else _GENERIC).values(), *_EVERYWHERE.values()]
    refuse, allow = (_RETURN, _ERROR | errno.EPERM, 0, 0), (_RETURN, _ALLOW, 0, 0)
    steps = [
        (_LOAD, _ARCHITECTURE_AT, 0, 0),
        (_EQUAL, _AUDIT[machine], 1, 0),
        refuse,  # another machine's numbers mean other calls
        (_LOAD, _NUMBER_AT, 0, 0),
        (_AT_LEAST, _X32, 0, 1),
        refuse,
        (_EQUAL, _CLONE3, 0, 1),
        (_RETURN, _ERROR | errno.ENOSYS, 0, 0),  # its flags cannot be seen from here; callers then use clone
    ]
    for number in numbers:
        steps += [(_EQUAL, number, 0, 1), refuse]
    steps += [(_EQUAL, _CLONE[machine], 0, 4), (_LOAD, _FIRST_ARGUMENT_AT, 0, 0), (_ANY_BIT, _NEW_SPACES, 0, 1), refuse]
    steps.append(allow)
    if not network:
        steps += [(_EQUAL, _SOCKET[machine], 0, 3), (_LOAD, _FIRST_ARGUMENT_AT, 0, 0), (_EQUAL, _AF_UNIX, 1, 0), refuse]
    steps.append(allow)
    return b"".join(struct.pack("HBBI", code, true, false, value) for code, value, true, false in steps)
