// SPDX-License-Identifier: GPL-2.0
/*
 * Breaks of a range, with all that can be mapped of it: DAX entries of 2 MiB and
 * of single pages, mapped as such or page by page, and a neighbour, another
 * process that maps the file and loads from all of it all the time.
 *
 *	0    2    4    6    8 MiB
 *	|-A--|....|op..|-B--|		of a file in DAX2
 *
 * The operation is at 4 MiB: A keeps its lease and its memory region.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "layout_lease_setup.h"

#define KB	1024LL
#define MB	(1024 * KB)
#define HUGE	(2 * MB)
#define SIZE	(8 * MB)

enum how {
	NOT,
	HUGE_PAGES,		/* address and offset agree */
	SMALL_PAGES,		/* they do not, by one page */
};

FIXTURE(mapping) {
	struct ll_env env;
	struct ll_proc neighbour;
	char path[PATH_MAX];
	char other[PATH_MAX + 8];
	int fd;
	char *map;
	struct ibv_mr *mr[2];
};

FIXTURE_VARIANT(mapping) {
	enum how owner, neighbour;
};

FIXTURE_VARIANT_ADD(mapping, huge) { HUGE_PAGES, NOT };
FIXTURE_VARIANT_ADD(mapping, huge_neighbour_huge) { HUGE_PAGES, HUGE_PAGES };
FIXTURE_VARIANT_ADD(mapping, huge_neighbour_small) { HUGE_PAGES, SMALL_PAGES };
FIXTURE_VARIANT_ADD(mapping, small) { SMALL_PAGES, NOT };
FIXTURE_VARIANT_ADD(mapping, small_neighbour_huge) { SMALL_PAGES, HUGE_PAGES };
FIXTURE_VARIANT_ADD(mapping, small_neighbour_small) { SMALL_PAGES, SMALL_PAGES };

static const struct op {
	const char *name;
	enum ll_op op;
	long long a, b;
	bool hits_a, hits_b, xfs;
} ops[] = {
	{ "truncate", LL_OP_TRUNCATE, 4 * MB, .hits_b = true },
	{ "punch", LL_OP_PUNCH, 4 * MB, 64 * KB },
	{ "punch_b", LL_OP_PUNCH, 6 * MB, 64 * KB, .hits_b = true },
	{ "zero", LL_OP_ZERO, 4 * MB + 4 * KB, 4 * KB },
	{ "collapse", LL_OP_COLLAPSE, 4 * MB, 64 * KB, .hits_b = true },
	{ "insert", LL_OP_INSERT, 4 * MB, 64 * KB, .hits_b = true },
	{ "clone", LL_OP_CLONE, 0, 0, true, true, true },
};

static char *map_how(int fd, enum how how)
{
	char *at = mmap(NULL, SIZE + 2 * HUGE, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	at = (char *)(((uintptr_t)at + HUGE - 1) & ~(HUGE - 1));
	if (how == SMALL_PAGES)
		at += ll_pg;
	return mmap(at, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    fd, 0);
}

static void touch(volatile char *map, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += ll_pg)
		(void)map[i];
}

/* How much of a mapping are huge pages? */
static long long huge(char *map)
{
	struct page_region region[SIZE / HUGE];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)map,
		.end = (uintptr_t)map + SIZE,
		.vec = (uintptr_t)region,
		.vec_len = ARRAY_SIZE(region),
		.category_mask = PAGE_IS_HUGE,
		.return_mask = PAGE_IS_HUGE,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY), n, i;
	long long sum = 0;

	n = ioctl(fd, PAGEMAP_SCAN, &arg);
	close(fd);
	for (i = 0; i < n; i++)
		sum += region[i].end - region[i].start;
	return n < 0 ? -errno : sum;
}

struct neighbour {
	const char *path;
	enum how how;
};

/* Loads what still is there; SIGBUS behind the end is no matter. */
static sigjmp_buf behind_the_end;

static void on_sigbus(int sig)
{
	siglongjmp(behind_the_end, 1);
}

