// SPDX-License-Identifier: GPL-2.0
/*
 * There is a way back: an error of a registration tells what to do about it.
 * EAGAIN: the lease was recalled, ask for it again. ENODATA: the memory can only
 * be read, and has no blocks yet. EOPNOTSUPP, from which libraries fall back to
 * other ways for good, is kept for who has no lease.
 */
#include "layout_lease_change.h"
#include "layout_lease_fixture.h"

#define PAGE	4096LL
#define LEN	(LL_PAGES * PAGE)
#define PART	(16 * PAGE)

FIXTURE(recalled) {
	struct ll_env env;
	struct ll_proc changer;
	int fd;
	char *map;
};

FIXTURE_VARIANT(recalled) {
	struct ll_call call;
	bool xfs;
	bool again;		/* can be leased again */
};

#define ROW(name, on_xfs, can_be_leased, ...)				\
	FIXTURE_VARIANT_ADD(recalled, name)				\
		{ .xfs = on_xfs, .again = can_be_leased,		\
		  .call = { __VA_ARGS__ } }

ROW(truncate, false, true, ll_call_truncate, .len = PART);
ROW(punch, false, true, ll_call_fallocate, .mode = LL_PUNCH, .len = PART);
ROW(collapse, false, true, ll_call_fallocate,
    .mode = FALLOC_FL_COLLAPSE_RANGE, .len = PART);
ROW(clone_from, true, false, ll_call_clone);
ROW(clone_to, true, false, ll_call_clone, .to = true);
ROW(dedupe, true, false, ll_call_dedupe, .len = LEN);
ROW(exchange, true, true, ll_call_exchange, .len = LEN);

FIXTURE_SETUP(recalled)
{
	LL_NEEDS_XFS_IF(variant->xfs);
	LL_ENV_INIT(&self->env, true);
	ll_set_grace(1);
	ASSERT_EQ(0, ll_make(self->env.other, LL_PAGES, 0));
}

FIXTURE_TEARDOWN(recalled)
{
	ll_proc_stop(&self->changer);
	ll_env_exit(&self->env);
}

/* Nothing was attached, so that nobody waited, and the signal may be unread. */
TEST_F_TIMEOUT(recalled, registration, 240)
{
	struct ll_call call = variant->call;
	struct ll_rdma *r = &self->env.rdma;

	call.path = self->env.path;
	if (variant->xfs)
		call.other = self->env.other;
	ASSERT_EQ(0, ll_call_start(&self->changer, &call));
	self->fd = open(self->env.path, O_RDWR);
	self->map = ll_map(self->fd, 0, PAGE, PROT_READ | PROT_WRITE);
	ASSERT_EQ(EOPNOTSUPP, ll_reg_errno(r, self->map, PAGE, LL_ACCESS));
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_reg_errno(r, self->map, PAGE, LL_ACCESS));
	ASSERT_EQ(0, ll_call_go(&self->changer));
	EXPECT_DONE_SOON(&self->changer);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(self->fd));
	EXPECT_EQ(EAGAIN, ll_reg_errno(r, self->map, PAGE, LL_ACCESS));

	EXPECT_EQ(variant->again ? 0 : -EOPNOTSUPP,
		  ll_lease(self->fd, F_RDLCK, 0, 0));
	if (variant->again)
		EXPECT_EQ(0, ll_reg_errno(r, self->map, PAGE, LL_ACCESS));
	/* Who gave it up himself has none. */
	EXPECT_EQ(0, ll_unlock(self->fd));
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(r, self->map, PAGE, LL_ACCESS));
}

/* A part was recalled, and the region is on both. */
LL_TEST(registration_of_a_recalled_part)
{
	int fd = open(self->path, O_RDWR);
	char *map;

	ll_set_grace(1);
	ASSERT_EQ(0, ll_fill(fd, 4 * LL_PAGES, 0x20));
	ASSERT_EQ(0, ftruncate(fd, 4 << 20));
	map = ll_map(fd, 0, 4 << 20, PROT_READ | PROT_WRITE);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_PUNCH, self->path, 3 << 20,
			   PAGE, 0));
	EXPECT_EQ(0, ll_reg_errno(self->rdma, map, PAGE, LL_ACCESS));
	EXPECT_EQ(EAGAIN, ll_reg_errno(self->rdma, map + (3 << 20), PAGE,
				       LL_ACCESS));
	EXPECT_EQ(EAGAIN, ll_reg_errno(self->rdma, map, 4 << 20, LL_ACCESS));
	/* That there never was a lease is another thing. */
	EXPECT_EQ(0, ll_unlock(fd));
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 2 << 20));
	EXPECT_EQ(EPERM, ll_reg_errno(self->rdma, map, 4 << 20, LL_ACCESS));
}

/*
 * A mapping to read only, where there is nothing to read yet.
 */
FIXTURE(sparse) {
	struct ll_env env;
	int fd;
	char *map;
};

FIXTURE_VARIANT(sparse) {
	bool written, unwritten;	/* the page in question; else a hole */
	int flags;			/* of open */
	int prot, access;
	int error;
};

#define SPARSE(name, ...)						\
	FIXTURE_VARIANT_ADD(sparse, name) { __VA_ARGS__ }
#define READ_ONLY	O_RDONLY, PROT_READ, IBV_ACCESS_REMOTE_READ
#define READ_MAP	O_RDWR, PROT_READ, IBV_ACCESS_REMOTE_READ
#define WRITE_MAP	O_RDWR, PROT_READ | PROT_WRITE, IBV_ACCESS_REMOTE_READ

SPARSE(written_read_only, true, false, READ_ONLY, 0);
SPARSE(written_read_map, true, false, READ_MAP, 0);
SPARSE(unwritten_read_only, false, true, READ_ONLY, ENODATA);
SPARSE(unwritten_read_map, false, true, READ_MAP, ENODATA);
SPARSE(hole_read_only, false, false, READ_ONLY, ENODATA);
SPARSE(hole_read_map, false, false, READ_MAP, ENODATA);
/* These get blocks for the region. */
SPARSE(unwritten_write_map, false, true, WRITE_MAP, 0);
SPARSE(hole_write_map, false, false, WRITE_MAP, 0);

FIXTURE_SETUP(sparse)
{
	int fd;

	LL_ENV_INIT(&self->env, true);
	fd = open(self->env.path, O_RDWR);
	if (!variant->written)
		ASSERT_EQ(0, ll_punch(fd, PART, PAGE));
	if (variant->unwritten)
		ASSERT_EQ(0, fallocate(fd, 0, PART, PAGE));
	close(fd);
	self->fd = open(self->env.path, variant->flags);
	self->map = ll_map(self->fd, 0, LEN, variant->prot);
	ASSERT_NE(MAP_FAILED, self->map);
}

FIXTURE_TEARDOWN(sparse)
{
	ll_env_exit(&self->env);
}

TEST_F_TIMEOUT(sparse, registration, 240)
{
	struct ll_rdma *r = &self->env.rdma;

	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	EXPECT_EQ(variant->error,
		  ll_reg_errno(r, self->map, LEN, variant->access));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(self->fd));
	/* Before the hole, and when there is something to read. */
	EXPECT_EQ(0, ll_reg_errno(r, self->map, PART, variant->access));
	EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_WRITE, self->env.path,
			   PART, PAGE, 0x44));
	EXPECT_EQ(0, ll_reg_errno(r, self->map, LEN, variant->access));
}

TEST_HARNESS_MAIN
