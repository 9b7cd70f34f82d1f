// SPDX-License-Identifier: GPL-2.0
/*
 * What a device is doing at the moment of a revocation: each kind of work
 * request, large and many of them, with the leased region at either end; and
 * regions of several pieces. No byte reaches the blocks after the truncate has
 * returned, and none of their new contents leaves them.
 */
#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define LEN	(8UL << 20)
#define PART	(LEN / 8)	/* of one work request */
#define DEPTH	8		/* that many are under way */

/* What the leased file, the memory of the peer and the new owner contain. */
#define OLD	0x11
#define PEER	0x22
#define NEW	0x33

FIXTURE(flight) {
	struct ll_env env;
	struct held h;
	char *peer;
	struct ibv_mr *peer_mr;
};

FIXTURE_VARIANT(flight) {
	enum ibv_wr_opcode op;
	int side;		/* who posts */
	bool srq;
	int pairs;		/* on one region */
	bool leaves;		/* the leased region is where the data is */
};

FIXTURE_VARIANT_ADD(flight, peer_write) {
	IBV_WR_RDMA_WRITE, LL_A,
};

FIXTURE_VARIANT_ADD(flight, peer_write_two_pairs) {
	IBV_WR_RDMA_WRITE, LL_A, .pairs = 2,
};

FIXTURE_VARIANT_ADD(flight, peer_read) {
	IBV_WR_RDMA_READ, LL_A, .leaves = true,
};

FIXTURE_VARIANT_ADD(flight, peer_read_two_pairs) {
	IBV_WR_RDMA_READ, LL_A, .pairs = 2, .leaves = true,
};

FIXTURE_VARIANT_ADD(flight, peer_atomic) {
	IBV_WR_ATOMIC_FETCH_AND_ADD, LL_A,
};

FIXTURE_VARIANT_ADD(flight, own_write) {
	IBV_WR_RDMA_WRITE, LL_B, .leaves = true,
};

FIXTURE_VARIANT_ADD(flight, own_read) {
	IBV_WR_RDMA_READ, LL_B,
};

FIXTURE_VARIANT_ADD(flight, send) {
	IBV_WR_SEND, LL_B, .leaves = true,
};

FIXTURE_VARIANT_ADD(flight, receive) {
	IBV_WR_SEND, LL_A,
};

FIXTURE_VARIANT_ADD(flight, receive_from_srq) {
	IBV_WR_SEND, LL_A, .srq = true,
};

FIXTURE_SETUP(flight)
{
	struct ll_rdma *r = &self->env.rdma;

	LL_ENV_INIT(&self->env, true);
	LL_ENV_SKIP_IF(&self->env,
		       variant->op == IBV_WR_ATOMIC_FETCH_AND_ADD && !r->atomics,
		       "the device has no atomic operations");
	self->peer = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->peer);
	memset(self->peer, PEER, LEN);
	self->peer_mr = ll_reg(r, self->peer, LEN, LL_ACCESS);
	ASSERT_NE(NULL, self->peer_mr);
	ASSERT_EQ(0, ll_do(&self->env.helper, LL_OP_WRITE, self->env.path, 0,
			   LEN, OLD));
	ASSERT_EQ(0, ll_fill_up(getenv("DAX1"), 1 << 20));
	ll_set_grace(0);
}

FIXTURE_TEARDOWN(flight)
{
	ll_env_exit(&self->env);
}

/* Work requests without end, until one of them fails. */
struct stream {
	struct ll_rdma *r;
	int pending, done, status;	/* status of the first that failed */
	size_t at;
};

static int post_recv(struct ll_rdma *r, int side, struct ibv_mr *mr, size_t at)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)mr->addr + at,
		.length = PART,
		.lkey = mr->lkey,
	};
	struct ibv_recv_wr *bad, wr = { .sg_list = &sge, .num_sge = 1 };

	return side == LL_B && r->srq ? ibv_post_srq_recv(r->srq, &wr, &bad) :
					ibv_post_recv(r->qp[side], &wr, &bad);
}

static int post(struct stream *s, const FIXTURE_VARIANT(flight) *v,
		struct ibv_mr *own, struct ibv_mr *peer)
{
	struct ibv_mr *local = v->side == LL_A ? peer : own;
	struct ibv_mr *remote = v->side == LL_A ? own : peer;
	size_t len = v->op == IBV_WR_ATOMIC_FETCH_AND_ADD ? 8 : PART;
	int ret = 0;

