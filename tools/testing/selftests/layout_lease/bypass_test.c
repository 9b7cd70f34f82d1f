// SPDX-License-Identifier: GPL-2.0
/*
 * Ways around the usual operations by which blocks of a leased file could move:
 * they are refused, or break the lease first. And those that break two inodes,
 * where the second one is the leased one.
 */
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "layout_lease_change.h"
#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define LEN		(LL_PAGES * ll_pg)
#define FILES		0x10	/* seeds, see ll_fill() */
#define OTHERS		0x55
#define MAX_SYSTEM_MS	500	/* who waits for a second does not spin */

static int swap_boot(int fd, int other)
{
	return ll_swap_boot(fd);
}

static int move_ext(int fd, int donor)
{
	return ll_move_ext(fd, 0, LEN, donor);
}

static int swapext(int fd, int tmp)
{
	return ll_swapext(fd, 0, LEN, tmp);
}

static int exchange(int fd, int file1)
{
	return ll_exchange(fd, 0, LEN, file1, 0, 0);
}

static int clone_range(int src, int dst)
{
	return ll_clone_range(src, 0, ll_pg, dst, 0);
}

static int dedupe(int src, int dst)
{
	return ll_dedupe(src, 0, ll_pg, dst, 0);
}

/* Another process does one of these when told. */
struct job {
	int (*op)(int fd, int fd2);
	const char *path, *path2;
};

static void work(int sock, void *arg)
{
	const struct job *j = arg;
	int fd = open(j->path, O_RDWR), fd2 = open(j->path2, O_RDWR), ret;
	struct rusage usage;
	long start;

	ll_put(sock, 0);
	ll_get(sock, INT_MAX);
	start = ll_now_ms();
	ret = j->op(fd, fd2);
	ll_put(sock, ret);
	ll_put(sock, ll_now_ms() - start);
	getrusage(RUSAGE_SELF, &usage);
	ll_put(sock, usage.ru_stime.tv_sec * 1000 +
	       usage.ru_stime.tv_usec / 1000);
}

/* What both fixtures have. */
struct test {
	struct ll_env env;
	struct ll_proc worker;
	struct job job;
	char dir[PATH_MAX];	/* new files in it are DAX files */
	char dax[PATH_MAX + 8];
	char other[PATH_MAX + 8];
	const char *path;	/* of the leased file */
	int fd;
	char *map;
	struct ibv_mr *mr;
};

static int mkfile(const char *path, unsigned char seed)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	/* Of one extent. */
	if (fd < 0 || fallocate(fd, 0, 0, LEN))
		return -errno;
	return ll_fill(fd, LL_PAGES, seed) ?: fd;
}

/* On a mount with DAX files and others, or on one with DAX files only. */
static void setup(struct __test_metadata *_metadata,
		  struct test *self, bool mixed)
{
	int fd;

	self->fd = -1;
	self->path = self->env.path;
	snprintf(self->other, sizeof(self->other), "%s.2", self->env.path);
	if (mixed) {
		ASSERT_EQ(0, ll_remount(getenv("DAX2"), "dax=inode"));
		snprintf(self->dir, sizeof(self->dir), "%s/dir-XXXXXX",
			 getenv("DAX2"));
		ASSERT_EQ(0, ll_dax_dir(self->dir));
		snprintf(self->dax, sizeof(self->dax), "%s/dax", self->dir);
		snprintf(self->other, sizeof(self->other), "%s.2", self->dir);
		self->path = self->dax;
	}
	fd = mkfile(self->path, FILES);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, close(fd));
	fd = mkfile(self->other, OTHERS);
	ASSERT_LE(0, fd);
	ASSERT_EQ(mixed ? -EOPNOTSUPP : 0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, close(fd));
}

static void start(struct __test_metadata *_metadata, struct test *self,
		  int (*op)(int fd, int fd2), const char *path,
		  const char *path2)
{
	self->job = (struct job) { .op = op, .path = path, .path2 = path2 };
	ASSERT_EQ(0, ll_proc_start(&self->worker, work, &self->job));
	ASSERT_EQ(0, ll_get(self->worker.sock, LL_SOON_MS));
}

