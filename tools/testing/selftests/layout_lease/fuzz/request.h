/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A request: one call of fcntl() for a layout lease, and where in memory its
 * argument lies.
 */
#ifndef __FUZZ_REQUEST_H
#define __FUZZ_REQUEST_H

#include "world.h"

enum where {
	GOOD,
	PAGE_END,		/* nothing is mapped behind it */
	CROSSING,		/* the end of what is mapped is in its middle */
	READ_ONLY,
	NO_ACCESS,
	UNMAPPED,
	KERNEL,
	RACING,			/* see race_start() */
};

struct request {
	int cmd, slot, fd;
	enum where where;
	unsigned int lo, hi;	/* the range, if it is a valid one */
	bool bad_range, bad_tail, other_type;
	struct layout_lease arg;	/* of all commands */
	unsigned long ptr;	/* argument of the call */
	size_t len;		/* bytes of it in memory */
};

/* One of this process; with or without arguments that come and go. */
void random_request(struct request *r, bool race);
int send_request(const struct request *r);	/* 0, or errno */
/* LAYOUT_LEASE_SEIZE_FS, for all files of the filesystem. */
bool seizes_fs(const struct request *r);
const char *describe(const struct request *r);

#endif /* __FUZZ_REQUEST_H */
