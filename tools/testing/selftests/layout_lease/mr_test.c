// SPDX-License-Identifier: GPL-2.0
/*
 * Memory regions on leased files: which registrations succeed, that the data
 * arrives in the file, and which ones are refused with what.
 */
#include <pthread.h>

#include "layout_lease_fixture.h"

#define LEN	(8 * ll_pg)

/* A mapping of the first pages of the test file; *fd stays open. */
static char *map_file(const char *path, int *fd)
{
	*fd = open(path, O_RDWR);
	return ll_map(*fd, 0, LL_PAGES * ll_pg, PROT_READ | PROT_WRITE);
}

LL_TEST(no_lease)
{
	char *map, *ro;
	int fd;

	map = map_file(self->path, &fd);
	ASSERT_NE(MAP_FAILED, map);
	ro = ll_map(fd, 0, LEN, PROT_READ);
	ASSERT_NE(MAP_FAILED, ro);
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, map, LEN,
					   IBV_ACCESS_REMOTE_READ));
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, ro, LEN,
					   IBV_ACCESS_REMOTE_READ));
}

LL_TEST(lease_of_another_process)
{
	char *map;
	int fd;

	map = map_file(self->path, &fd);
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_LEASE, self->path, 0, 0,
			   F_RDLCK));
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
}

LL_TEST(lease_of_another_file)
{
	char path[PATH_MAX], *map;
	int fd, fd2;

	map = map_file(self->path, &fd);
	ASSERT_EQ(0, ll_mkfile(path, sizeof(path), getenv("DAX1"), 4, 0));
	fd2 = open(path, O_RDWR);
	unlink(path);
	ASSERT_EQ(0, ll_lease(fd2, F_RDLCK, 0, 0));
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
}

LL_TEST(write_and_read)
{
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));

	/* Into the file, as read(2) sees it. */
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, h.map + ll_pg,
						h.mr->rkey, 2 * ll_pg, 0xa5));
	EXPECT_TRUE(ll_file_is(self->path, ll_pg, 2 * ll_pg, 0xa5));
	EXPECT_TRUE(ll_file_is(self->path, 0, ll_pg, 0));
	EXPECT_TRUE(ll_file_is(self->path, 3 * ll_pg, ll_pg, 3));
	EXPECT_EQ(0xa5, (unsigned char)h.map[ll_pg]);

	/* Out of the file, as write(2) left it. */
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_WRITE, self->path, 4 * ll_pg,
			   ll_pg, 0x77));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_read(self->rdma, h.map + 4 * ll_pg,
					       h.mr->rkey, ll_pg));
	EXPECT_EQ(0x77, self->rdma->buf[0]);
	EXPECT_EQ(0x77, self->rdma->buf[ll_pg - 1]);

	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_unlock(h.fd));
}

LL_TEST(atomic)
{
	struct held h;

	if (!self->rdma->atomics)
		SKIP(return, "the device has no atomic operations");
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	EXPECT_EQ(IBV_WC_SUCCESS,
		  ll_rdma_op(self->rdma, LL_A, IBV_WR_ATOMIC_FETCH_AND_ADD,
			     self->rdma->buf, self->rdma->buf_mr->lkey, 8, h.map,
			     h.mr->rkey));
	EXPECT_EQ(1, ll_file_byte(self->path, 0));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* Source of a write and sink of a read. */
LL_TEST(local_access)
{
	struct ll_rdma *r = self->rdma;
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, r, self->path, LEN));
	EXPECT_EQ(IBV_WC_SUCCESS,
		  ll_rdma_op(r, LL_B, IBV_WR_RDMA_WRITE, h.map + 5 * ll_pg,
			     h.mr->lkey, ll_pg, r->buf, r->buf_mr->rkey));
	EXPECT_EQ(5, r->buf[0]);
	memset(r->buf, 0x3c, ll_pg);
	EXPECT_EQ(IBV_WC_SUCCESS,
		  ll_rdma_op(r, LL_B, IBV_WR_RDMA_READ, h.map + 6 * ll_pg,
			     h.mr->lkey, ll_pg, r->buf, r->buf_mr->rkey));
	EXPECT_TRUE(ll_file_is(self->path, 6 * ll_pg, ll_pg, 0x3c));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* Longer than any batch, and each end of it. */