static void hold(struct __test_metadata *_metadata, struct test *self)
{
	self->fd = mkfile(self->path, FILES);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, fcntl(self->fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	self->map = ll_map(self->fd, 0, LEN, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, self->map);
	self->mr = ll_reg(&self->env.rdma, self->map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, self->mr);
}

FIXTURE(files) {
	struct test test;
};

FIXTURE_VARIANT(files) {
	const char *fs;
	int (*op)(int fd, int fd2);
	bool leased_second;	/* which argument */
	bool mixed;
	bool refused;
};

FIXTURE_VARIANT_ADD(files, swap_boot)
	{ .fs = "ext4", .op = swap_boot };
FIXTURE_VARIANT_ADD(files, swap_boot_mixed)
	{ .fs = "ext4", .op = swap_boot, .mixed = true };
FIXTURE_VARIANT_ADD(files, move_ext)
	{ .fs = "ext4", .op = move_ext, .refused = true };
FIXTURE_VARIANT_ADD(files, move_ext_donor)
	{ .fs = "ext4", .op = move_ext, .refused = true,
	  .leased_second = true };
FIXTURE_VARIANT_ADD(files, move_ext_mixed)
	{ .fs = "ext4", .op = move_ext, .refused = true, .mixed = true };
FIXTURE_VARIANT_ADD(files, move_ext_mixed_donor)
	{ .fs = "ext4", .op = move_ext, .refused = true, .mixed = true,
	  .leased_second = true };
FIXTURE_VARIANT_ADD(files, swapext)
	{ .fs = "xfs", .op = swapext };
FIXTURE_VARIANT_ADD(files, swapext_second)
	{ .fs = "xfs", .op = swapext, .leased_second = true };
FIXTURE_VARIANT_ADD(files, swapext_mixed)
	{ .fs = "xfs", .op = swapext, .mixed = true };
FIXTURE_VARIANT_ADD(files, swapext_mixed_second)
	{ .fs = "xfs", .op = swapext, .mixed = true, .leased_second = true };
FIXTURE_VARIANT_ADD(files, exchange)
	{ .fs = "xfs", .op = exchange };
FIXTURE_VARIANT_ADD(files, exchange_second)
	{ .fs = "xfs", .op = exchange, .leased_second = true };
FIXTURE_VARIANT_ADD(files, exchange_mixed)
	{ .fs = "xfs", .op = exchange, .mixed = true };
FIXTURE_VARIANT_ADD(files, exchange_mixed_second)
	{ .fs = "xfs", .op = exchange, .mixed = true, .leased_second = true };

FIXTURE_SETUP(files)
{
	struct test *test = &self->test;

	LL_NEEDS_FS(variant->fs);
	LL_NEEDS_DAX2_IF(variant->mixed);
	LL_ENV_INIT(&test->env, true);
	setup(_metadata, test, variant->mixed);
}

FIXTURE_TEARDOWN(files)
{
	struct test *test = &self->test;

	ll_proc_stop(&test->worker);
	if (test->mr)
		ibv_dereg_mr(test->mr);
	if (test->map)
		munmap(test->map, LEN);
	close(test->fd);
	unlink(test->other);
	if (variant->mixed) {
		unlink(test->dax);
		rmdir(test->dir);
		EXPECT_EQ(0, ll_remount(getenv("DAX2"), "dax=always"));
	}
	ll_env_exit(&test->env);
}

#define EXPECT_PAGE(path, page, byte)					\
	EXPECT_TRUE(ll_file_is(path, (page) * ll_pg, ll_pg, byte))

TEST_F_TIMEOUT(files, leased, 240)
{
	struct test *test = &self->test;
	struct ll_rdma *r = &test->env.rdma;
	bool second = variant->leased_second;
	int ret, ms;

	ll_set_grace(1);
	start(_metadata, test, variant->op, second ? test->other : test->path,
	      second ? test->path : test->other);
	hold(_metadata, test);
	ASSERT_EQ(0, ll_put(test->worker.sock, 0));
	if (!variant->refused)
		ret = ll_get(test->worker.sock, 300);
	else
		ret = ll_get(test->worker.sock, LL_SOON_MS);
	if (variant->op == exchange && ret == -EOPNOTSUPP)
		SKIP(return, "no exchange range: mkfs.xfs -i exchange=1");
	ASSERT_EQ(variant->refused ? -EOPNOTSUPP : -ETIME, ret);

	/* Nothing has moved yet. To read(2) may have to wait for the break. */
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(r, test->map + 2 * ll_pg,
						test->mr->rkey, ll_pg, 0xa1));
	EXPECT_EQ((char)0xa1, test->map[2 * ll_pg]);
	EXPECT_EQ(FILES + 3, test->map[3 * ll_pg]);
	if (variant->refused) {
		EXPECT_PAGE(test->path, 2, 0xa1);
		EXPECT_PAGE(test->path, 3, FILES + 3);
		EXPECT_PAGE(test->other, 2, OTHERS + 2);
		EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(test->fd));
		EXPECT_TRUE(ll_no_signal());
		return;
	}

	EXPECT_SIGNAL(test->fd, POLL_MSG);
	ASSERT_EQ(0, ll_get(test->worker.sock, 1000 + 2 * LL_SLACK_MS));
	ms = ll_get(test->worker.sock, LL_SOON_MS);
	EXPECT_LE(900, ms);
	EXPECT_GE(1000 + LL_SLACK_MS, ms);
	EXPECT_GE(MAX_SYSTEM_MS, ll_get(test->worker.sock, LL_SOON_MS));
	EXPECT_SIGNAL(test->fd, POLL_HUP);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(test->fd));

	/* All has moved, and the region reaches neither file. */
	EXPECT_TRUE(ll_rkey_is_dead(r, test->map + 3 * ll_pg, test->mr->rkey));
	if (variant->op == swap_boot) {
		/* To an inode that nobody can open, so take it back. */
		EXPECT_EQ(-EIO, ll_file_byte(test->path, 2 * ll_pg));
		ASSERT_EQ(0, swap_boot(test->fd, -1));
		EXPECT_PAGE(test->path, 2, 0xa1);
		EXPECT_PAGE(test->path, 3, FILES + 3);
		return;
	}
	EXPECT_PAGE(test->other, 2, 0xa1);
	EXPECT_PAGE(test->other, 3, FILES + 3);
	EXPECT_PAGE(test->path, 2, OTHERS + 2);
	EXPECT_PAGE(test->path, 3, OTHERS + 3);
}

