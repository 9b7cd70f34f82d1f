// SPDX-License-Identifier: GPL-2.0
/*
 * Random requests in random order. Some processes take turns, so that a model
 * of all leases knows what each call must answer: an error that the request
 * deserves, and nothing has changed; or else success, and exactly these leases.
 * Then without turns, where it is known which errors are possible, and with
 * memory that comes and goes under the kernel's feet.
 *
 * FUZZ_SEED repeats a run, FUZZ_CALLS is its length.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/userfaultfd.h>

#include "kselftest_harness.h"
#include "layout_lease_lib.h"

#define CALLS		80000
#define LIMIT_SYSCTL	"/proc/sys/user/max_layout_leases"
#define NO_LIMIT	1000000
#define MB2		(2ULL << 20)	/* breaks are rounded to this */
#define NOBODY		65534

#define PROCS		4	/* that take turns, */
#define UNPRIVILEGED	3	/* this one without privileges, */
#define MAX_LIVE	(PROCS + 1)	/* and a child of one of them */
#define SLOTS		20	/* file descriptors of a process */
#define DESCS		128	/* open file descriptions */

/* What is opened. */
enum file {
	DAX,			/* of root, everybody may write */
	DAX_NOBODY,		/* of the user nobody, has no name */
	TMPFS,
	DIRECTORY,
	DEVICE,
	PIPE,
	SOCKET,
	PATH_ONLY,		/* DAX with O_PATH */
	FILES
};

static bool is_dax(enum file file)
{
	return file == DAX || file == DAX_NOBODY;
}

static bool is_regular(enum file file)
{
	return is_dax(file) || file == TMPFS;
}

/*
 * Ranges begin and end at these offsets, so that a lease is a number of pieces
 * between two of them. The last piece reaches to infinity. Breaks are rounded
 * to some of them.
 */
static const __u64 points[] = {
	0, 1, 4095, 4096, 4097, MB2 - 1, MB2, MB2 + 4096, 2 * MB2,
	2 * MB2 + 1, 3 * MB2, (1ULL << 40), (1ULL << 63) - MB2,
	(1ULL << 63) - 1, 1ULL << 63,
};

#define PIECES		ARRAY_SIZE(points)
#define END		(PIECES - 1)	/* where a finite range can end */

struct piece {
	__u32 id;		/* of the lease, 0: none */
	__u16 kind;
	__u16 state;
};

/* An open file description and its leases. */
struct desc {
	enum file file;
	bool writable;
	int refs;
	int holder;		/* serial of a process; 0: no leases */
	bool nobody;		/* pays for the leases */
	struct piece piece[PIECES];
};

/* The state of the world, shared by all processes. */
struct world {
	__u64 random;
	long calls, total;
	int serial, live[MAX_LIVE];
	__u32 id;
	long limit;
	struct desc desc[DESCS];
};

static struct world *world;
static __u64 *randomness;	/* that of the world, or of this process */

/* The first thing that was wrong, for the test. */
static struct report {
	bool failed;
	char what[512];
	long calls;
	long answers[134];	/* by errno */
} *report;

/* This process. */
static struct {
	int serial;
	bool privileged;
	int fd[SLOTS], desc[SLOTS];
} me;

/* O_PATH descriptors of the files, to open them by. */
static int base[FILES];

static __u64 next_random(__u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dULL >> 16;
}

static unsigned int dice(unsigned int sides)
{
	return next_random(randomness) % sides;
}

static bool once_in(unsigned int n)
{
	return dice(n) == 0;
}

#define PICK(array)	((array)[dice(ARRAY_SIZE(array))])

static void complain(const char *format, ...)
{
	va_list args;

	if (report->failed)
		return;
	va_start(args, format);
	vsnprintf(report->what, sizeof(report->what), format, args);
	va_end(args);
	report->failed = true;
}

/* Sets of errors; 0 is a member like any other. */
struct errors {
	__u64 bits[3];
};

static void add(struct errors *set, int error)
{
	set->bits[error / 64] |= 1ULL << error % 64;
}

static bool has(const struct errors *set, int error)
{
	return error >= 0 && error < 64 * (int)ARRAY_SIZE(set->bits) &&
		set->bits[error / 64] >> error % 64 & 1;
}

static bool is_empty(const struct errors *set)
{
	return !set->bits[0] && !set->bits[1] && !set->bits[2];
}

/* The model */

static bool is_alive(int serial)
{
	unsigned int i;

	for (i = 0; i < MAX_LIVE; i++)
		if (world->live[i] == serial)
			return true;
	return false;
}

/* Is there a lease that begins at piece i? */
static bool begins(const struct desc *d, unsigned int i)
{
	return d->piece[i].id && (!i || d->piece[i - 1].id != d->piece[i].id);
}

static unsigned int end_of(const struct desc *d, unsigned int i)
{
	__u32 id = d->piece[i].id;

	while (i < PIECES && d->piece[i].id == id)
		i++;
	return i;
}

static int count(const struct desc *d)
{
	unsigned int i;
	int n = 0;

	for (i = 0; i < PIECES; i++)
		n += begins(d, i);
	return n;
}

