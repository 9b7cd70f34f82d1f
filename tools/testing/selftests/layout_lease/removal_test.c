// SPDX-License-Identifier: GPL-2.0
/*
 * What goes away under leased memory regions: the pmem device, a page with an
 * uncorrectable error, the filesystem, the RDMA device, its driver. Nobody waits
 * for a grace period, nothing hangs, and what the holder does afterwards is
 * harmless.
 *
 * Uses the whole of DAX2, and makes a new filesystem there.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>

#include "layout_lease_setup.h"

#define LEN	(4UL << 20)

FIXTURE(removal) {
	struct ll_env env;
	char path[PATH_MAX];
	const char *dir;
	char dev[64];		/* pmem1 */
	char name[64];		/* namespace of the nvdimm bus */
	struct held held;
};

FIXTURE_SETUP(removal)
{
	LL_NEEDS_DAX2();
	LL_ENV_INIT(&self->env, true);
	self->dir = getenv("DAX2");
	ASSERT_EQ(0, ll_renew_filesystem(self->dev, sizeof(self->dev),
					 self->dir));
	/* The namespace, or the pfn device that sits on it. */
	ASSERT_EQ(0, ll_pmem_name(self->name, sizeof(self->name), self->dev));
	ASSERT_EQ(0, ll_mkfile(self->path, sizeof(self->path), self->dir,
			       LEN / ll_pg, 0));
	ASSERT_EQ(0, ll_hold(&self->held, &self->env.rdma, self->path, LEN));
	ASSERT_EQ(IBV_WC_SUCCESS,
		  ll_rdma_write(&self->env.rdma, self->held.map,
				self->held.mr->rkey, ll_pg, 0x77));
}

FIXTURE_TEARDOWN(removal)
{
	ll_env_exit(&self->env);
}

/* The device goes while its memory is registered; afterwards comes back. */
static void remove_device(struct __test_metadata *_metadata,
			  FIXTURE_DATA(removal) *self)
{
	struct held *h = &self->held;

	/* XFS with rmapbt sends SIGBUS to who maps the memory. */
	ASSERT_EQ(0, munmap(h->map, LEN));
	ASSERT_EQ(0, ll_pmem_unbind(self->name));
	EXPECT_NE(0, ll_sh("test -e /sys/block/%s", self->dev));

	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h->fd));
	EXPECT_TRUE(ll_rkey_is_dead(&self->env.rdma, h->map, h->mr->rkey));
	/* And nothing is leased anew. */
	EXPECT_EQ(0, ll_unlock(h->fd));
	EXPECT_EQ(-EOPNOTSUPP, ll_lease(h->fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ibv_dereg_mr(h->mr));
	EXPECT_EQ(0, close(h->fd));
}

static void restore_device(struct __test_metadata *_metadata,
			   FIXTURE_DATA(removal) *self)
{
	EXPECT_EQ(0, ll_umount(self->dir));
	ASSERT_EQ(0, ll_pmem_bind(self->name, self->dev));
	ASSERT_EQ(0, ll_new_filesystem(self->dev, self->dir));
}

TEST_F_TIMEOUT(removal, pmem_device, 240)
{
	remove_device(_metadata, self);
	restore_device(_metadata, self);
}

/* Registers all the time, until it is told that the device is gone. */
struct registrar {
	struct ll_rdma *rdma;
	char *map;
	int gone;
	long registered;
	int last_errno;		/* of the last registration, which began after that */
};

static void *register_all_the_time(void *arg)
{
	struct registrar *r = arg;
	struct ibv_mr *mr;
	int gone;

	do {
		gone = __atomic_load_n(&r->gone, __ATOMIC_SEQ_CST);
		errno = 0;
		mr = ll_reg(r->rdma, r->map, LEN, LL_ACCESS);
		r->last_errno = errno;
		if (mr) {
			__atomic_add_fetch(&r->registered, 1, __ATOMIC_SEQ_CST);
			ibv_dereg_mr(mr);
		}
	} while (!gone);
	return NULL;
}

/* Memory that is being registered when the device goes. */
TEST_F_TIMEOUT(removal, pmem_device_during_registration, 240)
{
	struct held *h = &self->held;
	struct registrar r = { .rdma = &self->env.rdma, .map = h->map };
	pthread_t thread;
	long end = ll_now_ms() + LL_SOON_MS;

	/* XFS tells those who map the memory. */
	signal(SIGBUS, SIG_IGN);
	ASSERT_EQ(0, pthread_create(&thread, NULL, register_all_the_time, &r));
	while (__atomic_load_n(&r.registered, __ATOMIC_SEQ_CST) < 3 &&
	       ll_now_ms() < end)
		ll_sleep_ms(1);
	EXPECT_EQ(0, ll_pmem_unbind(self->name));
	__atomic_store_n(&r.gone, 1, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_LE(3, r.registered);
	EXPECT_NE(0, r.last_errno);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h->fd));
	EXPECT_TRUE(ll_rkey_is_dead(&self->env.rdma, h->map, h->mr->rkey));

	EXPECT_EQ(0, ibv_dereg_mr(h->mr));
	/* The peer's buffer. */
	EXPECT_EQ(LL_BUF / 1024, ll_status_kb("VmPin"));
	EXPECT_EQ(0, munmap(h->map, LEN));
	EXPECT_EQ(0, close(h->fd));
	restore_device(_metadata, self);
}

