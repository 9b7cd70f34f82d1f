#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
A holder of a layout lease: registers a file on a DAX filesystem as a memory
region, lets go of it when somebody changes the file, and takes it again.

    holder.py FILE [RDMA-DEVICE]

Needs pyverbs of rdma-core, and Python 3.10. Ends when its input does.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import selectors
import sys

from pyverbs.device import Context, get_device_list
from pyverbs.enums import IBV_ACCESS_LOCAL_WRITE, IBV_ACCESS_REMOTE_WRITE
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsRDMAError

# As in <linux/layout_lease.h>
F_SETLAYOUT = 1024 + 17
F_GETLAYOUT = 1024 + 18

LAYOUT_LEASE_BROKEN = 0x10
LAYOUT_LEASE_NEXT = 0x20
LAYOUT_LEASE_EVENTFD = 0x40
LAYOUT_LEASE_WAIT = 0x80

STATES = "none", "granted", "breaking", "revoked"


class LayoutLease(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("type", ctypes.c_uint16),
        ("state", ctypes.c_uint16),
        ("remaining_ms", ctypes.c_uint32),
        ("start", ctypes.c_uint64),
        ("len", ctypes.c_uint64),
        ("generation", ctypes.c_uint64),
        ("event_fd", ctypes.c_int32),
        ("__pad", ctypes.c_uint32),
    ]


def set_layout(fd, kind, **fields):
    """A lease on the whole file, if fields say nothing else."""
    lease = LayoutLease(size=ctypes.sizeof(LayoutLease), type=kind, **fields)
    fcntl.fcntl(fd, F_SETLAYOUT, bytes(lease))


def broken(fd):
    """What has to be let go, piece by piece."""
    flags = LAYOUT_LEASE_BROKEN
    piece = LayoutLease(size=ctypes.sizeof(LayoutLease))
    while True:
        piece.flags = flags
        answer = fcntl.fcntl(fd, F_GETLAYOUT, bytes(piece))
        piece = LayoutLease.from_buffer_copy(answer)
        if STATES[piece.state] == "none":
            return
        yield piece
        flags |= LAYOUT_LEASE_NEXT


def say(*words):
    print(*words, flush=True)


class Region:
    """A memory region on as much of a file as there is."""

    def __init__(self, fd, device):
        self.fd = fd
        self.memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self.pd = PD(Context(name=device))
        self.mr = None

    def register(self):
        size = min(len(self.memory), os.fstat(self.fd).st_size)
        if not size:
            say("empty")
            return
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE
        try:
            self.mr = MR(self.pd, size, access, address=address)
        except PyverbsRDMAError as error:
            # Broken again since it was leased: then there is an event, too.
            if error.error_code != errno.EAGAIN:
                raise
        else:
            say("registered", size)

    def let_go(self):
        if self.mr:
            self.mr.close()
        self.mr = None


def serve(fd, device):
    event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    set_layout(fd, fcntl.F_RDLCK, flags=LAYOUT_LEASE_EVENTFD, event_fd=event)
    region = Region(fd, device)
    region.register()

    selector = selectors.DefaultSelector()
    selector.register(event, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    while True:
        ready = [key.fileobj for key, _ in selector.select()]
        if sys.stdin in ready and not os.read(sys.stdin.fileno(), 4096):
            break
        if event not in ready:
            continue
        os.eventfd_read(event)
        pieces = list(broken(fd))
        for piece in pieces:
            say("broken", piece.start, piece.len, STATES[piece.state],
                piece.remaining_ms)
        # Nothing: that was a lease of before.
        if pieces:
            region.let_go()
            # Sleeps until the file has its new layout.
            set_layout(fd, fcntl.F_RDLCK, flags=LAYOUT_LEASE_WAIT)
            region.register()
    region.let_go()
    set_layout(fd, fcntl.F_UNLCK)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    if len(sys.argv) == 3:
        device = sys.argv[2]
    else:
        device = get_device_list()[0].name.decode()
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_CLOEXEC)
    try:
        serve(fd, device)
    except OSError as error:
        sys.exit(f"no lease: {error.strerror}")
    except PyverbsRDMAError as error:
        sys.exit(f"no memory region: {os.strerror(error.error_code)}")


if __name__ == "__main__":
    main()
