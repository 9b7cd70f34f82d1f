// SPDX-License-Identifier: GPL-2.0
/*
 * What can end a memory region, each while something takes its pages away, with
 * each reference to the region that a process or a peer can hold: a table. In
 * each row both are done at once, as if there were only one of them, and nothing
 * is left.
 *
 * The break has begun, and waits for the holder, when the region ends; the other
 * two ask nobody, and begin at the same time. The removal takes a new filesystem
 * each time, so it has the first and the last of the references only. Peers that keep a region busy with
 * packets that no well-behaved device sends are in rxe_test and siw_test.
 *
 * Uses the whole of DAX2, and makes a new filesystem there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define LEN		(16 * ll_pg)
#define DEVICE		"ll9"

enum ender {
	DEREGISTERED,
	EXITED,
	KILLED,
	EXECUTED,		/* and so its context is closed */
	UNLINKED,		/* the RDMA device */
	UNLOADED,		/* its driver */
};

/* What refers to the region. */
enum reference {
	NOTHING,
	RECEIVE,		/* posted to the queue pair */
	SHARED_RECEIVE,		/* posted to a shared receive queue */
	WINDOW,
	OVERRUN,		/* a request that cannot be completed */
	REFERENCES
};

static const char *const reference_name[] = {
	"nothing", "a receive", "a shared receive", "a window", "an overrun",
};

/* The process that holds the lease and the region. */
struct holder {
	const char *path;
	enum reference reference;
	bool unmapped;
};

static int post_receive(struct ll_rdma *r, const struct held *h)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)h->map, .length = 8, .lkey = h->mr->lkey,
	};
	struct ibv_recv_wr *bad, wr = { .sg_list = &sge, .num_sge = 1 };

	return r->srq ? ibv_post_srq_recv(r->srq, &wr, &bad) :
		ibv_post_recv(r->qp[LL_B], &wr, &bad);
}

static int bind_window(struct ll_rdma *r, struct ibv_mw *mw,
		       const struct held *h)
{
	struct ibv_send_wr *bad, wr = ll_bind_wr(mw, h->mr);

	return ibv_post_send(r->qp[LL_B], &wr, &bad) ||
		ll_wait_wc(r, LL_B, LL_SOON_MS, NULL) != IBV_WC_SUCCESS;
}

/* Exits with the number of the step that failed. */
static void hold(int sock, void *arg)
{
	const struct holder *holder = arg;
	struct ibv_srq_init_attr srq = { .attr = { 1, 1 } };
	struct ibv_mw *mw = NULL;
	struct ibv_cq *cq = NULL;
	struct ll_rdma r = {};
	struct held h;

	if (ll_rdma_device(&r))
		_exit(10);
	if (holder->reference == SHARED_RECEIVE &&
	    !(r.srq = ibv_create_srq(r.pd, &srq)))
		_exit(11);
	if (ll_rdma_pair(&r))
		_exit(12);
	if (holder->reference == OVERRUN && !(cq = ll_small_cq(&r)))
		_exit(13);
	if (ll_hold(&h, &r, holder->path, LEN))
		_exit(14);
	switch (holder->reference) {
	case RECEIVE:
	case SHARED_RECEIVE:
		if (post_receive(&r, &h))
			_exit(15);
		break;
	case WINDOW:
		mw = ibv_alloc_mw(r.pd, IBV_MW_TYPE_2);
		if (!mw || bind_window(&r, mw, &h))
			_exit(16);
		break;
	case OVERRUN:
		if (ll_overrun(&r, cq, h.map, h.mr->rkey) <= 0)
			_exit(17);
		break;
	default:
		break;
	}
	if (holder->unmapped)
		munmap(h.map, LEN);
	ll_put(sock, 0);
	switch (ll_get(sock, LL_GRACE * 1000)) {
	case DEREGISTERED:
		/* A window that is bound would keep it. */
		if (mw)
			ibv_dealloc_mw(mw);
		ll_put(sock, ibv_dereg_mr(h.mr));
		break;
	case EXITED:
		exit(0);
	case EXECUTED:
		execlp("sleep", "sleep", "1000", NULL);
		_exit(18);
	}
	pause();
}

