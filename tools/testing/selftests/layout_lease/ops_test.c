// SPDX-License-Identifier: GPL-2.0
/*
 * What operations do to leases: each row of a table is an operation of another
 * process on a file of 8 MiB, in which two ranges are leased and registered,
 *
 *	0    2    4    6    8 MiB
 *	|-A--|.o..|....|-B--|		o: 64 KiB that are a hole
 *
 * and says which of the two loses its lease and its memory region. The other
 * one keeps both. There is no grace period.
 */
#include <linux/fs.h>
#include <linux/mount.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "layout_lease_change.h"
#include "layout_lease_setup.h"

#define KB		1024LL
#define MB		(1024 * KB)
#define SIZE		(8 * MB)
#define HOLE		(3 * MB)
#define HOLE_LEN	(64 * KB)
#define MAX_SYSTEM_MS	3000	/* who waits does not spin */

/* What is hit. */
#define A		0x1
#define B		0x2
#define TWO_FILES	(A | B)	/* both are broken as a whole, whatever follows */

/* Page n of a file has the byte (seed + n). */
#define FILES		0x10
#define OTHERS		0x55
#define ZEROES		(-1)

struct job;

struct row {
	int (*op)(const struct job *job);	/* -1: errno */
	int mode;
	long long off, len;
	int ret;		/* what it returns, or -errno */
	int hits, xfs_hits;	/* the latter on XFS only */
	bool xfs;		/* XFS only */
	bool reuse;		/* what becomes of the freed blocks */
	long long size;		/* of the file, if not SIZE */
	int other;		/* seed of another file, 0: none */
	int file_has, other_has;	/* in the range afterwards */
};

/* In the process that does it. */
struct job {
	const struct row *row;
	const char *dir, *path, *other_path;
	int fd, other;
};

struct result {
	int ret, ms, system_ms;
};

static int op_truncate(const struct job *j)
{
	return ftruncate(j->fd, j->row->off);
}

static int op_truncate_path(const struct job *j)
{
	return truncate(j->path, j->row->off);
}

static int op_open_trunc(const struct job *j)
{
	return open(j->path, O_RDWR | O_TRUNC) < 0 ? -1 : 0;
}

static int op_fallocate(const struct job *j)
{
	return fallocate(j->fd, j->row->mode, j->row->off, j->row->len);
}

static int op_write(const struct job *j)
{
	char *buf = calloc(1, j->row->len);

	return buf && pwrite(j->fd, buf, j->row->len, j->row->off) ==
		j->row->len ? 0 : -1;
}

static int op_store(const struct job *j)
{
	char *map = ll_map(j->fd, j->row->off, j->row->len,
			   PROT_READ | PROT_WRITE);

	if (map == MAP_FAILED)
		return -1;
	memset(map, 0, j->row->len);
	return 0;
}

/* These have the leased file as source, or as destination if mode is TO. */
#define FROM	0
#define TO	1

static int op_clone(const struct job *j)
{
	int src = j->row->mode == TO ? j->other : j->fd;
	int dst = j->row->mode == TO ? j->fd : j->other;
	struct file_clone_range range = {
		.src_fd = src,
		.src_offset = j->row->off,
		.src_length = j->row->len,
		.dest_offset = j->row->off,
	};

	return j->row->len ? ioctl(dst, FICLONERANGE, &range) :
			     ioctl(dst, FICLONE, src);
}

static int failed(int ret)
{
	errno = -ret;
	return ret < 0 ? -1 : ret;
}

static int op_dedupe(const struct job *j)
{
	int src = j->row->mode == TO ? j->other : j->fd;
	int dst = j->row->mode == TO ? j->fd : j->other;

	return failed(ll_dedupe(src, j->row->off, j->row->len, dst,
				j->row->off));
}

static int op_copy(const struct job *j)
{
	int src = j->row->mode == TO ? j->other : j->fd;
	int dst = j->row->mode == TO ? j->fd : j->other;
	loff_t in = j->row->off, out = in;
	long long left = j->row->len;
	ssize_t n;

	for (; left > 0; left -= n) {
		n = copy_file_range(src, &in, dst, &out, left, 0);
		if (n <= 0)
			return -1;
	}
	return 0;
}