/* Maps the file and touches its pages, until it is told to stop. */
struct toucher {
	pthread_t thread;
	int fd;
	bool writes;
	int *stop;
	long rounds;
};

static void *touch_all_the_time(void *arg)
{
	struct toucher *t = arg;
	volatile char *map;
	size_t i;

	while (!__atomic_load_n(t->stop, __ATOMIC_SEQ_CST)) {
		map = mmap(NULL, LEN, PROT_READ | (t->writes ? PROT_WRITE : 0),
			   MAP_SHARED, t->fd, 0);
		if (map == MAP_FAILED)
			exit(KSFT_FAIL);
		for (i = 0; i < LEN; i += ll_pg) {
			if (t->writes)
				map[i] = 1;
			else
				(void)map[i];
		}
		munmap((void *)map, LEN);
		__atomic_add_fetch(&t->rounds, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* Some other page, so that a thread whose page fault failed goes on. */
static void replace_page(int sig, siginfo_t *info, void *context)
{
	/* XFS with rmapbt tells of pages that may be unmapped since. */
	if (info->si_code == BUS_MCEERR_AO)
		return;
	mmap((void *)((uintptr_t)info->si_addr & ~(ll_pg - 1)), ll_pg,
	     PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
	     -1, 0);
}

/*
 * Page faults while the device goes leave nothing behind that refers to its
 * memory: the file is closed and the filesystem unmounted when that is gone.
 */
TEST_F_TIMEOUT(removal, pmem_device_during_faults, 240)
{
	struct sigaction action = {
		.sa_sigaction = replace_page, .sa_flags = SA_SIGINFO,
	};
	struct held *h = &self->held;
	struct toucher touchers[4] = {};
	long end = ll_now_ms() + LL_SOON_MS;
	int stop = 0, i;

	ASSERT_EQ(0, munmap(h->map, LEN));
	ASSERT_EQ(0, sigaction(SIGBUS, &action, NULL));
	for (i = 0; i < (int)ARRAY_SIZE(touchers); i++) {
		touchers[i].fd = h->fd;
		touchers[i].writes = i & 1;
		touchers[i].stop = &stop;
		ASSERT_EQ(0, pthread_create(&touchers[i].thread, NULL,
					    touch_all_the_time, &touchers[i]));
	}
	while (__atomic_load_n(&touchers[0].rounds, __ATOMIC_SEQ_CST) < 3 &&
	       ll_now_ms() < end)
		ll_sleep_ms(1);
	EXPECT_EQ(0, ll_pmem_unbind(self->name));
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < (int)ARRAY_SIZE(touchers); i++)
		ASSERT_EQ(0, pthread_join(touchers[i].thread, NULL));
	EXPECT_LE(3, touchers[0].rounds);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h->fd));
	EXPECT_EQ(0, ibv_dereg_mr(h->mr));
	EXPECT_EQ(0, close(h->fd));
	restore_device(_metadata, self);
}

/* Somebody waits for the holder. */
static void begin_break(struct __test_metadata *_metadata,
			FIXTURE_DATA(removal) *self)
{
	struct ll_result res;

	ll_send(&self->env.helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	ASSERT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	ASSERT_EQ(-ETIME, ll_done(&self->env.helper, 300, &res));
}

/* The break ends with the device. */
TEST_F_TIMEOUT(removal, pmem_device_during_break, 240)
{
	struct ll_result res;

	begin_break(_metadata, self);
	remove_device(_metadata, self);
	/* Whether the truncation comes to its end is the filesystem's. */
	EXPECT_EQ(0, ll_done(&self->env.helper, LL_SOON_MS, &res));
	restore_device(_metadata, self);
}

/* A filesystem that is shut down does not forget who has pinned its pages. */
TEST_F_TIMEOUT(removal, shutdown_during_break, 240)
{
	struct held *h = &self->held;
	struct ll_result res;
	char cmd[256];

	begin_break(_metadata, self);
	snprintf(cmd, sizeof(cmd), "xfs_io -x -c shutdown %s", self->dir);
	ASSERT_EQ(0, ll_sh_soon(cmd));
	EXPECT_EQ(-ETIME, ll_done(&self->env.helper, 300, &res));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(h->fd));

	EXPECT_EQ(0, ibv_dereg_mr(h->mr));
	ASSERT_EQ(0, ll_done(&self->env.helper, LL_SOON_MS, &res));
	EXPECT_NE(0, res.ret);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h->fd));
	EXPECT_EQ(0, munmap(h->map, LEN));
	EXPECT_EQ(0, close(h->fd));
	ASSERT_EQ(0, ll_umount(self->dir));
	ASSERT_EQ(0, ll_new_filesystem(self->dev, self->dir));
}

