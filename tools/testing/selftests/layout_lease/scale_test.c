// SPDX-License-Identifier: GPL-2.0
/*
 * Many: leases on one file, open files with leases on it, memory regions under
 * one lease. Four times as many take about four times as long, and leave no
 * memory behind. Nor do those of one open file cost those of another.
 *
 * SCALE_LEASES and SCALE_REGIONS are how many at most.
 */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "layout_lease_setup.h"

#define LEASES		100000
#define REGIONS		10000
#define OPEN_FILES	16000
#define LIMIT_SYSCTL	"/proc/sys/user/max_layout_leases"

#define STEP		4	/* from one number to the next one */
#define MAX_RATIO	8	/* of the times; 16 if it is quadratic */
#define LEAST_MS	1000	/* what is shorter, hence chance, counts as this */
#define SLACK_KB	4096

/*
 * Have the slab caches give up what is free in them. Otherwise it counts, and so
 * does what KASAN keeps in quarantine, 1/32 of all memory.
 */
static void shrink_caches(void)
{
	glob_t caches;
	size_t i;

	if (glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches))
		return;
	for (i = 0; i < caches.gl_pathc; i++)
		ll_write_long(caches.gl_pathv[i], 1);
	globfree(&caches);
}

/* Of the kernel, in kB. */
static long unreclaimable(void)
{
	char line[128];
	long kb = -1;
	FILE *f;

	shrink_caches();
	f = fopen("/proc/meminfo", "re");
	while (f && kb < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "SUnreclaim: %ld", &kb);
	if (f)
		fclose(f);
	return kb;
}

/* It is freed after a grace period of RCU, and later. */
static bool unreclaimable_becomes(long kb)
{
	long end = ll_now_ms() + LL_SLACK_MS;

	while (unreclaimable() > kb && ll_now_ms() < end)
		ll_sleep_ms(100);
	return unreclaimable() <= kb;
}

FIXTURE(scale) {
	struct ll_env env;
	const char *path;
	long limit, memory, refs;
	int fd;
};

FIXTURE_SETUP(scale)
{
	LL_ENV_INIT(&self->env, true);
	self->path = self->env.path;
	self->limit = ll_read_long(LIMIT_SYSCTL, -1);
	ASSERT_EQ(0, ll_write_long(LIMIT_SYSCTL, 1 << 20));
	ll_set_grace(0);
	self->fd = open(self->path, O_RDWR);
	self->refs = ll_module_settle(self->fd);
}

FIXTURE_TEARDOWN(scale)
{
	ll_write_long(LIMIT_SYSCTL, self->limit);
	ll_env_exit(&self->env);
}

/* Times of the parts of one run. */
#define PARTS	5

struct times {
	const char *name[PARTS];
	long ms[PARTS];
	int n;
	long last;
};

static void start_clock(struct times *t)
{
	memset(t, 0, sizeof(*t));
	t->last = ll_now_ms();
}

static void lap(struct times *t, const char *name)
{
	long now = ll_now_ms();

	t->name[t->n] = name;
	t->ms[t->n++] = now - t->last;
	t->last = now;
}

static long at_least(long ms)
{
	return ms < LEAST_MS ? LEAST_MS : ms;
}

/* Did STEP times as much take about STEP times as long? */
static bool is_linear(const struct times *few, const struct times *many)
{
	int i;

	for (i = 0; i < many->n; i++)
		if (at_least(many->ms[i]) >= MAX_RATIO * at_least(few->ms[i]))
			return false;
	return true;
}

static void log_times(struct __test_metadata *_metadata, long n,
		      const struct times *few, const struct times *many)
{
	int i;

	for (i = 0; i < many->n; i++)
		TH_LOG("%ld %s in %ld ms, %ld in %ld ms", n / STEP,
		       many->name[i], few->ms[i], n, many->ms[i]);
}

/* A machine that is busy with other things may need another try. */
#define TRIES		3

