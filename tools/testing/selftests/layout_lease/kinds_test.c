// SPDX-License-Identifier: GPL-2.0
/*
 * Shared and exclusive leases, one or many of them on an open file: what
 * becomes of them, and of memory regions on them, when kinds change, a part is
 * unlocked or a part is broken.
 */
#include "layout_lease_fixture.h"

#define LEN	(8 * ll_pg)
#define MB	(1024 * 1024ULL)

/* All leases of an open file, in order, up to one in no state. */
struct part {
	__u64 start, len;
	int type, state;
};

static void expect_leases(struct __test_metadata *_metadata, int line, int fd,
			  const struct part *part)
{
	struct layout_lease lease;
	__u64 next = 0;

	for (;; part++) {
		ASSERT_EQ(0, ll_getlayout(fd, next, 0, &lease));
		EXPECT_EQ(part->state, lease.state) TH_LOG("line %d", line);
		if (lease.state == LAYOUT_LEASE_NONE ||
		    part->state == LAYOUT_LEASE_NONE)
			break;
		EXPECT_EQ(part->type, lease.type) TH_LOG("line %d", line);
		EXPECT_EQ(part->start, lease.start) TH_LOG("line %d", line);
		EXPECT_EQ(part->len, lease.len) TH_LOG("line %d", line);
		EXPECT_EQ(lease.state == LAYOUT_LEASE_BREAKING,
			  lease.remaining_ms != 0) TH_LOG("line %d", line);
		next = lease.start + lease.len;
		if (!lease.len) {	/* nothing can follow */
			EXPECT_EQ(LAYOUT_LEASE_NONE, part[1].state);
			break;
		}
	}
}

#define EXPECT_LEASES(fd, ...)						\
	expect_leases(_metadata, __LINE__, fd,				\
		      (const struct part[]){ __VA_ARGS__, {} })

#define EXPECT_NO_LEASES(fd)	EXPECT_LEASES(fd, {})

#define GRANTED		LAYOUT_LEASE_GRANTED
#define BREAKING	LAYOUT_LEASE_BREAKING
#define REVOKED		LAYOUT_LEASE_REVOKED

/* Exclusive is not unbreakable. */
LL_TEST(exclusive_is_broken)
{
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, ll_lease(h.fd, F_WRLCK, 0, 0));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_LEASES(h.fd, { 0, 0, F_WRLCK, BREAKING });
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_LEASES(h.fd, { 0, 0, F_WRLCK, REVOKED });
}

/* The region stays attached whatever becomes of the kinds below it. */
LL_TEST(kinds_change_under_a_region)
{
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK, 0, 0));
	EXPECT_EQ(-EAGAIN, ll_lease(h.fd, F_WRLCK, 0, 0));
	EXPECT_TRUE(ll_mr_works(self->rdma, h.mr));
	ASSERT_EQ(0, ll_other_unlock(self->helper));

	/* A part of it, in the middle. */
	EXPECT_EQ(0, ll_lease(h.fd, F_WRLCK, 2 * ll_pg, 2 * ll_pg));
	EXPECT_LEASES(h.fd, { 0, 2 * ll_pg, F_RDLCK, GRANTED },
		      { 2 * ll_pg, 2 * ll_pg, F_WRLCK, GRANTED },
		      { 4 * ll_pg, 0, F_RDLCK, GRANTED });
	EXPECT_TRUE(ll_mr_works(self->rdma, h.mr));
	EXPECT_EQ(-EAGAIN, ll_other_lease(self->helper, self->path, F_RDLCK,
					  3 * ll_pg, 1));
	EXPECT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK,
				    4 * ll_pg, 0));
	EXPECT_EQ(0, ll_other_unlock(self->helper));

	EXPECT_EQ(0, ll_lease(h.fd, F_WRLCK, 0, 0));
	EXPECT_LEASES(h.fd, { 0, 0, F_WRLCK, GRANTED });
	EXPECT_EQ(0, ll_lease(h.fd, F_RDLCK, 0, 0));
	EXPECT_LEASES(h.fd, { 0, 0, F_RDLCK, GRANTED });
	EXPECT_EQ(1, ll_proc_locks(h.fd));
	EXPECT_TRUE(ll_mr_works(self->rdma, h.mr));
	EXPECT_EQ(-EBUSY, ll_unlock(h.fd));
	EXPECT_TRUE(ll_no_signal());

	/* And a break finds it. */
	EXPECT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK, 0, 0));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_DONE_SOON(self->helper);
}

