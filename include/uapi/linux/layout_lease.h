/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Layout leases, for programs: F_SETLAYOUT(2const). To be included beside
 * <fcntl.h>, which has fcntl() and F_RDLCK, F_WRLCK and F_UNLCK.
 */
#ifndef _UAPI_LINUX_LAYOUT_LEASE_H
#define _UAPI_LINUX_LAYOUT_LEASE_H

#include <linux/types.h>

/*
 * As in <linux/fcntl.h>, which a program that includes <fcntl.h> cannot have: both
 * define struct flock.
 */
#ifndef F_LINUX_SPECIFIC_BASE
#define F_LINUX_SPECIFIC_BASE	1024
#endif

#ifndef F_SETLAYOUT
#define F_SETLAYOUT		(F_LINUX_SPECIFIC_BASE + 17)
#define F_GETLAYOUT		(F_LINUX_SPECIFIC_BASE + 18)
#endif

#ifndef F_LAYOUT
#define F_LAYOUT		16
#endif

/**
 * struct layout_lease - argument of F_SETLAYOUT and F_GETLAYOUT
 * @size: sizeof(struct layout_lease)
 * @flags: LAYOUT_LEASE_*, see there; others must be 0
 * @type: F_RDLCK (shared), F_WRLCK (exclusive) or F_UNLCK
 * @state: out: LAYOUT_LEASE_NONE, _GRANTED, _BREAKING or _REVOKED
 * @remaining_ms: out: milliseconds until revocation while breaking, else 0
 * @start: first byte of the range
 * @len: length in bytes; 0 reaches to infinity, beyond any end of file
 * @generation: out: of the grant, F_GETLAYOUT only. Each grant of this system has
 *	a larger one than those before; 0: the kernel does not know any
 * @event_fd: with LAYOUT_LEASE_EVENTFD: an eventfd, or -1; else 0
 * @__pad: 0
 *
 * Programs clear it before they fill it in: what they do not know must be 0.
 */
struct layout_lease {
	__u32	size;
	__u32	flags;
	__u16	type;
	__u16	state;
	__u32	remaining_ms;
	__u64	start;
	__u64	len;
	__u64	generation;
	__s32	event_fd;
	__u32	__pad;
};

#define LAYOUT_LEASE_SIZE_VER0	32	/* sizeof first published struct */
#define LAYOUT_LEASE_SIZE_VER1	48	/* with generation and event_fd */

/* Flags of F_SETLAYOUT with F_UNLCK, one at a time */
#define LAYOUT_LEASE_REVOKE	0x1	/* revoke what is attached to the range */
#define LAYOUT_LEASE_SEIZE	0x2	/* CAP_SYS_ADMIN: everybody's leases, now */
#define LAYOUT_LEASE_SEIZE_FS	0x4	/* the same for the whole filesystem */
#define LAYOUT_LEASE_BREAK	0x8	/* who may write: ask everybody to let go */

/* Flags of F_SETLAYOUT with F_RDLCK and F_WRLCK */
#define LAYOUT_LEASE_EVENTFD	0x40	/* count breaks and revocations there */
#define LAYOUT_LEASE_WAIT	0x80	/* sleep until it can be granted */

/* Flags of F_GETLAYOUT */
#define LAYOUT_LEASE_BROKEN	0x10	/* skip what is granted */
#define LAYOUT_LEASE_NEXT	0x20	/* start behind the range */

/* States */
#define LAYOUT_LEASE_NONE	0	/* this open file has no lease there */
#define LAYOUT_LEASE_GRANTED	1
#define LAYOUT_LEASE_BREAKING	2	/* let go before remaining_ms is over */
#define LAYOUT_LEASE_REVOKED	3	/* taken back; F_UNLCK or lease anew */

#endif /* _UAPI_LINUX_LAYOUT_LEASE_H */
