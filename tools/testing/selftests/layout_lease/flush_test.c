// SPDX-License-Identifier: GPL-2.0
/*
 * RDMA FLUSH and ATOMIC WRITE on files in persistent memory. That a FLUSH
 * writes back the processor's cache cannot be seen on an emulated machine: what
 * is tested is who may, and that a revocation ends it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rdma/ib_user_verbs.h>

#include "layout_lease_setup.h"

#define LEN	(LL_PAGES * ll_pg)

#ifndef HAVE_FLUSH

TEST(flush)
{
	SKIP(return, "libibverbs is older than 47: no ibv_wr_flush()");
}

#else

#define FLUSH_ACCESS	(LL_ACCESS | IBV_ACCESS_FLUSH_GLOBAL | \
			 IBV_ACCESS_FLUSH_PERSISTENT)

FIXTURE(flush) {
	struct ll_env env;
	struct ll_rdma *r;
	struct held h;
	struct ibv_mr *mr;
};

/* The pairs once more, with the operations that only ibv_wr_*() starts. */
static int new_pairs(struct ll_rdma *r)
{
	struct ibv_qp_init_attr_ex init = {
		.cap = { 16, 16, 2, 2, 0 },
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
		.comp_mask = IBV_QP_INIT_ATTR_PD |
			     IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = r->pd,
		.send_ops_flags = IBV_QP_EX_WITH_RDMA_WRITE |
				  IBV_QP_EX_WITH_RDMA_READ |
				  IBV_QP_EX_WITH_FLUSH |
				  IBV_QP_EX_WITH_ATOMIC_WRITE,
	};
	int i;

	for (i = 0; i < 2; i++) {
		if (ibv_destroy_qp(r->qp[i]))
			return -EBUSY;
		init.send_cq = r->cq[i];
		init.recv_cq = r->cq[i];
		r->qp[i] = ibv_create_qp_ex(r->ctx, &init);
		if (!r->qp[i])
			return -errno;
	}
	r->qp_access |= IBV_ACCESS_FLUSH_GLOBAL | IBV_ACCESS_FLUSH_PERSISTENT;
	return ll_rdma_connect(r);
}

FIXTURE_SETUP(flush)
{
	struct ibv_device_attr_ex attr;
	int ret;

	LL_ENV_INIT(&self->env, true);
	self->r = &self->env.rdma;
	LL_ENV_SKIP_IF(&self->env,
		       ibv_query_device_ex(self->r->ctx, NULL, &attr) ||
		       !(attr.device_cap_flags_ex &
			 IB_UVERBS_DEVICE_FLUSH_PERSISTENT),
		       "the RDMA device has no FLUSH");
	ret = new_pairs(self->r) ?: ll_hold(&self->h, self->r, self->env.path, LEN);
	if (!ret) {
		EXPECT_EQ(0, ibv_dereg_mr(self->h.mr));
		self->mr = ll_reg(self->r, self->h.map, LEN, FLUSH_ACCESS);
		ret = self->mr ? 0 : -errno;
	}
	LL_ENV_ASSERT(&self->env, ret);
}

FIXTURE_TEARDOWN(flush)
{
	ll_env_exit(&self->env);
}

/* Status of the completion, or LL_TIMEOUT. */
static int finish(struct ll_rdma *r, struct ibv_qp_ex *qp)
{
	struct ibv_wc wc;

	if (ibv_wr_complete(qp))
		return LL_TIMEOUT;
	return ll_wait_wc(r, LL_A, LL_SOON_MS, &wc);
}

static int flush(struct ll_rdma *r, const void *raddr, uint32_t rkey,
		 size_t len, uint8_t type, uint8_t level)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(r->qp[LL_A]);

	ibv_wr_start(qp);
	ibv_wr_flush(qp, rkey, (uintptr_t)raddr, len, type, level);
	return finish(r, qp);
}

static int atomic_write(struct ll_rdma *r, const void *raddr, uint32_t rkey,
			uint64_t value)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(r->qp[LL_A]);

	ibv_wr_start(qp);
	ibv_wr_atomic_write(qp, rkey, (uintptr_t)raddr, &value);
	return finish(r, qp);
}

