// SPDX-License-Identifier: GPL-2.0
/*
 * Whoever begins a revocation, a layout change or the deregistration, it takes
 * the same steps: a holder that lets go is not slower than one that does not,
 * nor is one that is killed or whose context is closed, whatever else refers to
 * the memory region. And what a region costs it costs once.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define LEN	(16 * ll_pg)

/*
 * A peer overruns the completion queue of the holder. The request that cannot be
 * completed, and the memory region that it was for, are stuck in the queue pair.
 */

FIXTURE(overrun) {
	struct ll_env env;
	struct ll_rdma *r;
	struct ibv_cq *cq;
	struct held h;
};

FIXTURE_SETUP(overrun)
{
	LL_ENV_INIT(&self->env, true);
	self->r = &self->env.rdma;
	LL_ENV_SKIP_IF(&self->env, self->r->iwarp,
		       "iWARP has no write with immediate");
	self->cq = ll_small_cq(self->r);
	ASSERT_NE(NULL, self->cq);
}

FIXTURE_TEARDOWN(overrun)
{
	ll_env_exit(&self->env);
}

#define OVERRUN_TEST(name)	TEST_F_TIMEOUT(overrun, name, 240)

#define EXPECT_SOON(what)						\
	do {								\
		long begin = ll_now_ms();				\
									\
		EXPECT_EQ(0, what);					\
		EXPECT_GE(LL_SOON_MS, ll_now_ms() - begin);		\
	} while (0)