/* Two that want to be alone: neither is, and neither loses what it has. */
LL_TEST(neither_upgrades)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 2 * ll_pg, 4 * ll_pg));
	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK, 0,
				    4 * ll_pg));
	EXPECT_EQ(-EAGAIN, ll_lease(fd, F_WRLCK, 2 * ll_pg, 4 * ll_pg));
	EXPECT_EQ(-EAGAIN, ll_other_lease(self->helper, self->path, F_WRLCK, 0,
					  4 * ll_pg));
	EXPECT_EQ(-EAGAIN, ll_lease(fd, F_WRLCK, 4 * ll_pg - 1, 1));
	EXPECT_LEASES(fd, { 2 * ll_pg, 4 * ll_pg, F_RDLCK, GRANTED });
	EXPECT_EQ(GRANTED, ll_do(self->helper, LL_OP_STATE, "", 0, 0, 0));

	/* What is not shared can be upgraded. */
	EXPECT_EQ(0, ll_lease(fd, F_WRLCK, 4 * ll_pg, 2 * ll_pg));
	EXPECT_EQ(0, ll_other_lease(self->helper, self->path, F_WRLCK, 0,
				    2 * ll_pg));
	EXPECT_LEASES(fd, { 2 * ll_pg, 2 * ll_pg, F_RDLCK, GRANTED },
		      { 4 * ll_pg, 2 * ll_pg, F_WRLCK, GRANTED });
	EXPECT_EQ(0, ll_other_unlock(self->helper));
	EXPECT_EQ(0, ll_lease(fd, F_WRLCK, 0, 0));
}

/*
 * Processes that take, change and drop leases on a few pages at random. Each
 * notes what it holds when it has got it, and forgets it before it lets go, so
 * that no two notes ever contradict each other. The first process always holds
 * page 0, one way or the other: if up- or downgrade dropped the old lease
 * before the new one is there, somebody would get an exclusive one in between.
 */
#define RACERS	4
#define SLOTS	4
#define NONE	0
#define SHARED	1
#define ALONE	2

struct race {
	const char *path;
	int racer;
	int stop;
	int note[RACERS][SLOTS];
	int granted[RACERS], refused[RACERS], wrong[RACERS];
};

static int note_of(int type)
{
	return type == F_UNLCK ? NONE : type == F_RDLCK ? SHARED : ALONE;
}

static bool contradicted(struct race *r, int me, int slot)
{
	int mine = r->note[me][slot], note, i;

	for (i = 0; i < RACERS; i++) {
		note = __atomic_load_n(&r->note[i][slot], __ATOMIC_SEQ_CST);
		if (i != me && ((mine == ALONE && note) ||
				(mine == SHARED && note == ALONE)))
			return true;
	}
	return false;
}

static void race_once(struct race *r, int me, int fd, unsigned int *seed)
{
	static const int types[] = { F_RDLCK, F_WRLCK, F_UNLCK };
	int type = types[rand_r(seed) % 3];
	int from = rand_r(seed) % SLOTS, n = 1 + rand_r(seed) % 2;
	int old[SLOTS], want = note_of(type), ret, i;

	if (from + n > SLOTS || (me == 0 && from == 0 && type == F_UNLCK))
		return;
	for (i = from; i < from + n; i++) {
		old[i] = r->note[me][i];
		if (want < old[i])
			__atomic_store_n(&r->note[me][i], want,
					 __ATOMIC_SEQ_CST);
	}
	ret = ll_lease(fd, type, from * ll_pg, n * ll_pg);
	for (i = from; i < from + n; i++)
		__atomic_store_n(&r->note[me][i], ret ? old[i] : want,
				 __ATOMIC_SEQ_CST);

	if (ret == 0)
		r->granted[me]++;
	else if (ret == -EAGAIN && type != F_UNLCK)
		r->refused[me]++;
	else
		r->wrong[me]++;
	if (ret == 0 && type == F_WRLCK && from == 0 && me != 0)
		r->wrong[me]++;
	for (i = from; i < from + n; i++)
		if (contradicted(r, me, i))
			r->wrong[me]++;
}