/* Parts, all of it, and nothing, after a write and after an atomic write. */
TEST_F_TIMEOUT(flush, leased_region, 240)
{
	uint64_t value = 0x0123456789abcdef;
	char *map = self->h.map;

	EXPECT_EQ(IBV_WC_SUCCESS,
		  ll_rdma_write(self->r, map + 5 * ll_pg, self->mr->rkey,
				2 * ll_pg, 0x5a));
	EXPECT_EQ(IBV_WC_SUCCESS,
		  flush(self->r, map + 5 * ll_pg + 100, self->mr->rkey, ll_pg,
			IBV_FLUSH_PERSISTENT, IBV_FLUSH_RANGE));
	EXPECT_EQ(IBV_WC_SUCCESS,
		  atomic_write(self->r, map + 9 * ll_pg, self->mr->rkey, value));
	EXPECT_EQ(IBV_WC_SUCCESS,
		  flush(self->r, 0, self->mr->rkey, 0,
			IBV_FLUSH_GLOBAL | IBV_FLUSH_PERSISTENT, IBV_FLUSH_MR));
	EXPECT_EQ(IBV_WC_SUCCESS,
		  flush(self->r, map, self->mr->rkey, 0, IBV_FLUSH_PERSISTENT,
			IBV_FLUSH_RANGE));
	EXPECT_TRUE(ll_file_is(self->env.path, 5 * ll_pg, 2 * ll_pg, 0x5a));
	EXPECT_EQ(0, memcmp(map + 9 * ll_pg, &value, sizeof(value)));

	/* Not beyond the region. */
	EXPECT_NE(IBV_WC_SUCCESS,
		  flush(self->r, map + LEN - ll_pg, self->mr->rkey, 2 * ll_pg,
			IBV_FLUSH_PERSISTENT, IBV_FLUSH_RANGE));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* Memory that is not persistent, and regions that did not ask. */
TEST_F_TIMEOUT(flush, only_persistent_memory, 240)
{
	struct ibv_mr *mr;
	char *anon = mmap(NULL, ll_pg, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, anon);
	EXPECT_EQ(EINVAL, ll_reg_errno(self->r, anon, ll_pg, FLUSH_ACCESS));
	mr = ll_reg(self->r, self->h.map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  flush(self->r, self->h.map, mr->rkey, ll_pg,
			IBV_FLUSH_PERSISTENT, IBV_FLUSH_RANGE));
	EXPECT_EQ(0, ibv_dereg_mr(mr));

	/* Where it is refused after it was pinned, nothing stays pinned. */
	ASSERT_EQ(0, ibv_dereg_mr(self->mr));
	ASSERT_EQ(0, ll_unlock(self->h.fd));
	EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_TRUNCATE, self->env.path,
			   0, 0, 0));
}

/* Neither operation reaches a file whose region was revoked. */
TEST_F_TIMEOUT(flush, revoked_region, 240)
{
	char *map = self->h.map;

	EXPECT_EQ(IBV_WC_SUCCESS,
		  flush(self->r, map, self->mr->rkey, LEN, IBV_FLUSH_PERSISTENT,
			IBV_FLUSH_RANGE));
	ASSERT_EQ(0, ll_revoke(self->h.fd));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  flush(self->r, map, self->mr->rkey, LEN, IBV_FLUSH_PERSISTENT,
			IBV_FLUSH_RANGE));
	ASSERT_EQ(0, ll_rdma_connect(self->r));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  atomic_write(self->r, map + 3 * ll_pg, self->mr->rkey, ~0ULL));
	ASSERT_EQ(0, ll_rdma_connect(self->r));
	EXPECT_TRUE(ll_file_is(self->env.path, 3 * ll_pg, ll_pg, 3));
	EXPECT_TRUE(ll_rkey_is_dead(self->r, map, self->mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/*
 * Flushes of all of the region and atomic writes, one after the other, while it
 * is revoked. None of them reaches the next owner of the blocks.
 */
TEST_F_TIMEOUT(flush, revoked_meanwhile, 240)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(self->r->qp[LL_A]);
	char victim[32];
	uint64_t value = ~0ULL;
	struct ibv_wc wc;
	int i, bad = 0;
	long size;

	ASSERT_EQ(0, ll_fill_up(getenv("DAX1"), 1 << 20));
	ll_set_grace(0);
	ibv_wr_start(qp);
	for (i = 0; i < 16; i++) {
		uintptr_t addr = (uintptr_t)self->h.map + i * ll_pg;

		if (i & 1)
			ibv_wr_atomic_write(qp, self->mr->rkey, addr, &value);
		else
			ibv_wr_flush(qp, self->mr->rkey,
				     (uintptr_t)self->h.map, LEN,
				     IBV_FLUSH_PERSISTENT, IBV_FLUSH_RANGE);
	}
	ASSERT_EQ(0, ibv_wr_complete(qp));
	EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_TRUNCATE, self->env.path,
			   0, 0, 0));
	size = ll_take_all(victim, getenv("DAX1"), 0x33);
	EXPECT_LE((long)LEN, size);
	for (i = 0; i < 16; i++) {
		int status = ll_wait_wc(self->r, LL_A, LL_SOON_MS, &wc);

		ASSERT_NE(LL_TIMEOUT, status);
		if (status != IBV_WC_SUCCESS)
			bad++;
		else
			EXPECT_EQ(0, bad);
	}
	EXPECT_TRUE(ll_file_is(victim, 0, size, 0x33));
	ASSERT_EQ(0, ll_rdma_connect(self->r));
	EXPECT_TRUE(ll_rkey_is_dead(self->r, self->h.map, self->mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

#endif /* HAVE_FLUSH */

TEST_HARNESS_MAIN
