"""The system call filter, judged by an interpreter of classic BPF: what the kernel would answer."""

from __future__ import annotations

import errno
import hashlib
import struct

import pytest

from garrison.confine import seccomp
from garrison.confine.observed import OBSERVED
from garrison.confine.profiles import DECLARED, LISTENING, SERVERS
from garrison.confine.seccomp import MACHINES, Machine, filter_program

READ = {"x86_64": 0, "aarch64": 63}
PINNED = {  # a filter changes by intention only; print the new digests when it does
    "x86_64": "4ed99a2afa9e47f3f669658cfe1f125c7a013e533f2d55f0f55bf0dca6d36077",
    "aarch64": "c2a2309c7a75bcf88bf660add720f935de0928dbe435875cb115bb88e0c70612",
}
PINNED_DECLARED = {
    "x86_64": "94b9ae2fb31b53c1296ee77eb1c38ff8f1d5a2e556bee5d2f9c506fb064ffaec",
    "aarch64": "fac22d97cb79674d2a6401be60efad60f948275ac01aa31e17a3a3f1c754b936",
}
PINNED_LISTENING = {
    "x86_64": "00ed0ff416a1427444fff864f60053310b25f09d1da3527f5c7b12eb92b078da",
    "aarch64": "6487fe5d7f1f8115ea54e0c20a702a8a285898a13cf8ccd2b3bea4eaa6ff2f68",
}
PINNED_SERVERS = {
    "embeddings.py": {
        "x86_64": "225b9ba12b6246ada3d000872160491312fa4f62e18e17f3b9daab5df3f40338",
        "aarch64": "70b753bce76dd95cd529c02dc38fa323e10a151a23d083f69fa4ab4af77a0e7c",
    },
    "llama.py": {
        "x86_64": "0f51457fec95c05f21a59bf0b4e263ccfa4708d8ecdd6d683a2f56ab189085d6",
        "aarch64": "7e8f48cb4560b546ff930e8a2824807452677590aa84509cb7100e4df9af0290",
    },
    "onnx_model.py": {
        "x86_64": "225b9ba12b6246ada3d000872160491312fa4f62e18e17f3b9daab5df3f40338",
        "aarch64": "70b753bce76dd95cd529c02dc38fa323e10a151a23d083f69fa4ab4af77a0e7c",
    },
    "sklearn_model.py": {
        "x86_64": "225b9ba12b6246ada3d000872160491312fa4f62e18e17f3b9daab5df3f40338",
        "aarch64": "70b753bce76dd95cd529c02dc38fa323e10a151a23d083f69fa4ab4af77a0e7c",
    },
    "text_classifier.py": {
        "x86_64": "225b9ba12b6246ada3d000872160491312fa4f62e18e17f3b9daab5df3f40338",
        "aarch64": "70b753bce76dd95cd529c02dc38fa323e10a151a23d083f69fa4ab4af77a0e7c",
    },
}
PINNED_WITHOUT_FILES = {
    "x86_64": "f244145c519ec85f0d4a9ffc80a1aae91beaad94db59f85386326920d8a09f5c",
    "aarch64": "e7a5179cb06de836dc8030c902e8edd30f8f272286c8ec515842e35f795404d6",
}