	if (v->op == IBV_WR_SEND)
		ret = post_recv(s->r, !v->side, remote, s->at);
	if (!ret)
		ret = ll_post(s->r, v->side, v->op,
			      (uintptr_t)local->addr + s->at, local->lkey, len,
			      (uintptr_t)remote->addr + s->at, remote->rkey);
	s->at = (s->at + PART) % LEN;
	s->pending += !ret;
	return ret;
}

/* Take a completion, if there is one in time; go on if it is a good one. */
static void pump(struct stream *s, const FIXTURE_VARIANT(flight) *v,
		 struct ibv_mr *own, struct ibv_mr *peer, long timeout_ms)
{
	int status;

	if (!s->pending) {
		ll_sleep_ms(1);
		return;
	}
	status = ll_wait_wc(s->r, v->side, timeout_ms, NULL);
	if (status == LL_TIMEOUT)
		return;
	s->pending--;
	if (status)
		s->status = s->status ?: status;
	else
		s->done++;
	/* iWARP may notice between two of them that the peer is gone. */
	if (!s->status && post(s, v, own, peer))
		s->status = IBV_WC_GENERAL_ERR;
}

static bool only(const char *mem, size_t len, char a, char b)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (mem[i] != a && mem[i] != b)
			return false;
	return true;
}

TEST_F_TIMEOUT(flight, truncate, 240)
{
	struct ibv_srq_init_attr srq = { .attr = { 4 * DEPTH, 1 } };
	struct ll_rdma second = self->env.rdma;
	struct stream s[2] = { { &self->env.rdma }, { &second } };
	struct ibv_mr *own, *peer = self->peer_mr;
	int pairs = variant->pairs ?: 1, i, j, ret;
	struct ll_result res = { .ret = -1 };
	char victim[32];
	long size, end;

	if (variant->srq) {
		s[0].r->srq = ibv_create_srq(s[0].r->pd, &srq);
		ASSERT_NE(NULL, s[0].r->srq);
		ASSERT_EQ(NULL, ll_rdma_pair(s[0].r));
	}
	if (pairs == 2)
		ASSERT_EQ(NULL, ll_rdma_pair(&second));
	ASSERT_EQ(0, ll_hold(&self->h, s[0].r, self->env.path, LEN));
	own = self->h.mr;

	for (i = 0; i < pairs; i++)
		for (j = 0; j < DEPTH; j++)
			ASSERT_EQ(0, post(&s[i], variant, own, peer));
	for (i = 0; i < pairs; i++) {
		pump(&s[i], variant, own, peer, LL_SOON_MS);
		ASSERT_EQ(1, s[i].done) TH_LOG("status %d", s[i].status);
	}

	ll_send(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	end = ll_now_ms() + LL_SOON_MS;
	while ((ret = ll_done(&self->env.helper, 0, &res)) == -ETIME &&
	       ll_now_ms() < end)
		for (i = 0; i < pairs; i++)
			pump(&s[i], variant, own, peer, 1);
	ASSERT_EQ(0, ret);
	EXPECT_EQ(0, res.ret);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(self->h.fd));

	/* What was under way goes on while the blocks get a new owner. */
	size = ll_take_all(victim, getenv("DAX1"), NEW);
	EXPECT_LE((long)LEN, size);
	for (i = 0; i < pairs; i++) {
		end = ll_now_ms() + 2 * LL_SOON_MS;
		while (s[i].pending && ll_now_ms() < end)
			pump(&s[i], variant, own, peer, LL_SOON_MS);
		EXPECT_EQ(0, s[i].pending);
		EXPECT_NE(0, s[i].status);
		TH_LOG("%d work requests done, then %s", s[i].done,
		       ibv_wc_status_str(s[i].status));
		EXPECT_EQ(0, ll_rdma_connect(s[i].r));
	}
	EXPECT_TRUE(ll_file_is(victim, 0, size, NEW));
	EXPECT_TRUE(only(self->peer, LEN, PEER, variant->leaves ? OLD : PEER) ||
		    variant->op == IBV_WR_ATOMIC_FETCH_AND_ADD);
	EXPECT_TRUE(ll_rkey_is_dead(s[0].r, self->h.map, own->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(own));
	EXPECT_EQ(0, ibv_dereg_mr(peer));
}

/*
 * One region over mixed memory: a page of a file in DAX1, one of a file in
 * DAX2, anonymous memory between and behind them.
 */
FIXTURE(mixed) {
	struct ll_env env;
	struct ll_rdma *r;
	char other[PATH_MAX];
	int fd[2];
	char *area;
};

#define PIECES	4

FIXTURE_SETUP(mixed)
{
	int i;

	LL_NEEDS_DAX2();
	LL_ENV_INIT(&self->env, true);
	self->r = &self->env.rdma;
	ASSERT_EQ(0, ll_mkfile(self->other, sizeof(self->other),
			       getenv("DAX2"), LL_PAGES, 0));
	self->fd[0] = open(self->env.path, O_RDWR);
	self->fd[1] = open(self->other, O_RDWR);
	self->area = mmap(NULL, PIECES * ll_pg, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->area);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, fcntl(self->fd[i], F_SETSIG, SIGRTMIN));
		ASSERT_NE(MAP_FAILED, mmap(self->area + 2 * i * ll_pg, ll_pg,
					   PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_FIXED, self->fd[i],
					   0));
	}
}