static int op_exchange(const struct job *j)
{
	return failed(ll_exchange(j->fd, j->row->off, j->row->len, j->other,
				  j->row->off, j->row->mode));
}

static int op_repair(const struct job *j)
{
	return failed(ll_repair(j->fd));
}

static int op_rebuild(const struct job *j)
{
	return failed(ll_rebuild(j->fd));
}

static int op_rename(const struct job *j)
{
	return rename(j->path, j->other_path);
}

static int op_link(const struct job *j)
{
	return link(j->path, j->other_path);
}

static int op_unlink(const struct job *j)
{
	return unlink(j->path);
}

static int op_chmod(const struct job *j)
{
	return chmod(j->path, 0640);
}

static int op_fsync(const struct job *j)
{
	return fsync(j->fd);
}

static int op_fdatasync(const struct job *j)
{
	return fdatasync(j->fd);
}

static int op_remount_ro(const struct job *j)
{
	return syscall(__NR_mount, NULL, j->dir, NULL, MS_REMOUNT | MS_RDONLY,
		       NULL);
}

static int op_freeze(const struct job *j)
{
	return ioctl(j->fd, FIFREEZE, 0) || ioctl(j->fd, FITHAW, 0) ? -1 : 0;
}

FIXTURE(ops) {
	struct ll_env env;
	struct job job;
	struct ll_proc worker;
	char fd_path[32];	/* also if it is renamed or unlinked */
	int fd;
	char *map;
	struct ibv_mr *mr[2];
};

FIXTURE_VARIANT(ops) {
	struct row row;
};

#define ROW(...)	{ .row = { __VA_ARGS__ } }

FIXTURE_VARIANT_ADD(ops, truncate_to_0)
	ROW(op_truncate_path, .hits = A | B);
FIXTURE_VARIANT_ADD(ops, truncate_into_a)
	ROW(op_truncate, 0, 2 * MB - 1, .hits = A | B);
FIXTURE_VARIANT_ADD(ops, truncate_behind_a)
	ROW(op_truncate, 0, 2 * MB, .hits = B);
FIXTURE_VARIANT_ADD(ops, truncate_to_4m)
	ROW(op_truncate_path, 0, 4 * MB, .hits = B);
FIXTURE_VARIANT_ADD(ops, truncate_into_b)
	ROW(op_truncate, 0, SIZE - 1, .hits = B);
FIXTURE_VARIANT_ADD(ops, truncate_tail)
	ROW(op_truncate, 0, SIZE, .size = SIZE + 64 * KB);
FIXTURE_VARIANT_ADD(ops, truncate_up)
	ROW(op_truncate, 0, 10 * MB);
FIXTURE_VARIANT_ADD(ops, truncate_up_old_eof_in_b)
	ROW(op_truncate, 0, 10 * MB, .size = SIZE - 100, .hits = B);
FIXTURE_VARIANT_ADD(ops, truncate_up_old_eof_behind_b)
	ROW(op_truncate, 0, 10 * MB, .size = SIZE + 100);
FIXTURE_VARIANT_ADD(ops, truncate_same_size)
	ROW(op_truncate, 0, SIZE);
FIXTURE_VARIANT_ADD(ops, open_trunc)
	ROW(op_open_trunc, .hits = A | B);

FIXTURE_VARIANT_ADD(ops, punch_head)
	ROW(op_fallocate, LL_PUNCH, 0, 64 * KB, .hits = A, .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, punch_tail)
	ROW(op_fallocate, LL_PUNCH, SIZE - 64 * KB, 64 * KB, .hits = B,
	    .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, punch_one_page)
	ROW(op_fallocate, LL_PUNCH, 4 * MB, 4 * KB,
	    .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, punch_between)
	ROW(op_fallocate, LL_PUNCH, 2 * MB, 4 * MB,
	    .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, punch_all)
	ROW(op_fallocate, LL_PUNCH, 0, SIZE, .hits = A | B, .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, punch_few_bytes)
	ROW(op_fallocate, LL_PUNCH, 2 * MB - 100, 200, .hits = A);