static int count_all(bool nobody)
{
	int i, n = 0;

	for (i = 0; i < DESCS; i++)
		if (world->desc[i].holder && world->desc[i].nobody == nobody)
			n += count(&world->desc[i]);
	return n;
}

/* Room for some more leases? */
static bool can_charge(bool nobody, int more)
{
	return more <= 0 || count_all(nobody) + more <= world->limit;
}

static void forget(struct desc *d)
{
	memset(d->piece, 0, sizeof(d->piece));
	d->holder = 0;
}

static bool overlaps(const struct desc *d, unsigned int lo, unsigned int hi)
{
	for (; lo < hi; lo++)
		if (d->piece[lo].id)
			return true;
	return false;
}

/* Put a lease, or none (kind F_UNLCK), in the place of what is there. */
static void replace(struct desc *d, unsigned int lo, unsigned int hi, int kind,
		    int state)
{
	struct piece piece = {};
	unsigned int i;

	if (kind != F_UNLCK)
		piece = (struct piece){ ++world->id, kind, state };
	for (i = lo; i < hi; i++)
		d->piece[i] = piece;
}

static bool conflicts(const struct desc *d, unsigned int lo, unsigned int hi,
		      int kind)
{
	for (; lo < hi; lo++)
		if (d->piece[lo].id &&
		    d->piece[lo].state != LAYOUT_LEASE_REVOKED &&
		    (kind == F_WRLCK || d->piece[lo].kind == F_WRLCK))
			return true;
	return false;
}

static int model_grant(struct desc *d, unsigned int lo, unsigned int hi,
		       int kind)
{
	struct desc *other, after;

	if (d->holder && d->holder != me.serial && is_alive(d->holder))
		return EBUSY;
	if (d->holder && !is_alive(d->holder))
		forget(d);
	for (other = world->desc; other < world->desc + DESCS; other++)
		if (other->holder && other->file == d->file &&
		    !is_alive(other->holder) && overlaps(other, lo, hi))
			forget(other);
	for (other = world->desc; other < world->desc + DESCS; other++)
		if (other->holder && other->file == d->file &&
		    other->holder != me.serial &&
		    conflicts(other, lo, hi, kind))
			return EAGAIN;
	after = *d;
	replace(&after, lo, hi, kind, LAYOUT_LEASE_GRANTED);
	if (!d->holder)
		after.nobody = !me.privileged;
	if (!can_charge(after.nobody, count(&after) - count(d)))
		return ENOLCK;
	after.holder = me.serial;
	*d = after;
	return 0;
}

static int model_unlock(struct desc *d, unsigned int lo, unsigned int hi)
{
	struct desc after = *d;

	if (!d->holder)
		return 0;
	if (d->holder != me.serial && is_alive(d->holder))
		return EBUSY;
	replace(&after, lo, hi, F_UNLCK, 0);
	if (!can_charge(d->nobody, count(&after) - count(d)))
		return ENOLCK;
	*d = after;
	if (!count(d))
		forget(d);
	return 0;
}

/* A break takes its range out of each lease, or all if there is no room. */
static void model_break_one(struct desc *d, unsigned int lo, unsigned int hi)
{
	unsigned int i, end, from, to;

	for (i = 0; i < PIECES; i = end) {
		end = end_of(d, i);
		if (d->piece[i].state != LAYOUT_LEASE_GRANTED || end <= lo ||
		    i >= hi)
			continue;
		from = lo > i ? lo : i;
		to = hi < end ? hi : end;
		if (!can_charge(d->nobody, (from > i) + (to < end))) {
			from = i;
			to = end;
		}
		replace(d, from, to, d->piece[i].kind, LAYOUT_LEASE_REVOKED);
	}
}

static unsigned int point(__u64 offset)
{
	unsigned int i;

	for (i = 0; i < PIECES && points[i] != offset; i++)
		;
	return i;
}

/* Pieces [lo, hi) of a file are broken. */
static void model_break(enum file file, unsigned int lo, unsigned int hi)
{
	struct desc *d;

	lo = point(points[lo] & ~(MB2 - 1));
	if (hi >= END)
		hi = PIECES;
	else
		hi = point((points[hi] + MB2 - 1) & ~(MB2 - 1));
	for (d = world->desc; d < world->desc + DESCS; d++)
		if (d->holder && d->file == file)
			model_break_one(d, lo, hi);
}

/* Which pieces F_GETLAYOUT looks at. */
static void model_asked(const struct layout_lease *arg, unsigned int *lo,
			unsigned int *hi)
{
	if (arg->flags & LAYOUT_LEASE_NEXT) {
		*lo = *hi;
		*hi = PIECES;
	}
}

static void model_query(const struct desc *d, unsigned int lo, unsigned int hi,
			struct layout_lease *arg)
{
	unsigned int i, end;

	model_asked(arg, &lo, &hi);

	arg->type = F_UNLCK;
	arg->state = LAYOUT_LEASE_NONE;
	arg->remaining_ms = 0;
	for (i = lo; i < hi; i++)
		if (d->piece[i].id &&
		    !(arg->flags & LAYOUT_LEASE_BROKEN &&
		      d->piece[i].state == LAYOUT_LEASE_GRANTED))
			break;
	if (i == hi)
		return;
	while (!begins(d, i))
		i--;
	end = end_of(d, i);
	arg->type = d->piece[i].kind;
	arg->state = d->piece[i].state;
	arg->start = points[i];
	arg->len = end == PIECES ? 0 : points[end] - points[i];
}