/*
 * Who waits for the pages of either inode sleeps, and can be killed. They are
 * locked in the order of their numbers.
 */
FIXTURE(two) {
	struct test test;
	char *names[2];		/* in that order */
	int pipe[2];
};

FIXTURE_VARIANT(two) {
	int (*op)(int fd, int fd2);
	int busy;		/* which one */
	bool is_destination;
	bool in_pipe;		/* not leased */
};

FIXTURE_VARIANT_ADD(two, clone_from_first)
	{ .op = clone_range };
FIXTURE_VARIANT_ADD(two, clone_to_first)
	{ .op = clone_range, .is_destination = true };
FIXTURE_VARIANT_ADD(two, clone_from_second)
	{ .op = clone_range, .busy = 1 };
FIXTURE_VARIANT_ADD(two, clone_to_second)
	{ .op = clone_range, .busy = 1, .is_destination = true };
FIXTURE_VARIANT_ADD(two, clone_to_second_in_pipe)
	{ .op = clone_range, .busy = 1, .is_destination = true,
	  .in_pipe = true };
FIXTURE_VARIANT_ADD(two, dedupe_from_second)
	{ .op = dedupe, .busy = 1 };
FIXTURE_VARIANT_ADD(two, dedupe_to_second)
	{ .op = dedupe, .busy = 1, .is_destination = true };

FIXTURE_SETUP(two)
{
	struct test *test = &self->test;
	struct stat st[2];

	LL_NEEDS_XFS();
	LL_ENV_INIT(&test->env, true);
	setup(_metadata, test, false);
	ASSERT_EQ(0, stat(test->env.path, &st[0]));
	ASSERT_EQ(0, stat(test->other, &st[1]));
	self->names[st[0].st_ino > st[1].st_ino] = test->env.path;
	self->names[st[0].st_ino < st[1].st_ino] = test->other;
}

FIXTURE_TEARDOWN(two)
{
	ll_proc_stop(&self->test.worker);
	unlink(self->test.other);
	ll_env_exit(&self->test.env);
}

static long system_ms(pid_t pid)
{
	char path[64];
	long ticks;
	FILE *f;
	int i;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	for (i = 1; f && i < 15; i++)
		fscanf(f, "%*s");
	if (!f || fscanf(f, "%ld", &ticks) != 1)
		ticks = LONG_MAX / 1000;
	if (f)
		fclose(f);
	return ticks * 1000 / sysconf(_SC_CLK_TCK);
}

TEST_F_TIMEOUT(two, sleeps_and_dies, 240)
{
	struct test *test = &self->test;
	char *busy = self->names[variant->busy];
	char *idle = self->names[!variant->busy];
	char *src = variant->is_destination ? idle : busy;
	char *dst = variant->is_destination ? busy : idle;
	struct iovec iov = { .iov_len = ll_pg };
	int fd;

	/* Equal, for dedupe. */
	fd = mkfile(idle, FILES);
	ASSERT_LE(0, fd);
	close(fd);
	test->path = busy;
	hold(_metadata, test);
	if (variant->in_pipe) {
		ASSERT_EQ(0, ibv_dereg_mr(test->mr));
		ASSERT_EQ(0, ll_unlock(test->fd));
		ASSERT_EQ(0, pipe(self->pipe));
		iov.iov_base = test->map;
		ASSERT_EQ(ll_pg, syscall(__NR_vmsplice, self->pipe[1], &iov, 1,
					 0));
	}

	start(_metadata, test, variant->op, src, dst);
	ASSERT_EQ(0, ll_put(test->worker.sock, 0));
	EXPECT_EQ(-ETIME, ll_get(test->worker.sock, 1500));
	EXPECT_GE(MAX_SYSTEM_MS, system_ms(test->worker.pid));
	kill(test->worker.pid, SIGKILL);
	ASSERT_NE(-ETIME, ll_proc_wait(&test->worker, LL_SOON_MS));

	/* And when the page is no longer in use, it works. */
	start(_metadata, test, variant->op, src, dst);
	ASSERT_EQ(0, ll_put(test->worker.sock, 0));
	EXPECT_EQ(-ETIME, ll_get(test->worker.sock, 300));
	if (variant->in_pipe) {
		close(self->pipe[0]);
		close(self->pipe[1]);
	} else {
		ASSERT_EQ(0, ibv_dereg_mr(test->mr));
	}
	EXPECT_EQ(0, ll_get(test->worker.sock, LL_SOON_MS));
}

TEST_HARNESS_MAIN
