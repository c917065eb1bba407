"""
Calls of the kernel that no program of a job needs and that namespaces do not fence in: refused by a filter.

A filter is a program for the kernel: it sees the number of a call and its arguments, and says allow or refuse. Ours
refuses sockets other than those of a network (a virtual machine's socket to its host belongs to no network
namespace), the kernel's keyrings, its tracing, and calls that were ways out of sandboxes. All else is allowed.

Source:
    seccomp(2), bpf_asm of the kernel's documentation; include/uapi/linux/seccomp.h, filter.h, audit.h.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct
from dataclasses import dataclass
from typing import Final

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _ANSWER = 0x20, 0x15, 0x35, 0x06
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE: Final = 0x00050000 | errno.EPERM
_NOT_THERE: Final = 0x00050000 | errno.ENOSYS
# The second set of numbers of x86-64, for programs with short pointers.
_X32: Final = 0x40000000

SOCKETS: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)


@dataclass(frozen=True)
class Machine:
    """A processor's own constants: its name in AUDIT_ARCH, and the numbers of calls."""

    audit: int
    socket: int
    refused: tuple[int, ...]
    missing: tuple[int, ...]
    has_x32: bool = False


MACHINES: Final = {
    "x86_64": Machine(
        audit=0xC000003E,
        socket=41,
        # ptrace, quotactl, acct, settimeofday, swapon, swapoff, reboot, init_module, delete_module, finit_module,
        # kexec_load, add_key, request_key, keyctl, perf_event_open, open_by_handle_at, bpf, userfaultfd,
        # process_vm_readv, process_vm_writev
        refused=(
            *(101, 179, 163, 164, 167, 168, 169, 175, 176, 313),
            *(246, 248, 249, 250, 298, 304, 321, 323, 310, 311),
        ),
        # io_uring_setup, io_uring_enter, io_uring_register: programs know kernels without them
        missing=(425, 426, 427),
        has_x32=True,
    ),
    "aarch64": Machine(
        audit=0xC00000B7,
        socket=198,
        refused=(117, 89, 170, 224, 225, 142, 105, 106, 60, 217, 218, 219, 241, 265, 273, 104, 280, 282, 270, 271),
        missing=(425, 426, 427),
    ),
}


def filter_for(machine: str | None = None) -> bytes:
    """The filter for this or another machine, as `bwrap --seccomp` reads it; empty for one that we do not know."""
    known = MACHINES.get(machine or platform.machine())
    return b"" if known is None else b"".join(_program(known))


def _program(machine: Machine) -> list[bytes]:
    """
    The instructions. A jump says how many of the following are left out, once for yes and once for no; the check of
    sockets and the three answers stand at the end, at known distances.
    """
    ends = [(number, _REFUSE) for number in machine.refused] + [(number, _NOT_THERE) for number in machine.missing]
    lines = [
        _line(_LOAD, _MACHINE),
        _line(_IF_EQUAL, machine.audit, 1, 0),
        _line(_ANSWER, _KILL),
        _line(_LOAD, _NUMBER),
    ]
    if machine.has_x32:
        lines += [_line(_IF_AT_LEAST, _X32, 0, 1), _line(_ANSWER, _NOT_THERE)]
    for number, answer in ends:
        lines += [_line(_IF_EQUAL, number, 0, 1), _line(_ANSWER, answer)]
    lines += [_line(_IF_EQUAL, machine.socket, 1, 0), _line(_ANSWER, _ALLOW), _line(_LOAD, _FIRST_ARGUMENT)]
    for family in SOCKETS:
        lines += [_line(_IF_EQUAL, family, 0, 1), _line(_ANSWER, _ALLOW)]
    return [*lines, _line(_ANSWER, _REFUSE)]


def _line(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)
