// SPDX-License-Identifier: GPL-2.0
/*
 * What is refused breaks nothing: each row is a call that ends in an error of
 * its own, or changes nothing, on a file that is leased and registered by
 * another process. It is answered at once, the holder is told nothing, and keeps
 * its lease and its memory region.
 */
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "layout_lease_change.h"
#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define LEN		(LL_PAGES * 4096LL)
#define PAGE		4096LL
#define ODD		100
#define SEED		0x10	/* of the leased file, see ll_fill() */
#define OTHER_SEED	0x55
#define LIMIT		(2 * LEN)	/* RLIMIT_FSIZE */
#define COLLAPSE	FALLOC_FL_COLLAPSE_RANGE
#define INSERT		FALLOC_FL_INSERT_RANGE
#define ZERO		FALLOC_FL_ZERO_RANGE

/* What the other file is, if there is one. */
enum other {
	NONE,
	DIFFERENT,		/* has other data */
	EQUAL,			/* has the same data */
	EMPTY,
	ITSELF,			/* the leased file once more */
	ELSEWHERE,		/* on another filesystem of the same kind */
	ON_TMPFS,
};

enum fs {
	ANY, XFS, EXT4
};

struct row {
	struct ll_call call;
	enum other other;
	enum fs fs;
	int ret;		/* what the call returns */
	int attribute;		/* of the leased file: FS_IMMUTABLE_FL ... */
	int other_attribute;
	long long size;		/* of the leased file, if not LEN */
	bool read_only;		/* through a bind mount that is */
};

FIXTURE(refused) {
	struct ll_env env;
	struct held held;
	struct ll_proc caller;
	char other[PATH_MAX + 8];
	char bind[PATH_MAX];
};

FIXTURE_VARIANT(refused) {
	struct row row;
};

#define ROW(name, error, ...)						\
	FIXTURE_VARIANT_ADD(refused, name)				\
		{ .row = { .ret = error, __VA_ARGS__ } }
#define CALL(name, ...)		.call = { .fn = ll_call_##name, __VA_ARGS__ }
#define FALLOCATE(m, o, l)	CALL(fallocate, .mode = m, .off = o, .len = l)

/* fallocate(2): alignment, limits, modes */
ROW(collapse_unaligned, -EINVAL, FALLOCATE(COLLAPSE, ODD, PAGE));
ROW(collapse_unaligned_length, -EINVAL, FALLOCATE(COLLAPSE, 0, ODD));
ROW(collapse_over_the_end, -EINVAL,
    FALLOCATE(COLLAPSE, LEN - PAGE, 2 * PAGE));
ROW(collapse_all, -EINVAL, FALLOCATE(COLLAPSE, 0, LEN));
ROW(insert_unaligned, -EINVAL, FALLOCATE(INSERT, ODD, PAGE));
ROW(insert_at_the_end, -EINVAL, FALLOCATE(INSERT, LEN, PAGE));
ROW(insert_behind_the_end, -EINVAL, FALLOCATE(INSERT, 2 * LEN, PAGE));
ROW(insert_too_much_xfs, -EFBIG,
    FALLOCATE(INSERT, 0, LLONG_MAX - PAGE + 1), .fs = XFS);
ROW(insert_too_much_ext4, -EFBIG,
    FALLOCATE(INSERT, 0, (1LL << 44) - 2 * PAGE), .fs = EXT4);
ROW(insert_over_limit, -EFBIG, .fs = XFS,
    CALL(fallocate, .mode = INSERT, .len = LIMIT, .fsize = LIMIT));
ROW(zero_over_limit, -EFBIG,
    CALL(fallocate, .mode = ZERO, .len = 2 * LIMIT, .fsize = LIMIT));
ROW(punch_nothing, -EINVAL, FALLOCATE(LL_PUNCH, 0, 0));
ROW(punch_negative, -EINVAL, FALLOCATE(LL_PUNCH, -PAGE, PAGE));
ROW(punch_with_size, -EOPNOTSUPP,
    FALLOCATE(FALLOC_FL_PUNCH_HOLE, 0, PAGE));
