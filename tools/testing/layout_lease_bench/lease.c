// SPDX-License-Identifier: GPL-2.0
/* Taking and returning leases, beside F_SETLEASE, by how many there are. */
#include "bench.h"

#define ROUNDS	17
#define FAR	(1UL << 40)	/* where nobody else has leases */

static char path[PATH_MAX];

static void plain(const char *how)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	measure(ROUNDS, "setlease/%s", how) {
		begin();
		end(fcntl(fd, F_SETLEASE, F_RDLCK));
		fcntl(fd, F_SETLEASE, F_UNLCK);
	}
	measure(ROUNDS, "getlease/%s", how) {
		fcntl(fd, F_SETLEASE, F_RDLCK);
		begin();
		end(fcntl(fd, F_GETLEASE));
	}
	measure(ROUNDS, "setlease-unlck/%s", how) {
		fcntl(fd, F_SETLEASE, F_RDLCK);
		begin();
		end(fcntl(fd, F_SETLEASE, F_UNLCK));
	}
	close(fd);
}

static void layout(const char *how)
{
	struct layout_lease get = { .size = sizeof(get), .start = FAR, .len = PAGE };
	int fd = open(path, O_RDWR | O_CLOEXEC), fd2;
	unsigned long at = FAR;

	measure(ROUNDS, "first/%s", how) {
		begin();
		end(lease(fd, F_RDLCK, FAR, PAGE));
		lease(fd, F_UNLCK, FAR, PAGE);
	}
	lease(fd, F_RDLCK, FAR, PAGE);
	measure(ROUNDS, "further/%s", how) {
		at += 2 * PAGE;
		begin();
		end(lease(fd, F_RDLCK, at, PAGE));
	}
	measure(ROUNDS, "again/%s", how) {
		begin();
		end(lease(fd, F_RDLCK, FAR, PAGE));
	}
	measure(ROUNDS, "get/%s", how) {
		get.type = 0;
		get.start = FAR;
		get.len = PAGE;
		begin();
		end(fcntl(fd, F_GETLAYOUT, &get));
	}
	measure(ROUNDS, "unlck/%s", how) {
		lease(fd, F_RDLCK, FAR + PAGE * 1000, PAGE);
		begin();
		end(lease(fd, F_UNLCK, FAR + PAGE * 1000, PAGE));
	}
	close(fd);
	measure(ROUNDS, "close/%s", how) {
		fd2 = open(path, O_RDWR | O_CLOEXEC);
		lease(fd2, F_RDLCK, FAR, PAGE);
		begin();
		end(close(fd2));
	}
}

/* One more lease on all of a file. */
static void whole_file(const char *how)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	measure(ROUNDS, "whole-file/%s", how) {
		begin();
		end(lease(fd, F_RDLCK, 0, 0));
		lease(fd, F_UNLCK, 0, 0);
	}
	close(fd);
}

/* Beside so many ranges that so many open files hold together. */
static void ranges(unsigned int files, unsigned int count)
{
	char how[64];
	unsigned int i;
	int fd[10];

	for (i = 0; i < files; i++)
		fd[i] = open(path, O_RDWR | O_CLOEXEC);
	for (i = 0; i < count; i++)
		if (lease(fd[i % files], F_RDLCK, i * 2 * PAGE, PAGE)) {
			failed(strerror(errno), "%u ranges", i);
			break;
		}
	snprintf(how, sizeof(how), "%u-ranges-of-%u", count, files);
	layout(how);
	for (i = 0; i < files; i++)
		close(fd[i]);
}

/* Beside so many open files that hold a lease on all of it. */
static void holders(unsigned int count, bool layouts)
{
	int *fd = calloc(count, sizeof(*fd));
	char how[64];
	unsigned int i;

	for (i = 0; i < count; i++) {
		fd[i] = open(path, (layouts ? O_RDWR : O_RDONLY) | O_CLOEXEC);
		if (layouts ? lease(fd[i], F_RDLCK, 0, 0) :
			      fcntl(fd[i], F_SETLEASE, F_RDLCK)) {
			failed(strerror(errno), "%u holders", i);
			break;
		}
	}
	snprintf(how, sizeof(how), "%u-holders", count);
	if (layouts)
		whole_file(how);
	else
		plain(how);
	for (i = 0; i < count; i++)
		close(fd[i]);
	free(fd);
}

void leases(void)
{
	static const unsigned int counts[] = { 1, 10, 100, 1000, 10000, 65000 };
	unsigned int i;

	snprintf(path, sizeof(path), "%s/lease", dax1);
	close(new_file(path, 64 * KB));
	plain("0-holders");
	for (i = 0; i < 4; i++)
		holders(counts[i], false);
	if (has_leases) {
		/* The first one in the system has more to do. */
		lease_elsewhere();
		layout("0-ranges");
		for (i = 0; i < ARRAY_SIZE(counts); i++)
			ranges(1, counts[i]);
		ranges(10, 65000);
		whole_file("0-holders");
		for (i = 0; i < 4; i++)
			holders(counts[i], true);
		no_lease_elsewhere();
	}
	unlink(path);
}
