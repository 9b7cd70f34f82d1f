// SPDX-License-Identifier: GPL-2.0
/*
 * Breakers that do not come from the system call of a process: overlayfs, the
 * NFS server; and those that do not wait.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#include "layout_lease_fixture.h"

#define LEN	(LL_PAGES * ll_pg)

/* O_NONBLOCK: the holder is told, and the open comes back. */
LL_TEST(open_trunc_nonblock)
{
	struct layout_lease lease;
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	EXPECT_EQ(-EAGAIN, ll_do(self->helper, LL_OP_OPEN_TRUNC, self->path,
				 0, 0, O_NONBLOCK));
	EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	ASSERT_EQ(0, ll_getlayout(h.fd, 0, 0, &lease));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, lease.state);
	EXPECT_LT(0, lease.remaining_ms);
	/* It still has its time. */
	EXPECT_EQ(IBV_WC_SUCCESS,
		  ll_rdma_write(self->rdma, h.map, h.mr->rkey, ll_pg, 0x11));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_OPEN_TRUNC, self->path,
			   0, 0, O_NONBLOCK));
	EXPECT_EQ(0, close(h.fd));
}

#define OVL	"/dev/shm/layout_lease_ovl"

/* Who waits holds no lock of the upper file. */
LL_TEST(overlay_truncate)
{
	struct ll_result res;
	char upper[PATH_MAX];
	struct held h;
	int merged;

	ASSERT_EQ(0, ll_overlay_start(OVL, NULL));
	snprintf(upper, sizeof(upper), "%s/upper/file", getenv("DAX1"));
	ASSERT_EQ(0, ll_sh("cp %s " OVL "/merged/file", self->path));
	/* Not through the overlay, whose file has no blocks. */
	merged = open(OVL "/merged/file", O_RDWR);
	ASSERT_LE(0, merged);
	EXPECT_EQ(-EOPNOTSUPP, ll_lease(merged, F_RDLCK, 0, 0));
	EXPECT_EQ(0, close(merged));
	ASSERT_EQ(0, ll_hold(&h, self->rdma, upper, LEN));

	ll_send(self->helper, LL_OP_TRUNCATE, OVL "/merged/file", ll_pg, 0, 0);
	EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	EXPECT_EQ(-ETIME, ll_done(self->helper, 500, &res));
	EXPECT_EQ(0, ll_sh_soon("chmod 0640 $DAX1/upper/file"));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	EXPECT_EQ(0, munmap(h.map, LEN));
	EXPECT_EQ(0, close(h.fd));
	ll_overlay_stop(OVL);
}

/*
 * An NFS server with one thread, which serves $DAX1, and a client of it. What
 * makes the thread wait for a lease holder shows at once.
 */
#define NFS	"/tmp/layout_lease_nfs"

FIXTURE(nfs) {
	struct ll_env env;
	struct held held;
	char path[PATH_MAX];	/* the same file through the server */
	char other[PATH_MAX + 8];
};

FIXTURE_VARIANT(nfs) {
	enum ll_op op;
	long long a, b;
};

FIXTURE_VARIANT_ADD(nfs, truncate) { LL_OP_TRUNCATE };
FIXTURE_VARIANT_ADD(nfs, punch) { LL_OP_PUNCH, 0, 65536 };
FIXTURE_VARIANT_ADD(nfs, clone) { LL_OP_CLONE };

FIXTURE_SETUP(nfs)
{
	LL_NEEDS_XFS_IF(variant->op == LL_OP_CLONE);
	LL_ENV_INIT(&self->env, true);
	ASSERT_EQ(0, ll_nfs_start("$DAX1", "", NFS));
	ASSERT_EQ(0, ll_hold(&self->held, &self->env.rdma, self->env.path,
			     LEN));
	snprintf(self->path, sizeof(self->path), NFS "/%s",
		 strrchr(self->env.path, '/') + 1);
	snprintf(self->other, sizeof(self->other), "%s.other", self->path);
	ASSERT_EQ(0, ll_sh("touch %s", self->other));
}

FIXTURE_TEARDOWN(nfs)
{
	ll_sh("rm -f %s", self->other);
	ll_env_exit(&self->env);
	ll_nfs_stop(NFS);
}

