// SPDX-License-Identifier: GPL-2.0
/*
 * Who waits for a holder keeps nobody else waiting: each row is a call that waits
 * for one who says nothing. Meanwhile others do what is done to a file and a
 * filesystem every day, and none of it takes long: not even a freeze, which has
 * to wait for all who have begun to write.
 */
#include <linux/fs.h>
#include <linux/mount.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "layout_lease_change.h"
#include "layout_lease_fixture.h"

#define PAGE		4096LL
#define LEN		(LL_PAGES * PAGE)
#define PART		(16 * PAGE)
#define OVL		"/dev/shm/layout_lease_bystanders"

static int bind_mount(const char *dir)
{
	return syscall(__NR_mount, getenv("DAX1"), dir, NULL, MS_BIND, NULL) ?
		-errno : 0;
}

static int remount(const char *dir, int flags)
{
	return syscall(__NR_mount, NULL, dir, NULL,
		       MS_REMOUNT | MS_BIND | flags, NULL) ? -errno : 0;
}

/*
 * Calls that wait
 */

static int call_madvise(const struct ll_call *call)
{
	char *map = ll_map(call->fd, 0, PART, PROT_READ | PROT_WRITE);

	return madvise(map, PART, MADV_REMOVE) ? -errno : 0;
}

static int call_discard(const struct ll_call *call)
{
	__u64 range[2] = { 0, PART };

	return ioctl(call->fd, BLKDISCARD, range) ? -errno : 0;
}

/* With an inode that nobody can open. */
static int call_swap_boot(const struct ll_call *call)
{
	return ll_swap_boot(call->fd);
}

/* Where the call finds the leased file. */
enum through {
	ITSELF, OVERLAY, LOOP, SCSI
};

FIXTURE(bystanders) {
	struct ll_env env;
	struct held held;
	struct ll_proc caller, other_one;
	char path[PATH_MAX];	/* the leased file, for the call */
	char unrelated[PATH_MAX + 16];
	char bind[PATH_MAX];
};

FIXTURE_VARIANT(bystanders) {
	struct ll_call call;
	bool two_files;
	const char *fs;
	enum through through;
};

#define ROW(name, ...)							\
	FIXTURE_VARIANT_ADD(bystanders, name) { .call = { __VA_ARGS__ } }
#define ROW_XFS(name, ...)						\
	FIXTURE_VARIANT_ADD(bystanders, name)				\
		{ .call = { __VA_ARGS__ }, .two_files = true, .fs = "xfs" }
#define ROW_THROUGH(where, name, ...)					\
	FIXTURE_VARIANT_ADD(bystanders, name)				\
		{ .call = { __VA_ARGS__ }, .through = where }
#define FALLOCATE(m)	ll_call_fallocate, .mode = m, .len = PART

ROW(truncate, ll_call_truncate);
ROW(ftruncate, ll_call_ftruncate);
ROW(open_trunc, ll_call_open, .mode = O_RDWR | O_TRUNC);
ROW(punch, FALLOCATE(LL_PUNCH));
ROW(zero, FALLOCATE(FALLOC_FL_ZERO_RANGE));
ROW(collapse, FALLOCATE(FALLOC_FL_COLLAPSE_RANGE));
ROW(insert, FALLOCATE(FALLOC_FL_INSERT_RANGE));
ROW(madvise_remove, call_madvise);
ROW_XFS(clone_from, ll_call_clone);
ROW_XFS(clone_to, ll_call_clone, .to = true);
ROW_XFS(dedupe_from, ll_call_dedupe, .len = LEN);
ROW_XFS(dedupe_to, ll_call_dedupe, .len = LEN, .to = true);
ROW_XFS(exchange, ll_call_exchange, .len = LEN);
ROW_XFS(exchange_second, ll_call_exchange, .len = LEN, .to = true);
ROW_XFS(swapext, ll_call_swapext, .len = LEN);
ROW_XFS(swapext_second, ll_call_swapext, .len = LEN, .to = true);
FIXTURE_VARIANT_ADD(bystanders, online_rebuild)
	{ .call = { ll_call_rebuild }, .fs = "xfs" };
