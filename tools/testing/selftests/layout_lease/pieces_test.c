// SPDX-License-Identifier: GPL-2.0
/*
 * What must be let go, and by when: F_GETLAYOUT goes through what is broken, piece
 * by piece, and tells of which grant each of them is. Programs and kernels of
 * before and after its generation get along.
 */
#include <string.h>
#include <unistd.h>

#include "layout_lease_fixture.h"

#define MB2		(2ULL << 20)	/* the unit of breaks */

/* The pieces of a lease on the whole file, as breaks leave them. */
static int ask(int fd, unsigned int flags, struct layout_lease *lease)
{
	lease->size = sizeof(*lease);
	lease->flags = flags;
	return fcntl(fd, F_GETLAYOUT, lease) ? -errno : 0;
}

static int punch(struct ll_proc *helper, const char *path, off_t at, off_t len)
{
	return ll_do(helper, LL_OP_PUNCH, path, at, len, 0);
}

#define EXPECT_PIECE(lease, st, from, n)				\
	do {								\
		EXPECT_EQ(st, (lease)->state);				\
		EXPECT_EQ((__u64)(from), (lease)->start);		\
		EXPECT_EQ((__u64)(n), (lease)->len);			\
	} while (0)

#define EXPECT_NO_PIECE(lease)						\
	do {								\
		EXPECT_EQ(LAYOUT_LEASE_NONE, (lease)->state);		\
		EXPECT_EQ(F_UNLCK, (lease)->type);			\
		EXPECT_EQ(0, (lease)->generation);			\
	} while (0)

LL_TEST(one_after_the_other)
{
	struct layout_lease l = {};
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ftruncate(fd, 8 * MB2));
	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_BROKEN, &l));
	EXPECT_NO_PIECE(&l);
	ASSERT_EQ(0, punch(self->helper, self->path, MB2 + 1, 1));
	ASSERT_EQ(0, punch(self->helper, self->path, 4 * MB2, 2 * MB2));

	l = (struct layout_lease) {};
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_BROKEN, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_REVOKED, MB2, MB2);
	EXPECT_EQ(0, l.remaining_ms);
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_BROKEN | LAYOUT_LEASE_NEXT, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_REVOKED, 4 * MB2, 2 * MB2);
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_BROKEN | LAYOUT_LEASE_NEXT, &l));
	EXPECT_NO_PIECE(&l);

	/* All of them; the last one reaches to infinity, behind which is nothing. */
	l = (struct layout_lease) {};
	ASSERT_EQ(0, ask(fd, 0, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_GRANTED, 0, MB2);
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_NEXT, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_REVOKED, MB2, MB2);
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_NEXT, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_GRANTED, 2 * MB2, 2 * MB2);
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_NEXT, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_REVOKED, 4 * MB2, 2 * MB2);
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_NEXT, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_GRANTED, 6 * MB2, 0);
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_NEXT, &l));
	EXPECT_NO_PIECE(&l);

	/* What is given up is not told of any more. */
	l = (struct layout_lease) {};
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_BROKEN, &l));
	ASSERT_EQ(0, ll_setlayout(fd, F_UNLCK, l.start, l.len, 0));
	l = (struct layout_lease) {};
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_BROKEN, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_REVOKED, 4 * MB2, 2 * MB2);
}

/* The time left is that of the piece that is broken, whichever is the first one. */
LL_TEST(time_left)
{
	struct ll_rdma *r = self->rdma;
	struct layout_lease l = {};
	struct ibv_mr *mr;
	char *map;
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ftruncate(fd, 4 * MB2));
	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	map = ll_map(fd, 2 * MB2, ll_pg, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, (void *)map);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	mr = ll_reg(r, map, ll_pg, LL_ACCESS);
	ASSERT_NE(NULL, mr);

	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 2 * MB2, 0, 0);
	EXPECT_SIGNAL(fd, POLL_MSG);
	ASSERT_EQ(0, ask(fd, 0, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_GRANTED, 0, 2 * MB2);
	EXPECT_EQ(0, l.remaining_ms);
	l = (struct layout_lease) {};
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_BROKEN, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_BREAKING, 2 * MB2, 0);
	EXPECT_LT(0, l.remaining_ms);
	EXPECT_GE(LL_GRACE * 1000, l.remaining_ms);

	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_DONE_SOON(self->helper);
	l = (struct layout_lease) {};
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_BROKEN, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_REVOKED, 2 * MB2, 0);
}