FIXTURE_VARIANT_ADD(ops, punch_behind_eof)
	ROW(op_fallocate, LL_PUNCH, 10 * MB, 2 * MB);

FIXTURE_VARIANT_ADD(ops, zero_head)
	ROW(op_fallocate, FALLOC_FL_ZERO_RANGE, 0, 64 * KB, .hits = A,
	    .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, zero_between)
	ROW(op_fallocate, FALLOC_FL_ZERO_RANGE, 4 * MB, 64 * KB,
	    .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, zero_tail)
	ROW(op_fallocate, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	    SIZE - 64 * KB, 128 * KB, .hits = B);

/* What shifts extents begins at the offset, on XFS one block before it. */
FIXTURE_VARIANT_ADD(ops, collapse_head)
	ROW(op_fallocate, FALLOC_FL_COLLAPSE_RANGE, 0, 64 * KB, .hits = A | B);
FIXTURE_VARIANT_ADD(ops, collapse_at_2m)
	ROW(op_fallocate, FALLOC_FL_COLLAPSE_RANGE, 2 * MB, 64 * KB,
	    .hits = B, .xfs_hits = A);
FIXTURE_VARIANT_ADD(ops, collapse_at_4m)
	ROW(op_fallocate, FALLOC_FL_COLLAPSE_RANGE, 4 * MB, 64 * KB, .hits = B);
FIXTURE_VARIANT_ADD(ops, insert_at_2m)
	ROW(op_fallocate, FALLOC_FL_INSERT_RANGE, 2 * MB, 64 * KB,
	    .hits = B, .xfs_hits = A, .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, insert_at_4m)
	ROW(op_fallocate, FALLOC_FL_INSERT_RANGE, 4 * MB, 64 * KB, .hits = B,
	    .file_has = ZEROES);

FIXTURE_VARIANT_ADD(ops, allocate_hole)
	ROW(op_fallocate, 0, HOLE, HOLE_LEN, .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, allocate_all)
	ROW(op_fallocate, 0, 0, SIZE);
FIXTURE_VARIANT_ADD(ops, allocate_and_extend)
	ROW(op_fallocate, 0, SIZE, 64 * KB, .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, allocate_keep_size)
	ROW(op_fallocate, FALLOC_FL_KEEP_SIZE, SIZE, 64 * KB);
FIXTURE_VARIANT_ADD(ops, unshare_tail)
	ROW(op_fallocate, FALLOC_FL_UNSHARE_RANGE, SIZE - 64 * KB, 64 * KB,
	    .xfs = true, .file_has = FILES);
FIXTURE_VARIANT_ADD(ops, write_zeroes)
	ROW(op_fallocate, FALLOC_FL_WRITE_ZEROES, SIZE - 64 * KB, 64 * KB,
	    .ret = -EOPNOTSUPP, .file_has = FILES);

FIXTURE_VARIANT_ADD(ops, write_in_place)
	ROW(op_write, 0, 64 * KB, 64 * KB, .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, write_extending)
	ROW(op_write, 0, SIZE, 64 * KB, .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, write_far_behind_eof)
	ROW(op_write, 0, SIZE + MB, 64 * KB, .size = SIZE - 100);
FIXTURE_VARIANT_ADD(ops, write_hole)
	ROW(op_write, 0, HOLE, HOLE_LEN, .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, store_in_place)
	ROW(op_store, 0, 64 * KB, 64 * KB, .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, store_hole)
	ROW(op_store, 0, HOLE, HOLE_LEN, .file_has = ZEROES);

/* Both inodes become copy-on-write, hence all of them. */
FIXTURE_VARIANT_ADD(ops, clone_from)
	ROW(op_clone, FROM, 4 * MB, .other = OTHERS, .xfs = true,
	    .hits = A | B, .other_has = FILES);
FIXTURE_VARIANT_ADD(ops, clone_to)
	ROW(op_clone, TO, 4 * MB, .other = OTHERS, .xfs = true, .hits = A | B,
	    .file_has = OTHERS);
