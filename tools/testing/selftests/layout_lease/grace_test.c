// SPDX-License-Identifier: GPL-2.0
/*
 * One operation waits at most one grace period in all, however many inodes,
 * holders and kinds of leases are in its way, and whoever leases anew meanwhile.
 * When it is over, leases are granted at once.
 */
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "layout_lease_change.h"
#include "layout_lease_fixture.h"

#define PAGE		4096LL
#define LEN		(64 * PAGE)
#define GREEDY		3	/* holders of each file */
#define GRACE		2
#define LONG_GRACE	12	/* two of them would be seen, */
#define SHORT_MS	7000	/* and that it is not waited for */
#define MANY		20	/* grace periods, for who never gets through */

/*
 * Holders who lease anew as soon as they may, register, and never let go before
 * it is taken from them.
 */
struct greedy {			/* in shared memory */
	const char *path;
	bool cooperative;	/* or they do let go, and then lease anew */
	bool stop;
	int held, taken;
};

static void greedy(int sock, void *arg)
{
	struct greedy *g = arg;
	struct ibv_mr *mr;
	struct ll_rdma r;
	char *map;
	int fd;

	fd = open(g->path, O_RDWR);
	map = ll_map(fd, 0, PAGE, PROT_READ | PROT_WRITE);
	if (fcntl(fd, F_SETSIG, SIGRTMIN) || ll_rdma_device(&r)) {
		ll_put(sock, -EIO);
		return;
	}
	ll_put(sock, 0);
	ll_get(sock, INT_MAX);
	while (!__atomic_load_n(&g->stop, __ATOMIC_SEQ_CST)) {
		mr = ll_lease(fd, F_RDLCK, 0, 0) ? NULL :
			ll_reg(&r, map, PAGE, LL_ACCESS);
		if (!mr) {
			ll_sleep_ms(1);
			continue;
		}
		__atomic_add_fetch(&g->held, 1, __ATOMIC_SEQ_CST);
		while (ll_state(fd) == LAYOUT_LEASE_GRANTED ||
		       (!g->cooperative &&
			ll_state(fd) != LAYOUT_LEASE_REVOKED)) {
			if (__atomic_load_n(&g->stop, __ATOMIC_SEQ_CST))
				break;
			ll_sleep_ms(2);
		}
		__atomic_sub_fetch(&g->held, 1, __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&g->taken, 1, __ATOMIC_SEQ_CST);
		ibv_dereg_mr(mr);
	}
	ll_unlock(fd);
	ll_put(sock, 0);
}

struct crowd {
	struct greedy *greedy;
	struct ll_proc proc[GREEDY];
	int n;
};

static int crowd_start(struct crowd *c, const char *path, int n,
		       bool cooperative)
{
	int ret = 0;

	c->greedy = ll_shared(sizeof(*c->greedy));
	if (c->greedy == MAP_FAILED)
		return -errno;
	c->greedy->path = path;
	c->greedy->cooperative = cooperative;
	for (c->n = 0; c->n < n && !ret; c->n++)
		ret = ll_proc_start(&c->proc[c->n], greedy, c->greedy) ?:
			ll_get(c->proc[c->n].sock, LL_SOON_MS);
	return ret;
}

static void crowd_go(struct crowd *c)
{
	int i;

	for (i = 0; i < c->n; i++)
		ll_put(c->proc[i].sock, 0);
}

/* All of them have regions. */
static bool crowd_holds(struct crowd *c)
{
	long end = ll_now_ms() + LL_SOON_MS;

	while (__atomic_load_n(&c->greedy->held, __ATOMIC_SEQ_CST) < c->n &&
	       ll_now_ms() < end)
		ll_sleep_ms(2);
	return ll_now_ms() < end;
}

static void crowd_stop(struct crowd *c)
{
	int i;

	if (c->greedy)
		__atomic_store_n(&c->greedy->stop, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < c->n; i++)
		ll_proc_stop(&c->proc[i]);
}

/*
 * Two files, holders of each who come back at once, and an operation that began
 * when there were none of them: it waits for a reader of one of the files.
 */
FIXTURE(two) {
	struct ll_env env;
	struct ll_proc reader, changer, second;
	struct crowd crowd[2];
};

