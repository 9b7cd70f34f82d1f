// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * How memory regions are taken from the hardware: the RDMA core and verbs.c, which
 * includes this, against a fake of the control queue.
 */
#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <kunit/test-bug.h>

#define REVOKE_PD	7
#define REVOKE_MRS	64

struct irdma_revoke_test {
	struct irdma_pci_f *rf;
	struct irdma_mr *iwmr;
	struct ib_umem *umem;
	u32 stag_idx;
	/* Of the fake. */
	int answer;
	int posted;
	struct cqp_cmds_info last;
	int resets;
};

static int irdma_revoke_fake_cqp_op(struct irdma_pci_f *rf,
				    struct irdma_cqp_request *cqp_request)
{
	struct irdma_revoke_test *t = kunit_get_current_test()->priv;

	t->posted++;
	t->last = cqp_request->info;
	return t->answer;
}

static void irdma_revoke_fake_reset(struct irdma_pci_f *rf)
{
	struct irdma_revoke_test *t = kunit_get_current_test()->priv;

	t->resets++;
}

static bool irdma_revoke_stag_is_taken(struct irdma_revoke_test *t)
{
	return test_bit(t->stag_idx, t->rf->allocated_mrs);
}

/* What a layout change does. */
static int irdma_revoke(struct irdma_revoke_test *t)
{
	return ib_umem_revoke(t->umem);
}

/* What ibv_dereg_mr() does. If it succeeds the memory region is gone. */
static int irdma_revoke_dereg(struct irdma_revoke_test *t)
{
	int err = irdma_dereg_mr(&t->iwmr->ibmr, NULL);

	if (!err)
		t->iwmr = NULL;
	return err;
}

static void irdma_revoke_right_command(struct kunit *test)
{
	struct irdma_revoke_test *t = test->priv;
	struct irdma_dealloc_stag_info *info;

	KUNIT_EXPECT_EQ(test, irdma_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 1);
	KUNIT_EXPECT_EQ(test, t->last.cqp_cmd, IRDMA_OP_DEALLOC_STAG);
	KUNIT_EXPECT_EQ(test, t->last.post_sq, 1);
	info = &t->last.in.u.dealloc_stag.info;
	KUNIT_EXPECT_EQ(test, info->stag_idx, t->stag_idx);
	KUNIT_EXPECT_EQ(test, info->pd_id, REVOKE_PD);
	KUNIT_EXPECT_TRUE(test, info->mr);
	KUNIT_EXPECT_FALSE(test, info->dealloc_pbl);
}

static void irdma_revoke_once(struct kunit *test)
{
	struct irdma_revoke_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, irdma_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, irdma_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 1);
	/* Nobody else gets it while a peer may know it. */
	KUNIT_EXPECT_TRUE(test, irdma_revoke_stag_is_taken(t));
	KUNIT_EXPECT_EQ(test, irdma_revoke_dereg(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 1);
	KUNIT_EXPECT_FALSE(test, irdma_revoke_stag_is_taken(t));
}

static void irdma_revoke_by_dereg(struct kunit *test)
{
	struct irdma_revoke_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, irdma_revoke_dereg(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 1);
	KUNIT_EXPECT_EQ(test, t->last.cqp_cmd, IRDMA_OP_DEALLOC_STAG);
	KUNIT_EXPECT_FALSE(test, irdma_revoke_stag_is_taken(t));
}