static void load(int sock, void *arg)
{
	struct neighbour *n = arg;
	char *map = map_how(open(n->path, O_RDWR), n->how);

	signal(SIGBUS, on_sigbus);
	touch(map, SIZE);
	ll_put(sock, map == MAP_FAILED);
	for (;;) {
		if (!sigsetjmp(behind_the_end, 1))
			touch(map, SIZE);
	}
}

FIXTURE_SETUP(mapping)
{
	const char *dir = getenv("DAX2");
	char dev[64];

	LL_NEEDS_DAX2();
	LL_ENV_INIT(&self->env, true);
	/* One that allocates by 2 MiB. */
	ASSERT_EQ(0, ll_renew_filesystem(dev, sizeof(dev), dir));
	snprintf(self->path, sizeof(self->path), "%s/mapping", dir);
	snprintf(self->other, sizeof(self->other), "%s.2", self->path);
	ll_set_grace(0);
}

FIXTURE_TEARDOWN(mapping)
{
	unlink(self->path);
	unlink(self->other);
	ll_env_exit(&self->env);
}

static void run(struct __test_metadata *_metadata,
		FIXTURE_DATA(mapping) *self,
		const FIXTURE_VARIANT(mapping) *variant, const struct op *op)
{
	static const long long at[] = { 0, 6 * MB };
	struct neighbour n = { self->path, variant->neighbour };
	bool hits[] = { op->hits_a, op->hits_b };
	struct ll_rdma *r = &self->env.rdma;
	struct ll_result res;
	struct layout_lease lease;
	int i, status;

	unlink(self->path);
	unlink(self->other);
	close(open(self->other, O_RDWR | O_CREAT, 0600));
	self->fd = open(self->path, O_RDWR | O_CREAT, 0600);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, fallocate(self->fd, 0, 0, SIZE));
	self->map = map_how(self->fd, variant->owner);
	ASSERT_NE(MAP_FAILED, self->map);
	memset(self->map, 0x33, SIZE);
	ASSERT_EQ(variant->owner == HUGE_PAGES ? SIZE : 0, huge(self->map));

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, at[i], HUGE));
		self->mr[i] = ll_reg(r, self->map + at[i], HUGE, LL_ACCESS);
		ASSERT_NE(NULL, self->mr[i]) TH_LOG("%s", strerror(errno));
	}
	if (n.how != NOT) {
		ASSERT_EQ(0, ll_proc_start(&self->neighbour, load, &n));
		ASSERT_EQ(0, ll_get(self->neighbour.sock, LL_SOON_MS));
	}

	if (op->op == LL_OP_CLONE)
		ll_send2(&self->env.helper, op->op, self->path, self->other,
			 0, 0);
	else
		ll_send(&self->env.helper, op->op, self->path, op->a, op->b, 0);
	ASSERT_EQ(0, ll_done(&self->env.helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, ll_getlayout(self->fd, at[i], HUGE, &lease));
		EXPECT_EQ(hits[i] ? LAYOUT_LEASE_REVOKED : LAYOUT_LEASE_GRANTED,
			  lease.state)
			TH_LOG("%s: %c", op->name, 'A' + i);
		status = ll_rdma_write(r, self->mr[i]->addr, self->mr[i]->rkey,
				       ll_pg, 0x44);
		EXPECT_EQ(hits[i] ? IBV_WC_REM_ACCESS_ERR : IBV_WC_SUCCESS,
			  status)
			TH_LOG("%s: %c", op->name, 'A' + i);
		if (status)
			ASSERT_EQ(0, ll_rdma_connect(r));
	}
	EXPECT_EQ(hits[0] ? 0x33 : 0x44, ll_file_byte(self->path, 0));
	/* The page behind what was written. */
	EXPECT_EQ(0x33, ll_file_byte(self->path, ll_pg));

	if (n.how != NOT)
		ll_proc_stop(&self->neighbour);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, ibv_dereg_mr(self->mr[i]));
	EXPECT_EQ(0, munmap(self->map, SIZE));
	EXPECT_EQ(0, close(self->fd));
}

TEST_F_TIMEOUT(mapping, breaks, 480)
{
	bool xfs = ll_is_xfs();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		if (xfs || !ops[i].xfs)
			run(_metadata, self, variant, &ops[i]);
}