/* Who hears late of a break of before finds nothing broken, and another grant. */
LL_TEST(generation)
{
	int fd = open(self->path, O_RDWR), other = open(self->path, O_RDWR);
	struct layout_lease l = {};
	__u64 first, second;

	ASSERT_EQ(0, ftruncate(fd, 4 * MB2));
	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ask(fd, 0, &l));
	first = l.generation;
	EXPECT_LT(0, first);
	ASSERT_EQ(0, punch(self->helper, self->path, MB2, MB2));
	l = (struct layout_lease) {};
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_BROKEN, &l));
	EXPECT_EQ(first, l.generation);

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, l.start, l.len));
	EXPECT_SIGNAL(fd, POLL_MSG);	/* of before */
	l = (struct layout_lease) {};
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_BROKEN, &l));
	EXPECT_NO_PIECE(&l);
	l = (struct layout_lease) {};
	ASSERT_EQ(0, ask(fd, 0, &l));
	EXPECT_EQ(first, l.generation);
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_NEXT, &l));
	EXPECT_PIECE(&l, LAYOUT_LEASE_GRANTED, MB2, MB2);
	second = l.generation;
	EXPECT_LT(first, second);
	ASSERT_EQ(0, ask(fd, LAYOUT_LEASE_NEXT, &l));
	EXPECT_EQ(first, l.generation);

	/* Also when nothing is left that could remember. */
	ASSERT_EQ(0, ll_unlock(fd));
	ASSERT_EQ(0, ll_lease(other, F_RDLCK, 0, 0));
	l = (struct layout_lease) {};
	ASSERT_EQ(0, ask(other, 0, &l));
	EXPECT_LT(second, l.generation);
}

/* A program of before: its struct is shorter, and nothing behind it is touched. */
LL_TEST(old_program)
{
	int fd = open(self->path, O_RDWR);
	struct layout_lease l;
	unsigned int size, i;

	for (size = LAYOUT_LEASE_SIZE_VER0; size < sizeof(l); size++) {
		memset(&l, 0, sizeof(l));
		memset((char *)&l + size, 0x5a, sizeof(l) - size);
		l.size = size;
		l.type = F_RDLCK;
		ASSERT_EQ(0, fcntl(fd, F_SETLAYOUT, &l)) TH_LOG("size %u", size);
		l.type = F_UNLCK;
		ASSERT_EQ(0, fcntl(fd, F_GETLAYOUT, &l)) TH_LOG("size %u", size);
		EXPECT_EQ(F_RDLCK, l.type);
		EXPECT_EQ(size, l.size);
		EXPECT_PIECE(&l, LAYOUT_LEASE_GRANTED, 0, 0);
		for (i = size; i < sizeof(l); i++)
			EXPECT_EQ(0x5a, ((char *)&l)[i]);
	}
}

/*
 * A program of after: this kernel is to it as one that knows no eventfd is to a program of
 * today. What is zero in the part that it does not know is no news, and it answers zero
 * there; anything else is refused, and nothing is done.
 */
LL_TEST(new_program)
{
	struct {
		struct layout_lease lease;
		char more[16];
	} arg;
	int fd = open(self->path, O_RDWR);
	unsigned int i, j;

	for (i = 0; i <= sizeof(arg.more); i++) {
		for (j = 0; j < 2; j++) {
			memset(&arg, 0, sizeof(arg));
			arg.lease.size = sizeof(arg);
			arg.lease.type = F_RDLCK;
			if (i < sizeof(arg.more))
				arg.more[i] = 1;
			EXPECT_EQ(i < sizeof(arg.more) ? -1 : 0,
				  fcntl(fd, j ? F_GETLAYOUT : F_SETLAYOUT, &arg))
				TH_LOG("byte %u", i);
			if (i < sizeof(arg.more)) {
				EXPECT_EQ(E2BIG, errno);
			}
		}
		EXPECT_EQ(i < sizeof(arg.more) ? LAYOUT_LEASE_NONE :
			  LAYOUT_LEASE_GRANTED, ll_state(fd));
	}
	EXPECT_PIECE(&arg.lease, LAYOUT_LEASE_GRANTED, 0, 0);
	EXPECT_EQ(sizeof(arg), arg.lease.size);
	EXPECT_LT(0, arg.lease.generation);
	for (i = 0; i < sizeof(arg.more); i++)
		EXPECT_EQ(0, arg.more[i]);
}

/* Which flags there are, and that what asks does not set. */
LL_TEST(flags)
{
	static const unsigned int bad[] = {
		LAYOUT_LEASE_REVOKE, LAYOUT_LEASE_SEIZE, LAYOUT_LEASE_BREAK,
		LAYOUT_LEASE_BROKEN | LAYOUT_LEASE_REVOKE, 1U << 31,
	};
	int fd = open(self->path, O_RDWR);
	struct layout_lease l = {};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_EQ(-EINVAL, ask(fd, bad[i], &l)) TH_LOG("%#x", bad[i]);
	EXPECT_EQ(-EINVAL, ll_setlayout(fd, F_RDLCK, 0, 0, LAYOUT_LEASE_NEXT));
	EXPECT_EQ(-EINVAL, ll_setlayout(fd, F_RDLCK, 0, 0, LAYOUT_LEASE_BROKEN));
	EXPECT_EQ(-EINVAL, ll_setlayout(fd, F_UNLCK, 0, 0, LAYOUT_LEASE_BROKEN));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
}

TEST_HARNESS_MAIN