FIXTURE_VARIANT_ADD(ops, clone_range_from)
	ROW(op_clone, FROM, 4 * MB, 64 * KB, .other = OTHERS, .xfs = true,
	    .hits = A | B, .file_has = FILES, .other_has = FILES);
FIXTURE_VARIANT_ADD(ops, clone_range_to)
	ROW(op_clone, TO, 4 * MB, 64 * KB, .other = OTHERS, .xfs = true,
	    .hits = A | B, .file_has = OTHERS, .other_has = OTHERS);
FIXTURE_VARIANT_ADD(ops, dedupe_same_from)
	ROW(op_dedupe, FROM, 4 * MB, 64 * KB, .other = FILES, .xfs = true,
	    .hits = A | B, .file_has = FILES, .other_has = FILES);
FIXTURE_VARIANT_ADD(ops, dedupe_same_to)
	ROW(op_dedupe, TO, 4 * MB, 64 * KB, .other = FILES, .xfs = true,
	    .hits = A | B, .file_has = FILES, .other_has = FILES);
FIXTURE_VARIANT_ADD(ops, dedupe_differs_from)
	ROW(op_dedupe, FROM, 4 * MB, 64 * KB, .other = OTHERS, .xfs = true,
	    .ret = FILE_DEDUPE_RANGE_DIFFERS,
	    .file_has = FILES, .other_has = OTHERS);
FIXTURE_VARIANT_ADD(ops, dedupe_differs_to)
	ROW(op_dedupe, TO, 4 * MB, 64 * KB, .other = OTHERS, .xfs = true,
	    .ret = FILE_DEDUPE_RANGE_DIFFERS,
	    .file_has = FILES, .other_has = OTHERS);
FIXTURE_VARIANT_ADD(ops, copy_from)
	ROW(op_copy, FROM, 4 * MB, 4 * MB - 64 * KB, .other = OTHERS,
	    .other_has = FILES);
FIXTURE_VARIANT_ADD(ops, copy_to)
	ROW(op_copy, TO, 4 * MB, MB, .other = OTHERS, .file_has = OTHERS);

FIXTURE_VARIANT_ADD(ops, exchange_between)
	ROW(op_exchange, 0, 4 * MB, 64 * KB, .other = OTHERS, .xfs = true,
	    .hits = TWO_FILES, .file_has = OTHERS, .other_has = FILES);
FIXTURE_VARIANT_ADD(ops, exchange_head)
	ROW(op_exchange, 0, 0, 4 * KB, .other = OTHERS, .xfs = true,
	    .hits = TWO_FILES, .file_has = OTHERS, .other_has = FILES);
FIXTURE_VARIANT_ADD(ops, exchange_to_eof)
	ROW(op_exchange, XFS_EXCHANGE_RANGE_TO_EOF, 4 * MB, .other = OTHERS,
	    .xfs = true, .hits = TWO_FILES, .file_has = OTHERS,
	    .other_has = FILES);
FIXTURE_VARIANT_ADD(ops, exchange_dry_run)
	ROW(op_exchange, XFS_EXCHANGE_RANGE_DRY_RUN, 0, SIZE, .other = OTHERS,
	    .xfs = true);

/* Of what needs none. */
FIXTURE_VARIANT_ADD(ops, online_repair)
	ROW(op_repair, .xfs = true);
FIXTURE_VARIANT_ADD(ops, online_rebuild)
	ROW(op_rebuild, .xfs = true, .hits = TWO_FILES);

FIXTURE_VARIANT_ADD(ops, rename)
	ROW(op_rename);
FIXTURE_VARIANT_ADD(ops, link)
	ROW(op_link);
FIXTURE_VARIANT_ADD(ops, unlink)
	ROW(op_unlink);
FIXTURE_VARIANT_ADD(ops, chmod)
	ROW(op_chmod);
FIXTURE_VARIANT_ADD(ops, fsync)
	ROW(op_fsync);