/* How many pages of the machine are pinned for DMA? */
static long long pinned(void)
{
	char line[64];

	if (ll_sh_line(line, sizeof(line),
		       "echo 1 >/proc/sys/vm/stat_refresh; awk '"
		       "/nr_foll_pin_acquired/ { n += $2 } "
		       "/nr_foll_pin_released/ { n -= $2 } "
		       "END { print n }' /proc/vmstat"))
		return -1;
	return atoll(line);
}

/* What a device writes at @pos of a region is there, and nowhere else. */
static void write_at(struct __test_metadata *_metadata,
		     FIXTURE_DATA(mapping) *self, struct ibv_mr *mr,
		     long long pos)
{
	char *start = mr->addr, *end = start + mr->length;
	char *at = self->map + pos;

	if (at < start || at >= end)
		return;
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(&self->env.rdma, at, mr->rkey,
						1, 0x55));
	EXPECT_EQ(0x55, ll_file_byte(self->path, pos))
		TH_LOG("at %lld", pos);
	if (pos > 0)
		EXPECT_EQ(0x33, at[-1]);
	if (pos < SIZE - 1)
		EXPECT_EQ(0x33, at[1]);
	*at = 0x33;
}

/*
 * Regions that begin and end anywhere, in entries of 2 MiB, in single pages
 * (from 2 to 4 MiB, where one is mapped alone before), and across these.
 */
TEST_F_TIMEOUT(mapping, regions_anywhere, 240)
{
	static const struct {
		long long pos, len;
	} regions[] = {
		{ 0, SIZE },
		{ 0, HUGE },
		{ 17, HUGE },
		{ HUGE - 1, 2 },
		{ HUGE - 4 * KB, 4 * KB + 1 },
		{ HUGE / 2 + 5, 3 * HUGE + 100 },
		{ 3 * MB + 1, MB },
		{ 4 * MB - 1, 2 },
		{ 5 * MB + 123, 2 * MB - 4 * KB },
		{ SIZE - 1, 1 },
	};
	struct neighbour n = { self->path, variant->neighbour };
	long long before, pos, mixed = HUGE + MB;
	struct ll_result res;
	struct ibv_mr *mr;
	char *small;
	size_t i;

	self->fd = open(self->path, O_RDWR | O_CREAT, 0600);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, fallocate(self->fd, 0, 0, SIZE));
	small = map_how(self->fd, SMALL_PAGES);
	small[mixed] = 0x33;
	self->map = map_how(self->fd, variant->owner);
	memset(self->map, 0x33, SIZE);
	ASSERT_EQ(variant->owner == HUGE_PAGES ? SIZE - HUGE : 0,
		  huge(self->map));
	if (n.how != NOT) {
		ASSERT_EQ(0, ll_proc_start(&self->neighbour, load, &n));
		ASSERT_EQ(0, ll_get(self->neighbour.sock, LL_SOON_MS));
	}
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	before = pinned();

	for (i = 0; i < ARRAY_SIZE(regions); i++) {
		mr = ll_reg(&self->env.rdma, self->map + regions[i].pos,
			    regions[i].len, LL_ACCESS);
		ASSERT_NE(NULL, mr) TH_LOG("%zu: %s", i, strerror(errno));
		EXPECT_LT(before, pinned());
		write_at(_metadata, self, mr, regions[i].pos);
		write_at(_metadata, self, mr,
			 regions[i].pos + regions[i].len - 1);
		for (pos = HUGE / 2; pos < SIZE; pos += HUGE / 2) {
			write_at(_metadata, self, mr, pos - 1);
			write_at(_metadata, self, mr, pos);
		}
		EXPECT_EQ(0, ibv_dereg_mr(mr));
		EXPECT_EQ(before, pinned()) TH_LOG("%zu", i);
	}
	/* And none that a layout change would wait for. */
	ll_send(&self->env.helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	ASSERT_EQ(0, ll_done(&self->env.helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	if (n.how != NOT)
		ll_proc_stop(&self->neighbour);
	munmap(small, SIZE);
	munmap(self->map, SIZE);
	close(self->fd);
}

TEST_HARNESS_MAIN