FIXTURE_VARIANT(two) {
	struct ll_call call;
	bool reader_of_other;
};

#define TWO(name, of_other, ...)					\
	FIXTURE_VARIANT_ADD(two, name)					\
		{ .call = { __VA_ARGS__ }, .reader_of_other = of_other }

TWO(clone, false, ll_call_clone);
TWO(clone_other, true, ll_call_clone);
TWO(clone_to, false, ll_call_clone, .to = true);
TWO(dedupe, false, ll_call_dedupe, .len = LEN);
TWO(exchange, false, ll_call_exchange, .len = LEN);
TWO(exchange_other, true, ll_call_exchange, .len = LEN);

FIXTURE_SETUP(two)
{
	LL_NEEDS_XFS();
	LL_ENV_INIT(&self->env, false);
	ll_set_grace(GRACE);
	ASSERT_EQ(0, ll_make(self->env.path, LEN / PAGE, 0x10));
	ASSERT_EQ(0, ll_make(self->env.other, LEN / PAGE, 0x10));
	ASSERT_EQ(0, crowd_start(&self->crowd[0], self->env.path, GREEDY,
				 false));
	ASSERT_EQ(0, crowd_start(&self->crowd[1], self->env.other, GREEDY,
				 false));
}

FIXTURE_TEARDOWN(two)
{
	crowd_stop(&self->crowd[0]);
	crowd_stop(&self->crowd[1]);
	ll_proc_stop(&self->second);
	ll_proc_stop(&self->reader);
	ll_proc_stop(&self->changer);
	ll_env_exit(&self->env);
}

static void begin(struct __test_metadata *_metadata, FIXTURE_DATA(two) *self,
		  const FIXTURE_VARIANT(two) *variant)
{
	struct ll_call call = variant->call;

	call.path = self->env.path;
	call.other = self->env.other;
	ASSERT_EQ(0, ll_call_start(&self->changer, &call));
	ASSERT_EQ(0, ll_helper_start(&self->second));
	ASSERT_EQ(0, ll_reader_start(&self->reader, variant->reader_of_other ?
				     self->env.other : self->env.path));
	ASSERT_EQ(0, ll_call_go(&self->changer));
	EXPECT_NOT_DONE(&self->changer);
	crowd_go(&self->crowd[0]);
	crowd_go(&self->crowd[1]);
	/* Or they are kept off, which is as good. */
	ll_sleep_ms(1000);
	ASSERT_EQ(0, ll_reader_let_go(&self->reader));
}

TEST_F_TIMEOUT(two, ends, 240)
{
	struct ll_result res = { .ret = -1 };
	long ms;

	begin(_metadata, self, variant);
	ms = ll_now_ms();
	ll_sleep_ms(200);
	/* Whoever is waited for, it is not with the locks of the files. */
	ll_send(&self->second, LL_OP_READ, self->env.path, 0, PAGE, 0);
	ASSERT_EQ(0, ll_done(&self->changer, MANY * GRACE * 1000, &res))
		TH_LOG("no end, %d + %d regions were taken back",
		       self->crowd[0].greedy->taken,
		       self->crowd[1].greedy->taken);
	EXPECT_EQ(0, res.ret);
	EXPECT_GE(GRACE * 1000 + LL_SLACK_MS, ll_now_ms() - ms);
	EXPECT_DONE_SOON(&self->second);
}