FIXTURE_VARIANT_ADD(bystanders, swap_boot)
	{ .call = { call_swap_boot }, .fs = "ext4" };
ROW_THROUGH(OVERLAY, overlay_truncate, ll_call_truncate);
ROW_THROUGH(OVERLAY, overlay_ftruncate, ll_call_ftruncate);
ROW_THROUGH(OVERLAY, overlay_open_trunc, ll_call_open,
	    .mode = O_RDWR | O_TRUNC);
ROW_THROUGH(OVERLAY, overlay_punch, FALLOCATE(LL_PUNCH));
ROW_THROUGH(LOOP, loop_discard, call_discard);
ROW_THROUGH(SCSI, scsi_discard, call_discard);

/*
 * What others do meanwhile. The last ones make more wait, if they have to.
 */

static int by_open(const struct ll_call *call)
{
	int fd = open(call->path, O_RDWR);

	return fd < 0 ? -errno : close(fd);
}

static int by_read(const struct ll_call *call)
{
	char buf[PAGE];

	return pread(call->fd, buf, sizeof(buf), 2 * PART) == sizeof(buf) ?
		0 : -EIO;
}

static int by_load(const struct ll_call *call)
{
	volatile char *map = ll_map(call->fd, 0, LEN, PROT_READ);

	return map[2 * PART] == 0x7f ? -EIO : 0;
}

static int by_write(const struct ll_call *call)
{
	return pwrite(call->fd, "x", 1, 2 * PART) == 1 ? 0 : -errno;
}

static int by_stat(const struct ll_call *call)
{
	struct stat st;

	return stat(call->path, &st) ? -errno : 0;
}

static int by_chmod(const struct ll_call *call)
{
	return chmod(call->path, 0600) ? -errno : 0;
}

static int by_fsync(const struct ll_call *call)
{
	return fsync(call->fd) ? -errno : 0;
}

static int by_lease(const struct ll_call *call)
{
	int ret = ll_lease(call->fd, F_RDLCK, 0, 0);

	/* A break is under way, but that is known at once. */
	return ret == -EAGAIN ? 0 : ret;
}

static int by_create(const struct ll_call *call)
{
	char path[PATH_MAX + 16];
	int fd;

	snprintf(path, sizeof(path), "%s.new", call->path);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return unlink(path) ? -errno : 0;
}

static int by_remount(const struct ll_call *call)
{
	return remount(call->path, MS_RDONLY) ?: remount(call->path, 0);
}

static int by_freeze(const struct ll_call *call)
{
	int fd = open(getenv("DAX1"), O_RDONLY | O_DIRECTORY);

	/* Whatever becomes of the test, it thaws. */
	prctl(PR_SET_PDEATHSIG, 0);
	if (ioctl(fd, FIFREEZE, 0) || ioctl(fd, FITHAW, 0))
		return -errno;
	return 0;
}

enum which {
	LEASED, OTHER, UNRELATED, BIND
};

static const struct bystander {
	const char *name;
	int (*fn)(const struct ll_call *call);
	enum which which;
} bystander[] = {
	{ "open", by_open, LEASED },
	{ "stat", by_stat, LEASED },
	{ "read", by_read, LEASED },
	{ "load", by_load, LEASED },
	{ "fsync", by_fsync, LEASED },
	{ "lease", by_lease, LEASED },
	{ "read of the other file", by_read, OTHER },
	{ "write to the other file", by_write, OTHER },
	{ "lease of an unrelated file", by_lease, UNRELATED },
	{ "write to an unrelated file", by_write, UNRELATED },
	{ "fsync of an unrelated file", by_fsync, UNRELATED },
	{ "create", by_create, UNRELATED },
	{ "remount of a bind mount", by_remount, BIND },
	{ "chmod", by_chmod, LEASED },
	{ "write", by_write, LEASED },
	{ "freeze", by_freeze, UNRELATED },
	{ "write after the freeze", by_write, UNRELATED },
};