static void race(int sock, void *arg)
{
	struct race *r = arg;
	int me = r->racer, fd = open(r->path, O_RDWR);
	unsigned int seed = me;

	if (me == 0) {
		if (ll_lease(fd, F_RDLCK, 0, ll_pg))
			return;
		r->note[0][0] = SHARED;
	}
	ll_put(sock, 0);
	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED))
		race_once(r, me, fd, &seed);
	ll_put(sock, 0);
	/* Its leases stay until the others have stopped, too. */
	ll_get(sock, INT_MAX);
}

LL_TEST(race)
{
	int fd = open(self->path, O_RDWR), granted = 0, refused = 0, i;
	struct ll_proc p[RACERS] = {};
	struct race *r;

	r = ll_shared(sizeof(*r));
	ASSERT_NE(MAP_FAILED, r);
	r->path = self->path;
	for (i = 0; i < RACERS; i++) {
		r->racer = i;
		ASSERT_EQ(0, ll_proc_start(&p[i], race, r));
		ASSERT_EQ(0, ll_get(p[i].sock, LL_SOON_MS));
	}
	ll_sleep_ms(1000);
	r->stop = 1;
	for (i = 0; i < RACERS; i++)
		ASSERT_EQ(0, ll_get(p[i].sock, LL_SOON_MS));
	for (i = 0; i < RACERS; i++) {
		ll_proc_stop(&p[i]);
		EXPECT_EQ(0, r->wrong[i]) TH_LOG("racer %d", i);
		granted += r->granted[i];
		refused += r->refused[i];
	}
	EXPECT_LT(RACERS, granted);
	EXPECT_LT(RACERS, refused);
	EXPECT_TRUE(ll_gone(fd));
	EXPECT_EQ(0, ll_lease(fd, F_WRLCK, 0, 0));
}