/* Leases of one page, each with a gap behind, through some open files in turn. */
static int lease_pages(int *fd, int files, long leases)
{
	long i;
	int ret = 0;

	for (i = 0; i < leases && !ret; i++)
		ret = ll_lease(fd[i % files], F_RDLCK, 2 * i * ll_pg, ll_pg);
	return ret;
}

/* All broken by one truncate. */
static int many_leases(int *fd, int files, long leases, struct times *t)
{
	int i, ret;

	/* Without a size there would be nothing to truncate, nor to break. */
	if (ftruncate(fd[0], 2 * leases * ll_pg))
		return -errno;
	start_clock(t);
	ret = lease_pages(fd, files, leases);
	lap(t, "granted");
	if (!ret && ll_proc_leases() != leases)
		ret = -ENOENT;
	lap(t, "shown");
	if (!ret)
		ret = ftruncate(fd[0], 0) ? -errno : 0;
	lap(t, "broken");
	if (!ret && ll_state(fd[0]) != LAYOUT_LEASE_REVOKED)
		ret = -ESTALE;
	for (i = 0; i < files && !ret; i++)
		ret = ll_unlock(fd[i]);
	lap(t, "given up");
	return ret;
}

static void compare_leases(struct __test_metadata *_metadata, int *fd,
			   int files, long n)
{
	struct times few, many;
	int tries = 0;

	do {
		ASSERT_EQ(0, many_leases(fd, files, n / STEP, &few));
		ASSERT_EQ(0, many_leases(fd, files, n, &many));
		log_times(_metadata, n, &few, &many);
	} while (!is_linear(&few, &many) && ++tries < TRIES);
	ASSERT_LT(tries, TRIES);
}

/* From small numbers on: what is quadratic ends early, not after hours. */
static void scale_leases(struct __test_metadata *_metadata, int *fd, int files)
{
	long most = ll_env_number("SCALE_LEASES", LEASES), n, memory = -1;

	for (n = most / STEP / STEP; n <= most; n *= STEP) {
		compare_leases(_metadata, fd, files, n);
		if (memory < 0)
			memory = unreclaimable();
	}
	EXPECT_TRUE(unreclaimable_becomes(memory + SLACK_KB))
		TH_LOG("%ld kB are not given back", unreclaimable() - memory);
}

TEST_F_TIMEOUT(scale, leases_of_one_file, 1200)
{
	scale_leases(_metadata, &self->fd, 1);
	EXPECT_TRUE(ll_module_refs_become(self->refs));
}

#define SOME_FILES	16

TEST_F_TIMEOUT(scale, leases_of_some_files, 1200)
{
	int fd[SOME_FILES], i;

	for (i = 0; i < SOME_FILES; i++) {
		fd[i] = open(self->path, O_RDWR);
		ASSERT_LE(0, fd[i]);
	}
	scale_leases(_metadata, fd, SOME_FILES);
	EXPECT_TRUE(ll_module_refs_become(self->refs));
}

/* All leases of a filesystem taken back, of one file with many open files. */
static int many_open_files(const char *path, long n, struct times *t)
{
	int *fd = calloc(n, sizeof(*fd)), ret = 0;
	long i, got;

	if (!fd)
		return -ENOMEM;
	for (got = 0; got < n && !ret; got++) {
		fd[got] = open(path, O_RDWR);
		ret = fd[got] < 0 ? -errno : 0;
	}
	start_clock(t);
	for (i = 0; i < n && !ret; i++)
		ret = ll_lease(fd[i], F_RDLCK, 2 * i * ll_pg, ll_pg);
	lap(t, "open files leased");
	for (i = 0; i < n && !ret; i++)
		if (ll_state(fd[i]) != LAYOUT_LEASE_GRANTED)
			ret = -ENOENT;
	lap(t, "open files asked");
	if (!ret && ll_proc_leases() != n)
		ret = -ENOENT;
	lap(t, "open files shown");
	if (!ret)
		ret = ll_setlayout(fd[0], F_UNLCK, 0, 0, LAYOUT_LEASE_SEIZE_FS);
	lap(t, "open files seized");
	if (!ret && (ll_state(fd[0]) != LAYOUT_LEASE_REVOKED ||
		     ll_state(fd[n - 1]) != LAYOUT_LEASE_REVOKED))
		ret = -ESTALE;
	for (i = 0; i < got; i++)
		close(fd[i]);
	lap(t, "open files closed");
	free(fd);
	return ret;
}