/* Extents are swapped only with a file that has no more of them. */
static int make_pieces(const char *path)
{
	int fd = open(path, O_RDWR), ret = 0, i;

	for (i = 0; i < 16 && !ret; i += 2)
		ret = fallocate(fd, FALLOC_FL_ZERO_RANGE, i * ll_pg, ll_pg);
	close(fd);
	return ret;
}

/* The file as a block device. */
static int attach_loop(char path[PATH_MAX], const char *file)
{
	return ll_sh_line(path, PATH_MAX, "losetup -f --show %s", file);
}

/* The file as a SCSI disk of a target on this machine. */
#define TARGET	"/sys/kernel/config/target"
#define CORE	TARGET "/core/fileio_0"
#define LUN	TARGET "/loopback/naa.6001405000000001/tpgt_1/lun/lun_0"

static int attach_scsi(char path[PATH_MAX], const char *file)
{
	return ll_sh("set -e; modprobe -a target_core_file tcm_loop; "
		     "mountpoint -q /sys/kernel/config || "
		     "mount -t configfs none /sys/kernel/config; "
		     "mkdir -p " CORE "/layout_lease; cd " CORE "/layout_lease; "
		     "echo fd_dev_name=%s,fd_dev_size=%lld >control; "
		     "echo 1 >enable; echo 1 >attrib/emulate_tpu; "
		     "echo 1 >attrib/emulate_tpws; "
		     "mkdir -p " LUN "; "
		     "echo naa.6001405000000002 >" LUN "/../../nexus; "
		     "ln -s " CORE "/layout_lease " LUN "/port; "
		     "udevadm settle 2>/dev/null || :", file, LEN) ?:
		ll_sh_soon("until grep -q LIO-ORG /sys/block/sd*/device/vendor; "
			   "do sleep 0.1; done") ?:
		ll_sh_line(path, PATH_MAX, "for v in /sys/block/sd*/device/vendor; "
			   "do grep -q LIO-ORG $v && v=${v#/sys/block/} && "
			   "echo /dev/${v%%%%/*}; done");
}

static void detach_scsi(void)
{
	ll_sh("test -d " LUN " || exit 0; rm " LUN "/port; rmdir " LUN " "
	      TARGET "/loopback/naa.6001405000000001/tpgt_1 "
	      TARGET "/loopback/naa.6001405000000001 "
	      CORE "/layout_lease " CORE);
}

FIXTURE_SETUP(bystanders)
{
	const char *dir = getenv("DAX1");
	char unused[PATH_MAX];

	LL_NEEDS_FS(variant->fs);
	if (variant->through == LOOP && access("/dev/loop-control", F_OK))
		SKIP(return, "no CONFIG_BLK_DEV_LOOP");
	if (variant->through == SCSI && ll_sh("modprobe -q tcm_loop"))
		SKIP(return, "no CONFIG_LOOPBACK_TARGET");
	LL_ENV_INIT(&self->env, true);
	strcpy(self->path, self->env.path);
	snprintf(self->unrelated, sizeof(self->unrelated), "%s.3",
		 self->env.path);
	ASSERT_EQ(0, ll_make(self->env.other, LL_PAGES, 0));
	if (variant->call.fn == ll_call_swapext && variant->call.to)
		ASSERT_EQ(0, make_pieces(self->env.other));
	ASSERT_EQ(0, ll_make(self->unrelated, LL_PAGES, 0));
	strcpy(self->bind, LL_MOUNT_POINT);
	ASSERT_EQ(0, ll_mount_point(self->bind, unused, self->env.path));
	ASSERT_EQ(0, bind_mount(self->bind));

	if (variant->through == OVERLAY) {
		ASSERT_EQ(0, ll_overlay_start(OVL, NULL));
		unlink(self->env.path);
		snprintf(self->env.path, PATH_MAX, "%s/upper/file", dir);
		strcpy(self->path, OVL "/merged/file");
		ASSERT_EQ(0, ll_make(self->path, LL_PAGES, 0));
	} else if (variant->through == LOOP) {
		ASSERT_EQ(0, attach_loop(self->path, self->env.path));
	} else if (variant->through == SCSI) {
		ASSERT_EQ(0, attach_scsi(self->path, self->env.path));
	}
}

