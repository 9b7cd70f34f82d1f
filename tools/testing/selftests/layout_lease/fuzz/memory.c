// SPDX-License-Identifier: GPL-2.0
/*
 * The memory that the arguments of requests lie in.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"

/* Two pages, between some that cannot be accessed; and one read-only. */
static unsigned char *arena, *before, *read_only, *writable_alias, *unmapped;
/* And a page that comes and goes, with a mapping of it that stays. */
static unsigned char *racing, *racing_alias;
static int racing_fd = -1;

#define ARENA		(2 * ll_pg)
#define FRAME		32	/* bytes around the struct that must stay */

/* One page, mapped twice. */
static int map_twice(unsigned char **one, unsigned char **two, int prot)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, ll_pg))
		return -errno;
	*one = mmap(NULL, ll_pg, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	*two = mmap(NULL, ll_pg, prot, MAP_SHARED, fd, 0);
	return *one == MAP_FAILED || *two == MAP_FAILED ? -ENOMEM : fd;
}

int map_arena(void)
{
	int fd = map_twice(&writable_alias, &read_only, PROT_READ);

	racing_fd = map_twice(&racing_alias, &racing, PROT_READ | PROT_WRITE);
	if (fd < 0 || racing_fd < 0)
		return -ENOMEM;
	close(fd);
	arena = mmap(NULL, 8 * ll_pg, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	before = malloc(ARENA);
	if (arena == MAP_FAILED || !before)
		return -ENOMEM;
	arena += ll_pg;
	if (mprotect(arena, ARENA, PROT_READ | PROT_WRITE))
		return -errno;
	memset(arena, 0xa5, ARENA);
	unmapped = arena + ARENA + 2 * ll_pg;
	return munmap(unmapped, 2 * ll_pg) ? -errno : 0;
}

static const unsigned long kernel_addresses[] = {
	0xffffffff81000000, 0xffff888000000000, 0xffffffffffffffe0,
	0x00007ffffffff000, 0x00007fffffffffe8, 0x0000800000000000,
};

/* In a page that is mapped twice. */
static void place_twice(struct request *r, unsigned char *page,
			unsigned char *alias, size_t room)
{
	size_t offset = once_in(2) ? ll_pg - room : 0;

	r->ptr = (unsigned long)page + offset;
	memset(alias, 0, ll_pg);
	memcpy(alias + offset, &r->arg, sizeof(r->arg));
	if (r->bad_tail)
		alias[offset + room - 1] = 1;
}

/* What must not change but for the struct. */
static void frame(const struct request *r, unsigned char **from,
		  unsigned char **to)
{
	unsigned char *at = (void *)r->ptr;

	*from = at - arena < FRAME ? arena : at - FRAME;
	*to = at + r->len + FRAME;
	if (*to > arena + ARENA)
		*to = arena + ARENA;
}

void place_argument(struct request *r)
{
	size_t room = r->arg.size > ll_pg ? ll_pg : r->arg.size;
	unsigned char *at, *from, *to;

	if (room < sizeof(r->arg))
		room = sizeof(r->arg);
	r->len = room;
	switch (r->where) {
	case GOOD:
		at = arena + dice(ARENA - room + 1);
		break;
	case PAGE_END:
		at = arena + ARENA - room;
		break;
	case CROSSING:
		/* At least the size can be read in three of four cases. */
		r->len = 1 + dice(LAYOUT_LEASE_SIZE_VER0 - 1);
		at = arena + ARENA - r->len;
		break;
	case READ_ONLY:
		place_twice(r, read_only, writable_alias, room);
		return;
	case RACING:
		place_twice(r, racing, racing_alias, room);
		return;
	case NO_ACCESS:
		r->ptr = (unsigned long)arena + ARENA;
		return;
	case UNMAPPED:
		r->ptr = once_in(2) ? (unsigned long)unmapped : dice(4096);
		return;
	case KERNEL:
		r->ptr = PICK(kernel_addresses);
		return;
	default:
		return;
	}
	r->ptr = (unsigned long)at;
	frame(r, &from, &to);
	memset(from, 0xa5, to - from);
	memset(at, 0, r->len);
	memcpy(at, &r->arg, r->len < sizeof(r->arg) ? r->len : sizeof(r->arg));
	if (r->bad_tail && r->len == room)
		at[room - 1] = 1;
	memcpy(before, from, to - from);
}

void read_argument(const struct request *r, struct layout_lease *arg)
{
	unsigned long offset = r->ptr - (unsigned long)racing;

	memcpy(arg, r->where == RACING ? racing_alias + offset : (void *)r->ptr,
	       sizeof(*arg));
}

bool memory_is(const struct request *r, const struct layout_lease *arg)
{
	size_t head = sizeof(*arg) < r->len ? sizeof(*arg) : r->len;
	unsigned char *at = (void *)r->ptr, *from, *to;
	struct layout_lease now = *arg;
	size_t told;
	bool same;

	if (r->where == READ_ONLY)
		return !memcmp(at, &r->arg, sizeof(r->arg));
	if (r->where > CROSSING)
		return true;
	frame(r, &from, &to);
	/* Any generation will do if there is a lease, as far as it was asked for. */
	told = r->arg.size - offsetof(struct layout_lease, generation);
	if (told > sizeof(now.generation))
		told = sizeof(now.generation);
	if (r->cmd == F_GETLAYOUT && arg->type != F_UNLCK && head == sizeof(now))
		memcpy(&now.generation, at + offsetof(struct layout_lease,
						      generation), told);
	memcpy(before + (at - from), &now, head);
	same = !memcmp(before, from, to - from);
	memset(at, 0xa5, r->len);
	return same;
}

static pthread_t racer;
static bool stop_race;

static void *race(void *unused)
{
	while (!__atomic_load_n(&stop_race, __ATOMIC_RELAXED)) {
		munmap(racing, ll_pg);
		sched_yield();
		if (mmap(racing, ll_pg, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED_NOREPLACE, racing_fd, 0) !=
		    racing)
			complain("the racing page cannot be mapped");
		sched_yield();
	}
	return NULL;
}

int race_start(void)
{
	return -pthread_create(&racer, NULL, race, NULL);
}

void race_stop(void)
{
	__atomic_store_n(&stop_race, true, __ATOMIC_RELAXED);
	pthread_join(racer, NULL);
}