FIXTURE_VARIANT_ADD(ops, fdatasync)
	ROW(op_fdatasync);
FIXTURE_VARIANT_ADD(ops, remount_ro)
	ROW(op_remount_ro, .ret = -EBUSY);
FIXTURE_VARIANT_ADD(ops, freeze)
	ROW(op_freeze);

/* Blocks of B go to another file, where the key of B does not reach them. */
FIXTURE_VARIANT_ADD(ops, truncate_and_reuse)
	ROW(op_truncate, 0, 4 * MB, .hits = B, .reuse = true);
FIXTURE_VARIANT_ADD(ops, punch_and_reuse)
	ROW(op_fallocate, LL_PUNCH, 4 * MB, 4 * MB, .hits = B, .reuse = true,
	    .file_has = ZEROES);
FIXTURE_VARIANT_ADD(ops, collapse_and_reuse)
	ROW(op_fallocate, FALLOC_FL_COLLAPSE_RANGE, 4 * MB, 3 * MB, .hits = B,
	    .reuse = true);

static long system_ms(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_stime.tv_sec * 1000 + usage.ru_stime.tv_usec / 1000;
}

static void work(int sock, void *arg)
{
	struct job *j = arg;
	int ret;
	long ms, sys;

	j->fd = open(j->path, O_RDWR);
	j->other = open(j->other_path, O_RDWR);
	ll_put(sock, 0);
	ll_get(sock, INT_MAX);
	errno = 0;
	ms = ll_now_ms();
	sys = system_ms();
	ret = j->row->op(j);
	if (ret < 0)
		ret = -(errno ?: EIO);
	ll_put(sock, ret);
	ll_put(sock, ll_now_ms() - ms);
	ll_put(sock, system_ms() - sys);
}

static int mkfile(const char *path, unsigned char seed)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	return fd < 0 ? -errno : ll_fill(fd, SIZE / ll_pg, seed) ?: fd;
}

FIXTURE_SETUP(ops)
{
	const struct row *row = &variant->row;
	int fd;

	LL_NEEDS_XFS_IF(row->xfs);
	LL_ENV_INIT(&self->env, true);
	ll_set_grace(0);

	self->fd = mkfile(self->env.path, FILES);
	ASSERT_LE(0, self->fd);
	snprintf(self->fd_path, sizeof(self->fd_path), "/proc/self/fd/%d",
		 self->fd);
	ASSERT_EQ(0, ll_punch(self->fd, HOLE, HOLE_LEN));
	ASSERT_EQ(HOLE, lseek(self->fd, 0, SEEK_HOLE));
	if (row->size)
		ASSERT_EQ(0, ftruncate(self->fd, row->size));
	if (row->other) {
		fd = mkfile(self->env.other, row->other);
		ASSERT_LE(0, fd);
		close(fd);
	}
	self->job = (struct job) {
		.row = row,
		.dir = getenv("DAX1"),
		.path = self->env.path,
		.other_path = self->env.other,
	};
	ASSERT_EQ(0, ll_proc_start(&self->worker, work, &self->job));
	ASSERT_EQ(0, ll_get(self->worker.sock, LL_SOON_MS));
}

FIXTURE_TEARDOWN(ops)
{
	ll_proc_stop(&self->worker);
	ll_env_exit(&self->env);
}

static const long long starts[] = { 0, 6 * MB };

static bool has(const char *path, const struct row *row, int seed)
{
	long long at, len = row->len ?: 64 * KB;

	for (at = row->off; at < row->off + len; at += ll_pg)
		if (!ll_file_is(path, at, ll_pg,
				seed == ZEROES ? 0 : seed + at / ll_pg))
			return false;
	return true;
}

/* Take all free blocks, use the dead key: nothing changes. */
static void reuse(struct __test_metadata *_metadata, struct ll_rdma *r,
		  const char *b, __u32 rkey)
{
	char victim[32];
	long size = ll_take_all(victim, getenv("DAX1"), 0x80);
	unsigned int i;

	ASSERT_LE(3 * MB, size);
	for (i = 0; i < 16; i++) {
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
			  ll_rdma_write(r, b + i * 128 * KB, rkey, ll_pg,
					0xcc));
		ASSERT_EQ(0, ll_rdma_connect(r));
	}
	EXPECT_TRUE(ll_file_is(victim, 0, size, 0x80));
}