ROW(punch_and_zero, -EOPNOTSUPP, FALLOCATE(LL_PUNCH | ZERO, 0, PAGE));
ROW(punch_read_only_descriptor, -EBADF,
    CALL(fallocate, .flags = LL_READ, .mode = LL_PUNCH, .len = PAGE));
ROW(unshare_ext4, -EOPNOTSUPP,
    FALLOCATE(FALLOC_FL_UNSHARE_RANGE, 0, PAGE), .fs = EXT4);
ROW(write_zeroes, -EOPNOTSUPP, FALLOCATE(FALLOC_FL_WRITE_ZEROES, 0, PAGE));
ROW(punch_immutable, -EPERM, FALLOCATE(LL_PUNCH, 0, PAGE),
    .attribute = FS_IMMUTABLE_FL);
ROW(punch_append_only, -EPERM, FALLOCATE(LL_PUNCH, 0, PAGE),
    .attribute = FS_APPEND_FL);
ROW(zero_immutable, -EPERM, FALLOCATE(ZERO, 0, PAGE),
    .attribute = FS_IMMUTABLE_FL);
ROW(collapse_append_only, -EPERM, FALLOCATE(COLLAPSE, 0, PAGE),
    .attribute = FS_APPEND_FL);
ROW(insert_immutable, -EPERM, FALLOCATE(INSERT, 0, PAGE),
    .attribute = FS_IMMUTABLE_FL);

/* Truncate: up from the middle of a block it breaks that one */
ROW(truncate_over_limit, -EFBIG, .size = LEN - ODD,
    CALL(truncate, .len = 2 * LIMIT, .fsize = LIMIT));
ROW(ftruncate_over_limit, -EFBIG, .size = LEN - ODD,
    CALL(ftruncate, .len = 2 * LIMIT, .fsize = LIMIT));
ROW(ftruncate_too_much, -EFBIG, .size = LEN - ODD, .fs = EXT4,
    CALL(ftruncate, .len = 1LL << 60));
ROW(truncate_negative, -EINVAL, CALL(truncate, .len = -1));
ROW(truncate_immutable, -EPERM, CALL(truncate, 0),
    .attribute = FS_IMMUTABLE_FL);
ROW(ftruncate_immutable, -EPERM, CALL(ftruncate, 0), .fs = EXT4,
    .attribute = FS_IMMUTABLE_FL);
ROW(truncate_append_only, -EPERM, CALL(truncate, 0),
    .attribute = FS_APPEND_FL);
ROW(ftruncate_append_only, -EPERM, CALL(ftruncate, 0),
    .attribute = FS_APPEND_FL);
ROW(open_trunc_immutable, -EPERM, CALL(open, .mode = O_RDWR | O_TRUNC),
    .attribute = FS_IMMUTABLE_FL);
ROW(open_trunc_append_only, -EPERM, CALL(open, .mode = O_RDWR | O_TRUNC),
    .attribute = FS_APPEND_FL);
ROW(ftruncate_read_only_descriptor, -EINVAL,
    CALL(ftruncate, .flags = LL_READ));
ROW(truncate_read_only_mount, -EROFS, CALL(truncate, .flags = LL_READ),
    .read_only = true);
ROW(open_trunc_read_only_mount, -EROFS, .read_only = true,
    CALL(open, .flags = LL_READ, .mode = O_WRONLY | O_TRUNC));
ROW(truncate_by_nobody, -EACCES, CALL(truncate, .nobody = true));
ROW(open_trunc_by_nobody, -EACCES,
    CALL(open, .mode = O_WRONLY | O_TRUNC, .nobody = true));

/* Clones: where there are none, it is EOPNOTSUPP whatever else is wrong */
ROW(clone_without_reflink, -EOPNOTSUPP, CALL(clone, 0), EMPTY, EXT4);
ROW(clone_unaligned, -EINVAL,
    CALL(clone, .off = ODD, .len = PAGE), EMPTY, XFS);
ROW(clone_unaligned_length, -EINVAL,
    CALL(clone, .len = ODD), DIFFERENT, XFS);