TEST_F_TIMEOUT(scale, open_files_of_one_file, 1200)
{
	struct rlimit limit = { OPEN_FILES + 256, OPEN_FILES + 256 };
	struct times few, many;
	int tries = 0;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	do {
		ASSERT_EQ(0, many_open_files(self->path, OPEN_FILES / STEP,
					     &few));
		ASSERT_EQ(0, many_open_files(self->path, OPEN_FILES, &many));
		log_times(_metadata, OPEN_FILES, &few, &many);
	} while (!is_linear(&few, &many) && ++tries < TRIES);
	EXPECT_LT(tries, TRIES);
	EXPECT_TRUE(ll_module_refs_become(self->refs));
}

/* Memory regions of one page, as many as the device takes, and one truncate. */
static long many_regions(struct ll_rdma *r, int fd, long n, struct times *t)
{
	struct ibv_mr **mr = calloc(n, sizeof(*mr));
	char *map;
	long i, got;

	/* Blocks first: what is measured is the regions. */
	if (!mr || fallocate(fd, 0, 0, n * ll_pg) || ll_lease(fd, F_RDLCK, 0, 0))
		return -errno;
	map = ll_map(fd, 0, n * ll_pg, PROT_READ | PROT_WRITE);
	start_clock(t);
	for (got = 0; got < n; got++) {
		mr[got] = ll_reg(r, map + got * ll_pg, ll_pg, LL_ACCESS);
		if (!mr[got])
			break;
	}
	lap(t, "registered");
	if (ftruncate(fd, 0))
		got = -errno;
	lap(t, "revoked");
	for (i = 0; i < got; i++)
		ibv_dereg_mr(mr[i]);
	lap(t, "deregistered");
	munmap(map, n * ll_pg);
	ll_unlock(fd);
	free(mr);
	return got;
}

TEST_F_TIMEOUT(scale, regions, 1200)
{
	long n = ll_env_number("SCALE_REGIONS", REGIONS), memory;
	struct ibv_device_attr attr;
	struct times few, many;
	int tries = 0;

	ASSERT_EQ(0, ibv_query_device(self->env.rdma.ctx, &attr));
	/* One is the peer's buffer; some may not be free yet. */
	if (attr.max_mr - 8 < n) {
		n = attr.max_mr - 8;
		TH_LOG("the device takes only %d memory regions", attr.max_mr);
	}
	n -= n % STEP;
	do {
		ASSERT_EQ(n / STEP, many_regions(&self->env.rdma, self->fd,
						 n / STEP, &few));
		memory = unreclaimable();
		ASSERT_EQ(n, many_regions(&self->env.rdma, self->fd, n, &many));
		log_times(_metadata, n, &few, &many);
	} while (!is_linear(&few, &many) && ++tries < TRIES);
	EXPECT_LT(tries, TRIES);
	EXPECT_TRUE(unreclaimable_becomes(memory + SLACK_KB))
		TH_LOG("%ld kB are not given back", unreclaimable() - memory);
	EXPECT_TRUE(ll_module_refs_become(self->refs));
	EXPECT_EQ(0, ll_proc_leases());
}

/* One region, of many pages: each is unpinned, and its cache lines written back. */
#define PAGES		65536
#define SAME_PAGES	8	/* regions of them; each counts for itself */