static void irdma_revoke_asked_again(struct kunit *test)
{
	struct irdma_revoke_test *t = test->priv;

	t->answer = -EIO;
	KUNIT_EXPECT_EQ(test, irdma_revoke(t), -EIO);
	KUNIT_EXPECT_EQ(test, t->posted, 1);
	t->answer = -EBUSY;
	KUNIT_EXPECT_EQ(test, irdma_revoke(t), -EBUSY);
	KUNIT_EXPECT_EQ(test, t->posted, 2);
	/* The region stays, with its stag, and can still be revoked. */
	KUNIT_ASSERT_EQ(test, irdma_revoke_dereg(t), -EBUSY);
	KUNIT_EXPECT_EQ(test, t->posted, 3);
	KUNIT_EXPECT_TRUE(test, irdma_revoke_stag_is_taken(t));
	t->answer = 0;
	KUNIT_EXPECT_EQ(test, irdma_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 4);
	/* And not any more when it was. */
	t->answer = -EIO;
	KUNIT_EXPECT_EQ(test, irdma_revoke_dereg(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 4);
	KUNIT_EXPECT_EQ(test, t->resets, 0);
}

static void irdma_revoke_resets_for_dmabuf(struct kunit *test)
{
	struct irdma_revoke_test *t = test->priv;

	t->answer = -EIO;
	t->umem->is_dmabuf = 1;
	KUNIT_EXPECT_EQ(test, irdma_revoke_finish(&t->iwmr->ibmr), -EIO);
	KUNIT_EXPECT_EQ(test, t->resets, 1);
	KUNIT_EXPECT_EQ(test, irdma_revoke_finish(&t->iwmr->ibmr), -EIO);
	KUNIT_EXPECT_EQ(test, t->resets, 1);
	t->umem->is_dmabuf = 0;
}

static int irdma_revoke_init(struct kunit *test)
{
	struct irdma_revoke_test *t;
	struct irdma_device *iwdev;
	struct irdma_pd *iwpd;
	u32 stag;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	t->rf = kunit_kzalloc(test, sizeof(*t->rf), GFP_KERNEL);
	iwdev = kunit_kzalloc(test, sizeof(*iwdev), GFP_KERNEL);
	iwpd = kunit_kzalloc(test, sizeof(*iwpd), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->rf);
	KUNIT_ASSERT_NOT_NULL(test, iwdev);
	KUNIT_ASSERT_NOT_NULL(test, iwpd);

	t->rf->iwdev = iwdev;
	iwdev->rf = t->rf;
	spin_lock_init(&t->rf->cqp.req_lock);
	INIT_LIST_HEAD(&t->rf->cqp.cqp_avail_reqs);
	init_waitqueue_head(&t->rf->cqp.remove_wq);
	t->rf->gen_ops.request_reset = irdma_revoke_fake_reset;
	spin_lock_init(&t->rf->rsrc_lock);
	t->rf->max_mr = REVOKE_MRS;
	t->rf->mr_stagmask = (REVOKE_MRS - 1) << IRDMA_CQPSQ_STAG_IDX_S;
	t->rf->allocated_mrs = kunit_kcalloc(test, BITS_TO_LONGS(REVOKE_MRS),
					     sizeof(long), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->rf->allocated_mrs);
	iwpd->sc_pd.pd_id = REVOKE_PD;

	t->stag_idx = 5;
	__set_bit(t->stag_idx, t->rf->allocated_mrs);
	stag = t->stag_idx << IRDMA_CQPSQ_STAG_IDX_S | 0x42;

	t->umem = ib_umem_lease_kunit(&iwdev->ibdev);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->umem);
	/* Freed by irdma_dereg_mr(). */
	t->iwmr = kzalloc_obj(*t->iwmr);
	KUNIT_ASSERT_NOT_NULL(test, t->iwmr);
	t->iwmr->ibmr.device = &iwdev->ibdev;
	t->iwmr->ibmr.pd = &iwpd->ibpd;
	t->iwmr->ibmr.rkey = stag;
	t->iwmr->stag = stag;
	t->iwmr->type = IRDMA_MEMREG_TYPE_MEM;
	t->iwmr->region = t->umem;
	t->iwmr->is_hwreg = true;
	ib_umem_set_revoke_locked(t->umem, &irdma_revoke_ops,
				  &t->iwmr->ibmr);
	ib_umem_revoke_unlock(t->umem);

	test->priv = t;
	kunit_activate_static_stub(test, irdma_handle_cqp_op,
				   irdma_revoke_fake_cqp_op);
	return 0;
}

static void irdma_revoke_exit(struct kunit *test)
{
	struct irdma_revoke_test *t = test->priv;

	if (!t || !t->iwmr)
		return;
	t->answer = 0;
	KUNIT_EXPECT_EQ(test, irdma_revoke_dereg(t), 0);
}

static struct kunit_case irdma_revoke_cases[] = {
	KUNIT_CASE(irdma_revoke_right_command),
	KUNIT_CASE(irdma_revoke_once),
	KUNIT_CASE(irdma_revoke_by_dereg),
	KUNIT_CASE(irdma_revoke_asked_again),
	KUNIT_CASE(irdma_revoke_resets_for_dmabuf),
	{}
};

static struct kunit_suite irdma_revoke_suite = {
	.name = "irdma_revoke",
	.init = irdma_revoke_init,
	.exit = irdma_revoke_exit,
	.test_cases = irdma_revoke_cases,
};
kunit_test_suite(irdma_revoke_suite);
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
