// SPDX-License-Identifier: GPL-2.0
/*
 * What is left behind: nothing. Counts references of the module, pinned memory,
 * open files, lines in /proc/locks, and whether the mount can go.
 */
#include <linux/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "layout_lease_fixture.h"

#define LEN		(16 * ll_pg)
#define LEN_KB		((long)LEN / 1024)
#define MODULE_DIR	"/sys/module/" LL_MODULE

static bool pinned_becomes(long kb)
{
	long end = ll_now_ms() + LL_SLACK_MS;

	while (ll_status_kb("VmPin") != kb && ll_now_ms() < end)
		ll_sleep_ms(20);
	return ll_status_kb("VmPin") == kb;
}

LL_TEST(failed_grants)
{
	int memfd = memfd_create("layout_lease", 0);
	int fd = open(self->path, O_RDWR);
	int ro = open(self->path, O_RDONLY);
	long refs = ll_module_settle(fd);
	int i;

	ASSERT_EQ(0, ll_do(self->helper, LL_OP_LEASE, self->path, 0, ll_pg,
			   F_WRLCK));
	ASSERT_EQ(1, ll_proc_locks(fd));
	for (i = 0; i < 20; i++) {
		EXPECT_EQ(-EAGAIN, ll_lease(fd, F_RDLCK, 0, 0));
		EXPECT_EQ(-EAGAIN, ll_lease(fd, F_WRLCK, 0, 1));
		EXPECT_EQ(-EACCES, ll_lease(ro, F_WRLCK, 2 * ll_pg, 1));
		EXPECT_EQ(-EINVAL, ll_lease(fd, F_RDLCK, ULLONG_MAX, 1));
		EXPECT_EQ(-EOPNOTSUPP, ll_lease(memfd, F_RDLCK, 0, 0));
	}
	EXPECT_EQ(1, ll_proc_locks(fd));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(ro));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_UNLOCK, "", 0, 0, 0));
	EXPECT_TRUE(ll_gone(fd));
	EXPECT_TRUE(ll_module_refs_become(refs));
}

LL_TEST(failed_registrations)
{
	long pinned = ll_status_kb("VmPin"), refs;
	char *map, *gap, *beyond;
	int fd, i;

	fd = open(self->path, O_RDWR);
	refs = ll_module_settle(fd);
	map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
	gap = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
	ASSERT_EQ(0, munmap(gap + LEN - ll_pg, ll_pg));
	beyond = ll_map(fd, (LL_PAGES - 2) * ll_pg, 4 * ll_pg,
			PROT_READ | PROT_WRITE);
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, map, LEN,
						   LL_ACCESS));
		ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, LEN / 2));
		EXPECT_EQ(EPERM, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
		/* EBUSY if one of them were still attached. */
		ASSERT_EQ(0, ll_unlock(fd));

		/* Half way through: after the first pages were pinned. */
		ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
		EXPECT_NE(0, ll_reg_errno(self->rdma, gap, LEN, LL_ACCESS));
		EXPECT_EQ(EFAULT, ll_reg_errno(self->rdma, beyond, 4 * ll_pg,
					       LL_ACCESS));
		ASSERT_EQ(0, ll_unlock(fd));
	}
	EXPECT_TRUE(pinned_becomes(pinned));
	EXPECT_EQ(0, ll_proc_locks(fd));
	EXPECT_TRUE(ll_module_refs_become(refs));
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
}