/* The processes that map the page die, which does not stop a device. */
TEST_F_TIMEOUT(removal, poisoned_page, 240)
{
	struct held *h = &self->held;
	int status;
	pid_t pid;

	/* The victim is not the holder: it registered and unmapped. */
	ASSERT_EQ(0, munmap(h->map, LEN));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *map = ll_map(h->fd, 0, LEN, PROT_READ | PROT_WRITE);

		*(volatile char *)map = 1;
		/* Does not return. */
		_exit(madvise(map, ll_pg, MADV_HWPOISON) ? errno : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status)) TH_LOG("status %x", status);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h->fd));
	EXPECT_TRUE(ll_rkey_is_dead(&self->env.rdma, h->map, h->mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h->mr));
	EXPECT_EQ(0, close(h->fd));

	/* Only a new device is without the mark. */
	ASSERT_EQ(0, ll_umount(self->dir));
	ASSERT_EQ(0, ll_sh("cd /sys/bus/nd/drivers/nd_pmem && "
			"echo %s >unbind && echo %s >bind",
			self->name, self->name));
	ASSERT_EQ(0, ll_new_filesystem(self->dev, self->dir));
}

/* An RDMA device of its own, since it is removed. */
FIXTURE(link) {
	struct ll_env env;
	struct held held;
	const char *type;	/* of RDMA_DEV */
	char *saved;
};

FIXTURE_SETUP(link)
{
	const char *why;

	if (!getenv("DAX1"))
		SKIP(return, "DAX1 names no DAX filesystem");
	self->saved = strdup(getenv("RDMA_DEV") ?: "rxe0");
	self->type = ll_rdma_type();
	ASSERT_EQ(0, ll_sh("ip link add dummy9 type dummy && "
			   "ip address add 203.0.113.1/24 dev dummy9 && "
			   "ip link set dummy9 up && "
			   "rdma link add ll9 type %s netdev dummy9",
			   self->type));
	setenv("RDMA_DEV", "ll9", 1);
	why = ll_env_init(&self->env, true);
	ASSERT_EQ(NULL, why) TH_LOG("%s", why);
	ASSERT_EQ(0, ll_hold(&self->held, &self->env.rdma, self->env.path,
			     LL_PAGES * ll_pg));
}

FIXTURE_TEARDOWN(link)
{
	setenv("RDMA_DEV", self->saved, 1);
	ll_sh("rdma link delete ll9 2>/dev/null");
	ll_sh("ip link delete dummy9");
	ll_env_exit(&self->env);
}

/* The region goes with the device, the lease stays, and nothing is pinned. */
static void check_gone(struct __test_metadata *_metadata, struct ll_env *env,
		       struct held *h)
{
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(h->fd));
	EXPECT_EQ(0, ll_unlock(h->fd));
	EXPECT_EQ(0, ll_do(&env->helper, LL_OP_TRUNCATE, env->path, 0, 0, 0));
	EXPECT_EQ(0, ibv_dereg_mr(h->mr));
	EXPECT_EQ(0, ll_status_kb("VmPin"));
	EXPECT_EQ(0, close(h->fd));
}

TEST_F_TIMEOUT(link, deleted, 240)
{
	ASSERT_EQ(0, ll_sh_soon("rdma link delete ll9"));
	check_gone(_metadata, &self->env, &self->held);
}

/* While a break waits for the holder: it ends with the device. */
TEST_F_TIMEOUT(link, deleted_during_break, 240)
{
	struct ll_result res;

	ll_send(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	ASSERT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	ASSERT_EQ(-ETIME, ll_done(&self->env.helper, 500, &res));
	ASSERT_EQ(0, ll_sh_soon("rdma link delete ll9"));
	ASSERT_EQ(0, ll_done(&self->env.helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(self->held.fd));
	EXPECT_EQ(0, ll_status_kb("VmPin"));
}

TEST_F_TIMEOUT(link, driver_unloaded, 240)
{
	char netdev[64];

	if (strcmp(self->type, "rxe"))
		SKIP(return, "the sockets of the pair keep the module of siw");
	if (access("/sys/module/rdma_rxe/refcnt", F_OK))
		SKIP(return, "rdma_rxe is built in");
	if (ll_sh_line(netdev, sizeof(netdev), "rdma link show rxe0/1 | "
		       "sed -n 's/.* netdev \\([^ ]*\\).*/\\1/p'"))
		SKIP(return, "there is no rxe0");
	/* Each device holds the module. */
	ASSERT_EQ(0, ll_sh_soon("rdma link delete ll9 && "
				"rdma link delete rxe0 && "
				"modprobe -r rdma_rxe"));
	check_gone(_metadata, &self->env, &self->held);
	EXPECT_EQ(0, ll_sh("modprobe rdma_rxe && "
			"rdma link add rxe0 type rxe netdev %s", netdev));
}

TEST_HARNESS_MAIN