ROW(clone_to_unaligned, -EINVAL,
    CALL(clone, .to = true, .off = ODD, .len = PAGE), DIFFERENT, XFS);
ROW(clone_behind_the_end, -EINVAL,
    CALL(clone, .off = 4 * LEN, .len = PAGE), EMPTY, XFS);
ROW(clone_over_the_end, -EINVAL,
    CALL(clone, .off = LEN - PAGE, .len = 2 * PAGE), EMPTY, XFS);
ROW(clone_over_itself, -EINVAL,
    CALL(clone, .len = 2 * PAGE, .other_off = PAGE), ITSELF, XFS);
ROW(clone_over_limit, -EFBIG,
    CALL(clone, .other_off = 2 * LIMIT, .len = PAGE, .fsize = LIMIT), EMPTY,
    XFS);
ROW(clone_to_read_only_descriptor, -EBADF,
    CALL(clone, .other_flags = LL_READ), DIFFERENT);
ROW(clone_to_appending_descriptor, -EBADF,
    CALL(clone, .other_flags = O_WRONLY | O_APPEND), DIFFERENT);
ROW(clone_from_write_only_descriptor, -EBADF,
    CALL(clone, .flags = O_WRONLY), DIFFERENT);
ROW(clone_to_immutable, -EPERM, CALL(clone, 0), DIFFERENT, XFS,
    .other_attribute = FS_IMMUTABLE_FL);
ROW(clone_immutable_leased, -EPERM, CALL(clone, .to = true), DIFFERENT, XFS,
    .attribute = FS_IMMUTABLE_FL);
ROW(clone_to_another_filesystem, -EXDEV, CALL(clone, 0), ELSEWHERE, XFS);
ROW(clone_from_another_filesystem, -EXDEV, CALL(clone, .to = true), ELSEWHERE,
    XFS);
ROW(clone_to_tmpfs, -EXDEV, CALL(clone, 0), ON_TMPFS, XFS);

/* Dedupe */
ROW(dedupe_without_reflink, -EOPNOTSUPP, CALL(dedupe, .len = PAGE), EQUAL,
    EXT4);
ROW(dedupe_different, FILE_DEDUPE_RANGE_DIFFERS,
    CALL(dedupe, .len = PAGE), DIFFERENT, XFS);
ROW(dedupe_to_different, FILE_DEDUPE_RANGE_DIFFERS,
    CALL(dedupe, .to = true, .len = PAGE), DIFFERENT, XFS);
ROW(dedupe_all_but_the_last_page_equal, FILE_DEDUPE_RANGE_DIFFERS,
    CALL(dedupe, .len = LEN), EQUAL, XFS);
ROW(dedupe_to_empty, -EINVAL, CALL(dedupe, .len = PAGE), EMPTY, XFS);
ROW(dedupe_to_end_of_empty, -EINVAL,
    CALL(dedupe, .len = PAGE, .other_off = PAGE), EMPTY, XFS);
ROW(dedupe_unaligned, -EINVAL, CALL(dedupe, .off = ODD, .len = PAGE), EQUAL,
    XFS);
ROW(dedupe_behind_the_end, -EINVAL,
    CALL(dedupe, .off = 4 * LEN, .len = PAGE), EQUAL, XFS);
ROW(dedupe_over_itself, -EINVAL,
    CALL(dedupe, .len = 2 * PAGE, .other_off = PAGE), ITSELF, XFS);
ROW(dedupe_to_another_filesystem, -EXDEV, CALL(dedupe, .len = PAGE),
    ELSEWHERE, XFS);
ROW(dedupe_to_immutable, -EPERM, CALL(dedupe, .len = PAGE), EQUAL, XFS,
    .other_attribute = FS_IMMUTABLE_FL);

/* Exchange range: two files, and what it asks of them */
ROW(exchange_dry_run, 0,
    CALL(exchange, .len = LEN, .mode = XFS_EXCHANGE_RANGE_DRY_RUN), DIFFERENT,
    XFS);