/* Nor with what a freeze, and then all who write, must wait for. */
TEST_F_TIMEOUT(two, leaves_freezes_alone, 240)
{
	struct ll_result res = { .ret = -1 };
	struct ll_proc freezer;
	int frozen;

	begin(_metadata, self, variant);
	ASSERT_EQ(0, ll_freezer_start(&freezer, getenv("DAX1")));
	frozen = ll_freeze(&freezer, GRACE * 1000 + LL_SLACK_MS);
	EXPECT_EQ(0, frozen);
	if (frozen) {
		crowd_stop(&self->crowd[0]);
		crowd_stop(&self->crowd[1]);
		EXPECT_EQ(0, ll_get(freezer.sock, LL_SOON_MS));
	}
	EXPECT_EQ(0, ll_thaw(&freezer));
	ll_freezer_stop(&freezer);
	EXPECT_EQ(0, ll_done(&self->changer, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
}

/*
 * Several kinds of leases at once
 */

LL_TEST(plain_and_layout_leases)
{
	int fd = open(self->path, O_RDONLY);
	char *map = ll_map(fd, 0, LEN, PROT_READ);
	struct ibv_mr *mr;

	ll_set_grace(LONG_GRACE);
	ASSERT_EQ(0, ll_write_long(LL_PLAIN_GRACE, LONG_GRACE));
	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	mr = ll_reg(self->rdma, map, LEN, IBV_ACCESS_REMOTE_READ);
	ASSERT_NE(NULL, mr);
	ASSERT_EQ(0, fcntl(fd, F_SETLEASE, F_RDLCK));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_DONE_AT_DEADLINE(self->helper, LONG_GRACE);
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, map, mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/* Holders who come one after the other share the time of the first one. */
LL_TEST(holders_one_after_the_other)
{
	struct crowd crowd = {};
	struct held h;

	ll_set_grace(LONG_GRACE);
	ASSERT_EQ(0, crowd_start(&crowd, self->path, GREEDY, false));
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	crowd_go(&crowd);
	EXPECT_DONE_AT_DEADLINE(self->helper, LONG_GRACE);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	crowd_stop(&crowd);
}

/*
 * Those who map the file and read it, copy pages of it, and register, all the
 * time: a change waits for the pages of each of them, one after the other, and
 * comes to its end nevertheless.
 */
#define STORM_SIZE	(8LL << 20)
#define STORM_MS	10000

static void map_and_read(int sock, void *path)
{
	volatile char *map;
	long long i, step;
	int fd;

	ll_put(sock, 0);
	for (step = PAGE; ; step = step == PAGE ? 2 << 20 : PAGE) {
		fd = open(path, O_RDWR);
		map = ll_map(fd, 0, STORM_SIZE, PROT_READ);
		for (i = 0; i < STORM_SIZE; i += step)
			(void)map[i];
		munmap((void *)map, STORM_SIZE);
		close(fd);
	}
}

static void map_and_copy(int sock, void *path)
{
	volatile char *map;
	long long i;
	int fd;

	ll_put(sock, 0);
	for (;;) {
		fd = open(path, O_RDWR);
		map = mmap(NULL, STORM_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE, fd, 0);
		for (i = 0; i < STORM_SIZE; i += 16 * PAGE) {
			(void)map[i];
			if (i & (16 * PAGE))
				map[i] = 1;
		}
		munmap((void *)map, STORM_SIZE);
		close(fd);
	}
}

static void map_and_register(int sock, void *path)
{
	int fd = open(path, O_RDWR);
	struct ll_rdma r;
	struct ibv_mr *mr;
	unsigned int n;
	char *map;

	ll_put(sock, ll_rdma_device(&r) ? -EIO : 0);
	for (n = 0; ; n++) {
		ll_lease(fd, F_RDLCK, 0, 0);
		map = ll_map(fd, 0, STORM_SIZE, PROT_READ | PROT_WRITE);
		mr = ll_reg(&r, map + (n % 4 << 21), n & 1 ? PAGE : 2 << 20,
			    LL_ACCESS);
		if (mr)
			ibv_dereg_mr(mr);
		munmap(map, STORM_SIZE);
	}
}

LL_TEST(storm)
{
	void (*fn[])(int sock, void *path) = {
		map_and_read, map_and_read, map_and_read, map_and_copy,
		map_and_register, map_and_register,
	};
	struct ll_proc p[ARRAY_SIZE(fn)] = {};
	long end, ms, worst = 0, n = 0;
	unsigned int i;
	int ret = 0;

	ll_set_grace(0);
	ASSERT_EQ(0, truncate(self->path, STORM_SIZE));
	for (i = 0; i < ARRAY_SIZE(fn); i++) {
		ASSERT_EQ(0, ll_proc_start(&p[i], fn[i], (void *)self->path));
		ASSERT_EQ(0, ll_get(p[i].sock, LL_SOON_MS));
	}
	end = ll_now_ms() + STORM_MS;
	while (!ret && ll_now_ms() < end) {
		ms = ll_now_ms();
		ret = ll_do(self->helper, LL_OP_PUNCH, self->path,
			    (n % 4 << 21) + (n & 1) * 2 * PAGE,
			    n & 1 ? PAGE : 2 << 20, 0);
		n++;
		ms = ll_now_ms() - ms;
		worst = ms > worst ? ms : worst;
	}
	EXPECT_EQ(0, ret);
	TH_LOG("%ld changes, the longest took %ld ms", n, worst);
	for (i = 0; i < ARRAY_SIZE(fn); i++)
		ll_proc_stop(&p[i]);
}

/*
 * When it is over, leases are granted.
 */
FIXTURE(afterwards) {
	struct ll_env env;
	struct held held;
	struct ll_proc changer;
	const char *leased, *second;
};

FIXTURE_VARIANT(afterwards) {
	struct ll_call call;
	bool xfs, second;	/* the one with the higher inode number */
	bool leasable;		/* then */
};

#define AFTER(name, ...)						\
	FIXTURE_VARIANT_ADD(afterwards, name) { __VA_ARGS__ }

AFTER(truncate, { ll_call_truncate }, .leasable = true);
AFTER(punch, { ll_call_fallocate, .mode = LL_PUNCH, .len = PAGE },
      .leasable = true);
AFTER(exchange, { ll_call_exchange, .len = LEN }, true, .leasable = true);
AFTER(exchange_second, { ll_call_exchange, .len = LEN }, true, true, true);
AFTER(dry_run, { ll_call_exchange, .len = LEN,
		 .mode = XFS_EXCHANGE_RANGE_DRY_RUN }, true, .leasable = true);
AFTER(dry_run_second, { ll_call_exchange, .len = LEN,
			.mode = XFS_EXCHANGE_RANGE_DRY_RUN }, true, true, true);
AFTER(clone, { ll_call_clone }, true);
AFTER(clone_second, { ll_call_clone }, true, true);

FIXTURE_SETUP(afterwards)
{
	struct stat st[2];

	LL_NEEDS_XFS_IF(variant->xfs);
	LL_ENV_INIT(&self->env, true);
	ll_set_grace(LONG_GRACE);
	ASSERT_EQ(0, ll_make(self->env.path, LEN / PAGE, 0x10));
	ASSERT_EQ(0, ll_make(self->env.other, LEN / PAGE, 0x10));
	ASSERT_EQ(0, stat(self->env.path, &st[0]));
	ASSERT_EQ(0, stat(self->env.other, &st[1]));
	if (variant->second == (st[0].st_ino > st[1].st_ino)) {
		self->leased = self->env.path;
		self->second = self->env.other;
	} else {
		self->leased = self->env.other;
		self->second = self->env.path;
	}
	if (!variant->xfs)
		self->second = NULL;
}

FIXTURE_TEARDOWN(afterwards)
{
	ll_proc_stop(&self->changer);
	ll_env_exit(&self->env);
}

/* A holder who lets go as soon as it is told, and wants the lease again. */
TEST_F_TIMEOUT(afterwards, leased_at_once, 240)
{
	struct ll_call call = variant->call;
	struct held *h = &self->held;
	struct ll_result res = { .ret = -1 };
	int again = variant->leasable ? 0 : -EOPNOTSUPP;
	long ms;

	call.path = self->leased;
	call.other = self->second;
	ASSERT_EQ(0, ll_call_start(&self->changer, &call));
	ASSERT_EQ(0, ll_hold(h, &self->env.rdma, self->leased, PAGE));
	ASSERT_EQ(0, ll_call_go(&self->changer));
	/* A dry run tells nobody. */
	if (ll_done_untold(&self->changer, LL_SOON_MS, &res)) {
		EXPECT_SIGNAL(h->fd, POLL_MSG);
		EXPECT_EQ(0, ibv_dereg_mr(h->mr));
		ASSERT_EQ(0, ll_done(&self->changer, LL_SOON_MS, &res));
	} else {
		EXPECT_EQ(0, ibv_dereg_mr(h->mr));
	}
	EXPECT_EQ(0, res.ret);
	ms = ll_now_ms();
	EXPECT_EQ(again, ll_lease(h->fd, F_RDLCK, 0, 0));
	EXPECT_EQ(again, ll_other_lease(&self->env.helper, self->leased,
					F_RDLCK, 0, 0));
	EXPECT_GE(SHORT_MS, ll_now_ms() - ms);
}

/*
 * A breaker that does not wait: it asks until there is nobody in the way, and
 * does what it wants to do. F_UNLCK with LAYOUT_LEASE_BREAK tells the holders.
 */

static int start_break(int fd)
{
	return ll_setlayout(fd, F_UNLCK, 0, 0, LAYOUT_LEASE_BREAK);
}

/* Leases are kept off for a moment at most. */
static int lease_soon(int fd)
{
	long end = ll_now_ms() + SHORT_MS;
	int ret;

	while ((ret = ll_lease(fd, F_RDLCK, 0, 0)) == -EAGAIN &&
	       ll_now_ms() < end)
		ll_sleep_ms(10);
	return ret;
}

/* In another process: a change of the holder's own is something else. */
struct poller {
	const char *path;
	long until_ms;
	bool change;
};

static void poll_and_truncate(int sock, void *arg)
{
	const struct poller *p = arg;
	int fd = open(p->path, O_RDWR), ret;
	long begun = ll_now_ms();

	ll_put(sock, start_break(fd));
	while ((ret = start_break(fd)) == -EWOULDBLOCK &&
	       ll_now_ms() < begun + p->until_ms)
		ll_sleep_ms(20);
	ll_put(sock, ret);
	if (!ret && p->change)
		ret = ftruncate(fd, PAGE) ? -errno : 0;
	ll_put(sock, ret);
	ll_put(sock, ll_now_ms() - begun);
	ll_get(sock, INT_MAX);
}

/* The longest that an event loop stood still, in ms; or -errno. */
static void loop_and_truncate(int sock, void *arg)
{
	struct pollfd tick = { .fd = -1 };
	int fd = open(arg, O_RDWR), ret;
	long before, worst = 0;

	do {
		before = ll_now_ms();
		ret = start_break(fd);
		if (!ret)
			ret = ftruncate(fd, PAGE) ? -errno : 0;
		if (ll_now_ms() - before > worst)
			worst = ll_now_ms() - before;
	} while (ret == -EWOULDBLOCK && !poll(&tick, 1, 20));
	ll_put(sock, ret ?: (int)worst);
	ll_get(sock, INT_MAX);
}

/* It asks, and then changes, and stands still for neither. */
LL_TEST(event_loop)
{
	struct ll_proc p = {};
	struct held h;
	long begun;
	int worst;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ll_set_grace(6);
	begun = ll_now_ms();
	ASSERT_EQ(0, ll_proc_start(&p, loop_and_truncate, (void *)self->path));
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	worst = ll_get(p.sock, 6000 + LL_SLACK_MS);
	EXPECT_LE(0, worst);
	EXPECT_GE(4000, worst);
	EXPECT_LE(5900, ll_now_ms() - begun);
	EXPECT_SIGNAL(h.fd, POLL_HUP);
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ll_proc_stop(&p);
}

LL_TEST(break_needs_write_access)
{
	int fd = open(self->path, O_RDONLY);
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	EXPECT_EQ(-EACCES, start_break(fd));
	EXPECT_UNDISTURBED(self->rdma, &h);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* Nobody is there, or nobody has a region: there is nothing to wait for. */
LL_TEST(break_of_nothing)
{
	int fd = open(self->path, O_RDWR);

	EXPECT_EQ(0, start_break(fd));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
	EXPECT_EQ(0, lease_soon(fd));
	EXPECT_EQ(-EAGAIN, ll_other_lease(self->helper, self->path, F_WRLCK, 0,
					  0));
	EXPECT_EQ(0, ll_unlock(fd));
	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK, 0, 0));
	EXPECT_EQ(0, start_break(fd));
}

static void ask_and_truncate(int sock, void *arg)
{
	int fd = open(arg, O_RDWR);

	ll_put(sock, start_break(fd));
	ll_get(sock, INT_MAX);
	ll_put(sock, start_break(fd));
	ll_put(sock, ftruncate(fd, PAGE) ? -errno : 0);
	ll_get(sock, INT_MAX);
}

/* The holder is told and has its time; then there is nothing in the way. */
LL_TEST(break_tells_the_holder)
{
	struct layout_lease lease;
	struct ll_proc p = {};
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, ll_proc_start(&p, ask_and_truncate, (void *)self->path));
	ASSERT_EQ(-EWOULDBLOCK, ll_get(p.sock, LL_SOON_MS));
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	ASSERT_EQ(0, ll_getlayout(h.fd, 0, 0, &lease));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, lease.state);
	EXPECT_LT(0, lease.remaining_ms);
	EXPECT_TRUE(ll_mr_works(self->rdma, h.mr));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ASSERT_EQ(0, ll_put(p.sock, 0));
	EXPECT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	/* That was it. */
	EXPECT_EQ(0, ll_lease(h.fd, F_RDLCK, 0, 0));
	ll_proc_stop(&p);
}