FIXTURE(ender) {
	struct ll_env env;
	struct ll_proc holder;
	char pmem_path[PATH_MAX];
	char pmem[64];		/* the device of DAX2 */
	char name[64];		/* its namespace of the nvdimm bus */
	char netdev[64];	/* of rxe0 */
	const char *type;	/* of RDMA_DEV */
	char *saved;
	long refs;
};

FIXTURE_VARIANT(ender) {
	enum ender ender;
};

FIXTURE_VARIANT_ADD(ender, deregistered) { .ender = DEREGISTERED };
FIXTURE_VARIANT_ADD(ender, exited) { .ender = EXITED };
FIXTURE_VARIANT_ADD(ender, killed) { .ender = KILLED };
FIXTURE_VARIANT_ADD(ender, executed) { .ender = EXECUTED };
FIXTURE_VARIANT_ADD(ender, unlinked) { .ender = UNLINKED };
FIXTURE_VARIANT_ADD(ender, unloaded) { .ender = UNLOADED };

FIXTURE_SETUP(ender)
{
	self->type = ll_rdma_type();
	self->saved = strdup(getenv("RDMA_DEV") ?: "rxe0");
	if (variant->ender == UNLOADED) {
		if (strcmp(self->type, "rxe"))
			SKIP(return,
			     "the sockets of the pair keep the module of siw");
		if (access("/sys/module/rdma_rxe/refcnt", F_OK))
			SKIP(return, "rdma_rxe is built in");
		if (ll_sh_line(self->netdev, sizeof(self->netdev),
			       "rdma link show rxe0/1 | "
			       "sed -n 's/.* netdev \\([^ ]*\\).*/\\1/p'"))
			SKIP(return, "there is no rxe0");
	}
	LL_ENV_INIT(&self->env, false);
	self->refs = ll_module_refs();
	ASSERT_EQ(0, ll_sh("ip link add dummy9 type dummy && "
			   "ip address add 203.0.113.1/24 dev dummy9 && "
			   "ip link set dummy9 up"));
	setenv("RDMA_DEV", DEVICE, 1);
}

FIXTURE_TEARDOWN(ender)
{
	ll_proc_stop(&self->holder);
	setenv("RDMA_DEV", self->saved, 1);
	ll_sh("rdma link delete " DEVICE " 2>/dev/null; ip link delete dummy9");
	if (variant->ender == UNLOADED)
		ll_sh("rdma link show rxe0/1 >/dev/null 2>&1 || "
		      "{ modprobe rdma_rxe && "
		      "rdma link add rxe0 type rxe netdev %s; }", self->netdev);
	ll_env_exit(&self->env);
}

static bool has_reference(const FIXTURE_DATA(ender) *self,
			  enum reference reference)
{
	/* Nor has iWARP a write with immediate. */
	return (reference != WINDOW && reference != OVERRUN) ||
		!strcmp(self->type, "rxe");
}

/* A holder with a device of its own, which has its region when this returns. */
static void start_holder(struct __test_metadata *_metadata,
			 FIXTURE_DATA(ender) *self, const char *path,
			 enum reference reference, bool unmapped)
{
	struct holder holder = { path, reference, unmapped };

	ASSERT_EQ(0, ll_sh("rdma link add " DEVICE " type %s netdev dummy9",
			   self->type));
	ASSERT_EQ(0, ll_proc_start(&self->holder, hold, &holder));
	ASSERT_EQ(0, ll_get(self->holder.sock, 2 * LL_SOON_MS))
		TH_LOG("with %s", reference_name[reference]);
}

/* Begin to end it. */
static void end(struct __test_metadata *_metadata, FIXTURE_DATA(ender) *self,
		enum ender ender)
{
	switch (ender) {
	case DEREGISTERED:
	case EXITED:
	case EXECUTED:
		ASSERT_EQ(0, ll_put(self->holder.sock, ender));
		return;
	case KILLED:
		ASSERT_EQ(0, kill(self->holder.pid, SIGKILL));
		return;
	case UNLINKED:
		ASSERT_EQ(0, ll_sh("rdma link delete " DEVICE " &"));
		return;
	case UNLOADED:
		/* Alone: modprobe -r still removes others when it is gone. */
		ASSERT_EQ(0, ll_sh("{ rdma link delete " DEVICE " && "
				   "rdma link delete rxe0 && "
				   "rmmod rdma_rxe; } &"));
		return;
	}
}