ROW(exchange_dry_run_second, 0,
    CALL(exchange, .to = true, .len = LEN,
	 .mode = XFS_EXCHANGE_RANGE_DRY_RUN), DIFFERENT, XFS);
ROW(exchange_bad_flags, -EINVAL, CALL(exchange, .len = LEN, .mode = 1 << 20),
    DIFFERENT, XFS);
ROW(exchange_unaligned, -EINVAL, CALL(exchange, .off = ODD, .len = PAGE),
    DIFFERENT, XFS);
ROW(exchange_behind_the_end, -EINVAL,
    CALL(exchange, .off = 4 * LEN, .len = PAGE), DIFFERENT, XFS);
ROW(exchange_over_the_end, -EINVAL, CALL(exchange, .len = 2 * LEN), DIFFERENT,
    XFS);
ROW(exchange_with_itself, -EINVAL,
    CALL(exchange, .len = 2 * PAGE, .other_off = PAGE), ITSELF, XFS);
ROW(exchange_with_read_only_descriptor, -EBADF,
    CALL(exchange, .len = LEN, .other_flags = LL_READ), DIFFERENT, XFS);
ROW(exchange_with_another_filesystem, -EXDEV, CALL(exchange, .len = LEN),
    ELSEWHERE, XFS);
ROW(exchange_immutable, -EPERM, CALL(exchange, .len = LEN), DIFFERENT, XFS,
    .attribute = FS_IMMUTABLE_FL);
ROW(exchange_with_immutable, -EPERM, CALL(exchange, .len = LEN), DIFFERENT,
    XFS, .other_attribute = FS_IMMUTABLE_FL);

/* Its predecessor: all of both files, as they were when they were looked at */
ROW(swapext_part, -EFAULT, CALL(swapext, .len = PAGE), DIFFERENT, XFS);
ROW(swapext_offset, -EFAULT, CALL(swapext, .off = PAGE, .len = LEN),
    DIFFERENT, XFS);
ROW(swapext_with_itself, -EINVAL, CALL(swapext, .len = LEN), ITSELF, XFS);
ROW(swapext_with_empty, -EFAULT, CALL(swapext, .len = LEN), EMPTY, XFS);
ROW(swapext_with_read_only_descriptor, -EBADF,
    CALL(swapext, .len = LEN, .other_flags = LL_READ), DIFFERENT, XFS);
ROW(swapext_with_another_filesystem, -EINVAL, CALL(swapext, .len = LEN),
    ELSEWHERE, XFS);

static int set_attribute(const char *path, int flag, bool on)
{
	int fd = open(path, O_RDONLY), flags, ret;

	ret = ioctl(fd, FS_IOC_GETFLAGS, &flags);
	flags = on ? flags | flag : flags & ~flag;
	ret = ret || ioctl(fd, FS_IOC_SETFLAGS, &flags) ? -errno : 0;
	close(fd);
	return ret;
}

/* Make the other file, and its name. */
static void make_other(struct __test_metadata *_metadata, struct ll_env *env,
		       char *other, enum other kind)
{
	const char *dir = kind == ELSEWHERE ? getenv("DAX2") :
			  kind == ON_TMPFS ? "/dev/shm" : getenv("DAX1");

	if (kind == NONE)
		return;
	if (kind == ITSELF) {
		strcpy(other, env->path);
		return;
	}
	snprintf(other, PATH_MAX, "%s%s.2", dir, strrchr(env->path, '/'));
	ASSERT_EQ(0, ll_make(other, kind == EMPTY ? 0 : LEN / ll_pg,
			     kind == EQUAL ? SEED : OTHER_SEED));
	if (kind != EQUAL)
		return;
	/* But for the last byte. */
	ASSERT_EQ(0, truncate(other, LEN - 1));
	ASSERT_EQ(0, truncate(other, LEN));
}