TEST_F_TIMEOUT(nfs, server_does_not_wait, 240)
{
	struct ll_proc *helper = &self->env.helper;
	struct ll_result res;
	struct stat st;

	if (variant->op == LL_OP_CLONE)
		ll_send2(helper, LL_OP_CLONE, self->path, self->other, 0, 0);
	else
		ll_send(helper, variant->op, self->path, variant->a,
			variant->b, 0);
	EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	EXPECT_EQ(-ETIME, ll_done(helper, 500, &res));
	/* Its only thread does something else. */
	EXPECT_EQ(0, ll_sh_soon("touch " NFS "/layout_lease_new && "
				"rm " NFS "/layout_lease_new"));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(self->held.fd));
	EXPECT_EQ(0, ibv_dereg_mr(self->held.mr));
	/* The client waits longer each time. */
	EXPECT_EQ(0, ll_done(helper, 2 * LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	if (variant->op == LL_OP_TRUNCATE) {
		ASSERT_EQ(0, fstat(self->held.fd, &st));
		EXPECT_EQ(0, st.st_size);
	}
	EXPECT_EQ(0, close(self->held.fd));
}

/*
 * A client that asks the server for the blocks of a file to write them itself
 * (pNFS block layouts). Of a DAX file there are none, and asking takes nothing
 * away from who pins it; of others there are, which shows that it does ask.
 */
#define EVENTS	"/sys/kernel/tracing/events/nfs4/nfs4_layoutget/enable"
#define TRACE	"/sys/kernel/tracing/trace"

FIXTURE(pnfs) {
	struct ll_env env;
	const char *dir;
	char dev[64];
	char path[PATH_MAX];
};

FIXTURE_VARIANT(pnfs) {
	const char *dax;	/* option of mount */
	const char *answer;
};

/* NFS4ERR_LAYOUTUNAVAILABLE is ENODATA here. */
FIXTURE_VARIANT_ADD(pnfs, dax) { "always", "error=-61 " };
FIXTURE_VARIANT_ADD(pnfs, not_dax) { "never", "error=0 " };

FIXTURE_SETUP(pnfs)
{
	/* ext4 has no block layouts. */
	LL_NEEDS_XFS();
	LL_NEEDS_DAX2();
	LL_ENV_INIT(&self->env, true);
	self->dir = getenv("DAX2");
	ASSERT_EQ(0, ll_source(self->dev, sizeof(self->dev), self->dir));
	ASSERT_EQ(0, ll_umount(self->dir));
	ASSERT_EQ(0, ll_sh("mount -o dax=%s /dev/%s %s", variant->dax,
			   self->dev, self->dir));
	snprintf(self->path, sizeof(self->path), "%s/layout_lease_pnfs",
		 self->dir);
	ASSERT_EQ(0, ll_sh("cp %s %s", self->env.path, self->path));
	ASSERT_EQ(0, ll_nfs_start(self->dir, ",pnfs", NFS));
	ASSERT_EQ(0, ll_sh("echo >" TRACE "; echo 1 >" EVENTS));
}

FIXTURE_TEARDOWN(pnfs)
{
	ll_env_exit(&self->env);
	if (!self->dev[0])
		return;
	ll_sh("echo 0 >" EVENTS);
	ll_nfs_stop(NFS);
	ll_sh("rm -f %s", self->path);
	ll_umount(self->dir);
	ll_sh("mount -o dax=always /dev/%s %s", self->dev, self->dir);
}

TEST_F_TIMEOUT(pnfs, block_layout, 240)
{
	bool dax = !strcmp(variant->dax, "always");
	struct held h;

	if (dax)
		ASSERT_EQ(0, ll_hold(&h, &self->env.rdma, self->path, LEN));
	EXPECT_EQ(0, ll_sh("dd if=/dev/zero of=" NFS "/layout_lease_pnfs "
			   "bs=64k count=1 conv=notrunc,fsync status=none"));
	EXPECT_EQ(0, ll_sh("grep -m 1 'nfs4_layoutget: %s' " TRACE,
			   variant->answer)) {
		ll_sh("grep -v '^#' " TRACE " >&2");
	}
	if (dax) {
		EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(h.fd));
		EXPECT_EQ(IBV_WC_SUCCESS,
			  ll_rdma_write(&self->env.rdma, h.map, h.mr->rkey,
					ll_pg, 0x11));
		EXPECT_EQ(0, ibv_dereg_mr(h.mr));
		EXPECT_EQ(0, munmap(h.map, LEN));
		EXPECT_EQ(0, close(h.fd));
	}
}

TEST_HARNESS_MAIN
