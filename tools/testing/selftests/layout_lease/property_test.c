// SPDX-License-Identifier: GPL-2.0
/*
 * What must be true after each change of the layout, whatever it was: under each
 * lease that is granted, every page of a memory region is in the block where it
 * was, which has data and belongs to this file alone, and a peer reads what
 * read(2) reads. Under each lease that is not, the region is dead.
 *
 * Another process changes two files at random, at odd offsets, while this one has
 * regions here and there: in one round it waits for each change to end, in the
 * other one it leases, registers and lets go meanwhile.
 *
 * PROPERTY_TIME is how many seconds for both rounds, PROPERTY_SEED repeats the
 * choices of a run.
 */
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layout_lease_change.h"
#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define SECONDS		60
#define PAGE		4096LL
#define MB		(1LL << 20)
#define SIZE		(6 * MB)	/* of a file, more or less: three units */
#define MAX_SIZE	(9 * MB)
#define FILES		2
#define REGIONS		12
#define MAX_PAGES	16		/* of a region: what the peer has room for */
#define HISTORY		4		/* operations that a complaint names */

/*
 * The process that changes files
 */

struct changes {			/* in shared memory */
	char path[FILES][PATH_MAX];
	__u64 seed;
	char history[HISTORY][128];
	unsigned int n, done;
};

static struct changes *changes;

static bool once_in(unsigned int n)
{
	return ll_dice(n) == 0;
}

/* Any byte, or the beginning of a page, or of what a break is rounded to. */
static long long offset_in(long long size)
{
	long long off = ll_dice(size + 1);

	switch (ll_dice(4)) {
	case 0:
		return off;
	case 1:
		return off & ~(2 * MB - 1);
	default:
		return off & ~(PAGE - 1);
	}
}

static long long length(void)
{
	long long len = 1 + ll_dice(once_in(4) ? 3 * MB : 32 * PAGE);

	return once_in(3) ? len : (len + PAGE - 1) & ~(PAGE - 1);
}

static void note(const char *format, ...)
{
	char *line = changes->history[changes->n++ % HISTORY];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(changes->history[0]), format, args);
	va_end(args);
}

struct target {
	int file, fd, other;
	long long size, off, len;
};

static int change_size(const struct target *t)
{
	long long size = once_in(2) ? SIZE : offset_in(MAX_SIZE);

	note("file %d: truncate %#llx", t->file, size);
	return once_in(2) ? ftruncate(t->fd, size) :
			    truncate(changes->path[t->file], size);
}

static int change_by_fallocate(const struct target *t)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, LL_PUNCH, LL_PUNCH, LL_PUNCH,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE,
		FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_WRITE_ZEROES,
	};
	int mode = modes[ll_dice(ARRAY_SIZE(modes))];

	if (mode == FALLOC_FL_INSERT_RANGE && t->size + t->len > MAX_SIZE)
		mode = FALLOC_FL_COLLAPSE_RANGE;
	note("file %d: fallocate %#x at %#llx, %#llx", t->file, mode, t->off,
	     t->len);
	return fallocate(t->fd, mode, t->off, t->len);
}

static int change_by_write(const struct target *t)
{
	static char buf[32 * PAGE];
	size_t len = t->len < (long long)sizeof(buf) ? t->len : sizeof(buf);

	note("file %d: write at %#llx, %#zx", t->file, t->off, len);
	memset(buf, ll_dice(256), len);
	return pwrite(t->fd, buf, len, t->off) < 0 ? -1 : 0;
}

/* Of a private mapping, and of a shared one, inside of the file. */
static int change_by_store(const struct target *t)
{
	int flags = once_in(2) ? MAP_SHARED : MAP_PRIVATE;
	long long off = t->off & ~(PAGE - 1);
	char *map;

	note("file %d: store at %#llx, flags %d", t->file, off, flags);
	if (off + PAGE > t->size)
		return 0;
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags, t->fd, off);
	if (map == MAP_FAILED)
		return -1;
	map[ll_dice(PAGE)]++;
	return munmap(map, PAGE);
}

static int change_by_madvise(const struct target *t)
{
	long long off = t->off & ~(PAGE - 1);
	long long len = (t->len + PAGE - 1) & ~(PAGE - 1);
	char *map = ll_map(t->fd, off, len, PROT_READ | PROT_WRITE);
	int ret;

	note("file %d: MADV_REMOVE at %#llx, %#llx", t->file, off, len);
	if (map == MAP_FAILED)
		return -1;
	ret = madvise(map, len, MADV_REMOVE);
	munmap(map, len);
	return ret;
}