FIXTURE_SETUP(refused)
{
	const struct row *row = &variant->row;

	if (row->fs != ANY && (row->fs == XFS) != ll_is_xfs())
		SKIP(return, "%s only", row->fs == XFS ? "XFS" : "ext4");
	LL_NEEDS_DAX2_IF(row->other == ELSEWHERE);
	LL_ENV_INIT(&self->env, true);
	ASSERT_EQ(0, ll_make(self->env.path, LEN / ll_pg, SEED));
	ASSERT_EQ(0, chmod(self->env.path, 0644));
	if (row->size)
		ASSERT_EQ(0, truncate(self->env.path, row->size));
	make_other(_metadata, &self->env, self->other, row->other);
}

FIXTURE_TEARDOWN(refused)
{
	const struct row *row = &variant->row;

	/* Whoever waits, does not any more. */
	ll_let_go(&self->held);
	ll_proc_stop(&self->caller);
	if (row->attribute)
		set_attribute(self->env.path, row->attribute, false);
	if (row->other_attribute)
		set_attribute(self->other, row->other_attribute, false);
	if (self->bind[0]) {
		ll_umount(self->bind);
		rmdir(self->bind);
	}
	if (self->other[0])
		unlink(self->other);
	ll_env_exit(&self->env);
}

/* Where the leased file can be seen and not be changed. */
static void bind_read_only(struct __test_metadata *_metadata, char *bind,
			   char path[PATH_MAX], const char *file)
{
	strcpy(bind, LL_MOUNT_POINT);
	ASSERT_EQ(0, ll_mount_point(bind, path, file));
	ASSERT_EQ(0, ll_sh("mount --bind $DAX1 %s && "
			   "mount -o remount,bind,ro %s", bind, bind));
}

TEST_F_TIMEOUT(refused, breaks_nothing, 240)
{
	const struct row *row = &variant->row;
	struct ll_call call = row->call;
	char path[PATH_MAX];
	struct ll_result res = {};

	call.path = self->env.path;
	if (row->read_only) {
		bind_read_only(_metadata, self->bind, path, self->env.path);
		call.path = path;
	}
	call.other = row->other ? self->other : NULL;
	ASSERT_EQ(0, ll_call_start(&self->caller, &call));
	ASSERT_EQ(0, ll_hold(&self->held, &self->env.rdma, self->env.path,
			     row->size ? LEN - PAGE : LEN));
	if (row->attribute)
		ASSERT_EQ(0, set_attribute(self->env.path, row->attribute,
					   true));
	if (row->other_attribute)
		ASSERT_EQ(0, set_attribute(self->other, row->other_attribute,
					   true));
	ASSERT_EQ(0, ll_call_go(&self->caller));
	ASSERT_EQ(0, ll_done_untold(&self->caller, LL_SOON_MS, &res))
		TH_LOG("waits for the holder");
	EXPECT_EQ(row->ret, res.ret)
		TH_LOG("%s", strerror(res.ret < 0 ? -res.ret : 0));
	EXPECT_UNDISTURBED(&self->env.rdma, &self->held);
	EXPECT_EQ(0, ll_let_go(&self->held));
}

/*
 * A DAX file and one that is not, which cannot share blocks.
 */
FIXTURE(mixed) {
	struct ll_env env;
	struct ll_proc caller;
	char dir[PATH_MAX];	/* files in it are DAX files */
	char path[PATH_MAX + 8], other[PATH_MAX + 8];
};

FIXTURE_VARIANT(mixed) {
	struct ll_call call;
};

FIXTURE_VARIANT_ADD(mixed, clone) { CALL(clone, 0) };
FIXTURE_VARIANT_ADD(mixed, clone_to) { CALL(clone, .to = true) };
FIXTURE_VARIANT_ADD(mixed, dedupe) { CALL(dedupe, .len = PAGE) };

FIXTURE_SETUP(mixed)
{
	const char *dir = getenv("DAX2");

	LL_NEEDS_XFS();
	LL_NEEDS_DAX2();
	LL_ENV_INIT(&self->env, true);
	ASSERT_EQ(0, ll_remount(dir, "dax=inode"));
	snprintf(self->dir, sizeof(self->dir), "%s/dir-XXXXXX", dir);
	ASSERT_EQ(0, ll_dax_dir(self->dir));
	snprintf(self->path, sizeof(self->path), "%s/dax", self->dir);
	snprintf(self->other, sizeof(self->other), "%s.other", self->dir);
	ASSERT_EQ(0, ll_make(self->path, LEN / ll_pg, SEED));
	ASSERT_EQ(0, ll_make(self->other, LEN / ll_pg, SEED));
}