TEST_F_TIMEOUT(ops, leases, 240)
{
	struct ll_rdma *r = &self->env.rdma;
	const struct row *row = &variant->row;
	int hits = row->hits | (ll_is_xfs() ? row->xfs_hits : 0), hit, status, i;
	struct layout_lease lease;
	struct result res;

	if (row->reuse)
		ASSERT_EQ(0, ll_fill_up(getenv("DAX1"), 1 << 20));
	self->map = ll_map(self->fd, 0, SIZE, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, self->map);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, starts[i], 2 * MB));
		self->mr[i] = ll_reg(r, self->map + starts[i], 2 * MB,
				     LL_ACCESS);
		ASSERT_NE(NULL, self->mr[i]) TH_LOG("%s", strerror(errno));
		/* It works; the file stays as it is. */
		EXPECT_EQ(IBV_WC_SUCCESS,
			  ll_rdma_write(r, self->mr[i]->addr, self->mr[i]->rkey,
					1, FILES + starts[i] / ll_pg));
	}

	ASSERT_EQ(0, ll_put(self->worker.sock, 0));
	res.ret = ll_get(self->worker.sock, LL_SOON_MS);
	ASSERT_NE(-ETIME, res.ret);
	res.ms = ll_get(self->worker.sock, LL_SOON_MS);
	res.system_ms = ll_get(self->worker.sock, LL_SOON_MS);
	if (row->op == op_exchange && res.ret == -EOPNOTSUPP)
		SKIP(return, "no exchange range: mkfs.xfs -i exchange=1");
	if ((row->op == op_repair || row->op == op_rebuild) &&
	    res.ret == -ENOTTY)
		SKIP(return, "no CONFIG_XFS_ONLINE_REPAIR, try KERNEL=builtin");
	if (row->op == op_rebuild && res.ret == -EOPNOTSUPP)
		SKIP(return, "no reverse mappings: mkfs.xfs -m rmapbt=1");
	EXPECT_EQ(row->ret, res.ret);
	EXPECT_GE(LL_SOON_MS, res.ms);
	EXPECT_GE(MAX_SYSTEM_MS, res.system_ms);
	if (row->file_has)
		EXPECT_TRUE(has(self->fd_path, row, row->file_has));
	if (row->other_has)
		EXPECT_TRUE(has(self->env.other, row, row->other_has));

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, ll_getlayout(self->fd, starts[i], 2 * MB, &lease));
		hit = !!(hits & (A << i));
		EXPECT_EQ(hit ? LAYOUT_LEASE_REVOKED : LAYOUT_LEASE_GRANTED,
			  lease.state)
			TH_LOG("%c", 'A' + i);
		EXPECT_EQ(starts[i], lease.start);
		EXPECT_EQ(2 * MB, lease.len);
		if (hit) {
			EXPECT_TRUE(ll_rkey_is_dead(r, self->mr[i]->addr,
						    self->mr[i]->rkey))
				TH_LOG("%c", 'A' + i);
			continue;
		}
		status = ll_rdma_write(r, self->mr[i]->addr + 64 * KB,
				       self->mr[i]->rkey, ll_pg, 0xa0 + i);
		EXPECT_EQ(IBV_WC_SUCCESS, status) {
			TH_LOG("%c", 'A' + i);
			ll_rdma_connect(r);
		}
		EXPECT_TRUE(ll_file_is(self->fd_path, starts[i] + 64 * KB,
				       ll_pg, 0xa0 + i))
			TH_LOG("%c", 'A' + i);
	}
	EXPECT_EQ(!hits, ll_signal(SIGIO, 100, NULL) != 0);

	if (row->reuse)
		reuse(_metadata, r, self->mr[1]->addr, self->mr[1]->rkey);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, ibv_dereg_mr(self->mr[i]));
}

TEST_HARNESS_MAIN