LL_TEST(pinned_memory)
{
	long pinned = ll_status_kb("VmPin");
	struct ibv_mr *mr;
	char *map;
	int fd;

	ASSERT_LE(0, pinned);
	fd = open(self->path, O_RDWR);
	map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	mr = ll_reg(self->rdma, map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(pinned + LEN_KB, ll_status_kb("VmPin"));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_TRUE(pinned_becomes(pinned));

	/* Uncharged once, revoked or not. */
	mr = ll_reg(self->rdma, map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, ll_revoke(fd));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_TRUE(pinned_becomes(pinned));
	EXPECT_EQ(0, ll_unlock(fd));
}

/* Over RLIMIT_MEMLOCK, by a process without CAP_IPC_LOCK: 0 if all is well. */
static int register_over_limit(struct ll_rdma *r, const char *path)
{
	struct rlimit limit = {};
	char *map;
	long pinned;
	int fd;

	fd = open(path, O_RDWR);
	map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
	if (ll_rdma_open(r) || fchown(fd, 65534, 65534))
		return 1;
	if (ll_drop_privileges())
		return 2;
	pinned = ll_status_kb("VmPin");
	limit.rlim_cur = pinned * 1024 + LEN / 2;
	limit.rlim_max = limit.rlim_cur;
	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		return 3;
	if (ll_lease(fd, F_RDLCK, 0, 0))
		return 4;
	if (ll_reg_errno(r, map, LEN, LL_ACCESS) != ENOMEM)
		return 5;
	if (ll_reg_errno(r, map, LEN / 4, LL_ACCESS))
		return 6;
	if (ll_unlock(fd))
		return 7;
	return pinned_becomes(pinned) ? 0 : 8;
}

LL_TEST(memlock_limit)
{
	struct ll_rdma rdma;
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(register_over_limit(&rdma, self->path));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) TH_LOG("step %d", WEXITSTATUS(status));
}

static void cycles(struct __test_metadata *_metadata, struct ll_env *env,
		   bool revoke)
{
	long files = ll_read_long("/proc/sys/fs/file-nr", 0);
	long pinned = ll_status_kb("VmPin"), refs;
	struct ibv_mr *mr;
	int fd, i, own;
	char *map;

	own = open(env->path, O_RDWR);
	refs = ll_module_settle(own);
	for (i = 0; i < 40; i++) {
		fd = open(env->path, O_RDWR);
		map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
		ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
		mr = ll_reg(&env->rdma, map, LEN, LL_ACCESS);
		ASSERT_NE(NULL, mr);
		if (revoke)
			ASSERT_EQ(0, ll_revoke(fd));
		if (i & 1) {
			close(fd);
			munmap(map, LEN);
			ASSERT_EQ(0, ibv_dereg_mr(mr));
		} else {
			ASSERT_EQ(0, ibv_dereg_mr(mr));
			ASSERT_EQ(0, ll_unlock(fd));
			close(fd);
			munmap(map, LEN);
		}
	}
	EXPECT_TRUE(pinned_becomes(pinned));
	EXPECT_TRUE(ll_gone(own));
	EXPECT_TRUE(ll_module_refs_become(refs));
	/* Other processes open and close files too. */
	for (i = 0; i < 100; i++) {
		if (ll_read_long("/proc/sys/fs/file-nr", 0) <= files + 12)
			break;
		ll_sleep_ms(100);
	}
	EXPECT_GE(files + 12, ll_read_long("/proc/sys/fs/file-nr", 0));
	EXPECT_EQ(0, ll_do(&env->helper, LL_OP_LEASE, env->path, 0, 0,
			   F_WRLCK));
}

LL_TEST(cycles_of_registration)
{
	cycles(_metadata, &self->env, false);
}

LL_TEST(cycles_of_revocation)
{
	cycles(_metadata, &self->env, true);
}

/* <sys/mount.h> includes <fcntl.h>, see layout_lease_lib.h. */
static int unmount(const char *dir)
{
	return syscall(__NR_umount2, dir, 0) ? -errno : 0;
}

/* A region keeps the mount of its file, and lets it go. */
LL_TEST(mount)
{
	char dir[] = LL_MOUNT_POINT, path[PATH_MAX], *map;
	long end;
	struct ibv_mr *mr;
	int fd, ret;

	ASSERT_EQ(0, ll_mount_point(dir, path, self->path));
	if (syscall(__NR_mount, getenv("DAX1"), dir, NULL, MS_BIND, NULL)) {
		rmdir(dir);
		SKIP(return, "mount --bind: %s", strerror(errno));
	}
	fd = open(path, O_RDWR);
	map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	mr = ll_reg(self->rdma, map, LEN, LL_ACCESS);
	EXPECT_NE(NULL, mr);
	munmap(map, LEN);
	close(fd);
	EXPECT_EQ(-EBUSY, unmount(dir));
	if (mr)
		EXPECT_EQ(0, ibv_dereg_mr(mr));
	end = ll_now_ms() + LL_SLACK_MS;
	while ((ret = unmount(dir)) && ll_now_ms() < end)
		ll_sleep_ms(20);
	EXPECT_EQ(0, ret);
	rmdir(dir);
}