FIXTURE_TEARDOWN(mixed)
{
	ll_proc_stop(&self->caller);
	ll_env_exit(&self->env);
	if (!self->dir[0])
		return;
	unlink(self->path);
	unlink(self->other);
	rmdir(self->dir);
	EXPECT_EQ(0, ll_remount(getenv("DAX2"), "dax=always"));
}

TEST_F_TIMEOUT(mixed, breaks_nothing, 240)
{
	struct ll_call call = variant->call;
	struct ll_result res = {};
	struct held h;

	call.path = self->path;
	call.other = self->other;
	ASSERT_EQ(0, ll_call_start(&self->caller, &call));
	ASSERT_EQ(0, ll_hold(&h, &self->env.rdma, self->path, LEN));
	ASSERT_EQ(0, ll_call_go(&self->caller));
	ASSERT_EQ(0, ll_done_untold(&self->caller, LL_SOON_MS, &res))
		TH_LOG("waits for the holder");
	EXPECT_EQ(-EINVAL, res.ret);
	EXPECT_UNDISTURBED(&self->env.rdma, &h);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, munmap(h.map, LEN));
	EXPECT_EQ(0, close(h.fd));
}

/*
 * What waits until a frozen filesystem is thawed has not begun yet.
 */
FIXTURE(frozen) {
	struct ll_env env;
	struct held held;
	struct ll_proc caller, freezer;
	char other[PATH_MAX + 8];
};

FIXTURE_VARIANT(frozen) {
	struct ll_call call;
	enum other other;
};

FIXTURE_VARIANT_ADD(frozen, truncate) { CALL(truncate, .flags = LL_READ) };
FIXTURE_VARIANT_ADD(frozen, ftruncate) { CALL(ftruncate, 0) };
FIXTURE_VARIANT_ADD(frozen, punch) { FALLOCATE(LL_PUNCH, 0, PAGE) };
FIXTURE_VARIANT_ADD(frozen, collapse) { FALLOCATE(COLLAPSE, 0, PAGE) };
FIXTURE_VARIANT_ADD(frozen, clone) { CALL(clone, 0), DIFFERENT };
FIXTURE_VARIANT_ADD(frozen, clone_to) { CALL(clone, .to = true), DIFFERENT };
FIXTURE_VARIANT_ADD(frozen, exchange) { CALL(exchange, .len = LEN), DIFFERENT };

FIXTURE_SETUP(frozen)
{
	LL_NEEDS_XFS_IF(variant->other);
	LL_ENV_INIT(&self->env, true);
	make_other(_metadata, &self->env, self->other, variant->other);
	ASSERT_EQ(0, ll_freezer_start(&self->freezer, getenv("DAX1")));
}

FIXTURE_TEARDOWN(frozen)
{
	/* Thawed, and whoever waits does not any more. */
	ll_freezer_stop(&self->freezer);
	ll_let_go(&self->held);
	ll_proc_stop(&self->caller);
	if (self->other[0])
		unlink(self->other);
	ll_env_exit(&self->env);
}

TEST_F_TIMEOUT(frozen, breaks_nothing_yet, 240)
{
	struct ll_call call = variant->call;

	call.path = self->env.path;
	call.other = variant->other ? self->other : NULL;
	ASSERT_EQ(0, ll_call_start(&self->caller, &call));
	ASSERT_EQ(0, ll_hold(&self->held, &self->env.rdma, self->env.path,
			     LEN));
	ASSERT_EQ(0, ll_freeze(&self->freezer, LL_SOON_MS));
	ASSERT_EQ(0, ll_call_go(&self->caller));
	EXPECT_NOT_DONE(&self->caller);
	EXPECT_UNDISTURBED(&self->env.rdma, &self->held);
	ASSERT_EQ(0, ll_thaw(&self->freezer));
	EXPECT_SIGNAL(self->held.fd, POLL_MSG);
	EXPECT_EQ(0, ll_let_go(&self->held));
	EXPECT_DONE_SOON(&self->caller);
}

