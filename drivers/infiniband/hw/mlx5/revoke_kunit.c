// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * How memory regions are taken from the device: the RDMA core, umr.c and mr.c, which
 * includes this, against a fake of the UMR queue.
 */
#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <kunit/test-bug.h>

#define REVOKE_KEY	0x1234ab
#define REVOKE_PDN	9

struct mlx5_revoke_test {
	struct mlx5_ib_dev *dev;
	struct mlx5_ib_mr *mr;
	struct ib_umem *umem;
	/* Of the fake: what posting says, and how many completions are flushed. */
	int answer;
	int flushed;
	int posted;
	u32 mkey;
	bool with_data;
	struct mlx5r_umr_wqe wqe;
};

static int mlx5_revoke_fake_post(struct ib_qp *ibqp, u32 mkey,
				 struct ib_cqe *cqe, struct mlx5r_umr_wqe *wqe,
				 bool with_data)
{
	struct mlx5_revoke_test *t = kunit_get_current_test()->priv;
	struct ib_wc wc = { .wr_cqe = cqe, .status = IB_WC_SUCCESS };

	t->posted++;
	t->mkey = mkey;
	t->with_data = with_data;
	t->wqe = *wqe;
	if (t->answer)
		return t->answer;
	if (t->flushed) {
		t->flushed--;
		wc.status = IB_WC_WR_FLUSH_ERR;
	}
	cqe->done(NULL, &wc);
	return 0;
}

/* What a layout change does. */
static int mlx5_revoke(struct mlx5_revoke_test *t)
{
	return ib_umem_revoke(t->umem);
}

static void mlx5_revoke_right_command(struct kunit *test)
{
	struct mlx5_revoke_test *t = test->priv;
	u64 mask;

	KUNIT_EXPECT_EQ(test, mlx5_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 1);
	KUNIT_EXPECT_EQ(test, t->mkey, REVOKE_KEY);
	KUNIT_EXPECT_FALSE(test, t->with_data);
	/* The mkey is free, and of a PD that user space does not have. */
	mask = be64_to_cpu(t->wqe.ctrl_seg.mkey_mask);
	KUNIT_EXPECT_TRUE(test, mask & MLX5_MKEY_MASK_FREE);
	KUNIT_EXPECT_TRUE(test, mask & MLX5_MKEY_MASK_PD);
	KUNIT_EXPECT_EQ(test, MLX5_GET(mkc, &t->wqe.mkey_seg, free), 1);
	KUNIT_EXPECT_EQ(test, MLX5_GET(mkc, &t->wqe.mkey_seg, pd), REVOKE_PDN);
	KUNIT_EXPECT_EQ(test, MLX5_GET(mkc, &t->wqe.mkey_seg, mkey_7_0),
			REVOKE_KEY & 0xff);
}

static void mlx5_revoke_once(struct kunit *test)
{
	struct mlx5_revoke_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, mlx5_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, mlx5_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 1);
}

static void mlx5_revoke_asked_again(struct kunit *test)
{
	struct mlx5_revoke_test *t = test->priv;

	t->answer = -ENOMEM;
	KUNIT_ASSERT_EQ(test, mlx5_revoke(t), -ENOMEM);
	KUNIT_ASSERT_EQ(test, mlx5_revoke(t), -ENOMEM);
	KUNIT_EXPECT_EQ(test, t->posted, 2);
	/* A deregistration goes no further, and the region can still be revoked. */
	KUNIT_EXPECT_EQ(test, __mlx5_ib_dereg_mr(&t->mr->ibmr), -ENOMEM);
	KUNIT_EXPECT_EQ(test, t->posted, 3);
	t->answer = 0;
	KUNIT_EXPECT_EQ(test, mlx5_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 4);
	t->answer = -ENOMEM;
	KUNIT_EXPECT_EQ(test, mlx5_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 4);
}

static void mlx5_revoke_posts_flushed_again(struct kunit *test)
{
	struct mlx5_revoke_test *t = test->priv;

	t->flushed = 2;
	KUNIT_EXPECT_EQ(test, mlx5_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 3);
}