/* Holders who lease anew at once do not keep it out. */
FIXTURE(polling) {
	struct ll_env env;
	struct crowd crowd;
	struct ll_proc poller;
	struct poller p;
};

FIXTURE_VARIANT(polling) {
	bool cooperative;
};

FIXTURE_VARIANT_ADD(polling, cooperative) { true };
FIXTURE_VARIANT_ADD(polling, silent) { false };

FIXTURE_SETUP(polling)
{
	LL_ENV_INIT(&self->env, false);
	ll_set_grace(GRACE);
	ASSERT_EQ(0, crowd_start(&self->crowd, self->env.path, GREEDY,
				 variant->cooperative));
	crowd_go(&self->crowd);
	ASSERT_TRUE(crowd_holds(&self->crowd));
	self->p.path = self->env.path;
	self->p.until_ms = GRACE * 1000 + LL_SLACK_MS;
}

FIXTURE_TEARDOWN(polling)
{
	crowd_stop(&self->crowd);
	ll_proc_stop(&self->poller);
	ll_env_exit(&self->env);
}

TEST_F_TIMEOUT(polling, gets_through, 240)
{
	int fd = open(self->env.path, O_RDWR);

	self->p.change = true;
	ASSERT_EQ(0, ll_proc_start(&self->poller, poll_and_truncate,
				   &self->p));
	EXPECT_EQ(-EWOULDBLOCK, ll_get(self->poller.sock, LL_SOON_MS));
	EXPECT_EQ(0, ll_get(self->poller.sock, 2 * LL_SOON_MS));
	EXPECT_EQ(0, ll_get(self->poller.sock, LL_SOON_MS));
	EXPECT_GE(GRACE * 1000 + LL_SLACK_MS,
		  ll_get(self->poller.sock, LL_SOON_MS));
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_TRUE(crowd_holds(&self->crowd));
}