FIXTURE_TEARDOWN(bystanders)
{
	/* Whoever waits, does not any more. */
	ll_let_go(&self->held);
	ll_proc_stop(&self->caller);
	ll_proc_stop(&self->other_one);
	unlink(self->unrelated);
	ll_umount(self->bind);
	rmdir(self->bind);
	if (variant->through == LOOP)
		ll_sh("losetup -d %s", self->path);
	if (variant->through == SCSI)
		detach_scsi();
	ll_env_exit(&self->env);
	if (self->held.map)
		munmap(self->held.map, LEN);
	close(self->held.fd);
	if (variant->through == OVERLAY)
		ll_overlay_stop(OVL);
}

static const char *file_of(FIXTURE_DATA(bystanders) *self, enum which which)
{
	switch (which) {
	case LEASED:
		return self->env.path;
	case OTHER:
		return self->env.other;
	case BIND:
		return self->bind;
	default:
		return self->unrelated;
	}
}

/* Are they done soon? */
static void go_on(struct __test_metadata *_metadata,
		  FIXTURE_DATA(bystanders) *self, const struct bystander *b)
{
	struct ll_call call = {
		.fn = b->fn,
		.path = file_of(self, b->which),
		.flags = b->which == BIND ? LL_READ : O_RDWR,
	};
	struct ll_result res = { .ret = -1 };

	/* It may be the open that waits. */
	if (ll_call_start(&self->other_one, &call) ||
	    ll_call_go(&self->other_one) ||
	    ll_done(&self->other_one, LL_SOON_MS, &res))
		res.ret = -ETIME;
	EXPECT_EQ(0, res.ret)
		TH_LOG("%s: %s", b->name, strerror(-res.ret));
	if (res.ret == -ETIME) {
		/* Who is frozen out comes to its end when the holder lets go. */
		self->other_one.pid = 0;
		close(self->other_one.sock);
		return;
	}
	ll_proc_stop(&self->other_one);
}

TEST_F_TIMEOUT(bystanders, go_on, 600)
{
	struct ll_call call = variant->call;
	unsigned int i;
	struct ll_result res = {};
	struct held *h = &self->held;

	call.path = self->path;
	call.other = variant->two_files ? self->env.other : NULL;
	ASSERT_EQ(0, ll_call_start(&self->caller, &call));
	ASSERT_EQ(0, ll_hold(h, &self->env.rdma, self->env.path, LEN));
	ASSERT_EQ(0, ll_call_go(&self->caller));
	if (call.fn == ll_call_rebuild && !ll_done(&self->caller, 300, &res) &&
	    (res.ret == -ENOTTY || res.ret == -EOPNOTSUPP))
		SKIP(return, "no CONFIG_XFS_ONLINE_REPAIR, try KERNEL=builtin, "
			     "or no reverse mappings: mkfs.xfs -m rmapbt=1");
	EXPECT_SIGNAL(h->fd, POLL_MSG);
	EXPECT_NOT_DONE(&self->caller);
	for (i = 0; i < ARRAY_SIZE(bystander); i++)
		go_on(_metadata, self, &bystander[i]);
	EXPECT_NOT_DONE(&self->caller);
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_read(&self->env.rdma, h->map,
					       h->mr->rkey, PAGE));
	EXPECT_EQ(0, ll_let_go(h));
	ASSERT_EQ(0, ll_done(&self->caller, LL_SOON_MS, &res));
	/* Not if the file was changed or mapped meanwhile. */
	if (call.fn == ll_call_swapext &&
	    (res.ret == -EBUSY || res.ret == -EINVAL))
		res.ret = 0;
	EXPECT_EQ(0, res.ret);
	/* Whoever swaps next would get it. */
	if (call.fn == call_swap_boot)
		EXPECT_EQ(0, ll_swap_boot(h->fd));
}