static int change_two(const struct target *t)
{
	int from = once_in(2) ? t->fd : t->other;
	int to = from == t->fd ? t->other : t->fd;
	long long at = once_in(2) ? t->off : offset_in(SIZE);
	const char *dir = from == t->fd ? "from" : "to";
	loff_t off = t->off, to_off = at;

	switch (ll_dice(6)) {
	case 0:
		note("clone %s %d at %#llx, %#llx, at %#llx", dir, t->file,
		     t->off, t->len, at);
		return ll_clone_range(from, t->off, t->len, to, at);
	case 1:
		note("clone all %s %d", dir, t->file);
		return ioctl(to, FICLONE, from);
	case 2:
		note("dedupe %s %d at %#llx, %#llx, at %#llx", dir, t->file,
		     t->off, t->len, at);
		return ll_dedupe(from, t->off, t->len, to, at);
	case 3:
		note("exchange %s %d at %#llx, %#llx, at %#llx", dir, t->file,
		     t->off, t->len, at);
		return ll_exchange(from, t->off, t->len, to, at, 0);
	case 4:
		note("swap extents %s %d", dir, t->file);
		return ll_swapext(from, 0, t->size, to);
	default:
		note("copy %s %d at %#llx, %#llx, at %#llx", dir, t->file,
		     t->off, t->len, at);
		return copy_file_range(from, &off, to, &to_off, t->len,
				       0) < 0 ? -1 : 0;
	}
}

/* Refusals are fine. */
static void change_something(void)
{
	struct target t = { .file = ll_dice(FILES) };
	struct stat st;
	int ret;

	t.fd = open(changes->path[t.file], O_RDWR | O_CLOEXEC);
	t.other = open(changes->path[!t.file], O_RDWR | O_CLOEXEC);
	if (fstat(t.fd, &st))
		return;
	t.size = st.st_size;
	t.off = offset_in(SIZE);
	t.len = length();
	switch (ll_dice(12)) {
	case 0:
	case 1:
		ret = change_size(&t);
		break;
	case 2:
	case 3:
	case 4:
		ret = change_by_write(&t);
		break;
	case 5:
		ret = change_by_store(&t);
		break;
	case 6:
		ret = change_by_madvise(&t);
		break;
	case 7:
	case 8:
		/* So that there is something to share. */
		ret = ll_is_xfs() && once_in(2) ? change_two(&t) :
			change_by_fallocate(&t);
		break;
	default:
		ret = change_by_fallocate(&t);
		break;
	}
	if (ret >= 0)
		changes->done++;
	close(t.fd);
	close(t.other);
}

static void changer(int sock, void *unused)
{
	ll_seed(changes->seed, 1);
	ll_put(sock, 0);
	while (ll_get(sock, INT_MAX) >= 0) {
		change_something();
		ll_put(sock, 0);
	}
}

/*
 * The process that has regions
 */

struct region {
	bool live;
	int file, fd;
	long long off;
	unsigned int pages;
	char *map;
	struct ibv_mr *mr;
	long long block[MAX_PAGES];
};

FIXTURE(property) {
	struct ll_env env;
	struct ll_proc changer;
	struct region region[REGIONS];
	long registered, revoked, looks, pages, replaced;
	const char *wrong;
	char where[64];
};

FIXTURE_VARIANT(property) {
	bool meanwhile;		/* registers while something changes */
};

FIXTURE_VARIANT_ADD(property, one_by_one) { false };
FIXTURE_VARIANT_ADD(property, meanwhile) { true };

/* A new inode: the old one is copy-on-write. */
static int new_file(const char *path)
{
	char name[PATH_MAX + 8];
	int fd, ret;

	snprintf(name, sizeof(name), "%s.new", path);
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = ll_fill(fd, SIZE / PAGE, ll_dice(256));
	close(fd);
	return ret ?: rename(name, path) ? -errno : 0;
}

static void drop(struct region *g)
{
	if (!g->live)
		return;
	ibv_dereg_mr(g->mr);
	munmap(g->map, g->pages * PAGE);
	close(g->fd);
	g->live = false;
}