/* Requests */

enum where {
	GOOD,
	PAGE_END,		/* nothing is mapped behind it */
	CROSSING,		/* the end of what is mapped is in its middle */
	READ_ONLY,
	NO_ACCESS,
	UNMAPPED,
	KERNEL,
	RACING,			/* see race() */
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

static int map_arena(void)
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
	return once_in(16) ? next_random(randomness) &
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
	r->arg.type = once_in(16) ? next_random(randomness) : PICK(types);
	/* Both are only for answers. */
	r->arg.state = next_random(randomness);
	r->arg.remaining_ms = next_random(randomness);
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

/* Put the struct where it belongs, and remember what is around it. */
static void place(struct request *r)
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

/* Is memory as place() left it, but for the struct? That one is arg now. */
static bool memory_is(const struct request *r, const struct layout_lease *arg)
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

static void random_request(struct request *r, bool race)
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
	place(r);
}

/* What a request deserves that is wrong in itself, whoever holds leases. */
static void wrong_lease(const struct request *r, const struct desc *d,
			struct errors *set)
{
	bool mine = me.privileged || d->file == DAX_NOBODY;

	if (!mine)
		add(set, EACCES);
	if (r->arg.type == F_WRLCK && !d->writable)
		add(set, EACCES);
	if (!is_dax(d->file))
		add(set, EOPNOTSUPP);
	if (r->arg.flags)
		add(set, EINVAL);
}

static void wrong_unlock(const struct request *r, struct errors *set)
{
	switch (r->arg.flags) {
	case LAYOUT_LEASE_SEIZE:
	case LAYOUT_LEASE_SEIZE_FS:
		if (!me.privileged)
			add(set, EPERM);
		return;
	case 0:
	case LAYOUT_LEASE_REVOKE:
		return;
	default:
		add(set, EINVAL);
	}
}

static bool seizes_fs(const struct request *r)
{
	return r->cmd == F_SETLAYOUT && r->arg.type == F_UNLCK &&
		r->arg.flags == LAYOUT_LEASE_SEIZE_FS;
}

static void wrong_set(const struct request *r, const struct desc *d,
		      struct errors *set)
{
	if (seizes_fs(r)) {
		if (r->arg.start || r->arg.len)
			add(set, EINVAL);
	} else if (!is_regular(d->file) || r->bad_range) {
		add(set, EINVAL);
	}
	if (r->other_type)
		add(set, EINVAL);
	else if (r->arg.type == F_UNLCK)
		wrong_unlock(r, set);
	else if (r->arg.type == F_RDLCK || r->arg.type == F_WRLCK)
		wrong_lease(r, d, set);
	else
		add(set, EINVAL);
}

/* false: nothing of the struct has reached the kernel. */
static bool wrong_memory(const struct request *r, struct errors *set)
{
	if (r->where >= NO_ACCESS ||
	    (r->where == CROSSING && r->len < sizeof(r->arg.size)))
		add(set, EFAULT);
	else if (r->arg.size < LAYOUT_LEASE_SIZE_VER0)
		add(set, EINVAL);
	else if (r->arg.size > ll_pg)
		add(set, E2BIG);
	else if (r->where == CROSSING)
		add(set, EFAULT);
	else if (r->bad_tail)
		add(set, E2BIG);
	return is_empty(set);
}

static struct errors deserved(const struct request *r)
{
	struct errors set = {};
	const struct desc *d;

	if (me.desc[r->slot] < 0 ||
	    world->desc[me.desc[r->slot]].file == PATH_ONLY) {
		add(&set, EBADF);
		return set;
	}
	d = &world->desc[me.desc[r->slot]];
	if (r->cmd != F_SETLEASE && !wrong_memory(r, &set))
		return set;
	if (r->cmd != F_GETLAYOUT) {
		wrong_set(r, d, &set);
		return set;
	}
	if (r->arg.flags & ~(LAYOUT_LEASE_BROKEN | LAYOUT_LEASE_NEXT) ||
	    r->bad_range || !is_regular(d->file))
		add(&set, EINVAL);
	else if (r->where == READ_ONLY)
		add(&set, EFAULT);
	return set;
}

/* What a request that is right answers, and what it does. */
static int model_call(const struct request *r, struct layout_lease *arg)
{
	struct desc *d = &world->desc[me.desc[r->slot]];

	if (r->cmd == F_GETLAYOUT) {
		model_query(d, r->lo, r->hi, arg);
		return 0;
	}
	if (r->arg.type != F_UNLCK)
		return model_grant(d, r->lo, r->hi, r->arg.type);
	switch (r->arg.flags) {
	case LAYOUT_LEASE_SEIZE:
		model_break(d->file, r->lo, r->hi);
		return 0;
	case LAYOUT_LEASE_SEIZE_FS:
		if (is_dax(d->file) || d->file == DIRECTORY) {
			model_break(DAX, 0, PIECES);
			model_break(DAX_NOBODY, 0, PIECES);
		}
		return 0;
	}
	return model_unlock(d, r->lo, r->hi);
}