/* And if it does not do it, nobody is kept out for long. */
TEST_F_TIMEOUT(polling, and_goes_away, 240)
{
	int fd = open(self->env.path, O_RDWR);

	ASSERT_EQ(0, ll_proc_start(&self->poller, poll_and_truncate,
				   &self->p));
	EXPECT_EQ(-EWOULDBLOCK, ll_get(self->poller.sock, LL_SOON_MS));
	EXPECT_EQ(0, ll_get(self->poller.sock, 2 * LL_SOON_MS));
	EXPECT_EQ(0, lease_soon(fd));
}

/* It asks once, and never again: as soon as the holder is gone it is over. */
LL_TEST(asks_once)
{
	struct ll_proc p = {};
	struct held h;

	ll_set_grace(LONG_GRACE);
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, ll_proc_start(&p, ask_and_truncate, (void *)self->path));
	ASSERT_EQ(-EWOULDBLOCK, ll_get(p.sock, LL_SOON_MS));
	ll_proc_stop(&p);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, lease_soon(h.fd));
}

/* For more ranges than are remembered apart: none of them is forgotten. */
LL_TEST(asks_for_many_ranges)
{
	const long long unit = 2 << 20;		/* the largest DAX entry */
	int fd = open(self->path, O_RDWR), i;

	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK, 0, 0));
	for (i = 0; i < 20; i++)
		ASSERT_EQ(0, ll_setlayout(fd, F_UNLCK, i * unit, unit,
					  LAYOUT_LEASE_BREAK));
	for (i = 15; i < 20; i++)
		EXPECT_EQ(-EAGAIN, ll_lease(fd, F_RDLCK, i * unit, PAGE));
	EXPECT_EQ(0, lease_soon(fd));
}

TEST_HARNESS_MAIN
