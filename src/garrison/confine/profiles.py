"""Which system calls each kind of server may make: what it was seen to make, and their variants. Nothing else.

`observed.py` holds what each server really called while it started and answered, as `scripts/profiles.py` wrote it
down. A C library, a processor or a kernel of another kind makes other calls for the same purpose: those are VARIANTS,
given to all. A server declared by the customer is unknown, so it has everything that is harmless (`allowed.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from garrison.confine.observed import OBSERVED

# The same done otherwise: by an older or newer C library, without the vDSO, on another architecture, under load.
VARIANTS = frozenset(
    {
        *("access", "faccessat", "faccessat2", "fstat", "lstat", "newfstatat", "stat", "statx", "readlink"),
        *("readlinkat", "getdents", "getdents64", "lseek", "pread64", "preadv", "read", "readv", "write"),
        *(
            "writev",
            "pwrite64",
            "close",
            "close_range",
            "dup",
            "dup2",
            "dup3",
            "fcntl",
            "getcwd",
            "pipe",
            "pipe2",
        ),
        *("brk", "madvise", "mincore", "mlock", "mmap", "mprotect", "mremap", "munlock", "munmap"),
        *("arch_prctl", "exit", "exit_group", "futex", "futex_wait", "futex_waitv", "futex_wake"),
        *("get_robust_list", "getcpu", "getpid", "getppid", "gettid", "membarrier", "rseq", "sched_yield"),
        *("sched_getaffinity", "set_robust_list", "set_tid_address", "tgkill"),
        *("clock_getres", "clock_gettime", "clock_nanosleep", "gettimeofday", "nanosleep", "time", "times"),
        *("epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait"),
        *("eventfd", "eventfd2", "pause", "poll", "ppoll", "pselect6", "select"),
        *("accept", "accept4", "bind", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom"),
        *("recvmsg", "sendmsg", "sendto", "setsockopt", "shutdown"),
        *("alarm", "restart_syscall", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait"),
        *("setitimer", "sigaltstack"),
        *("getegid", "geteuid", "getgid", "getgroups", "getrandom", "getresgid", "getresuid", "getrlimit"),
        *("getrusage", "getuid", "prlimit64", "sysinfo", "uname"),
        # machines with several memory nodes or kinds of processors
        *(
            "get_mempolicy",
            "mbind",
            "getpriority",
            "sched_setaffinity",
            "sched_getscheduler",
            "sched_getparam",
        ),
        *("sched_get_priority_max", "sched_get_priority_min"),
    }
)


@dataclass(frozen=True, slots=True)
class Profile:
    """`calls` are made as they come, None for all of `allowed.py`; `opens` are refused ones that this profile has.

    `expected` are refused while a library starts, and do no harm: nscd is asked for a name, a folder made private.
    `has_loopback`: it talks TCP in a network namespace of its own, where nothing but its own parts can hear it.
    """

    name: str
    calls: frozenset[str] | None = None
    opens: frozenset[str] = frozenset()
    expected: frozenset[str] = frozenset()
    has_loopback: bool = False

    @property
    def is_told(self) -> bool:
        """Whether the kernel logs what is refused: not for a probe, which asks for all that is refused."""
        return self.name not in ("server", "guest")

    @property
    def starts_programs(self) -> bool:
        return "execve" in self.opens


EXPECTED = frozenset({"chmod", "connect", "clone3"})
_STARTING = frozenset({"execve", "fork", "vfork", "kill"})
SERVER = Profile("server")  # the parsers of untrusted files, the probe, and tests
DECLARED = Profile("declared-command", opens=_STARTING)
LISTENING = Profile("declared-on-tcp", opens=_STARTING | {"connect"}, has_loopback=True)
GUEST = Profile("guest", opens=_STARTING | {"seccomp"})  # QEMU loads one more filter on top
SERVERS: Mapping[str, Profile] = {
    f"{name}.py": Profile(name.replace("_", "-"), frozenset(calls) | VARIANTS, expected=EXPECTED)
    for name, calls in OBSERVED.items()
}
PROFILES = (*SERVERS.values(), SERVER, DECLARED, LISTENING, GUEST)


def profile_of(program: str, *, is_declared: bool = False) -> Profile:
    """By the file name of a server's program."""
    return DECLARED if is_declared else SERVERS.get(program, SERVER)
