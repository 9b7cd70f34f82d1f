// SPDX-License-Identifier: GPL-2.0
/*
 * Layout leases beside what was there before: plain leases and locks, reads
 * and writes, other memory regions, and reflink, which excludes them.
 */
#include "layout_lease_fixture.h"

#define LEN	(16 * ll_pg)

static int hold(struct held *h, struct ll_env *env, const char *path)
{
	return ll_hold(h, &env->rdma, path, LEN);
}

static void plain_and_layout(struct __test_metadata *_metadata, int fd,
			     int type)
{
	/* The plain one first ... */
	ASSERT_EQ(0, fcntl(fd, F_SETLEASE, type));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(type, fcntl(fd, F_GETLEASE));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
	EXPECT_EQ(0, ll_unlock(fd));
	EXPECT_EQ(type, fcntl(fd, F_GETLEASE));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
	EXPECT_EQ(0, fcntl(fd, F_SETLEASE, F_UNLCK));
	EXPECT_EQ(F_UNLCK, fcntl(fd, F_GETLEASE));

	/* ... and the layout lease first. */
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(F_UNLCK, fcntl(fd, F_GETLEASE));
	ASSERT_EQ(0, fcntl(fd, F_SETLEASE, type));
	EXPECT_EQ(type, fcntl(fd, F_GETLEASE));
	EXPECT_EQ(0, fcntl(fd, F_SETLEASE, F_UNLCK));
	EXPECT_EQ(F_UNLCK, fcntl(fd, F_GETLEASE));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
	EXPECT_EQ(0, ll_unlock(fd));
}

LL_TEST(plain_read_lease)
{
	plain_and_layout(_metadata, open(self->path, O_RDONLY), F_RDLCK);
}

LL_TEST(plain_write_lease)
{
	plain_and_layout(_metadata, open(self->path, O_RDWR), F_WRLCK);
}

LL_TEST(plain_signal_after_layout_release)
{
	int fd = open(self->path, O_RDWR);
	struct ll_result res = {};
	siginfo_t info;

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, fcntl(fd, F_SETLEASE, F_WRLCK));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_unlock(fd));
	EXPECT_EQ(SIGRTMIN, fcntl(fd, F_GETSIG));
	ll_send(self->helper, LL_OP_OPEN_WRITE, self->path, 0, 0, 0);
	ASSERT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, &info));
	EXPECT_EQ(fd, info.si_fd);
	EXPECT_EQ(0, fcntl(fd, F_SETLEASE, F_UNLCK));
	ASSERT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
}

LL_TEST(layout_signal_after_plain_release)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, fcntl(fd, F_SETLEASE, F_WRLCK));
	ASSERT_EQ(0, fcntl(fd, F_SETLEASE, F_UNLCK));
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	/* Releasing the plain lease did not reset F_SETSIG. */
	EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(fd));

	/* F_SETSIG once more, and the next signal has that number. */
	ASSERT_EQ(0, ll_fill(fd, LL_PAGES, 0));
	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
}

/* A truncate breaks both, each is told and let go on its own. */
LL_TEST(both_broken)
{
	struct ll_result res = {};
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env, self->path));
	ASSERT_EQ(0, munmap(h.map, LEN));
	ASSERT_EQ(0, fcntl(h.fd, F_SETLEASE, F_WRLCK));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	EXPECT_EQ(F_UNLCK, fcntl(h.fd, F_GETLEASE));
	EXPECT_EQ(0, fcntl(h.fd, F_SETLEASE, F_UNLCK));
	/* Releasing the plain lease did not reset F_SETSIG. */
	EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(h.fd));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ASSERT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
}

LL_TEST(record_locks)
{
	struct flock lock = { .l_type = F_WRLCK, .l_len = 10 };
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, fcntl(fd, F_SETLK, &lock));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
	EXPECT_EQ(0, ll_unlock(fd));
	lock.l_type = F_UNLCK;
	EXPECT_EQ(0, fcntl(fd, F_SETLK, &lock));
}

LL_TEST(write_in_place)
{
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env, self->path));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_WRITE, self->path, 0, 4 * ll_pg,
			   0x31));
	ASSERT_EQ(ll_pg, pwrite(h.fd, self->rdma->buf, ll_pg, 5 * ll_pg));
	h.map[6 * ll_pg] = 0x32;
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(h.fd));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_read(self->rdma, h.map, h.mr->rkey,
					       8));
	EXPECT_EQ(0x31, self->rdma->buf[0]);
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_read(self->rdma, h.map + 6 * ll_pg,
					       h.mr->rkey, 8));
	EXPECT_EQ(0x32, self->rdma->buf[0]);
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, h.map, h.mr->rkey,
						ll_pg, 0x33));
	EXPECT_TRUE(ll_file_is(self->path, 0, ll_pg, 0x33));
	EXPECT_EQ(0, fsync(h.fd));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, h.map, h.mr->rkey,
						ll_pg, 0x34));
	EXPECT_TRUE(ll_file_is(self->path, 0, ll_pg, 0x34));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* Regions that have nothing to do with leases. */