/* F_UNLCK takes what it names, in whichever leases that is. */
LL_TEST(unlock_one_several_all)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 2 * ll_pg));
	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 4 * ll_pg, 2 * ll_pg));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 6 * ll_pg, ll_pg));
	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 8 * ll_pg, 2 * ll_pg));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 12 * ll_pg, 0));
	EXPECT_EQ(1, ll_proc_locks(fd));

	/* One. */
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 6 * ll_pg, ll_pg, 0));
	EXPECT_LEASES(fd, { 0, 2 * ll_pg, F_RDLCK, GRANTED },
		      { 4 * ll_pg, 2 * ll_pg, F_WRLCK, GRANTED },
		      { 8 * ll_pg, 2 * ll_pg, F_WRLCK, GRANTED },
		      { 12 * ll_pg, 0, F_RDLCK, GRANTED });

	/* One in the middle, and parts of its neighbours. */
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, ll_pg, 8 * ll_pg, 0));
	EXPECT_LEASES(fd, { 0, ll_pg, F_RDLCK, GRANTED },
		      { 9 * ll_pg, ll_pg, F_WRLCK, GRANTED },
		      { 12 * ll_pg, 0, F_RDLCK, GRANTED });
	EXPECT_EQ(0, ll_other_lease(self->helper, self->path, F_WRLCK, ll_pg,
				    8 * ll_pg));
	EXPECT_EQ(-EAGAIN, ll_other_lease(self->helper, self->path, F_WRLCK,
					  ll_pg - 1, 1));
	EXPECT_EQ(-EAGAIN, ll_other_lease(self->helper, self->path, F_RDLCK,
					  9 * ll_pg, 1));

	/* One byte. */
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 100, 1, 0));
	EXPECT_LEASES(fd, { 0, 100, F_RDLCK, GRANTED },
		      { 101, ll_pg - 101, F_RDLCK, GRANTED },
		      { 9 * ll_pg, ll_pg, F_WRLCK, GRANTED },
		      { 12 * ll_pg, 0, F_RDLCK, GRANTED });
	/* None. */
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 2 * ll_pg, ll_pg, 0));
	/* From somewhere on. */
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 20 * ll_pg, 0, 0));
	EXPECT_LEASES(fd, { 0, 100, F_RDLCK, GRANTED },
		      { 101, ll_pg - 101, F_RDLCK, GRANTED },
		      { 9 * ll_pg, ll_pg, F_WRLCK, GRANTED },
		      { 12 * ll_pg, 8 * ll_pg, F_RDLCK, GRANTED });
	EXPECT_EQ(2, ll_proc_locks(fd));

	/* All, and nothing of anybody else. */
	EXPECT_EQ(0, ll_unlock(fd));
	EXPECT_NO_LEASES(fd);
	EXPECT_EQ(GRANTED, ll_do(self->helper, LL_OP_STATE, "", 0, 0, 0));
	EXPECT_EQ(1, ll_proc_locks(fd));
	EXPECT_EQ(0, ll_other_unlock(self->helper));
	EXPECT_EQ(0, ll_proc_locks(fd));
}

/* All or nothing: a region anywhere in the range keeps every lease in it. */
LL_TEST(unlock_beside_a_region)
{
	int fd = open(self->path, O_RDWR);
	char *map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
	struct ibv_mr *mr;

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 2 * ll_pg));
	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 4 * ll_pg, 2 * ll_pg));
	mr = ll_reg(self->rdma, map + 4 * ll_pg, 2 * ll_pg, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(-EBUSY, ll_unlock(fd));
	EXPECT_EQ(-EBUSY, ll_setlayout(fd, F_UNLCK, 0, 4 * ll_pg + 1, 0));
	EXPECT_EQ(-EBUSY, ll_setlayout(fd, F_UNLCK, 6 * ll_pg - 1, 1, 0));
	EXPECT_LEASES(fd, { 0, 2 * ll_pg, F_RDLCK, GRANTED },
		      { 4 * ll_pg, 2 * ll_pg, F_WRLCK, GRANTED });
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 0, 4 * ll_pg, 0));
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 6 * ll_pg, 0, 0));
	EXPECT_LEASES(fd, { 4 * ll_pg, 2 * ll_pg, F_WRLCK, GRANTED });
	EXPECT_TRUE(ll_mr_works(self->rdma, mr));

	/* With the flag the region goes as a whole, the lease in part. */
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 5 * ll_pg, 1,
				  LAYOUT_LEASE_REVOKE));
	EXPECT_LEASES(fd, { 4 * ll_pg, ll_pg, F_WRLCK, GRANTED },
		      { 5 * ll_pg + 1, ll_pg - 1, F_WRLCK, GRANTED });
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, mr->addr, mr->rkey));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ll_unlock(fd));
}