LL_TEST(large)
{
	size_t pages = 1200;
	struct ibv_mr *mr;
	char *map;
	int fd;

	fd = open(self->path, O_RDWR);
	ASSERT_EQ(0, ll_fill(fd, pages, 0));
	map = ll_map(fd, 0, pages * ll_pg, PROT_READ | PROT_WRITE);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, pages * ll_pg));
	mr = ll_reg(self->rdma, map, pages * ll_pg, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, map, mr->rkey,
						ll_pg, 0x11));
	EXPECT_EQ(IBV_WC_SUCCESS,
		  ll_rdma_write(self->rdma, map + (pages - 1) * ll_pg, mr->rkey,
				ll_pg, 0x22));
	EXPECT_TRUE(ll_file_is(self->path, 0, ll_pg, 0x11));
	EXPECT_TRUE(ll_file_is(self->path, (pages - 1) * ll_pg, ll_pg, 0x22));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ll_unlock(fd));
}

/* Any lease of the process on the file will do. */
LL_TEST(lease_through_another_open_file)
{
	struct ibv_mr *mr;
	char *map;
	int fd, fd2;

	map = map_file(self->path, &fd);
	fd2 = open(self->path, O_RDWR);
	ASSERT_EQ(0, ll_lease(fd2, F_RDLCK, 0, 0));
	mr = ll_reg(self->rdma, map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(-EBUSY, ll_unlock(fd2));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ll_unlock(fd2));
}

/*
 * The region keeps the open file of its lease, which has to be one that keeps
 * the mount writable if a peer may write.
 */
LL_TEST(lease_through_a_file_for_reading)
{
	struct ibv_mr *mr;
	char *map;
	int fd, fd2;

	map = map_file(self->path, &fd);
	fd2 = open(self->path, O_RDONLY);
	ASSERT_EQ(0, ll_lease(fd2, F_RDLCK, 0, 0));
	EXPECT_EQ(EACCES, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
	EXPECT_EQ(EACCES, ll_reg_errno(self->rdma, map, LEN,
				       IBV_ACCESS_LOCAL_WRITE));
	mr = ll_reg(self->rdma, map, LEN, IBV_ACCESS_REMOTE_READ);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, ibv_dereg_mr(mr));

	/* Any of the files that are leased will do. */
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	mr = ll_reg(self->rdma, map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, ll_unlock(fd2));
	EXPECT_EQ(-EBUSY, ll_unlock(fd));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ll_unlock(fd));
}

LL_TEST(half_covered)
{
	struct ibv_mr *mr;
	char *map;
	int fd;

	map = map_file(self->path, &fd);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, LEN / 2));
	EXPECT_EQ(EPERM, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
	EXPECT_EQ(EPERM, ll_reg_errno(self->rdma, map + LEN / 2, LEN / 2,
				      LL_ACCESS));
	EXPECT_EQ(EPERM, ll_reg_errno(self->rdma, map + LEN / 2 - 8, 16,
				      LL_ACCESS));

	/* What is covered is fine, and nothing sticks from the attempts. */
	mr = ll_reg(self->rdma, map, LEN / 2, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ll_unlock(fd));
}

/* Adjacent leases count together, of either kind; a gap does not. */
LL_TEST(adjacent_leases)
{
	struct ibv_mr *mr;
	char *map;
	int fd;

	map = map_file(self->path, &fd);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 3 * ll_pg));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 4 * ll_pg, 0));
	EXPECT_EQ(EPERM, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 3 * ll_pg, ll_pg));
	mr = ll_reg(self->rdma, map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, map, mr->rkey, LEN,
						0x66));
	EXPECT_TRUE(ll_file_is(self->path, 0, LEN, 0x66));

	/* None of them can go, what is beyond the region can. */
	EXPECT_EQ(-EBUSY, ll_setlayout(fd, F_UNLCK, 0, ll_pg, 0));
	EXPECT_EQ(-EBUSY, ll_setlayout(fd, F_UNLCK, 3 * ll_pg, ll_pg, 0));
	EXPECT_EQ(-EBUSY, ll_unlock(fd));
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, LEN, 0, 0));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ll_unlock(fd));
}

LL_TEST(unlock_with_mr)
{
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	EXPECT_EQ(-EBUSY, ll_unlock(h.fd));
	EXPECT_EQ(-1, fcntl(h.fd, F_SETLEASE, F_LAYOUT | F_UNLCK));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(h.fd));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, h.map, h.mr->rkey, 8,
						1));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_unlock(h.fd));
}

LL_TEST(registered_again)
{
	struct ibv_mr *mr;
	char *map;
	int fd, i;

	map = map_file(self->path, &fd);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
		mr = ll_reg(self->rdma, map, LEN, LL_ACCESS);
		ASSERT_NE(NULL, mr);
		EXPECT_EQ(IBV_WC_SUCCESS,
			  ll_rdma_write(self->rdma, map, mr->rkey, 8, i));
		EXPECT_EQ(i, ll_file_byte(self->path, 0));
		EXPECT_EQ(0, ibv_dereg_mr(mr));
		ASSERT_EQ(0, ll_unlock(fd));
		EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, map, LEN,
						   LL_ACCESS));
	}
}