LL_TEST(anonymous_region)
{
	struct ll_rdma *r = self->rdma;
	struct ibv_mr *mr;
	struct held h;
	char *anon;

	ASSERT_EQ(0, hold(&h, &self->env, self->path));
	anon = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, anon);
	mr = ll_reg(r, anon, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(r, anon, mr->rkey, LEN, 1));
	EXPECT_EQ(0, ll_revoke(h.fd));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(r, anon, mr->rkey, LEN, 2));
	EXPECT_EQ(2, anon[LEN - 1]);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* On-demand paging needs no lease, and a lease does not change it. */
LL_TEST(on_demand_region)
{
	struct ibv_device_attr_ex attr = {};
	struct ll_result res = {};
	struct ibv_mr *mr;
	struct held h;
	char *map;
	int fd;

	if (ibv_query_device_ex(self->rdma->ctx, NULL, &attr) ||
	    !(attr.odp_caps.general_caps & IBV_ODP_SUPPORT))
		SKIP(return, "the device has no on-demand paging");
	fd = open(self->path, O_RDWR);
	map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
	mr = ll_reg(self->rdma, map, LEN, IBV_ACCESS_ON_DEMAND |
		    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		    IBV_ACCESS_REMOTE_READ);
	ASSERT_NE(NULL, mr) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, map, mr->rkey, 64,
						0x61));
	EXPECT_TRUE(ll_file_is(self->path, 0, 64, 0x61));

	ASSERT_EQ(0, hold(&h, &self->env, self->path));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, map, mr->rkey, 64,
						0x62));
	EXPECT_TRUE(ll_file_is(self->path, 0, 64, 0x62));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	/* It is not attached. */
	EXPECT_EQ(0, ll_unlock(h.fd));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	ASSERT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	EXPECT_NE(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, map, mr->rkey, 64,
						0x63));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/*
 * Reflink. On an inode that ever shared blocks any write may move any block
 * without a break, so no lease is granted there.
 */
FIXTURE(reflink) {
	struct ll_env env;
	struct ll_proc *helper;
	struct ll_rdma *rdma;
	char *path;
};

FIXTURE_SETUP(reflink)
{
	char probe[PATH_MAX], to[PATH_MAX + 8];
	int ret;

	LL_ENV_INIT(&self->env, true);
	self->helper = &self->env.helper;
	self->rdma = &self->env.rdma;
	self->path = self->env.path;

	ret = ll_mkfile(probe, sizeof(probe), getenv("DAX1"), 1, 0);
	if (!ret) {
		snprintf(to, sizeof(to), "%s.copy", probe);
		ret = ll_clone(probe, to, 0, 0);
		unlink(to);
		unlink(probe);
	}
	LL_ENV_SKIP_IF(&self->env, ret, "no reflink on DAX1: %s",
		       strerror(-ret));
}

FIXTURE_TEARDOWN(reflink)
{
	ll_env_exit(&self->env);
}

#define REFLINK_TEST(name)	TEST_F_TIMEOUT(reflink, name, 240)

/* records: how many open files still show a lease that was taken back. */
static void expect_refused(struct __test_metadata *_metadata,
			   struct ll_rdma *rdma, const char *path, int records)
{
	int fd = open(path, O_RDWR);
	char *map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);

	EXPECT_EQ(-EOPNOTSUPP, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(-EOPNOTSUPP, ll_lease(fd, F_WRLCK, 8 * ll_pg, ll_pg));
	EXPECT_EQ(-1, fcntl(fd, F_SETLEASE, F_LAYOUT | F_RDLCK));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(records ? EAGAIN : EOPNOTSUPP,
		  ll_reg_errno(rdma, map, LEN, LL_ACCESS));
	EXPECT_EQ(records, ll_proc_locks(fd));
	munmap(map, LEN);
	close(fd);
}

REFLINK_TEST(no_lease_on_shared_files)
{
	ASSERT_EQ(0, ll_clone(self->path, self->env.other, 0, 0));
	expect_refused(_metadata, self->rdma, self->path, 0);
	expect_refused(_metadata, self->rdma, self->env.other, 0);
}

/* One shared block is enough: its neighbours may move too. */
REFLINK_TEST(no_lease_beside_a_shared_block)
{
	ASSERT_EQ(0, ll_clone(self->path, self->env.other, 0, ll_pg));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_WRITE, self->path, 0, ll_pg, 1));
	expect_refused(_metadata, self->rdma, self->path, 0);
}

/*
 * The way back is one command: also for a file that is dirty, since it was
 * written to through a mapping before and after the clone.
 */