OVERRUN_TEST(no_lease)
{
	char *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr;

	ASSERT_NE(MAP_FAILED, mem);
	mr = ll_reg(self->r, mem, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_LT(0, ll_overrun(self->r, self->cq, mem, mr->rkey));
	EXPECT_SOON(ibv_dereg_mr(mr));
}

OVERRUN_TEST(silent)
{
	ASSERT_EQ(0, ll_hold(&self->h, self->r, self->env.path, LEN));
	EXPECT_LT(0, ll_overrun(self->r, self->cq, self->h.map,
			     self->h.mr->rkey));
	ll_set_grace(1);
	ll_send(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	EXPECT_DONE_AT_DEADLINE(&self->env.helper, 1);
	EXPECT_SOON(ibv_dereg_mr(self->h.mr));
}

OVERRUN_TEST(lets_go)
{
	ASSERT_EQ(0, ll_hold(&self->h, self->r, self->env.path, LEN));
	EXPECT_LT(0, ll_overrun(self->r, self->cq, self->h.map,
			     self->h.mr->rkey));
	ll_send(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	EXPECT_SIGNAL(self->h.fd, POLL_MSG);
	EXPECT_SOON(ibv_dereg_mr(self->h.mr));
	EXPECT_DONE_SOON(&self->env.helper);
}

static void *dereg(void *mr)
{
	return (void *)(long)ibv_dereg_mr(mr);
}

OVERRUN_TEST(seized_beside)
{
	pthread_t thread;
	void *ret;

	ASSERT_EQ(0, ll_hold(&self->h, self->r, self->env.path, LEN));
	EXPECT_LT(0, ll_overrun(self->r, self->cq, self->h.map,
			     self->h.mr->rkey));
	ASSERT_EQ(0, pthread_create(&thread, NULL, dereg, self->h.mr));
	EXPECT_SOON(ll_setlayout(self->h.fd, F_UNLCK, 0, 0,
				 LAYOUT_LEASE_SEIZE));
	ASSERT_EQ(0, pthread_join(thread, &ret));
	EXPECT_EQ(NULL, ret);
}

/*
 * A holder that goes in the middle of a break.
 */

struct going {
	const char *path;
	bool stuck;
};

static void hold_and_wait(int sock, void *arg)
{
	const struct going *going = arg;
	struct ll_rdma r = {};
	struct ibv_cq *cq = NULL;
	struct held h;

	if (ll_rdma_open(&r) || (going->stuck && !(cq = ll_small_cq(&r))) ||
	    ll_hold(&h, &r, going->path, LEN) ||
	    (cq && ll_overrun(&r, cq, h.map, h.mr->rkey) <= 0))
		_exit(1);
	ll_put(sock, 0);
	/* The context goes, with its descriptor and mappings; the lease stays. */
	if (!ll_get(sock, LL_GRACE * 1000))
		execlp("sleep", "sleep", "1000", NULL);
	pause();
}

FIXTURE(going) {
	struct ll_env env;
	struct ll_proc holder;
};

FIXTURE_VARIANT(going) {
	bool stuck;
	bool executes;
};

FIXTURE_VARIANT_ADD(going, killed) { };
FIXTURE_VARIANT_ADD(going, executes) { .executes = true };
FIXTURE_VARIANT_ADD(going, killed_and_overrun) { .stuck = true };
FIXTURE_VARIANT_ADD(going, executes_and_overrun) {
	.stuck = true, .executes = true
};

FIXTURE_SETUP(going)
{
	LL_ENV_INIT(&self->env, false);
	LL_ENV_SKIP_IF(&self->env,
		       variant->stuck && strcmp(ll_rdma_type(), "rxe"),
		       "iWARP has no write with immediate");
}

FIXTURE_TEARDOWN(going)
{
	ll_proc_stop(&self->holder);
	ll_env_exit(&self->env);
}

TEST_F_TIMEOUT(going, in_a_break, 240)
{
	struct going going = { self->env.path, variant->stuck };
	struct ll_proc *helper = &self->env.helper;
	struct ll_result res;

	ASSERT_EQ(0, ll_proc_start(&self->holder, hold_and_wait, &going));
	ASSERT_EQ(0, ll_get(self->holder.sock, 2 * LL_SOON_MS));
	ll_send(helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	EXPECT_EQ(-ETIME, ll_done(helper, 300, &res));
	if (variant->executes) {
		ASSERT_EQ(0, ll_put(self->holder.sock, 0));
	} else {
		ASSERT_EQ(0, kill(self->holder.pid, SIGKILL));
	}
	EXPECT_DONE_SOON(helper);
}

/*
 * The other tests: a region, or none.
 */

FIXTURE(contract) {
	struct ll_env env;
	struct ll_rdma *r;
	struct held h;
};

FIXTURE_SETUP(contract)
{
	LL_ENV_INIT(&self->env, true);
	self->r = &self->env.rdma;
}

FIXTURE_TEARDOWN(contract)
{
	ll_env_exit(&self->env);
}

#define CONTRACT_TEST(name)	TEST_F_TIMEOUT(contract, name, 480)

/* One thread deregisters what the other one binds a window to. */
struct race {
	struct ibv_mr *mr;
	atomic_int turn;	/* 1: the other thread's, -1: no more */
	int ret;
};

static void *deregister_at_turn(void *arg)
{
	struct race *race = arg;
	int turn;

	while ((turn = atomic_load(&race->turn)) >= 0) {
		if (!turn)
			continue;
		race->ret = ibv_dereg_mr(race->mr);
		atomic_store(&race->turn, 0);
	}
	return NULL;
}

CONTRACT_TEST(window_beside_dereg)
{
	const long end = ll_now_ms() + 60000;
	struct ibv_send_wr *bad, wr;
	struct race race = {};
	int bound = 0, gone = 0;
	pthread_t thread;
	struct ibv_mw *mw;
	long begin;

	mw = ibv_alloc_mw(self->r->pd, IBV_MW_TYPE_2);
	if (!mw)
		SKIP(return, "the device has no windows");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one CPU");
	ibv_dealloc_mw(mw);
	ASSERT_EQ(0, ll_hold(&self->h, self->r, self->env.path, LEN));
	race.mr = self->h.mr;
	ASSERT_EQ(0, pthread_create(&thread, NULL, deregister_at_turn, &race));

	while ((bound + gone < 1000 || !bound || !gone) && ll_now_ms() < end) {
		int status;

		mw = ibv_alloc_mw(self->r->pd, IBV_MW_TYPE_2);
		ASSERT_NE(NULL, mw);
		wr = ll_bind_wr(mw, race.mr);
		begin = ll_now_ms();
		atomic_store(&race.turn, 1);
		for (volatile int i = rand() % 4000; i > 0; i--)
			;
		ASSERT_EQ(0, ibv_post_send(self->r->qp[LL_B], &wr, &bad));
		status = ll_wait_wc(self->r, LL_B, LL_SOON_MS, NULL);
		while (atomic_load(&race.turn))
			;
		/* Exactly one of them, at once. */
		EXPECT_GE(LL_SOON_MS, ll_now_ms() - begin);
		ASSERT_EQ(status == IBV_WC_SUCCESS, race.ret == EINVAL)
			TH_LOG("bind: %s, dereg: %d",
			       ibv_wc_status_str(status), race.ret);
		EXPECT_EQ(0, ibv_dealloc_mw(mw));
		if (status == IBV_WC_SUCCESS) {
			bound++;
			EXPECT_EQ(0, ibv_dereg_mr(race.mr));
		} else {
			gone++;
			ASSERT_EQ(0, ll_rdma_connect(self->r));
		}
		race.mr = ll_reg(self->r, self->h.map, LEN, LL_ACCESS);
		ASSERT_NE(NULL, race.mr);
	}
	TH_LOG("bound %d times, deregistered first %d times", bound, gone);
	atomic_store(&race.turn, -1);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, ibv_dereg_mr(race.mr));
}

/* What is unpinned is not charged any more, and is not given back again. */
CONTRACT_TEST(memory_is_charged_once)
{
	const long before = ll_status_kb("VmPin");
	struct ibv_mr *again;

	ASSERT_EQ(0, ll_hold(&self->h, self->r, self->env.path, LEN));
	EXPECT_EQ(before + (long)LEN / 1024, ll_status_kb("VmPin"));
	ASSERT_EQ(0, ll_revoke(self->h.fd));
	EXPECT_EQ(before, ll_status_kb("VmPin"));

	ASSERT_EQ(0, ll_lease(self->h.fd, F_RDLCK, 0, 0));
	again = ll_reg(self->r, self->h.map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, again);
	EXPECT_EQ(before + (long)LEN / 1024, ll_status_kb("VmPin"));
	EXPECT_EQ(0, ibv_dereg_mr(self->h.mr));
	EXPECT_EQ(before + (long)LEN / 1024, ll_status_kb("VmPin"));
	EXPECT_EQ(0, ibv_dereg_mr(again));
	EXPECT_EQ(before, ll_status_kb("VmPin"));
}

CONTRACT_TEST(memory_is_charged_until_the_deadline)
{
	const long before = ll_status_kb("VmPin");

	ASSERT_EQ(0, ll_hold(&self->h, self->r, self->env.path, LEN));
	ll_set_grace(1);
	ll_send(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	EXPECT_EQ(before + (long)LEN / 1024, ll_status_kb("VmPin"));
	EXPECT_DONE_AT_DEADLINE(&self->env.helper, 1);
	EXPECT_EQ(before, ll_status_kb("VmPin"));
	EXPECT_EQ(0, ibv_dereg_mr(self->h.mr));
	EXPECT_EQ(before, ll_status_kb("VmPin"));
}

/*
 * Many mappings of @pages, none of which continues the one before. Returns how
 * long the registration takes, or -errno.
 */
static long register_mappings(struct ll_rdma *r, int fd, size_t nr,
			      unsigned int pages, bool revoke)
{
	const size_t len = pages * ll_pg;
	char *base = mmap(NULL, nr * len, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct ibv_mr *mr;
	long begin, ms;
	int err = 0;
	size_t i;

	if (base == MAP_FAILED)
		return -errno;
	for (i = 0; i < nr; i++)
		if (mmap(base + i * len, len, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd,
			 i * 2 * pages % LL_PAGES * ll_pg) == MAP_FAILED)
			return -errno;
	begin = ll_now_ms();
	mr = ll_reg(r, base, nr * len, LL_ACCESS);
	ms = ll_now_ms() - begin;
	if (!mr)
		return -errno;
	if (revoke)
		err = -ll_revoke(fd);
	err = err ?: ibv_dereg_mr(mr);
	munmap(base, nr * len);
	return err ? -err : ms;
}

#define MAX_MAP_COUNT	"/proc/sys/vm/max_map_count"

/*
 * More than the allocator of pages gives in one piece; 8 times as many, or
 * SCALE_MAPPINGS. On a kernel with KASAN each of them costs milliseconds.
 */
TEST_F_TIMEOUT(contract, many_mappings, 1800)
{
	const long many = ll_env_number("SCALE_MAPPINGS", 8 * 16500);
	const long limit = ll_read_long(MAX_MAP_COUNT, -1), few = many / 8;
	int fd = open(self->env.path, O_RDWR);
	long ms_few, ms_many;

	ASSERT_EQ(0, ll_write_long(MAX_MAP_COUNT, 2 * many));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ms_few = register_mappings(self->r, fd, few, 1, false);
	ms_many = register_mappings(self->r, fd, many, 1, true);
	ll_write_long(MAX_MAP_COUNT, limit);
	TH_LOG("%ld mappings in %ld ms, %ld in %ld ms", few, ms_few, many,
	       ms_many);
	EXPECT_LE(0, ms_few);
	EXPECT_LE(0, ms_many);
	/* Linear, with as much to spare; 64 times as long would be the square. */
	EXPECT_GE(24 * (ms_few + 10), ms_many);
}

/* What a device keeps for each page must not be one piece of memory. */
CONTRACT_TEST(region_of_more_than_a_gigabyte)
{
	const size_t nr = 1100000000 / (LL_PAGES * ll_pg);
	int fd = open(self->env.path, O_RDWR);

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_LE(0, register_mappings(self->r, fd, nr, LL_PAGES, true));
}

TEST_HARNESS_MAIN