FIXTURE_TEARDOWN(mixed)
{
	unlink(self->other);
	ll_env_exit(&self->env);
}

#define MIXED_TEST(name)	TEST_F_TIMEOUT(mixed, name, 240)

static int register_all(struct ll_rdma *r, char *area)
{
	return ll_reg_errno(r, area, PIECES * ll_pg, LL_ACCESS);
}

/* After a registration that failed half way, nobody waits for the first file. */
#define EXPECT_NOTHING_ATTACHED(i)					\
	do {								\
		EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_PUNCH,	\
				   i ? self->other : self->env.path, 0,	\
				   ll_pg, 0));				\
		EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(self->fd[i]));	\
		EXPECT_EQ(0, ll_unlock(self->fd[i]));			\
		EXPECT_EQ(0, ll_lease(self->fd[i], F_RDLCK, 0, 0));	\
	} while (0)

MIXED_TEST(second_file_not_leased)
{
	ASSERT_EQ(0, ll_lease(self->fd[0], F_RDLCK, 0, 0));
	EXPECT_EQ(EOPNOTSUPP, register_all(self->r, self->area));
	EXPECT_NOTHING_ATTACHED(0);
	ASSERT_EQ(0, ll_lease(self->fd[1], F_RDLCK, ll_pg, 0));
	EXPECT_EQ(EPERM, register_all(self->r, self->area));
	EXPECT_NOTHING_ATTACHED(0);
	ASSERT_EQ(0, ll_lease(self->fd[1], F_RDLCK, 0, 0));
	EXPECT_EQ(0, register_all(self->r, self->area));
}

MIXED_TEST(first_file_not_leased)
{
	ASSERT_EQ(0, ll_lease(self->fd[1], F_RDLCK, 0, 0));
	EXPECT_EQ(EOPNOTSUPP, register_all(self->r, self->area));
	EXPECT_NOTHING_ATTACHED(1);
}

MIXED_TEST(hole_between)
{
	int i;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ll_lease(self->fd[i], F_RDLCK, 0, 0));
	ASSERT_EQ(0, munmap(self->area + ll_pg, ll_pg));
	EXPECT_NE(0, register_all(self->r, self->area));
	for (i = 0; i < 2; i++)
		EXPECT_NOTHING_ATTACHED(i);
}

MIXED_TEST(private_piece)
{
	int i;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ll_lease(self->fd[i], F_RDLCK, 0, 0));
	ASSERT_NE(MAP_FAILED, mmap(self->area + 3 * ll_pg, ll_pg,
				   PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_FIXED, self->fd[0], 0));
	EXPECT_EQ(EOPNOTSUPP, register_all(self->r, self->area));
	for (i = 0; i < 2; i++)
		EXPECT_NOTHING_ATTACHED(i);
}