static void unshare_all(struct __test_metadata *_metadata, struct ll_env *env,
			const char *path)
{
	struct held h;
	int fd = open(path, O_RDWR);
	char *map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);

	ASSERT_NE(MAP_FAILED, map);
	map[ll_pg] = 0x61;
	EXPECT_EQ(-EOPNOTSUPP, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, fallocate(fd, FALLOC_FL_UNSHARE_RANGE, 0,
			       LL_PAGES * ll_pg));
	EXPECT_EQ(0x61, map[ll_pg]);
	EXPECT_EQ(2, map[2 * ll_pg]);
	ASSERT_EQ(0, munmap(map, LEN));
	ASSERT_EQ(0, close(fd));

	ASSERT_EQ(0, hold(&h, env, path));
	EXPECT_TRUE(ll_mr_works(&env->rdma, h.mr));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_unlock(h.fd));
	munmap(h.map, LEN);
	close(h.fd);
}

REFLINK_TEST(one_unshare_is_the_way_back)
{
	int fd = open(self->path, O_RDWR);
	char *map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);

	ASSERT_NE(MAP_FAILED, map);
	map[3 * ll_pg] = 0x60;
	ASSERT_EQ(0, ll_clone(self->path, self->env.other, 0, 0));
	unshare_all(_metadata, &self->env, self->path);
	unshare_all(_metadata, &self->env, self->env.other);
	EXPECT_EQ(0x60, map[3 * ll_pg]);
	munmap(map, LEN);
	close(fd);
}

static void clone_breaks(struct __test_metadata *_metadata, struct ll_env *env,
			 const char *from, const char *to, const char *leased)
{
	struct ll_result res = {};
	struct held h;

	ASSERT_EQ(0, hold(&h, env, leased));
	ll_send2(&env->helper, LL_OP_CLONE, from, to, 0, ll_pg);
	ASSERT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	EXPECT_EQ(-ETIME, ll_done(&env->helper, 300, &res));
	EXPECT_EQ(-EAGAIN, ll_lease(h.fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ASSERT_EQ(0, ll_done(&env->helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h.fd));
	EXPECT_EQ(-EOPNOTSUPP, ll_lease(h.fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ll_unlock(h.fd));
	expect_refused(_metadata, &env->rdma, leased, 0);
}

REFLINK_TEST(clone_breaks_the_source)
{
	clone_breaks(_metadata, &self->env, self->path, self->env.other,
		     self->path);
}

REFLINK_TEST(clone_breaks_the_destination)
{
	int fd = open(self->env.other, O_RDWR | O_CREAT, 0600);

	ASSERT_EQ(0, ll_fill(fd, LL_PAGES, 0));
	close(fd);
	clone_breaks(_metadata, &self->env, self->path, self->env.other,
		     self->env.other);
}

REFLINK_TEST(own_clone)
{
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env, self->path));
	ASSERT_EQ(0, ll_clone(self->path, self->env.other, 0, 0));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_unlock(h.fd));
	expect_refused(_metadata, self->rdma, self->path, 0);
}

/*
 * How a pin without a lease corrupted another file: page 0 is shared, page 8 is
 * not and has a region. Writing page 0 stages blocks all around it, writing
 * page 8 moves it, its old block goes to a new file, the region writes there.
 */
REFLINK_TEST(no_corruption_of_other_files)
{
	char victim[PATH_MAX];
	struct ll_result res = {};
	struct held h;
	unsigned int i;
	int fd;

	ASSERT_EQ(0, hold(&h, &self->env, self->path));
	ll_set_grace(1);
	ll_send2(self->helper, LL_OP_CLONE, self->path, self->env.other, 0,
		 ll_pg);
	ASSERT_EQ(0, ll_done(self->helper, 1000 + 2 * LL_SLACK_MS, &res));
	ASSERT_EQ(0, res.ret);
	expect_refused(_metadata, self->rdma, self->path, 1);

	ASSERT_EQ(0, ll_do(self->helper, LL_OP_WRITE, self->path, 0, ll_pg,
			   0x10));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_WRITE, self->path, 8 * ll_pg,
			   ll_pg, 0x18));
	h.map[9 * ll_pg] = 0x19;
	sync();
	ASSERT_EQ(0, ll_mkfile(victim, sizeof(victim), getenv("DAX1"),
			       2 * LL_PAGES, 0x80));
	fd = open(victim, O_RDONLY);
	unlink(victim);
	snprintf(victim, sizeof(victim), "/proc/self/fd/%d", fd);
	for (i = 0; i < LEN / ll_pg; i += 4) {
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
			  ll_rdma_write(self->rdma, h.map + i * ll_pg,
					h.mr->rkey, ll_pg, 0xcc));
		EXPECT_EQ(0, ll_rdma_connect(self->rdma));
	}
	for (i = 0; i < 2 * LL_PAGES; i++)
		EXPECT_TRUE(ll_file_is(victim, i * ll_pg, ll_pg, 0x80 + i));
	EXPECT_TRUE(ll_file_is(self->path, 8 * ll_pg, ll_pg, 0x18));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

TEST_HARNESS_MAIN