/* A region that is covered by two leases goes with either of them. */
LL_TEST(region_over_two_leases)
{
	int fd = open(self->path, O_RDWR);
	struct ibv_mr *mr;
	char *map;

	ASSERT_EQ(0, ll_fill(fd, 4 * MB / ll_pg, 0));
	map = ll_map(fd, 0, 4 * MB, PROT_READ | PROT_WRITE);
	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 2 * MB));
	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 2 * MB, 2 * MB));
	mr = ll_reg(self->rdma, map + MB, 2 * MB, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_TRUE(ll_mr_works(self->rdma, mr));

	ll_send(self->helper, LL_OP_PUNCH, self->path, 4 * MB - 65536, 65536,
		0);
	EXPECT_SIGNAL(fd, POLL_MSG);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_LEASES(fd, { 0, 2 * MB, F_RDLCK, GRANTED },
		      { 2 * MB, 2 * MB, F_WRLCK, BREAKING });
	EXPECT_EQ(EAGAIN, ll_reg_errno(self->rdma, map + MB, 2 * MB,
				       LL_ACCESS));
	EXPECT_EQ(EAGAIN, ll_reg_errno(self->rdma, map + 2 * MB, LEN,
				       LL_ACCESS));
	EXPECT_EQ(0, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
	EXPECT_TRUE(ll_mr_works(self->rdma, mr));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_LEASES(fd, { 0, 2 * MB, F_RDLCK, GRANTED },
		      { 2 * MB, 2 * MB, F_WRLCK, REVOKED });
	EXPECT_EQ(EAGAIN, ll_reg_errno(self->rdma, map + MB, 2 * MB, LL_ACCESS));

	/* Once more, and now its holder gives up the other one. */
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 2 * MB, 2 * MB));
	mr = ll_reg(self->rdma, map + MB, 2 * MB, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 0, 2 * MB, LAYOUT_LEASE_REVOKE));
	EXPECT_LEASES(fd, { 2 * MB, 2 * MB, F_RDLCK, GRANTED });
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, mr->addr, mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ll_unlock(fd));
}

/* One region needs leases of one open file, since it keeps that one open. */
LL_TEST(leases_of_two_open_files)
{
	int fd[2] = { open(self->path, O_RDWR), open(self->path, O_RDWR) };
	char *map = ll_map(fd[0], 0, LEN, PROT_READ | PROT_WRITE);
	struct ibv_mr *mr;

	ASSERT_EQ(0, ll_lease(fd[0], F_RDLCK, 0, LEN / 2));
	ASSERT_EQ(0, ll_lease(fd[1], F_RDLCK, LEN / 2, 0));
	EXPECT_LEASES(fd[0], { 0, LEN / 2, F_RDLCK, GRANTED });
	EXPECT_LEASES(fd[1], { LEN / 2, 0, F_RDLCK, GRANTED });
	EXPECT_EQ(EPERM, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
	EXPECT_EQ(0, ll_reg_errno(self->rdma, map, LEN / 2, LL_ACCESS));
	EXPECT_EQ(0, ll_reg_errno(self->rdma, map + LEN / 2, LEN / 2,
				  LL_ACCESS));
	ASSERT_EQ(0, ll_lease(fd[1], F_RDLCK, 0, 0));
	mr = ll_reg(self->rdma, map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, ll_unlock(fd[0]));
	EXPECT_EQ(-EBUSY, ll_unlock(fd[1]));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/* A break takes a part, the rest stays as it was. */
LL_TEST(break_splits)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_fill(fd, 6 * MB / ll_pg, 0));
	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, ll_pg, 0));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_PUNCH, self->path, 2 * MB,
			   65536, 0));
	EXPECT_SIGNAL(fd, POLL_MSG);
	EXPECT_LEASES(fd, { ll_pg, 2 * MB - ll_pg, F_WRLCK, GRANTED },
		      { 2 * MB, 2 * MB, F_WRLCK, REVOKED },
		      { 4 * MB, 0, F_WRLCK, GRANTED });
	EXPECT_EQ(1, ll_proc_locks(fd));

	/* The part is free, and only that. */
	EXPECT_EQ(0, ll_other_lease(self->helper, self->path, F_WRLCK, 2 * MB,
				    2 * MB));
	EXPECT_EQ(-EAGAIN, ll_other_lease(self->helper, self->path, F_RDLCK,
					  2 * MB - 1, 1));
	EXPECT_EQ(-EAGAIN, ll_other_lease(self->helper, self->path, F_RDLCK,
					  4 * MB, 1));
	EXPECT_EQ(-EAGAIN, ll_lease(fd, F_WRLCK, ll_pg, 0));
	EXPECT_EQ(0, ll_other_unlock(self->helper));

	/* Asked anew, it is one again. */
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, ll_pg, 0));
	EXPECT_LEASES(fd, { ll_pg, 0, F_RDLCK, GRANTED });
	EXPECT_TRUE(ll_no_signal());
}