/*
 * A lease that comes while an operation on two files waits for a page that a
 * pipe has: whether it is refused, is seen only after that.
 */
FIXTURE(late) {
	struct ll_env env;
	struct held held;
	struct ll_proc caller;
	char other[PATH_MAX + 8];
	int pipe[2];
};

FIXTURE_VARIANT(late) {
	struct ll_call call;
	bool other_in_pipe;	/* a page of it, not of the one to be leased */
	int ret;
};

#define LATE(name, error, ...)						\
	FIXTURE_VARIANT_ADD(late, name) { .ret = error, __VA_ARGS__ }

LATE(dedupe, FILE_DEDUPE_RANGE_DIFFERS, CALL(dedupe, .len = PAGE));
LATE(dedupe_to, FILE_DEDUPE_RANGE_DIFFERS,
     CALL(dedupe, .to = true, .len = PAGE));
LATE(dedupe_waits_for_other, FILE_DEDUPE_RANGE_DIFFERS,
     CALL(dedupe, .len = PAGE), .other_in_pipe = true);
LATE(clone_unaligned, -EINVAL, CALL(clone, .off = ODD, .len = PAGE));
LATE(clone_to_unaligned, -EINVAL,
     CALL(clone, .to = true, .off = ODD, .len = PAGE));
LATE(exchange_unaligned, -EINVAL, CALL(exchange, .off = ODD, .len = PAGE));

FIXTURE_SETUP(late)
{
	LL_NEEDS_XFS();
	self->pipe[0] = self->pipe[1] = -1;
	LL_ENV_INIT(&self->env, true);
	make_other(_metadata, &self->env, self->other, DIFFERENT);
}

FIXTURE_TEARDOWN(late)
{
	close(self->pipe[0]);
	close(self->pipe[1]);
	ll_let_go(&self->held);
	ll_proc_stop(&self->caller);
	if (self->other[0])
		unlink(self->other);
	ll_env_exit(&self->env);
}

static void put_page_in_pipe(struct __test_metadata *_metadata,
			     const char *path, int pipe_end)
{
	int fd = open(path, O_RDWR);
	struct iovec iov = {
		.iov_base = ll_map(fd, 0, PAGE, PROT_READ | PROT_WRITE),
		.iov_len = PAGE,
	};

	ASSERT_NE(MAP_FAILED, iov.iov_base);
	ASSERT_EQ(0, close(fd));
	ASSERT_EQ(PAGE, syscall(__NR_vmsplice, pipe_end, &iov, 1, 0));
	ASSERT_EQ(0, munmap(iov.iov_base, PAGE));
}

TEST_F_TIMEOUT(late, breaks_nothing, 240)
{
	struct ll_call call = variant->call;
	struct ll_result res = {};

	call.path = self->env.path;
	call.other = self->other;
	ASSERT_EQ(0, pipe(self->pipe));
	put_page_in_pipe(_metadata, variant->other_in_pipe ? self->other :
							     self->env.path,
			 self->pipe[1]);
	ASSERT_EQ(0, ll_call_start(&self->caller, &call));
	ASSERT_EQ(0, ll_call_go(&self->caller));
	if (!ll_done(&self->caller, 300, &res))
		SKIP(return, "pipes get copies of DAX pages, or it is refused before");
	ASSERT_EQ(0, ll_hold(&self->held, &self->env.rdma, self->env.path,
			     LEN));
	close(self->pipe[0]);
	close(self->pipe[1]);
	self->pipe[0] = self->pipe[1] = -1;
	ASSERT_EQ(0, ll_done_untold(&self->caller, LL_SOON_MS, &res))
		TH_LOG("waits for the holder");
	EXPECT_EQ(variant->ret, res.ret)
		TH_LOG("%s", strerror(res.ret < 0 ? -res.ret : 0));
	EXPECT_UNDISTURBED(&self->env.rdma, &self->held);
}

TEST_HARNESS_MAIN
