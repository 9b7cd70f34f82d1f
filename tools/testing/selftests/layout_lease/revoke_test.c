// SPDX-License-Identifier: GPL-2.0
/*
 * A memory region after its lease was taken back: what peer and owner get to
 * see, and that deregistration answers as for a live one.
 *
 * Regions are revoked by their holder with LAYOUT_LEASE_REVOKE, which goes the
 * way of a deadline without waiting for one; break_test has the deadlines.
 */
#include "layout_lease_setup.h"

#define LEN	(16 * ll_pg)

FIXTURE(revoked) {
	struct ll_env env;
	struct ll_rdma *r;
	int fd;
	char *map;
	struct ibv_mr *mr;
};

/* Up to a live region; the tests revoke. */
FIXTURE_SETUP(revoked)
{
	int ret;

	LL_ENV_INIT(&self->env, true);
	self->r = &self->env.rdma;
	self->fd = open(self->env.path, O_RDWR);
	self->map = ll_map(self->fd, 0, LEN, PROT_READ | PROT_WRITE);
	ret = ll_lease(self->fd, F_RDLCK, 0, 0);
	if (!ret) {
		self->mr = ll_reg(self->r, self->map, LEN, LL_ACCESS);
		ret = self->mr ? 0 : -errno;
	}
	if (!ret)
		ret = ll_rdma_write(self->r, self->map, self->mr->rkey, 8, 1);
	LL_ENV_ASSERT(&self->env, ret);
}

FIXTURE_TEARDOWN(revoked)
{
	ll_env_exit(&self->env);
}

#define REVOKED_TEST(name)	TEST_F_TIMEOUT(revoked, name, 240)

#define ASSERT_REVOKE()							\
	do {								\
		ASSERT_EQ(0, ll_revoke(self->fd));			\
		ASSERT_EQ(LAYOUT_LEASE_NONE, ll_state(self->fd));	\
	} while (0)

REVOKED_TEST(peer_write)
{
	ASSERT_REVOKE();
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  ll_rdma_write(self->r, self->map, self->mr->rkey, 8, 2));
	EXPECT_TRUE(ll_async_event(self->r,
				   ll_refusal(self->r, IBV_WR_RDMA_WRITE),
				   LL_SOON_MS));
	EXPECT_TRUE(ll_file_is(self->env.path, 0, 8, 1));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

REVOKED_TEST(peer_read)
{
	ASSERT_REVOKE();
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  ll_rdma_read(self->r, self->map, self->mr->rkey, 8));
	EXPECT_EQ((char)0xee, self->r->buf[0]);
	EXPECT_TRUE(ll_async_event(self->r,
				   ll_refusal(self->r, IBV_WR_RDMA_READ),
				   LL_SOON_MS));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

REVOKED_TEST(peer_atomic)
{
	if (!self->r->atomics)
		SKIP(return, "the device has no atomic operations");
	ASSERT_REVOKE();
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  ll_rdma_op(self->r, LL_A, IBV_WR_ATOMIC_FETCH_AND_ADD,
			     self->r->buf, self->r->buf_mr->lkey, 8, self->map,
			     self->mr->rkey));
	EXPECT_TRUE(ll_file_is(self->env.path, 0, 8, 1));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* Each page, not only the first one. */
REVOKED_TEST(peer_every_page)
{
	size_t i;

	ASSERT_REVOKE();
	for (i = 0; i < LEN; i += 5 * ll_pg) {
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
			  ll_rdma_write(self->r, self->map + i, self->mr->rkey,
					8, 2));
		EXPECT_EQ(0, ll_rdma_connect(self->r));
	}
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* The pair works again after a reconnect, for all other keys. */
REVOKED_TEST(peer_reconnects)
{
	ASSERT_REVOKE();
	EXPECT_TRUE(ll_rkey_is_dead(self->r, self->map, self->mr->rkey));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->r,
						self->r->buf + LL_BUF / 2,
						self->r->buf_mr->rkey, 8, 3));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_TRUE(ll_rkey_is_dead(self->r, self->map, self->mr->rkey));
}