/* What others see of our leases: nothing, in whichever state. */
static const struct {
	__u64 start, len;
} asked[] = {
	{ 0, 0 }, { 0, 2 * MB }, { 2 * MB, 2 * MB }, { 4 * MB, 2 * MB },
	{ 6 * MB, 0 },
};

static bool sees_nothing(const char *path)
{
	int fd = open(path, O_RDWR), bad = fd < 0;
	struct layout_lease lease;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(asked); i++)
		if (ll_getlayout(fd, asked[i].start, asked[i].len, &lease) ||
		    lease.state != LAYOUT_LEASE_NONE || lease.type != F_UNLCK ||
		    lease.start != asked[i].start ||
		    lease.len != asked[i].len || lease.remaining_ms)
			bad++;
	close(fd);
	return !bad;
}

static bool others_see_nothing(const char *path)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(!sees_nothing(path));
	return waitpid(pid, &status, 0) == pid && status == 0 &&
		sees_nothing(path);
}

LL_TEST(states_side_by_side)
{
	int fd = open(self->path, O_RDWR);
	struct layout_lease lease;
	struct ibv_mr *mr;
	char *map;

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_fill(fd, 4 * MB / ll_pg, 0));
	map = ll_map(fd, 2 * MB, LEN, PROT_READ | PROT_WRITE);
	EXPECT_TRUE(others_see_nothing(self->path));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 2 * MB));
	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 2 * MB, 2 * MB));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 4 * MB, 2 * MB));
	mr = ll_reg(self->rdma, map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_TRUE(others_see_nothing(self->path));

	ASSERT_EQ(0, ll_do(self->helper, LL_OP_PUNCH, self->path, 0, 65536, 0));
	EXPECT_SIGNAL(fd, POLL_MSG);
	ll_send(self->helper, LL_OP_PUNCH, self->path, 2 * MB, 65536, 0);
	EXPECT_SIGNAL(fd, POLL_MSG);
	EXPECT_LEASES(fd, { 0, 2 * MB, F_RDLCK, REVOKED },
		      { 2 * MB, 2 * MB, F_WRLCK, BREAKING },
		      { 4 * MB, 2 * MB, F_RDLCK, GRANTED });
	EXPECT_TRUE(others_see_nothing(self->path));

	/* The first one in the range, all of it; and where there is none. */
	ASSERT_EQ(0, ll_getlayout(fd, 3 * MB, 2 * MB, &lease));
	EXPECT_EQ(BREAKING, lease.state);
	EXPECT_EQ(2 * MB, lease.start);
	EXPECT_EQ(2 * MB, lease.len);
	EXPECT_GE(LL_GRACE * 1000, lease.remaining_ms);
	ASSERT_EQ(0, ll_getlayout(fd, 6 * MB, 5, &lease));
	EXPECT_EQ(LAYOUT_LEASE_NONE, lease.state);
	EXPECT_EQ(F_UNLCK, lease.type);
	EXPECT_EQ(6 * MB, lease.start);
	EXPECT_EQ(5, lease.len);

	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_LEASES(fd, { 0, 2 * MB, F_RDLCK, REVOKED },
		      { 2 * MB, 2 * MB, F_WRLCK, REVOKED },
		      { 4 * MB, 2 * MB, F_RDLCK, GRANTED });
	EXPECT_TRUE(others_see_nothing(self->path));

	/* One is acknowledged, one is asked for anew. */
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 0, 2 * MB, 0));
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 2 * MB, 2 * MB));
	EXPECT_LEASES(fd, { 2 * MB, 2 * MB, F_RDLCK, GRANTED },
		      { 4 * MB, 2 * MB, F_RDLCK, GRANTED });
}

TEST_HARNESS_MAIN