def judge(
    machine: Machine, number: int, *arguments: int, audit: int | None = None, program: bytes | None = None
) -> int:
    """Run the filter over one call, as linux/net/core/filter.c would."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, machine.audit if audit is None else audit, 0, *words)
    steps = list(struct.iter_unpack("<HBBI", program or filter_program(machine)))
    accumulator = position = 0
    while True:
        code, if_true, if_false, value = steps[position]
        position += 1
        if code == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == seccomp.AND:
            accumulator &= value
        elif code == seccomp.RETURN:
            return value
        else:
            holds = {
                seccomp.EQUAL: accumulator == value,
                seccomp.AT_LEAST: accumulator >= value,
                seccomp.ANY_BIT: bool(accumulator & value),
            }[code]
            position += if_true if holds else if_false


def refused(number: int) -> int:
    return seccomp.ERRNO | number


@pytest.fixture(params=MACHINES, ids=lambda machine: machine.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    found: Machine = request.param
    return found


def test_every_named_call_is_refused_but_those_judged_by_argument(machine: Machine) -> None:
    judged = {"socket", "socketpair", "clone", "clone3", "ioctl", "prctl", *seccomp.CREATING}
    for name, number in machine.calls.items():
        if name not in judged:
            assert judge(machine, number) == refused(errno.EPERM), name


def test_ordinary_calls_are_allowed(machine: Machine) -> None:
    assert judge(machine, READ[machine.name]) == seccomp.ALLOW


def test_a_call_of_another_architecture_ends_the_process(machine: Machine) -> None:
    assert judge(machine, READ[machine.name], audit=0x40000003) == seccomp.KILL


def test_the_x32_numbers_are_no_way_around() -> None:
    (x86,) = (machine for machine in MACHINES if machine.name == "x86_64")
    assert judge(x86, x86.calls["mount"] | seccomp.X32_BIT) == refused(errno.ENOSYS)


def test_threads_may_be_made_and_processes_and_namespaces_not(machine: Machine) -> None:
    clone = machine.calls["clone"]
    assert judge(machine, clone, 0x003D0F00) == seccomp.ALLOW  # what pthread_create asks for
    assert judge(machine, clone, 17) == refused(errno.EPERM)  # fork
    assert judge(machine, clone, 0x003D0F00 | 0x10000000) == refused(errno.EPERM)  # with a user namespace
    assert judge(machine, machine.calls["clone3"]) == refused(errno.ENOSYS)


@pytest.mark.parametrize(
    ("family", "kind", "is_allowed"), [(1, 1, True), (1, 1 | 0o2000000, True), (1, 2, False)]
)
def test_only_unix_streams(machine: Machine, family: int, kind: int, is_allowed: bool) -> None:
    expected = seccomp.ALLOW if is_allowed else refused(errno.EPERM)
    assert judge(machine, machine.calls["socket"], family, kind) == expected


@pytest.mark.parametrize("family", [2, 10, 16, 17, 38, 40])
def test_no_other_family_of_sockets(machine: Machine, family: int) -> None:
    assert judge(machine, machine.calls["socket"], family, 1) == refused(errno.EPERM)


def test_the_high_half_of_an_argument_does_not_hide_a_value(machine: Machine) -> None:
    assert judge(machine, machine.calls["ioctl"], 0, 0x5412 | 1 << 32) == refused(errno.EPERM)
    assert judge(machine, machine.calls["ioctl"], 0, 0x5401) == seccomp.ALLOW


def test_a_server_cannot_outlive_its_parent_by_changing_the_signal_of_its_death(machine: Machine) -> None:
    assert judge(machine, machine.calls["prctl"], 1, 0) == refused(errno.EPERM)
    assert judge(machine, machine.calls["prctl"], 15) == seccomp.ALLOW  # a thread's name


def test_the_filters_are_those_of_this_release(machine: Machine) -> None:
    assert hashlib.sha256(filter_program(machine)).hexdigest() == PINNED[machine.name]
    assert len(filter_program(machine)) // 8 < 4096  # the kernel's limit in instructions


def test_where_nothing_else_bounds_a_disk_no_file_is_made(machine: Machine) -> None:
    program = filter_program(machine, creates_files=False)
    assert hashlib.sha256(program).hexdigest() == PINNED_WITHOUT_FILES[machine.name]
    openat = machine.calls["openat"]
    assert judge(machine, openat, 0, 0, 0, program=program) == seccomp.ALLOW
    assert judge(machine, openat, 0, 0, 0o101, program=program) == refused(errno.EPERM)
    assert judge(machine, machine.calls["openat2"], program=program) == refused(errno.ENOSYS)
    assert judge(machine, machine.calls["mkdirat"], program=program) == refused(errno.EPERM)
    assert judge(machine, openat, 0, 0, 0o101) == seccomp.ALLOW  # where Landlock is, it decides


def test_a_declared_command_may_start_programs_and_still_no_namespace(machine: Machine) -> None:
    program = filter_program(machine, DECLARED)
    assert hashlib.sha256(program).hexdigest() == PINNED_DECLARED[machine.name]
    for name in ("execve", "clone", "kill"):
        assert judge(machine, machine.calls[name], program=program) == seccomp.ALLOW
    for flag in (0x10000000, 0x40000000, 0x20000000):  # user, network and process namespaces
        assert judge(machine, machine.calls["clone"], flag, program=program) == refused(errno.EPERM)
    assert judge(machine, machine.calls["clone3"], program=program) == refused(errno.ENOSYS)
    for name in ("execveat", "ptrace", "mount", "unshare", "bpf"):
        assert judge(machine, machine.calls[name], program=program) != seccomp.ALLOW
    assert judge(machine, machine.calls["socket"], 2, 1, program=program) == refused(errno.EPERM)  # AF_INET


def test_a_declared_command_that_listens_on_tcp_has_streams_and_no_other_network(machine: Machine) -> None:
    program = filter_program(machine, LISTENING)
    assert hashlib.sha256(program).hexdigest() == PINNED_LISTENING[machine.name]
    for family in (1, 2, 10):
        assert (
            judge(machine, machine.calls["socket"], family, 1 | 0o2000000, program=program) == seccomp.ALLOW
        )
        for kind in (2, 3, 5):  # datagrams, raw packets, sequences
            refusal = judge(machine, machine.calls["socket"], family, kind, program=program)
            assert refusal == refused(errno.EPERM)
    for family in (0, 16, 17, 38, 40):
        assert judge(machine, machine.calls["socket"], family, 1, program=program) == refused(errno.EPERM)
    assert judge(machine, machine.calls["socketpair"], 2, 1, program=program) == refused(errno.EPERM)
    assert judge(machine, machine.calls["connect"], program=program) == seccomp.ALLOW
    for name in ("execveat", "ptrace", "mount", "unshare", "bpf", "setns"):
        assert judge(machine, machine.calls[name], program=program) != seccomp.ALLOW


@pytest.mark.parametrize("program", sorted(SERVERS))
def test_each_kind_of_server_has_its_own_calls_and_no_others(machine: Machine, program: str) -> None:
    profile = SERVERS[program]
    assert profile.calls is not None
    made = filter_program(machine, profile)
    assert hashlib.sha256(made).hexdigest() == PINNED_SERVERS[program][machine.name]
    for name, number in machine.allowed.items():
        expected = seccomp.ALLOW if name in profile.calls else refused(errno.ENOSYS)
        assert judge(machine, number, program=made) == expected, name
    assert set(OBSERVED[program.removesuffix(".py")]) <= profile.calls
    assert len(profile.calls & machine.allowed.keys()) < 0.7 * len(machine.allowed)
    for name in ("execve", "ptrace", "mount", "bpf", "kill", "seccomp"):
        assert judge(machine, machine.calls[name], program=made) == refused(errno.EPERM)


def test_a_thread_is_started_without_a_line_in_the_kernels_log(machine: Machine) -> None:
    quiet = seccomp.quiet_program(machine)
    assert judge(machine, machine.calls["clone3"], program=quiet) == refused(errno.ENOSYS)
    assert (
        judge(machine, machine.calls["ptrace"], program=quiet) == seccomp.ALLOW
    )  # which the other filter refuses


def test_calls_have_their_names_in_reports(machine: Machine) -> None:
    for names in (machine.calls, machine.allowed, machine.others):
        for name, number in names.items():
            assert seccomp.call_named(machine.audit, number) == name
    assert seccomp.call_named(machine.audit, 9999) == f"call 9999 of {machine.audit:#x}"


def test_a_call_that_nobody_named_does_not_exist(machine: Machine) -> None:
    for unknown in (470, 999, 0x3FFFFFFF):
        assert judge(machine, unknown) == refused(errno.ENOSYS)
    assert not machine.allowed.keys() & machine.calls.keys()
    for name, number in machine.allowed.items():
        assert judge(machine, number) == seccomp.ALLOW, name