/* Its end may be cut off, its file may have become one that has no leases. */
static void take(FIXTURE_DATA(property) *self, struct region *g)
{
	struct stat st;
	unsigned int i;
	__u32 flags;
	int ret;

	g->file = ll_dice(FILES);
	g->fd = open(changes->path[g->file], O_RDWR | O_CLOEXEC);
	if (g->fd < 0 || fstat(g->fd, &st))
		return;
	g->pages = 1 + ll_dice(MAX_PAGES);
	g->off = ll_dice(SIZE / PAGE) * PAGE;
	if (once_in(4))		/* over the edge of two units */
		g->off = (1 + ll_dice(2)) * 2 * MB - g->pages / 2 * PAGE;
	if (g->off >= st.st_size) {
		close(g->fd);
		return;
	}
	g->map = ll_map(g->fd, g->off, g->pages * PAGE, PROT_READ | PROT_WRITE);
	ret = ll_lease(g->fd, F_RDLCK, g->off, g->pages * PAGE);
	g->mr = ret ? NULL : ll_reg(&self->env.rdma, g->map, g->pages * PAGE,
				    LL_ACCESS);
	if (!g->mr) {
		munmap(g->map, g->pages * PAGE);
		close(g->fd);
		if (ret == -EOPNOTSUPP && once_in(2)) {
			new_file(changes->path[g->file]);
			self->replaced++;
		}
		return;
	}
	for (i = 0; i < g->pages; i++)
		g->block[i] = ll_block(g->fd, g->off + i * PAGE, &flags);
	g->live = true;
	self->registered++;
}

/* Of all of it, or else it was taken back. */
static int state_of(const struct region *g)
{
	struct layout_lease lease;

	if (ll_getlayout(g->fd, g->off, g->pages * PAGE, &lease) ||
	    lease.start != (__u64)g->off || lease.len != g->pages * PAGE)
		return LAYOUT_LEASE_REVOKED;
	return lease.state;
}

static const char *region_wrong(FIXTURE_DATA(property) *self, struct region *g)
{
	static char buf[MAX_PAGES * PAGE];
	struct ll_rdma *r = &self->env.rdma;
	unsigned int i;
	__u32 flags;
	ssize_t n;

	self->looks++;
	for (i = 0; i < g->pages; i++) {
		self->pages++;
		if (ll_block(g->fd, g->off + i * PAGE, &flags) != g->block[i])
			return "a block has moved";
		if (flags & LL_SHARED)
			return "a block is shared";
		if (flags & LL_UNWRITTEN)
			return "a block has no data";
	}
	n = pread(g->fd, buf, g->pages * PAGE, g->off);
	/* It may end in the last page. */
	if (n <= (ssize_t)((g->pages - 1) * PAGE))
		return "the file is shorter than the region";
	if (ll_rdma_read(r, g->map, g->mr->rkey, g->pages * PAGE))
		return "the peer cannot read";
	if (memcmp(buf, r->buf, n))
		return "the peer reads something else than read(2)";
	/* And what it writes is there. */
	if (ll_rdma_write(r, g->map, g->mr->rkey, 1, ll_dice(256)))
		return "the peer cannot write";
	if (pread(g->fd, buf, 1, g->off) != 1 || buf[0] != r->buf[0])
		return "the peer writes somewhere else";
	return NULL;
}

static const char *look_at(FIXTURE_DATA(property) *self, struct region *g)
{
	struct ll_rdma *r = &self->env.rdma;
	const char *wrong = NULL;

	switch (state_of(g)) {
	case LAYOUT_LEASE_GRANTED:
		return region_wrong(self, g);
	case LAYOUT_LEASE_BREAKING:
		return NULL;
	}
	self->revoked++;
	if (ll_rdma_write(r, g->map, g->mr->rkey, 1, 0x5a) == IBV_WC_SUCCESS)
		wrong = "the lease is gone, the region is not";
	if (ll_rdma_connect(r))
		wrong = wrong ?: "the queue pairs do not connect";
	drop(g);
	return wrong;
}

static void look_at_all(FIXTURE_DATA(property) *self)
{
	struct region *g;

	for (g = self->region; g < self->region + REGIONS; g++) {
		if (!g->live || self->wrong)
			continue;
		self->wrong = look_at(self, g);
		if (self->wrong)
			snprintf(self->where, sizeof(self->where),
				 "file %d, %u pages at %#llx", g->file,
				 g->pages, g->off);
	}
}

/* A region more, or one less. */
static void do_something(FIXTURE_DATA(property) *self)
{
	struct region *g = &self->region[ll_dice(REGIONS)];

	if (!g->live)
		take(self, g);
	else if (once_in(4))
		drop(g);
}