/* Pages to write to beside one that must not be. */
MIXED_TEST(read_only_piece)
{
	struct ibv_mr *mr;
	int i;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ll_lease(self->fd[i], F_RDLCK, 0, 0));
	ASSERT_EQ(0, mprotect(self->area + 2 * ll_pg, ll_pg, PROT_READ));
	EXPECT_NE(0, register_all(self->r, self->area));
	for (i = 0; i < 2; i++)
		EXPECT_NOTHING_ATTACHED(i);
	/* They were punched. */
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ll_fill(self->fd[i], 1, 0x66));
	mr = ll_reg(self->r, self->area, PIECES * ll_pg,
		    IBV_ACCESS_REMOTE_READ);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_read(self->r, self->area, mr->rkey,
					       PIECES * ll_pg));
	EXPECT_EQ(0x66, self->r->buf[0]);
	EXPECT_EQ(0, self->r->buf[ll_pg]);
	EXPECT_EQ(0x66, self->r->buf[2 * ll_pg]);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/* The region goes as a whole; the other file keeps its lease. */
static void break_one(struct __test_metadata *_metadata,
		      FIXTURE_DATA(mixed) *self, int broken)
{
	const char *path[] = { self->env.path, self->other };
	struct ibv_mr *mr;
	int i;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ll_lease(self->fd[i], F_RDLCK, 0, 0));
	mr = ll_reg(self->r, self->area, PIECES * ll_pg, LL_ACCESS);
	ASSERT_NE(NULL, mr) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->r, self->area, mr->rkey,
						PIECES * ll_pg, 0x77));
	for (i = 0; i < 2; i++)
		EXPECT_TRUE(ll_file_is(path[i], 0, ll_pg, 0x77));
	EXPECT_TRUE(only(self->area, PIECES * ll_pg, 0x77, 0x77));

	ll_set_grace(1);
	ll_send(&self->env.helper, LL_OP_TRUNCATE, path[broken], 0, 0, 0);
	EXPECT_SIGNAL(self->fd[broken], POLL_MSG);
	EXPECT_DONE_AT_DEADLINE(&self->env.helper, 1);
	EXPECT_SIGNAL(self->fd[broken], POLL_HUP);
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(self->fd[broken]));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(self->fd[!broken]));
	for (i = 0; i < PIECES; i++)
		EXPECT_TRUE(ll_rkey_is_dead(self->r, self->area + i * ll_pg,
					    mr->rkey));
	EXPECT_TRUE(ll_file_is(path[!broken], 0, ll_pg, 0x77));

	/* It does not hold the other one up, registered as it still is. */
	ll_set_grace(LL_GRACE);
	EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_TRUNCATE, path[!broken], 0,
			   0, 0));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(self->fd[!broken]));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, ll_unlock(self->fd[i]));
}

MIXED_TEST(first_file_broken)
{
	break_one(_metadata, self, 0);
}

MIXED_TEST(second_file_broken)
{
	break_one(_metadata, self, 1);
}

/* Its holder can let go of the lease on the other file, too, and lease anew. */
MIXED_TEST(other_file_unlocked)
{
	long end = ll_now_ms() + LL_SOON_MS;
	struct ibv_mr *mr[2];
	int i, ret;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ll_lease(self->fd[i], F_RDLCK, 0, 0));
	mr[0] = ll_reg(self->r, self->area, PIECES * ll_pg, LL_ACCESS);
	ASSERT_NE(NULL, mr[0]) TH_LOG("%s", strerror(errno));

	ll_set_grace(0);
	EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0,
			   0, 0));
	/* It is detached by a worker. */
	while ((ret = ll_unlock(self->fd[1])) == -EBUSY && ll_now_ms() < end)
		ll_sleep_ms(10);
	EXPECT_EQ(0, ret);

	ASSERT_EQ(0, ll_lease(self->fd[1], F_RDLCK, 0, 0));
	mr[1] = ll_reg(self->r, self->area + 2 * ll_pg, ll_pg, LL_ACCESS);
	ASSERT_NE(NULL, mr[1]) TH_LOG("%s", strerror(errno));
	EXPECT_TRUE(ll_mr_works(self->r, mr[1]));
	EXPECT_EQ(0, ibv_dereg_mr(mr[0]));
	EXPECT_TRUE(ll_mr_works(self->r, mr[1]));
	EXPECT_EQ(0, ibv_dereg_mr(mr[1]));
}

TEST_HARNESS_MAIN