/* A lease that was taken back covers nothing. */
LL_TEST(revoked_lease)
{
	char *map;
	int fd;

	map = map_file(self->path, &fd);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_PUNCH, self->path, 0, ll_pg, 0));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(fd));
	EXPECT_EQ(EAGAIN, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
}

LL_TEST(two_regions)
{
	struct ibv_mr *mr[2];
	char *map;
	int fd;

	map = map_file(self->path, &fd);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	mr[0] = ll_reg(self->rdma, map, LEN, LL_ACCESS);
	mr[1] = ll_reg(self->rdma, map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr[0]);
	ASSERT_NE(NULL, mr[1]);
	EXPECT_EQ(0, ibv_dereg_mr(mr[0]));
	EXPECT_EQ(-EBUSY, ll_unlock(fd));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, map, mr[1]->rkey,
						8, 0x42));
	EXPECT_EQ(0, ibv_dereg_mr(mr[1]));
	EXPECT_EQ(0, ll_unlock(fd));
}

/* One region over two files, anonymous memory, and pages out of order. */
LL_TEST(pieces)
{
	char path[PATH_MAX], *area;
	struct ibv_mr *mr;
	int fd, fd2;

	ASSERT_EQ(0, ll_mkfile(path, sizeof(path), getenv("DAX1"), 8, 0));
	fd = open(self->path, O_RDWR);
	fd2 = open(path, O_RDWR);
	unlink(path);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd2);
	area = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, area);
	/* file page 5, file page 1, anonymous, two pages of the other file */
	mmap(area, ll_pg, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
	     5 * ll_pg);
	mmap(area + ll_pg, ll_pg, PROT_READ | PROT_WRITE,
	     MAP_SHARED | MAP_FIXED, fd, ll_pg);
	mmap(area + 3 * ll_pg, 2 * ll_pg, PROT_READ | PROT_WRITE,
	     MAP_SHARED | MAP_FIXED, fd2, 2 * ll_pg);

	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, area, LEN, LL_ACCESS));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, area, LEN, LL_ACCESS));
	ASSERT_EQ(0, ll_lease(fd2, F_RDLCK, 0, 3 * ll_pg));
	EXPECT_EQ(EPERM, ll_reg_errno(self->rdma, area, LEN, LL_ACCESS));
	/* The pieces that had been accepted are free again. */
	EXPECT_EQ(0, ll_unlock(fd));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_lease(fd2, F_RDLCK, 0, 0));

	mr = ll_reg(self->rdma, area, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, area + 8, mr->rkey,
						LEN - 16, 0x5a));
	EXPECT_TRUE(ll_file_is(self->path, 5 * ll_pg + 8, ll_pg - 8, 0x5a));
	EXPECT_TRUE(ll_file_is(self->path, 5 * ll_pg, 8, 5));
	EXPECT_TRUE(ll_file_is(self->path, ll_pg, ll_pg, 0x5a));
	EXPECT_EQ(0x5a, area[2 * ll_pg]);
	EXPECT_TRUE(ll_file_is(path, 2 * ll_pg, 2 * ll_pg, 0x5a));
	EXPECT_EQ(0x5a, area[5 * ll_pg]);
	EXPECT_TRUE(ll_file_is(path, 4 * ll_pg, ll_pg, 4));
	EXPECT_EQ(-EBUSY, ll_unlock(fd));
	EXPECT_EQ(-EBUSY, ll_unlock(fd2));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ll_unlock(fd));
	EXPECT_EQ(0, ll_unlock(fd2));
}

LL_TEST(rereg)
{
	struct held h;
	int ret;

	/* Without this the refusal would prove nothing. */
	ret = ll_rereg(self->rdma->buf_mr, self->rdma->pd,
		       IBV_REREG_MR_CHANGE_ACCESS, LL_ACCESS);
	if (ret)
		SKIP(return, "the driver cannot re-register any region: %s",
		     strerror(-ret));

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	EXPECT_EQ(-EOPNOTSUPP, ll_rereg(h.mr, self->rdma->pd,
					IBV_REREG_MR_CHANGE_ACCESS,
					LL_ACCESS));
	EXPECT_EQ(-EOPNOTSUPP, ll_rereg(h.mr, self->rdma->pd,
					IBV_REREG_MR_CHANGE_PD, LL_ACCESS));
	EXPECT_EQ(-EOPNOTSUPP, ll_rereg(h.mr, self->rdma->pd,
					IBV_REREG_MR_CHANGE_TRANSLATION,
					LL_ACCESS));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, h.map, h.mr->rkey, 8,
						0x17));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

