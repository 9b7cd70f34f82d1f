// SPDX-License-Identifier: GPL-2.0
/*
 * Requests with random arguments, most of which are right or nearly so.
 */
#include <stdio.h>
#include <string.h>

#include "memory.h"

static void random_range(struct request *r)
{
	static const __u64 bad[][2] = {
		{ 1ULL << 63, 0 }, { 1ULL << 63, 1 }, { ~0ULL, 0 },
		{ ~0ULL, 1 }, { ~0ULL, 2 }, { 4096, ~0ULL }, { 1, 1ULL << 63 },
		{ (1ULL << 63) - 1, 2 }, { ~0ULL, ~0ULL }, { 0, ~0ULL },
		{ 0, (1ULL << 63) + 1 },
	};
	unsigned int i;

	if (once_in(16)) {
		i = dice(ARRAY_SIZE(bad));
		r->arg.start = bad[i][0];
		r->arg.len = bad[i][1];
		r->bad_range = true;
		return;
	}
	r->lo = once_in(4) ? 0 : dice(END);
	r->hi = once_in(4) ? PIECES : r->lo + 1 + dice(END - r->lo);
	r->arg.start = points[r->lo];
	r->arg.len = r->hi == PIECES ? 0 : points[r->hi] - points[r->lo];
	/* The last byte that a file can have is as good as infinity. */
	if (r->hi == END)
		r->hi = PIECES;
}

static unsigned int random_flags(void)
{
	static const unsigned int known[] = {
		0, LAYOUT_LEASE_REVOKE, LAYOUT_LEASE_REVOKE,
		LAYOUT_LEASE_SEIZE, LAYOUT_LEASE_SEIZE,
		LAYOUT_LEASE_REVOKE | LAYOUT_LEASE_SEIZE,
		LAYOUT_LEASE_SEIZE | LAYOUT_LEASE_SEIZE_FS,
		LAYOUT_LEASE_SEIZE_FS, LAYOUT_LEASE_BREAK | LAYOUT_LEASE_REVOKE,
		16, 0x80000000,
	};

	/* Leases with an eventfd, and those that are waited for, have their own tests. */
	return once_in(16) ? random_bits() &
			     ~(LAYOUT_LEASE_EVENTFD | LAYOUT_LEASE_WAIT) :
	       PICK(known);
}

static void random_struct(struct request *r)
{
	static const unsigned int sizes[] = {
		0, 1, 8, 31, 33, 40, 64, 4095, 4096, 4097, 0x7fffffff, ~0U,
	};
	static const unsigned int queries[] = {
		LAYOUT_LEASE_BROKEN, LAYOUT_LEASE_NEXT,
		LAYOUT_LEASE_BROKEN | LAYOUT_LEASE_NEXT,
	};
	static const int types[] = {
		F_RDLCK, F_RDLCK, F_RDLCK, F_WRLCK, F_UNLCK, F_UNLCK, F_UNLCK,
	};

	r->arg.size = once_in(8) ? PICK(sizes) :
		      once_in(4) ? LAYOUT_LEASE_SIZE_VER0 : sizeof(r->arg);
	r->arg.type = once_in(16) ? random_bits() : PICK(types);
	/* Both are only for answers. */
	r->arg.state = random_bits();
	r->arg.remaining_ms = random_bits();
	if (r->cmd == F_SETLAYOUT ?
	    (r->arg.type == F_UNLCK ? once_in(3) : once_in(16)) : once_in(16))
		r->arg.flags = random_flags();
	else if (r->cmd == F_GETLAYOUT && once_in(2))
		r->arg.flags = PICK(queries);
	random_range(r);
	if (r->arg.flags == LAYOUT_LEASE_SEIZE_FS && once_in(2)) {
		r->arg.start = 0;
		r->arg.len = 0;
	}
}

static void random_setlease(struct request *r)
{
	static const unsigned int wrong[] = {
		3, 4, 8, 32, 1024, 0x10000, 0x80000000,
	};
	unsigned int arg = dice(3);

	if (once_in(8))
		arg |= PICK(wrong);
	r->other_type = arg & ~0xffff;
	r->arg.type = arg;
	r->arg.size = sizeof(r->arg);
	r->lo = 0;
	r->hi = PIECES;
	r->ptr = F_LAYOUT | arg;
}

void random_request(struct request *r, bool race)
{
	static const int cmds[] = {
		F_SETLAYOUT, F_SETLAYOUT, F_SETLAYOUT, F_GETLAYOUT,
		F_GETLAYOUT, F_SETLEASE,
	};

	memset(r, 0, sizeof(*r));
	r->cmd = PICK(cmds);
	r->slot = dice(SLOTS);
	if (me.desc[r->slot] < 0 && !once_in(4))
		r->slot = dice(SLOTS);
	r->fd = me.fd[r->slot];
	if (r->cmd == F_SETLEASE) {
		random_setlease(r);
		return;
	}
	random_struct(r);
	if (race && once_in(2))
		r->where = RACING;
	else if (once_in(3))
		r->where = PAGE_END;
	else if (once_in(8))
		r->where = CROSSING + dice(RACING - CROSSING);
	r->bad_tail = r->arg.size > sizeof(r->arg) && once_in(4);
	place_argument(r);
}

int send_request(const struct request *r)
{
	return fcntl(r->fd, r->cmd, r->ptr) ? errno : 0;
}

bool seizes_fs(const struct request *r)
{
	return r->cmd == F_SETLAYOUT && r->arg.type == F_UNLCK &&
		r->arg.flags == LAYOUT_LEASE_SEIZE_FS;
}

const char *describe(const struct request *r)
{
	static char text[256];
	int desc = me.desc[r->slot];

	snprintf(text, sizeof(text),
		 "call %ld, process %d: fcntl(%d: file %d, %d, %#lx: where %d, size %#x, flags %#x, type %#x, range %#llx+%#llx)",
		 world->calls, me.serial, r->fd,
		 desc < 0 ? -1 : (int)world->desc[desc].file, r->cmd, r->ptr,
		 r->where, r->arg.size, r->arg.flags, r->arg.type,
		 (unsigned long long)r->arg.start,
		 (unsigned long long)r->arg.len);
	return text;
}