static const char *describe(const struct request *r)
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

/* A seizure when there is room for few leases: who comes first is not told. */
static bool is_ambiguous(const struct request *r)
{
	return world->limit != NO_LIMIT && r->arg.type == F_UNLCK &&
		r->arg.flags & (LAYOUT_LEASE_SEIZE | LAYOUT_LEASE_SEIZE_FS);
}

static void count_answer(int error)
{
	if (error < (int)ARRAY_SIZE(report->answers))
		report->answers[error]++;
}

static void take_turn(void)
{
	struct layout_lease arg, is = {};
	struct request r;
	struct errors set;
	int ret, expected;

	do {
		random_request(&r, false);
	} while (is_ambiguous(&r));
	arg = r.arg;
	set = deserved(&r);
	ret = fcntl(r.fd, r.cmd, r.ptr) ? errno : 0;
	count_answer(ret);
	if (is_empty(&set)) {
		expected = model_call(&r, &arg);
		if (ret != expected)
			complain("%s: %s instead of %s", describe(&r),
				 strerror(ret), strerror(expected));
	} else if (!has(&set, ret)) {
		complain("%s: %s, which the request does not deserve",
			 describe(&r), strerror(ret));
	}
	if (r.cmd != F_SETLEASE && r.where <= PAGE_END)
		memcpy(&is, (void *)r.ptr, sizeof(is));
	if (r.cmd != F_SETLEASE && !memory_is(&r, &arg))
		complain("%s: wrong memory, expected type %#x, state %d, %u ms, range %#llx+%#llx: type %#x, state %d, %u ms, range %#llx+%#llx",
			 describe(&r), arg.type, arg.state, arg.remaining_ms,
			 (unsigned long long)arg.start,
			 (unsigned long long)arg.len,
			 is.type, is.state, is.remaining_ms,
			 (unsigned long long)is.start,
			 (unsigned long long)is.len);
}

/* What else processes do with files. */