/* The owner's own work requests fail as with a deregistered key. */
REVOKED_TEST(local_source)
{
	int status;

	ASSERT_REVOKE();
	memset(self->r->buf, 0x70, ll_pg);
	ASSERT_EQ(0, ll_post(self->r, LL_B, IBV_WR_RDMA_WRITE,
			     (uintptr_t)self->map, self->mr->lkey, ll_pg,
			     (uintptr_t)self->r->buf, self->r->buf_mr->rkey));
	status = ll_wait_wc(self->r, LL_B, LL_SOON_MS, NULL);
	EXPECT_TRUE(status == IBV_WC_WR_FLUSH_ERR ||
		    status == IBV_WC_LOC_PROT_ERR ||
		    status == IBV_WC_LOC_QP_OP_ERR)
		TH_LOG("%s", ibv_wc_status_str(status));
	EXPECT_EQ(0x70, self->r->buf[0]);
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

REVOKED_TEST(local_sink)
{
	int status;

	ASSERT_REVOKE();
	memset(self->r->buf, 0x70, ll_pg);
	ASSERT_EQ(0, ll_post(self->r, LL_B, IBV_WR_RDMA_READ,
			     (uintptr_t)self->map, self->mr->lkey, ll_pg,
			     (uintptr_t)self->r->buf, self->r->buf_mr->rkey));
	status = ll_wait_wc(self->r, LL_B, LL_SOON_MS, NULL);
	EXPECT_TRUE(status == IBV_WC_LOC_PROT_ERR ||
		    status == IBV_WC_WR_FLUSH_ERR)
		TH_LOG("%s", ibv_wc_status_str(status));
	EXPECT_TRUE(ll_file_is(self->env.path, 0, 8, 1));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

REVOKED_TEST(local_receive)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)self->map,
		.length = ll_pg,
		.lkey = self->mr->lkey,
	};
	struct ibv_recv_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;

	ASSERT_EQ(0, ibv_post_recv(self->r->qp[LL_B], &wr, &bad));
	ASSERT_REVOKE();
	memset(self->r->buf, 0x70, 8);
	EXPECT_EQ(IBV_WC_REM_OP_ERR,
		  ll_rdma_op(self->r, LL_A, IBV_WR_SEND, self->r->buf,
			     self->r->buf_mr->lkey, 8, NULL, 0));
	EXPECT_NE(IBV_WC_SUCCESS,
		  ll_wait_wc(self->r, LL_B, LL_SOON_MS, NULL));
	EXPECT_TRUE(ll_file_is(self->env.path, 0, 8, 1));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* A window is shut together with the region behind it. */
static void window(struct __test_metadata *_metadata,
		   FIXTURE_DATA(revoked) *self, enum ibv_mw_type type)
{
	struct ibv_mw *mw = ibv_alloc_mw(self->r->pd, type);

	if (!mw)
		SKIP(return, "no memory windows: %s", strerror(errno));
	ASSERT_EQ(IBV_WC_SUCCESS, ll_bind_mw(self->r, mw, self->mr));
	ASSERT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->r, self->map, mw->rkey, 8,
						2));
	ASSERT_TRUE(ll_file_is(self->env.path, 0, 8, 2));
	ASSERT_REVOKE();
	EXPECT_TRUE(ll_rkey_is_dead(self->r, self->map, mw->rkey));
	EXPECT_TRUE(ll_file_is(self->env.path, 0, 8, 2));

	/* Bound windows hold a region, revoked or not. */
	EXPECT_EQ(EINVAL, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dealloc_mw(mw));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

REVOKED_TEST(window)
{
	window(_metadata, self, IBV_MW_TYPE_1);
}

REVOKED_TEST(window_of_type_2)
{
	window(_metadata, self, IBV_MW_TYPE_2);
}

static void window_bound_late(struct __test_metadata *_metadata,
			      FIXTURE_DATA(revoked) *self,
			      enum ibv_mw_type type)
{
	struct ibv_mw *mw = ibv_alloc_mw(self->r->pd, type);