/* It ends soon, and nothing refers to the device or to the module any more. */
static void ended(struct __test_metadata *_metadata, FIXTURE_DATA(ender) *self,
		  enum ender ender)
{
	switch (ender) {
	case DEREGISTERED:
		EXPECT_EQ(0, ll_get(self->holder.sock, LL_SOON_MS));
		break;
	case EXITED:
		EXPECT_EQ(0, ll_proc_wait(&self->holder, LL_SOON_MS));
		break;
	case UNLINKED:
		EXPECT_EQ(0, ll_sh_soon("while test -e /sys/class/infiniband/"
					DEVICE "; do sleep 0.05; done"));
		break;
	case UNLOADED:
		EXPECT_EQ(0, ll_sh_soon("while test -e /sys/module/rdma_rxe; "
					"do sleep 0.05; done"));
		EXPECT_EQ(0, ll_sh("modprobe rdma_rxe && "
				   "rdma link add rxe0 type rxe netdev %s",
				   self->netdev));
		break;
	default:
		break;
	}
	ll_proc_stop(&self->holder);
	ll_sh("rdma link delete " DEVICE " 2>/dev/null");
	EXPECT_EQ(0, ll_proc_leases());
	EXPECT_TRUE(ll_module_refs_become(self->refs));
}

#define ENDER_TEST(name)	TEST_F_TIMEOUT(ender, name, 480)

#define for_each_reference(reference)					\
	for (reference = NOTHING; reference < REFERENCES; reference++)	\
		if (has_reference(self, reference))

ENDER_TEST(in_a_break)
{
	struct ll_proc *helper = &self->env.helper;
	enum reference reference;

	for_each_reference(reference) {
		start_holder(_metadata, self, self->env.path, reference,
			     false);
		ll_send(helper, LL_OP_PUNCH, self->env.path, 0, LEN, 0);
		EXPECT_NOT_DONE(helper);
		end(_metadata, self, variant->ender);
		EXPECT_DONE_SOON(helper);
		EXPECT_EQ(0, ll_file_byte(self->env.path, 0));
		ended(_metadata, self, variant->ender);
		EXPECT_EQ(0, ll_do(helper, LL_OP_WRITE, self->env.path, 0, LEN,
				   1));
	}
}

ENDER_TEST(beside_a_seizure)
{
	int fd = open(self->env.path, O_RDWR);
	enum reference reference;
	long begin;

	ASSERT_LE(0, fd);
	for_each_reference(reference) {
		start_holder(_metadata, self, self->env.path, reference,
			     false);
		end(_metadata, self, variant->ender);
		begin = ll_now_ms();
		EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 0, 0,
					  LAYOUT_LEASE_SEIZE));
		EXPECT_GE(LL_SOON_MS, ll_now_ms() - begin);
		ended(_metadata, self, variant->ender);
		EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_PUNCH,
				   self->env.path, 0, LEN, 0));
		EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_WRITE,
				   self->env.path, 0, LEN, 1));
	}
	close(fd);
}

ENDER_TEST(beside_the_removal_of_the_memory)
{
	const char *dir = getenv("DAX2");
	enum reference reference;

	LL_NEEDS_DAX2();
	ASSERT_EQ(0, ll_source(self->pmem, sizeof(self->pmem), dir));
	ASSERT_EQ(0, ll_pmem_name(self->name, sizeof(self->name), self->pmem));
	for_each_reference(reference) {
		if (reference != NOTHING && reference != OVERRUN)
			continue;
		ASSERT_EQ(0, ll_umount(dir));
		ASSERT_EQ(0, ll_new_filesystem(self->pmem, dir));
		ASSERT_EQ(0, ll_mkfile(self->pmem_path,
				       sizeof(self->pmem_path), dir,
				       LL_PAGES, 0));
		/* XFS with rmapbt sends SIGBUS to who maps the memory. */
		start_holder(_metadata, self, self->pmem_path, reference, true);
		end(_metadata, self, variant->ender);
		EXPECT_EQ(0, ll_pmem_unbind(self->name));
		ended(_metadata, self, variant->ender);
		ASSERT_EQ(0, ll_umount(dir));
		ASSERT_EQ(0, ll_pmem_bind(self->name, self->pmem));
		ASSERT_EQ(0, ll_new_filesystem(self->pmem, dir));
	}
}

TEST_HARNESS_MAIN