static int many_pages(struct ll_rdma *r, int fd, long n, struct times *t)
{
	struct ibv_mr *mr[SAME_PAGES] = {};
	int i, ret = 0;
	char *map;

	if (fallocate(fd, 0, 0, n * ll_pg))
		return -errno;
	map = ll_map(fd, 0, n * ll_pg, PROT_READ | PROT_WRITE);
	ret = ll_lease(fd, F_RDLCK, 0, 0);
	start_clock(t);
	for (i = 0; i < SAME_PAGES && !ret; i++) {
		mr[i] = ll_reg(r, map, n * ll_pg, LL_ACCESS);
		ret = mr[i] ? 0 : -errno;
	}
	lap(t, "pages registered");
	if (!ret)
		ret = ftruncate(fd, 0) ? -errno : 0;
	lap(t, "pages revoked");
	for (i = 0; i < SAME_PAGES; i++)
		if (mr[i])
			ibv_dereg_mr(mr[i]);
	munmap(map, n * ll_pg);
	return ret ?: ll_unlock(fd);
}

TEST_F_TIMEOUT(scale, pages_of_a_region, 1200)
{
	struct times few, many;
	int tries = 0;

	do {
		ASSERT_EQ(0, many_pages(&self->env.rdma, self->fd,
					PAGES / STEP, &few));
		ASSERT_EQ(0, many_pages(&self->env.rdma, self->fd, PAGES,
					&many));
		log_times(_metadata, PAGES, &few, &many);
	} while (!is_linear(&few, &many) && ++tries < TRIES);
	EXPECT_LT(tries, TRIES);
}

/*
 * Holders who were told of a break, and die one after the other. Another process
 * has their open files, so that somebody has to find out.
 */
#define HOLDERS		1000

static void holder(int sock, void *arg)
{
	int fd = open(arg, O_RDWR);

	ll_put(sock, ll_lease(fd, F_RDLCK, 0, 0) ?: fd);
	ll_get(sock, INT_MAX);
}

struct holder {
	struct ll_proc p;
	int fd;
};

static int start_holder(struct holder *h, const char *path)
{
	int fd = ll_proc_start(&h->p, holder, (void *)path) ?:
		 ll_get(h->p.sock, LL_SOON_MS);

	h->fd = fd < 0 ? fd : ll_steal(h->p.pid, fd);
	return h->fd < 0 ? h->fd : 0;
}

static int many_holders(const char *path, struct ll_proc *breaker, int n,
			struct times *t)
{
	struct ll_holder waited_for = { .path = path };
	struct holder *h = calloc(n, sizeof(*h));
	int i, ret = h ? 0 : -ENOMEM, got;
	struct ll_proc p = {};
	struct ll_result res;

	for (got = 0; got < n && !ret; got++)
		ret = start_holder(&h[got], path);
	/* The last one has something that the breaker waits for. */
	if (!ret)
		ret = ll_holder_start(&p, &waited_for);
	start_clock(t);
	ll_send(breaker, LL_OP_PUNCH, path, 0, ll_pg, 0);
	if (!ret && ll_done(breaker, 300, &res) != -ETIME)
		ret = -ESTALE;
	for (i = 0; i < got; i++)
		ll_proc_stop(&h[i].p);
	ll_proc_stop(&p);
	if (!ret)
		ret = ll_done(breaker, LL_SOON_MS, &res) ?: res.ret;
	lap(t, "holders died");
	for (i = 0; i < got; i++)
		close(h[i].fd);
	free(h);
	return ret;
}

TEST_F_TIMEOUT(scale, holders_that_die, 1200)
{
	struct rlimit limit = { 2 * HOLDERS + 256, 2 * HOLDERS + 256 };
	struct times few, many;
	int tries = 0;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	ll_set_grace(LL_GRACE);
	do {
		ASSERT_EQ(0, many_holders(self->path, &self->env.helper,
					  HOLDERS / STEP, &few));
		ASSERT_EQ(0, many_holders(self->path, &self->env.helper,
					  HOLDERS, &many));
		log_times(_metadata, HOLDERS, &few, &many);
	} while (!is_linear(&few, &many) && ++tries < TRIES);
	EXPECT_LT(tries, TRIES);
	EXPECT_TRUE(ll_module_refs_become(self->refs));
}

TEST_HARNESS_MAIN
