// SPDX-License-Identifier: GPL-2.0
/*
 * Truncates a file that others may have leased, in an event loop that sleeps nowhere
 * but in poll(): what a file server does that has one thread for all clients.
 *
 *   change FILE SIZE
 *
 * ftruncate() would wait for the holders of leases, for a grace period at most, and the
 * whole loop with it. So the loop asks first:
 *
 *   1. LAYOUT_LEASE_BREAK, on the range that will change. The holders are told.
 *   2. EWOULDBLOCK: something is still registered there. Go on with other work, and
 *      ask again when a timer says so. The grace period of the holders runs.
 *   3. 0: nothing is. Make the change now: nobody is granted a lease in the range
 *      for as long again as we have waited (at least a second, at most 15), so
 *      that it finds nobody to wait for. (Nothing is kept free where nobody had
 *      a lease when we asked.)
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "demo.h"

#define TICK_MS	50

/* Steps 1 to 3: true when it is done. */
static int try_change(int fd, off_t size)
{
	struct layout_lease range = {
		.size = sizeof(range),
		.flags = LAYOUT_LEASE_BREAK,
		.type = F_UNLCK,
		.start = size,
		.len = 0,		/* to infinity, as a truncate changes it */
	};

	if (!fcntl(fd, F_SETLAYOUT, &range) || errno == EINVAL) {
		/* EINVAL: a kernel without leases, on which nobody holds one. */
		if (ftruncate(fd, size))
			die("ftruncate");
		return 1;
	}
	if (errno != EWOULDBLOCK)
		die("LAYOUT_LEASE_BREAK");
	return 0;
}

int main(int argc, char **argv)
{
	const struct itimerspec tick = {
		.it_value = { .tv_nsec = TICK_MS * 1000000L },
		.it_interval = { .tv_nsec = TICK_MS * 1000000L },
	};
	struct pollfd pfd = { .events = POLLIN };
	long begun, before, worst = 0, ms;
	int fd, done = 0;
	__u64 ticks;
	off_t size;

	demo_who = "changer";
	if (argc != 3) {
		fprintf(stderr, "usage: change FILE SIZE\n");
		return 2;
	}
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	size = strtoll(argv[2], NULL, 0);
	pfd.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (fd < 0 || pfd.fd < 0 || timerfd_settime(pfd.fd, 0, &tick, NULL))
		die(argv[1]);

	begun = demo_ms();
	while (!done) {
		/* Here are the clients of a server, too. */
		if (poll(&pfd, 1, -1) < 0)
			die("poll");
		before = demo_ms();
		if (read(pfd.fd, &ticks, sizeof(ticks)) != sizeof(ticks))
			die("timerfd");
		done = try_change(fd, size);
		ms = demo_ms() - before;
		if (ms > worst)
			worst = ms;
	}
	say("truncated after %ld ms; no turn of the loop took more than %ld ms",
	    demo_ms() - begun, worst);
	return 0;
}