static void mlx5_revoke_broken_queue(struct kunit *test)
{
	struct mlx5_revoke_test *t = test->priv;

	t->dev->umrc.state = MLX5_UMR_STATE_ERR;
	KUNIT_EXPECT_EQ(test, mlx5_revoke(t), -EFAULT);
	KUNIT_EXPECT_EQ(test, t->posted, 0);
	t->dev->umrc.state = MLX5_UMR_STATE_ACTIVE;
	KUNIT_EXPECT_EQ(test, mlx5_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 1);
}

/* It may still serve its peers: not stopped, whatever mlx5r_umr_revoke_mr() says. */
static void mlx5_revoke_internal_error(struct kunit *test)
{
	struct mlx5_revoke_test *t = test->priv;

	t->dev->mdev->state = MLX5_DEVICE_STATE_INTERNAL_ERROR;
	KUNIT_EXPECT_EQ(test, mlx5_revoke(t), -EIO);
	KUNIT_EXPECT_EQ(test, t->posted, 0);
	t->dev->mdev->state = MLX5_DEVICE_STATE_UP;
	KUNIT_EXPECT_EQ(test, mlx5_revoke(t), 0);
	KUNIT_EXPECT_EQ(test, t->posted, 1);
}

static int mlx5_revoke_init(struct kunit *test)
{
	struct mlx5_revoke_test *t;
	struct mlx5_core_dev *mdev;
	struct mlx5_ib_qp *qp;
	struct mlx5_ib_pd *pd;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	t->dev = kunit_kzalloc(test, sizeof(*t->dev), GFP_KERNEL);
	t->mr = kunit_kzalloc(test, sizeof(*t->mr), GFP_KERNEL);
	mdev = kunit_kzalloc(test, sizeof(*mdev), GFP_KERNEL);
	pd = kunit_kzalloc(test, sizeof(*pd), GFP_KERNEL);
	qp = kunit_kzalloc(test, sizeof(*qp), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->dev);
	KUNIT_ASSERT_NOT_NULL(test, t->mr);
	KUNIT_ASSERT_NOT_NULL(test, mdev);
	KUNIT_ASSERT_NOT_NULL(test, pd);
	KUNIT_ASSERT_NOT_NULL(test, qp);

	mdev->state = MLX5_DEVICE_STATE_UP;
	pd->pdn = REVOKE_PDN;
	qp->ibqp.device = &t->dev->ib_dev;
	t->dev->mdev = mdev;
	t->dev->umrc.pd = &pd->ibpd;
	t->dev->umrc.qp = &qp->ibqp;
	t->dev->umrc.state = MLX5_UMR_STATE_ACTIVE;
	sema_init(&t->dev->umrc.sem, 1);
	mutex_init(&t->dev->umrc.lock);
	t->mr->ibmr.device = &t->dev->ib_dev;
	t->mr->mmkey.key = REVOKE_KEY;

	t->umem = ib_umem_lease_kunit(&t->dev->ib_dev);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->umem);
	t->mr->umem = t->umem;
	ib_umem_set_revoke_locked(t->umem, &mlx5_ib_revoke_ops, &t->mr->ibmr);
	ib_umem_revoke_unlock(t->umem);

	test->priv = t;
	kunit_activate_static_stub(test, mlx5r_umr_post_send,
				   mlx5_revoke_fake_post);
	return 0;
}

static void mlx5_revoke_exit(struct kunit *test)
{
	struct mlx5_revoke_test *t = test->priv;

	if (!t)
		return;
	t->answer = 0;
	ib_umem_release(t->umem);
	mutex_destroy(&t->dev->umrc.lock);
}

static struct kunit_case mlx5_revoke_cases[] = {
	KUNIT_CASE(mlx5_revoke_right_command),
	KUNIT_CASE(mlx5_revoke_once),
	KUNIT_CASE(mlx5_revoke_asked_again),
	KUNIT_CASE(mlx5_revoke_posts_flushed_again),
	KUNIT_CASE(mlx5_revoke_broken_queue),
	KUNIT_CASE(mlx5_revoke_internal_error),
	{}
};

static struct kunit_suite mlx5_revoke_suite = {
	.name = "mlx5_revoke",
	.init = mlx5_revoke_init,
	.exit = mlx5_revoke_exit,
	.test_cases = mlx5_revoke_cases,
};
kunit_test_suite(mlx5_revoke_suite);
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