/* The module goes when no lease is left, and comes with the first one. */
FIXTURE(module) {
	struct ll_env env;
	int fd;
};

FIXTURE_SETUP(module)
{
	int ret;

	LL_ENV_INIT(&self->env, true);
	self->fd = open(self->env.path, O_RDWR);
	ret = ll_lease(self->fd, F_RDLCK, 0, 0);
	LL_ENV_ASSERT(&self->env, ret);
	LL_ENV_SKIP_IF(&self->env, ll_module_refs() < 0,
		       LL_MODULE " is built in");
}

FIXTURE_TEARDOWN(module)
{
	if (access(MODULE_DIR, F_OK) && system("modprobe " LL_MODULE))
		TH_LOG("cannot load " LL_MODULE " again");
	ll_env_exit(&self->env);
}

#define MODULE_TEST(name)	TEST_F_TIMEOUT(module, name, 240)

static int unload(void)
{
	return syscall(__NR_delete_module, LL_MODULE, O_NONBLOCK) ? -errno : 0;
}

static bool unloads_soon(void)
{
	long end = ll_now_ms() + LL_SLACK_MS;
	int ret;

	while ((ret = unload()) && ll_now_ms() < end)
		ll_sleep_ms(50);
	return ret == 0;
}

MODULE_TEST(lease)
{
	EXPECT_LT(0, ll_module_refs());
	EXPECT_EQ(-EAGAIN, unload());
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(self->fd));
	ASSERT_EQ(0, ll_unlock(self->fd));
	ASSERT_TRUE(unloads_soon());

	/* Without the module there are no leases, and nothing else changes. */
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(self->fd));
	EXPECT_EQ(0, ll_unlock(self->fd));
	EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0,
			   0, 0));
	EXPECT_NE(0, access(MODULE_DIR, F_OK));

	EXPECT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0))
		TH_LOG("the first lease does not load " LL_MODULE);
	EXPECT_EQ(0, access(MODULE_DIR, F_OK));
}

MODULE_TEST(region)
{
	char *map = ll_map(self->fd, 0, LEN, PROT_READ | PROT_WRITE);
	struct ibv_mr *mr = ll_reg(&self->env.rdma, map, LEN, LL_ACCESS);

	ASSERT_NE(NULL, mr);
	munmap(map, LEN);
	close(self->fd);
	EXPECT_EQ(-EAGAIN, unload());
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(&self->env.rdma, map, mr->rkey,
						8, 1));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_TRUE(unloads_soon());
}

/* A deadline that is not needed any more does not keep the module. */
MODULE_TEST(long_deadline)
{
	char *map = ll_map(self->fd, 0, LEN, PROT_READ | PROT_WRITE);
	struct ibv_mr *mr = ll_reg(&self->env.rdma, map, LEN, LL_ACCESS);
	struct ll_result res = {};

	ASSERT_NE(NULL, mr);
	ll_send(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	ASSERT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, NULL));
	EXPECT_EQ(-EAGAIN, unload());
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	ASSERT_EQ(0, ll_done(&self->env.helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	EXPECT_EQ(0, ll_unlock(self->fd));
	EXPECT_TRUE(unloads_soon());
}

/* A revoked region that is still registered, and a process that just exits. */
MODULE_TEST(revoked_region)
{
	char *map = ll_map(self->fd, 0, LEN, PROT_READ | PROT_WRITE);
	struct ibv_mr *mr = ll_reg(&self->env.rdma, map, LEN, LL_ACCESS);

	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, ll_revoke(self->fd));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_TRUE(unloads_soon());
}

MODULE_TEST(exit)
{
	ASSERT_EQ(0, ll_do(&self->env.helper, LL_OP_LEASE, self->env.path, 0, 0,
			   F_RDLCK));
	ASSERT_EQ(0, ll_unlock(self->fd));
	EXPECT_EQ(-EAGAIN, unload());
	ll_proc_stop(&self->env.helper);
	EXPECT_TRUE(unloads_soon());
}

TEST_HARNESS_MAIN