static int open_file(enum file file, bool writable)
{
	int flags = (writable ? O_RDWR : O_RDONLY) | O_NONBLOCK;
	char path[32];
	int fds[2];

	switch (file) {
	case PIPE:
		if (pipe(fds))
			return -1;
		close(fds[!writable]);
		return fds[writable];
	case SOCKET:
		return socket(AF_UNIX, SOCK_STREAM, 0);
	case PATH_ONLY:
		flags = O_PATH;
		break;
	case DIRECTORY:
		flags = O_RDONLY;
		break;
	default:
		break;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", base[file]);
	return open(path, flags);
}

static int free_desc(void)
{
	int i;

	for (i = 0; i < DESCS; i++)
		if (!world->desc[i].refs)
			return i;
	return -1;
}

static void do_open(int slot)
{
	enum file file = once_in(4) ? dice(FILES) : DAX + dice(2);
	int desc = free_desc(), fd;
	bool writable = !once_in(4);

	if (me.desc[slot] >= 0 || desc < 0)
		return;
	fd = open_file(file, writable);
	if (fd < 0) {
		/* A plain lease may be in the way. */
		if (errno != EWOULDBLOCK)
			complain("open of file %d: %s", file, strerror(errno));
		return;
	}
	world->desc[desc] = (struct desc) {
		.file = file, .writable = writable, .refs = 1,
	};
	me.fd[slot] = fd;
	me.desc[slot] = desc;
}

static void put_desc(int slot)
{
	struct desc *d = &world->desc[me.desc[slot]];

	if (!--d->refs)
		forget(d);
	me.desc[slot] = -1;
}

static void do_close(int slot)
{
	if (me.desc[slot] < 0)
		return;
	if (close(me.fd[slot]))
		complain("close: %s", strerror(errno));
	put_desc(slot);
	/* Slots of closed files are used, too. */
	me.fd[slot] = once_in(2) ? -1 : 999999;
}

static void do_dup(int from, int to)
{
	if (me.desc[from] < 0 || me.desc[to] >= 0)
		return;
	me.fd[to] = dup(me.fd[from]);
	if (me.fd[to] < 0) {
		complain("dup: %s", strerror(errno));
		return;
	}
	me.desc[to] = me.desc[from];
	world->desc[me.desc[to]].refs++;
}

/* Plain leases have rules of their own, and no influence on layout leases. */
static void do_plain_lease(int slot)
{
	static const int types[] = { F_RDLCK, F_WRLCK, F_UNLCK };
	int type = PICK(types);

	fcntl(me.fd[slot], F_SETLEASE, type);
	if (me.desc[slot] >= 0 && type == F_UNLCK &&
	    fcntl(me.fd[slot], F_GETLEASE) > F_UNLCK)
		complain("F_GETLEASE tells a type that there is not");
}

static void do_signal(int slot)
{
	static const int signals[] = { 0, SIGIO, SIGUSR1, 65, -1 };
	int sig = PICK(signals);

	if (once_in(2))
		fcntl(me.fd[slot], F_SETOWN, once_in(2) ? getpid() : 0);
	else if (!fcntl(me.fd[slot], F_SETSIG, sig ?: SIGRTMIN) &&
		 (sig == 65 || sig == -1))
		complain("F_SETSIG takes signal %d", sig);
}

/* Layout changes of a file that nothing is attached to. */
static void do_change(int slot)
{
	unsigned int lo = dice(point(3 * MB2));
	unsigned int hi = lo + 1 + dice(point(3 * MB2) - lo);
	const struct desc *d;
	int ret;

	/* With few leases left it is not told who is broken first. */
	if (me.desc[slot] < 0 || world->limit != NO_LIMIT)
		return;
	d = &world->desc[me.desc[slot]];
	if (!is_dax(d->file) || !d->writable)
		return;
	if (once_in(2)) {
		/* There is nothing to punch behind the end. */
		ret = ftruncate(me.fd[slot], 3 * MB2) ? -errno :
			ll_punch(me.fd[slot], points[lo],
				 points[hi] - points[lo]);
		model_break(d->file, lo, hi);
	} else {
		/* From a size that takes nothing away. */
		ret = ftruncate(me.fd[slot], 3 * MB2) ||
			ftruncate(me.fd[slot], 0) ? -errno : 0;
		model_break(d->file, 0, PIECES);
	}
	if (ret)
		complain("a layout change: %s", strerror(-ret));
}

/* Leave room for few leases, or take the limit off. */
static void do_limit(void)
{
	if (!me.privileged)
		return;
	if (world->limit == NO_LIMIT)
		world->limit = count_all(once_in(2)) + dice(3);
	else
		world->limit = NO_LIMIT;
	if (ll_write_long(LIMIT_SYSCTL, world->limit))
		complain("cannot write " LIMIT_SYSCTL);
}

/* Are all leases of this process, and of all, what they must be? */
static void check_all(void)
{
	long leases = ll_proc_leases(), expected;
	struct layout_lease want, is;
	unsigned int i;
	int slot;

	expected = count_all(true) + count_all(false);
	if (leases != expected)
		complain("call %ld: /proc/layout_leases has %ld leases instead of %ld",
			 world->calls, leases, expected);
	for (slot = 0; slot < SLOTS; slot++) {
		const struct desc *d;

		if (me.desc[slot] < 0)
			continue;
		d = &world->desc[me.desc[slot]];
		for (i = 0; is_dax(d->file) && i < END; i++) {
			ll_getlayout(me.fd[slot], points[i],
				     points[i + 1] - points[i], &is);
			want = is;
			want.start = points[i];
			want.len = points[i + 1] - points[i];
			model_query(d, i, i + 1, &want);
			if (memcmp(&want, &is, sizeof(is)))
				complain("call %ld: a lease is not what it was",
					 world->calls);
		}
	}
}

static bool is_over(void)
{
	return report->failed || world->calls >= world->total;
}

static void act(bool may_fork);

/* A child inherits all open files and no lease. */
static void do_fork(void)
{
	int serial = ++world->serial, slot, status, n = 1 + dice(64);
	pid_t pid;

	world->live[PROCS] = serial;
	for (slot = 0; slot < SLOTS; slot++)
		if (me.desc[slot] >= 0)
			world->desc[me.desc[slot]].refs++;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		me.serial = serial;
		while (n-- && !is_over())
			act(false);
		for (slot = 0; slot < SLOTS; slot++)
			if (me.desc[slot] >= 0)
				put_desc(slot);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		complain("a child ended with status %#x", status);
	world->live[PROCS] = 0;
}

static void act(bool may_fork)
{
	int slot = dice(SLOTS);

	switch (dice(48)) {
	case 0:
	case 1:
	case 2:
		do_open(slot);
		return;
	case 3:
		do_close(slot);
		return;
	case 4:
		do_dup(dice(SLOTS), slot);
		return;
	case 5:
		do_plain_lease(slot);
		return;
	case 6:
		do_signal(slot);
		return;
	case 7:
		if (once_in(4))
			do_change(slot);
		return;
	case 8:
		if (once_in(4))
			do_limit();
		return;
	case 9:
		if (may_fork && once_in(16))
			do_fork();
		return;
	}
	take_turn();
	if (++world->calls % 2048 == 0)
		check_all();
}

/* A pipe for each process: who reads from his has the turn. */
static int turn[PROCS][2];

static void give_turn(int to)
{
	if (write(turn[to][1], "", 1) != 1)
		complain("cannot pass the turn on");
}

static void participate(int index)
{
	char byte;
	int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	me.serial = index + 1;
	me.privileged = index != UNPRIVILEGED;
	if (!me.privileged && ll_drop_privileges())
		_exit(1);
	while (!is_over() && read(turn[index][0], &byte, 1) == 1) {
		do {
			if (!is_over())
				act(true);
		} while (!is_over() && !once_in(16));
		if (!is_over())
			give_turn(dice(PROCS));
	}
	for (i = 0; i < PROCS; i++)
		give_turn(i);
	_exit(0);
}

static void ignore_signals(void)
{
	static const int signals[] = { SIGIO, SIGUSR1 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(signals); i++)
		signal(signals[i], SIG_IGN);
	signal(SIGRTMIN, SIG_IGN);
}

static void *map_shared(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Random, but never 0, and another one for each n. */
static __u64 seeded(__u64 seed, unsigned int n)
{
	__u64 state = (seed + n + 1) * 0x9e3779b97f4a7c15ULL;
	int i;

	state = state ?: 1;
	for (i = 0; i < 4; i++)
		next_random(&state);
	return state;
}

/* Files that are open in all processes. */
static void open_slots(void)
{
	int slot;

	for (slot = 0; slot < SLOTS; slot++) {
		me.fd[slot] = -1;
		me.desc[slot] = -1;
		if (!once_in(3))
			do_open(slot);
	}
}

static void close_slots(void)
{
	int slot;

	for (slot = 0; slot < SLOTS; slot++)
		do_close(slot);
}

static bool all_ended(pid_t *pid, bool may_be_killed)
{
	int i, n = PROCS, status;

	while (n) {
		ll_sleep_ms(10);
		for (i = 0; i < PROCS; i++) {
			if (!pid[i] || !waitpid(pid[i], &status, WNOHANG))
				continue;
			pid[i] = 0;
			n--;
			if (status && !(may_be_killed && status == SIGKILL)) {
				complain("a process ended with status %#x",
					 status);
				return false;
			}
		}
	}
	return true;
}

FIXTURE(fuzz) {
	struct ll_env env;
	long limit, refs;
	__u64 seed;
	int fd;			/* of a file that nobody else opens */
	pid_t pid[PROCS];
};

FIXTURE_SETUP(fuzz)
{
	const char *why = ll_env_init(&self->env, false);
	const char *dir = getenv("DAX1");
	char path[PATH_MAX];

	if (why)
		SKIP(return, "%s", why);
	self->limit = ll_read_long(LIMIT_SYSCTL, -1);
	ASSERT_EQ(0, ll_write_long(LIMIT_SYSCTL, NO_LIMIT));
	self->fd = open(self->env.path, O_RDWR);
	self->refs = ll_module_settle(self->fd);

	ASSERT_EQ(0, ll_mkfile(path, sizeof(path), dir, 0, 0));
	ASSERT_EQ(0, chmod(path, 0666));
	base[DAX] = open(path, O_PATH);
	ASSERT_EQ(0, unlink(path));
	ASSERT_EQ(0, ll_mkfile(path, sizeof(path), dir, 0, 0));
	ASSERT_EQ(0, chmod(path, 0666));
	ASSERT_EQ(0, chown(path, NOBODY, NOBODY));
	base[DAX_NOBODY] = open(path, O_PATH);
	ASSERT_EQ(0, unlink(path));
	base[TMPFS] = memfd_create("layout_lease", 0);
	base[DIRECTORY] = open(dir, O_PATH);
	base[DEVICE] = open("/dev/null", O_PATH);
	base[PATH_ONLY] = base[DAX];

	ASSERT_EQ(0, map_arena());
	world = map_shared(sizeof(*world));
	report = map_shared(sizeof(*report));
	ASSERT_NE(MAP_FAILED, world);
	ASSERT_NE(MAP_FAILED, report);
	self->seed = ll_env_number("FUZZ_SEED", ll_now_ms() ^ getpid());
	world->random = seeded(self->seed, 0);
	world->limit = NO_LIMIT;
	world->total = ll_env_number("FUZZ_CALLS", CALLS);
	randomness = &world->random;
	TH_LOG("FUZZ_SEED=%llu FUZZ_CALLS=%ld", (unsigned long long)self->seed,
	       world->total);
	ignore_signals();
}

FIXTURE_TEARDOWN(fuzz)
{
	int i;

	for (i = 0; i < PROCS; i++)
		if (self->pid[i] > 0)
			kill(self->pid[i], SIGKILL);
	ll_write_long(LIMIT_SYSCTL, self->limit);
	ll_env_exit(&self->env);
}

/* Nothing was wrong, and nothing is left. */
#define EXPECT_CLEAN()							\
	do {								\
		EXPECT_FALSE(report->failed) TH_LOG("%s", report->what); \
		EXPECT_EQ(0, ll_proc_leases());				\
		EXPECT_TRUE(ll_module_refs_become(self->refs));		\
	} while (0)

/* All that can be provoked. */
static const int answers[] = {
	0, EBADF, EFAULT, EINVAL, E2BIG, EACCES, EPERM, EOPNOTSUPP, EAGAIN,
	EBUSY, ENOLCK,
};

TEST_F_TIMEOUT(fuzz, in_turns, 1200)
{
	long start = ll_now_ms();
	unsigned int n;
	int i, slot;

	me.privileged = true;
	open_slots();
	for (i = 0; i < PROCS; i++) {
		world->live[i] = i + 1;
		ASSERT_EQ(0, pipe(turn[i]));
	}
	world->serial = PROCS;
	for (slot = 0; slot < SLOTS; slot++)
		if (me.desc[slot] >= 0)
			world->desc[me.desc[slot]].refs += PROCS;
	for (i = 0; i < PROCS; i++) {
		self->pid[i] = fork();
		ASSERT_LE(0, self->pid[i]);
		if (!self->pid[i])
			participate(i);
	}
	close_slots();
	give_turn(0);
	EXPECT_TRUE(all_ended(self->pid, false));
	TH_LOG("%ld calls in %ld ms", world->calls, ll_now_ms() - start);
	for (n = 0; n < ARRAY_SIZE(answers); n++) {
		TH_LOG("%ld times: %s", report->answers[answers[n]],
		       strerror(answers[n]));
		if (world->calls >= 20000 && !report->failed)
			EXPECT_LT(0, report->answers[answers[n]]);
	}
	EXPECT_CLEAN();
}

/* Without turns: what others do meanwhile is not known, only what they may do. */

/* Another thread takes the page of the request away and brings it back. */
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

static struct errors possible(const struct request *r)
{
	struct errors set = {};

	add(&set, 0);
	if (r->cmd == F_GETLAYOUT)
		return set;
	if (r->arg.type != F_UNLCK)
		add(&set, EAGAIN);
	if (r->arg.type != F_UNLCK || !(r->arg.flags & LAYOUT_LEASE_SEIZE))
		add(&set, EBUSY);
	return set;
}

/* May this be the answer to F_GETLAYOUT? */
static bool is_plausible(const struct request *r, const struct layout_lease *is)
{
	__u64 end = is->len ? is->start + is->len : ~0ULL;
	struct layout_lease want = r->arg;
	unsigned int lo = r->lo, hi = r->hi;

	model_asked(&r->arg, &lo, &hi);
	want.type = F_UNLCK;
	want.state = LAYOUT_LEASE_NONE;
	want.remaining_ms = 0;
	if (is->type == F_UNLCK)
		return !memcmp(is, &want, sizeof(want));
	want.type = is->type;
	want.state = is->state;
	want.start = is->start;
	want.len = is->len;
	want.generation = is->generation;
	return (is->type == F_RDLCK || is->type == F_WRLCK) &&
		/* Nothing is attached, so no break takes time. */
		(is->state == LAYOUT_LEASE_GRANTED ||
		 is->state == LAYOUT_LEASE_REVOKED) &&
		!memcmp(is, &want, sizeof(want)) &&
		point(is->start) < PIECES && (!is->len || point(end) < PIECES) &&
		lo < hi && (hi == PIECES || is->start < points[hi]) &&
		end > points[lo];
}

static void act_free(void)
{
	struct layout_lease answer;
	struct errors set, usual;
	struct request r, calm;
	int ret;

	/* The probes are on the same filesystem. */
	do {
		random_request(&r, true);
	} while (seizes_fs(&r));
	calm = r;
	if (r.where == RACING)
		calm.where = GOOD;
	set = deserved(&calm);
	usual = possible(&r);
	ret = fcntl(r.fd, r.cmd, r.ptr) ? errno : 0;
	if (!has(is_empty(&set) ? &usual : &set, ret) &&
	    !(r.where == RACING && ret == EFAULT))
		complain("%s: %s without turns", describe(&r), strerror(ret));
	if (r.cmd == F_SETLEASE)
		return;
	answer = r.arg;
	if (r.cmd == F_GETLAYOUT && !ret) {
		memcpy(&answer, r.where == RACING ?
		       racing_alias + (r.ptr - (unsigned long)racing) :
		       (void *)r.ptr, sizeof(answer));
		if (!is_plausible(&r, &answer))
			complain("%s: implausible answer type %#x, state %d, %u ms, range %#llx+%#llx",
				 describe(&r), answer.type, answer.state,
				 answer.remaining_ms,
				 (unsigned long long)answer.start,
				 (unsigned long long)answer.len);
	}
	if (!memory_is(&r, &answer))
		complain("%s: wrong memory without turns", describe(&r));
}

/* A lease that nobody has to do with. */
static void check_probe(int fd)
{
	struct layout_lease is;

	if (ll_getlayout(fd, 0, 0, &is) || is.type != F_WRLCK ||
	    is.state != LAYOUT_LEASE_GRANTED || is.start != ll_pg ||
	    is.len != ll_pg || is.remaining_ms)
		complain("the lease of the probe has changed");
}

static void run_free(__u64 seed, int index, long calls, bool die)
{
	struct world *mine = malloc(sizeof(*mine));
	char path[PATH_MAX];
	pthread_t racer;
	int probe, slot;
	long i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* What it opens itself, it knows alone. */
	memcpy(mine, world, sizeof(*mine));
	world = mine;
	randomness = &mine->random;
	*randomness = seeded(seed, index + 1);
	me.privileged = index % PROCS != UNPRIVILEGED;
	if (ll_mkfile(path, sizeof(path), getenv("DAX1"), 1, 0))
		_exit(1);
	probe = open(path, O_RDWR);
	unlink(path);
	if (ll_lease(probe, F_WRLCK, ll_pg, ll_pg) || map_arena() ||
	    (!me.privileged && ll_drop_privileges()) ||
	    pthread_create(&racer, NULL, race, NULL))
		_exit(2);
	if (die)
		calls = dice(calls);
	for (i = 0; i < calls && !report->failed; i++) {
		slot = dice(SLOTS);
		switch (dice(32)) {
		case 0:
			do_open(slot);
			break;
		case 1:
			do_close(slot);
			break;
		case 2:
			do_dup(dice(SLOTS), slot);
			break;
		case 3:
			do_signal(slot);
			break;
		case 4:
			if (once_in(4))
				do_change(slot);
			break;
		default:
			act_free();
		}
		if (i % 64 == 0)
			check_probe(probe);
	}
	__atomic_fetch_add(&report->calls, i, __ATOMIC_RELAXED);
	if (die)
		raise(SIGKILL);
	__atomic_store_n(&stop_race, true, __ATOMIC_RELAXED);
	pthread_join(racer, NULL);
	_exit(0);
}

#define ROUNDS	4

TEST_F_TIMEOUT(fuzz, all_at_once, 1200)
{
	long calls = world->total / 4 / ROUNDS / PROCS, start = ll_now_ms();
	int i, round;

	me.privileged = true;
	me.serial = PROCS + 1;
	open_slots();
	for (round = 0; round < ROUNDS && !report->failed; round++) {
		for (i = 0; i < PROCS; i++) {
			self->pid[i] = fork();
			ASSERT_LE(0, self->pid[i]);
			if (!self->pid[i])
				run_free(self->seed, round * PROCS + i, calls,
					 i == round % PROCS);
		}
		EXPECT_TRUE(all_ended(self->pid, true));
	}
	close_slots();
	TH_LOG("%ld calls in %ld ms", report->calls, ll_now_ms() - start);
	EXPECT_CLEAN();
}

/*
 * The struct changes while the kernel reads it: its second half is on a page
 * that is missing until this thread has changed the first half.
 */
struct change {
	int uffd;
	char *page;		/* the second one */
	struct layout_lease *lease;
	bool unmap;		/* the first page goes away, too */
};

#define CANARY	0x5a

static void *change_struct(void *arg)
{
	const struct change *c = arg;
	char half[4096];
	struct uffdio_copy copy = {
		.dst = (unsigned long)c->page,
		.src = (unsigned long)half,
		.len = sizeof(half),
	};
	struct uffd_msg msg;

	if (read(c->uffd, &msg, sizeof(msg)) != sizeof(msg))
		return NULL;
	memset(half, CANARY, sizeof(half));
	memset(half, 0, LAYOUT_LEASE_SIZE_VER0 / 2);
	if (c->unmap)
		munmap(c->page - sizeof(half), sizeof(half));
	else
		c->lease->size = sizeof(half);
	ioctl(c->uffd, UFFDIO_COPY, &copy);
	return NULL;
}

/* The second page as it is afterwards; the errno of the call. */
static int call_changed(int fd, int cmd, bool unmap, char *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct change c = { .unmap = unmap };
	pthread_t thread;
	char *map;
	int ret;

	c.uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	if (c.uffd < 0)
		return -ENOSYS;
	map = mmap(NULL, 2 * ll_pg, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	c.page = map + ll_pg;
	c.lease = (void *)(c.page - LAYOUT_LEASE_SIZE_VER0 / 2);
	c.lease->size = LAYOUT_LEASE_SIZE_VER0;
	c.lease->type = cmd == F_GETLAYOUT ? F_UNLCK : F_RDLCK;
	reg.range.start = (unsigned long)c.page;
	reg.range.len = ll_pg;
	if (map == MAP_FAILED || ioctl(c.uffd, UFFDIO_API, &api) ||
	    ioctl(c.uffd, UFFDIO_REGISTER, &reg) ||
	    pthread_create(&thread, NULL, change_struct, &c))
		return -EIO;
	ret = fcntl(fd, cmd, c.lease) ? errno : 0;
	pthread_join(thread, NULL);
	memcpy(page, c.page, ll_pg);
	munmap(map, 2 * ll_pg);
	close(c.uffd);
	return ret;
}

TEST_F_TIMEOUT(fuzz, changed_meanwhile, 240)
{
	static const struct {
		int cmd;
		bool unmap;
		int error;
	} calls[] = {
		{ F_SETLAYOUT, false, 0 },
		{ F_GETLAYOUT, false, 0 },
		{ F_SETLAYOUT, true, 0 },
		{ F_GETLAYOUT, true, EFAULT },
	};
	char *page = malloc(ll_pg), *want = malloc(ll_pg);
	unsigned int i;
	int ret;

	if (ll_pg != 4096)
		SKIP(return, "pages have not 4096 bytes");
	memset(want, CANARY, ll_pg);
	memset(want, 0, LAYOUT_LEASE_SIZE_VER0 / 2);
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		ret = call_changed(self->fd, calls[i].cmd, calls[i].unmap, page);
		if (ret == -ENOSYS)
			SKIP(return, "no userfaultfd");
		EXPECT_EQ(calls[i].error, ret) TH_LOG("call %u", i);
		/* The size counts that was read first. */
		EXPECT_EQ(0, memcmp(want, page, ll_pg)) TH_LOG("call %u", i);
		EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(self->fd));
	}
	ASSERT_EQ(0, ll_unlock(self->fd));
	EXPECT_CLEAN();
}

TEST_HARNESS_MAIN