LL_TEST(read_only_mapping)
{
	struct ibv_mr *mr;
	char *map;
	int fd;

	fd = open(self->path, O_RDONLY);
	map = ll_map(fd, 0, LEN, PROT_READ);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_NE(0, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
	mr = ll_reg(self->rdma, map, LEN, IBV_ACCESS_REMOTE_READ);
	ASSERT_NE(NULL, mr);
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_WRITE, self->path, 0, 8, 0x77));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_read(self->rdma, map, mr->rkey, 8));
	EXPECT_EQ(0x77, self->rdma->buf[0]);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/*
 * A page that was never written is the zero page, which does not become the
 * file's page later. A writable mapping gets a real one, another is refused.
 */
LL_TEST(unwritten)
{
	char path[PATH_MAX], *map, *ro;
	struct ibv_mr *mr;
	int fd;

	ASSERT_EQ(0, ll_mkfile(path, sizeof(path), getenv("DAX1"), 0, 0));
	fd = open(path, O_RDWR);
	unlink(path);
	ASSERT_EQ(0, fallocate(fd, 0, 0, LEN));
	map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
	ro = ll_map(fd, 0, LEN, PROT_READ);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(ENODATA, ll_reg_errno(self->rdma, ro, LEN,
					IBV_ACCESS_REMOTE_READ));

	mr = ll_reg(self->rdma, map, LEN, IBV_ACCESS_REMOTE_READ);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_read(self->rdma, map, mr->rkey, 8));
	EXPECT_EQ(0, self->rdma->buf[0]);
	ASSERT_EQ(4, pwrite(fd, "wwww", 4, 0));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_read(self->rdma, map, mr->rkey, 8));
	EXPECT_EQ('w', self->rdma->buf[0]);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/* A private mapping has pages of its own, and stays refused. */
LL_TEST(private_mapping)
{
	char *map;
	int fd;

	fd = open(self->path, O_RDWR);
	map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
	EXPECT_EQ(0, ll_unlock(fd));
}

LL_TEST(beyond_eof)
{
	char *map;
	int fd;

	fd = open(self->path, O_RDWR);
	map = ll_map(fd, (LL_PAGES - 1) * ll_pg, 4 * ll_pg,
		     PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(EFAULT, ll_reg_errno(self->rdma, map, 4 * ll_pg, LL_ACCESS));
	EXPECT_EQ(0, ll_reg_errno(self->rdma, map, ll_pg, LL_ACCESS));
	EXPECT_EQ(0, ll_unlock(fd));
}

/* Leases belong to the process, so another thread may use them. */
LL_TEST(other_thread)
{
	struct ll_registration t = {
		.rdma = self->rdma, .len = LEN,
		.access = LL_ACCESS, .error = -1,
	};
	pthread_t thread;
	int fd;

	t.addr = map_file(self->path, &fd);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, ll_reg_thread, &t));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, t.error);
}

/* How many MRs of this process rdma(8) lists, with these words behind them. */
static int listed(const char *words)
{
	char line[16] = "";

	ll_sh_line(line, sizeof(line),
		   "rdma -dd resource show mr | grep -c ' pid %d .*%s'",
		   getpid(), words);
	return line[0] ? atoi(line) : -1;
}

/* The peer's MR, on anonymous memory, is in the list all the time. */
LL_TEST(shown_by_rdma)
{
	struct ll_result res = { .ret = -1 };
	struct held h;

	ASSERT_EQ(1, listed(""));
	EXPECT_EQ(0, listed("layout"));
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	EXPECT_EQ(2, listed(""));
	EXPECT_EQ(1, listed("layout"));
	EXPECT_EQ(1, listed("layout leased"));

	/* A break leaves the MR alone until it is revoked. */
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	ASSERT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	EXPECT_EQ(1, listed("layout leased"));
	EXPECT_EQ(0, ll_revoke(h.fd));
	EXPECT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	EXPECT_EQ(0, listed("layout leased"));
	EXPECT_EQ(1, listed("layout revoked"));

	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, listed("layout"));
	EXPECT_EQ(1, listed(""));
}

/*
 * A file that was made immutable is written to as through a mapping that was
 * there before, and nobody breaks the lease.
 */
LL_TEST(immutable_since)
{
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, ll_pg));
	ASSERT_EQ(0, ll_set_immutable(h.fd, true));
	EXPECT_EQ(-EPERM, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0,
				0));
	EXPECT_TRUE(ll_mr_works(self->rdma, h.mr));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(h.fd));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_set_immutable(h.fd, false));
}

TEST_HARNESS_MAIN