FIXTURE_SETUP(property)
{
	int i;

	LL_ENV_INIT(&self->env, true);
	ll_set_grace(0);
	changes = ll_shared(sizeof(*changes));
	ASSERT_NE(MAP_FAILED, changes);
	changes->seed = ll_env_number("PROPERTY_SEED", ll_now_ms() ^ getpid());
	ll_seed(changes->seed, 0);
	for (i = 0; i < FILES; i++) {
		snprintf(changes->path[i], PATH_MAX, "%.*s.%d",
			 PATH_MAX - 16, self->env.path, i);
		ASSERT_EQ(0, new_file(changes->path[i]));
	}
	ASSERT_EQ(0, ll_proc_start(&self->changer, changer, NULL));
	ASSERT_EQ(0, ll_get(self->changer.sock, LL_SOON_MS));
}

FIXTURE_TEARDOWN(property)
{
	int i;

	ll_proc_stop(&self->changer);
	for (i = 0; i < REGIONS; i++)
		drop(&self->region[i]);
	for (i = 0; i < FILES; i++)
		unlink(changes->path[i]);
	ll_env_exit(&self->env);
}

/* Until one of them can be had in this file. */
static struct region *take_in(FIXTURE_DATA(property) *self, int file,
			      struct region *g)
{
	int i;

	for (i = 0; i < 1000; i++) {
		take(self, g);
		if (g->live && g->file == file)
			return g;
		drop(g);
	}
	return NULL;
}

/* Can the check fail? */
TEST_F_TIMEOUT(property, checker, 240)
{
	struct region *g = take_in(self, 0, &self->region[0]);
	struct region *other = take_in(self, 1, &self->region[1]);
	struct region mixed;

	ASSERT_NE(NULL, g);
	ASSERT_NE(NULL, other);
	ASSERT_EQ(NULL, region_wrong(self, g));
	ASSERT_EQ(NULL, region_wrong(self, other));
	/* The region of another file; its first word is not what read(2) reads. */
	mixed = *g;
	mixed.pages = 1;
	mixed.map = other->map;
	mixed.mr = other->mr;
	g->map[8] = other->map[8] + 1;
	EXPECT_NE(NULL, region_wrong(self, &mixed));
	g->block[g->pages - 1] += PAGE;
	EXPECT_NE(NULL, region_wrong(self, g));
	/* A lease that was given up, and a region that was not. */
	g->block[g->pages - 1] -= PAGE;
	close(g->fd);
	g->fd = open(changes->path[0], O_RDWR | O_CLOEXEC);
	EXPECT_NE(NULL, look_at(self, g));
}

TEST_F_TIMEOUT(property, regions, 100000)
{
	long seconds = ll_env_number("PROPERTY_TIME", SECONDS);
	long end = ll_now_ms() + seconds * 500;
	int ret, i;

	TH_LOG("PROPERTY_SEED=%llu PROPERTY_TIME=%ld",
	       (unsigned long long)changes->seed, seconds);
	while (ll_now_ms() < end && !self->wrong) {
		for (i = 0; i < 3; i++)
			do_something(self);
		ASSERT_EQ(0, ll_put(self->changer.sock, 0));
		do {
			if (variant->meanwhile)
				do_something(self);
			ret = ll_get(self->changer.sock,
				     variant->meanwhile ? 0 : LL_SOON_MS);
		} while (variant->meanwhile && ret == -ETIME);
		ASSERT_EQ(0, ret) TH_LOG("%s does not end",
			changes->history[(changes->n - 1) % HISTORY]);
		look_at_all(self);
	}
	EXPECT_EQ(NULL, self->wrong) TH_LOG("%s: %s", self->where, self->wrong);
	for (i = HISTORY; self->wrong && i > 0; i--)
		TH_LOG("%d before: %s", i - 1,
		       changes->history[(changes->n - i) % HISTORY]);
	TH_LOG("%u changes, %u of them done; %ld regions, %ld revoked, %ld new files",
	       changes->n, changes->done, self->registered, self->revoked,
	       self->replaced);
	TH_LOG("looked at %ld regions, %ld pages", self->looks, self->pages);
	/* Something has happened. */
	EXPECT_LT(0, self->revoked);
	EXPECT_LT(0, self->looks);
	EXPECT_LT(0, changes->done);
}

TEST_HARNESS_MAIN