/* A mount on which somebody waits, with no file open, can be made read-only. */
static void remount_read_only(struct __test_metadata *_metadata,
			      const char *dir, struct ll_proc *caller,
			      const char *path)
{
	struct ll_call call = { .fn = ll_call_truncate, .flags = LL_READ };

	call.path = path;
	ASSERT_EQ(0, ll_call_start(caller, &call));
	ASSERT_EQ(0, ll_call_go(caller));
	EXPECT_NOT_DONE(caller);
	EXPECT_EQ(0, remount(dir, MS_RDONLY));
}

LL_TEST(truncate_and_remount)
{
	char dir[] = LL_MOUNT_POINT, path[PATH_MAX];
	struct ll_proc caller = {};
	struct ll_result res = {};
	struct held h;

	ASSERT_EQ(0, ll_mount_point(dir, path, self->path));
	ASSERT_EQ(0, bind_mount(dir));
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	remount_read_only(_metadata, dir, &caller, path);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ASSERT_EQ(0, ll_done(&caller, LL_SOON_MS, &res));
	EXPECT_TRUE(res.ret == 0 || res.ret == -EROFS);
	ll_proc_stop(&caller);
	ll_umount(dir);
	rmdir(dir);
}

/* As ever, if the wait is one for a thaw, and nobody has leases. */
LL_TEST(frozen_truncate_and_remount)
{
	char dir[] = LL_MOUNT_POINT, path[PATH_MAX];
	struct ll_proc caller = {}, freezer;
	struct ll_result res = {};

	ASSERT_EQ(0, ll_mount_point(dir, path, self->path));
	ASSERT_EQ(0, bind_mount(dir));
	ASSERT_EQ(0, ll_freezer_start(&freezer, getenv("DAX1")));
	ASSERT_EQ(0, ll_freeze(&freezer, LL_SOON_MS));
	remount_read_only(_metadata, dir, &caller, path);
	EXPECT_EQ(0, ll_thaw(&freezer));
	ll_freezer_stop(&freezer);
	ASSERT_EQ(0, ll_done(&caller, LL_SOON_MS, &res));
	EXPECT_TRUE(res.ret == 0 || res.ret == -EROFS);
	ll_proc_stop(&caller);
	ll_umount(dir);
	rmdir(dir);
}

/* Who does not want to wait does not, through an overlay either. */
LL_TEST(overlay_open_trunc_nonblock)
{
	char upper[PATH_MAX];
	struct held h;

	ASSERT_EQ(0, ll_overlay_start(OVL, NULL));
	snprintf(upper, sizeof(upper), "%s/upper/file", getenv("DAX1"));
	ASSERT_EQ(0, ll_make(OVL "/merged/file", LL_PAGES, 0));
	ASSERT_EQ(0, ll_hold(&h, self->rdma, upper, LEN));
	EXPECT_EQ(-EAGAIN, ll_do(self->helper, LL_OP_OPEN_TRUNC,
				 OVL "/merged/file", 0, 0, O_NONBLOCK));
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(h.fd));
	EXPECT_TRUE(ll_mr_works(self->rdma, h.mr));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_OPEN_TRUNC, OVL "/merged/file",
			   0, 0, O_NONBLOCK));
	EXPECT_EQ(0, munmap(h.map, LEN));
	EXPECT_EQ(0, close(h.fd));
	ll_overlay_stop(OVL);
}

TEST_HARNESS_MAIN