	if (!mw)
		SKIP(return, "no memory windows: %s", strerror(errno));
	ASSERT_REVOKE();
	EXPECT_NE(IBV_WC_SUCCESS, ll_bind_mw(self->r, mw, self->mr));
	EXPECT_EQ(0, ll_rdma_connect(self->r));
	EXPECT_TRUE(ll_rkey_is_dead(self->r, self->map, mw->rkey));
	EXPECT_EQ(0, ibv_dealloc_mw(mw));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

REVOKED_TEST(window_bound_late)
{
	window_bound_late(_metadata, self, IBV_MW_TYPE_1);
}

REVOKED_TEST(window_of_type_2_bound_late)
{
	window_bound_late(_metadata, self, IBV_MW_TYPE_2);
}

/* The key stays taken until deregistration. */
REVOKED_TEST(key_not_reused)
{
	struct ibv_mr *mr[64];
	unsigned int i;

	ASSERT_REVOKE();
	for (i = 0; i < ARRAY_SIZE(mr); i++) {
		mr[i] = ll_reg(self->r, self->r->buf, LL_BUF, LL_ACCESS);
		ASSERT_NE(NULL, mr[i]);
		EXPECT_NE(self->mr->rkey, mr[i]->rkey);
		EXPECT_NE(self->mr->lkey, mr[i]->lkey);
	}
	EXPECT_TRUE(ll_rkey_is_dead(self->r, self->map, self->mr->rkey));
	for (i = 0; i < ARRAY_SIZE(mr); i++)
		EXPECT_EQ(0, ibv_dereg_mr(mr[i]));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

static bool neighbours_are_dead(struct ll_rdma *r, char *map, __u32 rkey)
{
	unsigned int bit;

	for (bit = 0; bit < 32; bit++)
		if (!ll_rkey_is_dead(r, map, rkey ^ 1u << bit))
			return false;
	return true;
}

/* Keys that almost fit, before and after. */
REVOKED_TEST(guessed_keys)
{
	EXPECT_TRUE(neighbours_are_dead(self->r, self->map, self->mr->rkey));
	EXPECT_TRUE(ll_mr_works(self->r, self->mr));
	ASSERT_REVOKE();
	EXPECT_TRUE(neighbours_are_dead(self->r, self->map, self->mr->rkey));
	EXPECT_TRUE(ll_rkey_is_dead(self->r, self->map, self->mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* A new lease does not bring the old region back; a new region works. */
REVOKED_TEST(leased_and_registered_again)
{
	struct ibv_mr *mr;

	ASSERT_REVOKE();
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	EXPECT_TRUE(ll_rkey_is_dead(self->r, self->map, self->mr->rkey));
	mr = ll_reg(self->r, self->map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_NE(self->mr->rkey, mr->rkey);
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->r, self->map, mr->rkey, 8,
						7));
	EXPECT_TRUE(ll_file_is(self->env.path, 0, 8, 7));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->r, self->map, mr->rkey, 8,
						8));
	EXPECT_EQ(-EBUSY, ll_unlock(self->fd));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ll_unlock(self->fd));
}

REVOKED_TEST(rereg)
{
	int ret = ll_rereg(self->r->buf_mr, self->r->pd,
			   IBV_REREG_MR_CHANGE_ACCESS, LL_ACCESS);

	if (ret)
		SKIP(return, "the driver cannot re-register any region: %s",
		     strerror(-ret));
	ASSERT_REVOKE();
	EXPECT_EQ(-EOPNOTSUPP, ll_rereg(self->mr, self->r->pd,
					IBV_REREG_MR_CHANGE_ACCESS, LL_ACCESS));
	EXPECT_TRUE(ll_rkey_is_dead(self->r, self->map, self->mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

REVOKED_TEST(no_lease_afterwards)
{
	ASSERT_REVOKE();
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->r, self->map, LEN, LL_ACCESS));
	EXPECT_EQ(0, ll_revoke(self->fd));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_TRUE(ll_gone(self->fd));
}

/* The file behind a revoked region is free: nobody waits for it. */
REVOKED_TEST(nobody_waits)
{
	ASSERT_REVOKE();
	EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0,
			   0, 0));
	EXPECT_TRUE(ll_rkey_is_dead(self->r, self->map, self->mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* Writes in flight while the region goes: either all of one or none of it. */
REVOKED_TEST(in_flight)
{
	unsigned int i, done = 1, failed = 0;
	int status;

	memset(self->r->buf, 0x21, LEN);
	for (i = 0; i < 12; i++)
		ASSERT_EQ(0, ll_post(self->r, LL_A, IBV_WR_RDMA_WRITE,
				     (uintptr_t)self->r->buf,
				     self->r->buf_mr->lkey, LEN,
				     (uintptr_t)self->map, self->mr->rkey));
	/* Some have arrived, some are on their way. */
	ASSERT_EQ(IBV_WC_SUCCESS,
		  ll_wait_wc(self->r, LL_A, LL_SOON_MS, NULL));
	ASSERT_REVOKE();
	/* The blocks are the file's: what we write now has to stay. */
	ASSERT_EQ(0, ll_fill(self->fd, LEN / ll_pg, 0x40));
	for (i = 1; i < 12; i++) {
		status = ll_wait_wc(self->r, LL_A, LL_SOON_MS, NULL);
		if (status == IBV_WC_SUCCESS)
			done++;
		else
			failed++;
		EXPECT_TRUE(status == IBV_WC_SUCCESS ||
			    status == IBV_WC_REM_ACCESS_ERR ||
			    status == IBV_WC_WR_FLUSH_ERR)
			TH_LOG("write %u: status %d", i, status);
		EXPECT_FALSE(status == IBV_WC_SUCCESS && failed);
	}
	TH_LOG("%u done, %u failed", done, failed);
	for (i = 0; i < LEN / ll_pg; i++)
		EXPECT_TRUE(ll_file_is(self->env.path, i * ll_pg, ll_pg,
				       0x40 + i));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* The process may go without a word. */
REVOKED_TEST(exit_without_dereg)
{
	ASSERT_REVOKE();
}

TEST_HARNESS_MAIN
