// SPDX-License-Identifier: GPL-2.0
/*
 * While the layout of a file is changed, nothing is granted or registered that
 * the change does not know of. Each row is an operation, which is made to dwell
 * in several places, while other processes ask again and again for leases and
 * memory regions, give them up, or die. Afterwards a lease that is said to be
 * granted is on blocks of the file alone, and a region is what read(2) reads.
 */
#include <linux/fs.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "layout_lease_change.h"
#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define PAGE		4096LL
#define LEN		(64 * PAGE)
#define BIG		(16LL << 20)	/* so much takes a while to compare */
#define AT		(3 * PAGE)	/* what is registered */
#define REGION		(2 * PAGE)
#define CUT		(2 * PAGE)	/* operations on a part: 2 blocks at 2 */
#define DWELL_MS	60

/* Those who ask. The first one is alone: nobody has a lease when it begins. */
enum asker {
	FIRST,			/* leases and registers until it has both */
	SECOND,			/* beside a lease that it had before */
	REGISTERS,		/* under that one, again and again */
	UNLOCKS,		/* gives both up at once, and asks again */
	DIES,			/* with both, and its successor asks again */
	ASKERS
};

/* In shared memory. */
struct asking {
	const char *path;
	enum asker who;
	bool stop;
	long asked, granted, registered;
	char wrong[128];
};

struct region {
	int fd;
	char *map;
	struct ibv_mr *mr;
};

static bool stopped(struct asking *a)
{
	return __atomic_load_n(&a->stop, __ATOMIC_SEQ_CST);
}

static void drop(struct region *g)
{
	if (g->mr)
		ibv_dereg_mr(g->mr);
	g->mr = NULL;
}

static bool register_it(struct asking *a, struct ll_rdma *r, struct region *g)
{
	if (g->mr)
		return true;
	g->mr = ll_reg(r, g->map, REGION, LL_ACCESS);
	a->registered += !!g->mr;
	return g->mr;
}

static bool lease(struct asking *a, struct region *g)
{
	a->asked++;
	if (ll_lease(g->fd, F_RDLCK, 0, 0))
		return false;
	a->granted++;
	return true;
}

static void lease_register_die(struct asking *a, struct ll_rdma *r)
{
	pid_t pid = fork();
	struct region g = {};

	if (pid) {
		waitpid(pid, NULL, 0);
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	g.fd = open(a->path, O_RDWR | O_CLOEXEC);
	g.map = ll_map(g.fd, AT, REGION, PROT_READ | PROT_WRITE);
	if (lease(a, &g))
		register_it(a, r, &g);
	_exit(0);
}

static void ask(struct asking *a, struct ll_rdma *r, struct region *g)
{
	switch (a->who) {
	case FIRST:
	case SECOND:
		if (g->mr && ll_state(g->fd) == LAYOUT_LEASE_REVOKED)
			drop(g);
		if (!g->mr && lease(a, g))
			register_it(a, r, g);
		break;
	case REGISTERS:
		drop(g);
		register_it(a, r, g);
		break;
	case UNLOCKS:
		if (lease(a, g))
			register_it(a, r, g);
		drop(g);
		ll_unlock(g->fd);
		break;
	default:
		lease_register_die(a, r);
		break;
	}
}

/* One round: on a new file, until it is stopped. */
static int ask_until_stopped(int sock, struct asking *a, struct ll_rdma *r)
{
	struct region g = { .fd = open(a->path, O_RDWR | O_CLOEXEC) };
	const char *wrong;
	int ret;

	fcntl(g.fd, F_SETSIG, SIGRTMIN);
	g.map = ll_map(g.fd, AT, REGION, PROT_READ | PROT_WRITE);
	ll_put(sock, a->who == SECOND || a->who == REGISTERS ?
	       ll_lease(g.fd, F_RDLCK, 0, 0) : 0);
	ret = ll_get(sock, INT_MAX);
	while (!ret && !stopped(a))
		ask(a, r, &g);
	/* One looks after the other, since they write to the same place. */
	ret = ret ?: ll_put(sock, 0) ?: ll_get(sock, INT_MAX);
	wrong = ll_lease_wrong(r, a->path, g.fd, AT, REGION, g.mr);
	snprintf(a->wrong, sizeof(a->wrong), "%s", wrong ?: "");
	drop(&g);
	munmap(g.map, REGION);
	close(g.fd);
	return ll_put(sock, 0) ?: ret;
}

static void asker(int sock, void *arg)
{
	struct ll_rdma r;

	ll_put(sock, ll_rdma_open(&r) ? -EIO : 0);
	while (!ll_get(sock, INT_MAX) && !ask_until_stopped(sock, arg, &r))
		;
}

FIXTURE(barrier) {
	struct ll_env env;
	struct ll_proc changer, reader, freezer;
	struct ll_proc asker[ASKERS];
	struct asking *asking[ASKERS];
};

FIXTURE_VARIANT(barrier) {
	struct ll_call call;
	bool two_files;
};

#define ROW(name, ...)							\
	FIXTURE_VARIANT_ADD(barrier, name) { .call = { __VA_ARGS__ } }
#define ROW2(name, ...)							\
	FIXTURE_VARIANT_ADD(barrier, name)				\
		{ .call = { __VA_ARGS__ }, .two_files = true }

ROW2(dedupe_from, ll_call_dedupe, .len = LEN);
ROW2(dedupe_to, ll_call_dedupe, .len = LEN, .to = true);
ROW2(clone_from, ll_call_clone);
ROW2(clone_to, ll_call_clone, .to = true);
ROW2(exchange, ll_call_exchange, .len = LEN);
ROW2(exchange_second, ll_call_exchange, .len = LEN, .to = true);
ROW2(swapext, ll_call_swapext, .len = LEN);
ROW(truncate, ll_call_truncate, .len = CUT);
ROW(punch, ll_call_fallocate, .mode = LL_PUNCH, .off = CUT, .len = CUT);
ROW(zero, ll_call_fallocate, .mode = FALLOC_FL_ZERO_RANGE, .off = CUT,
    .len = CUT);
ROW(collapse, ll_call_fallocate, .mode = FALLOC_FL_COLLAPSE_RANGE, .off = CUT,
    .len = CUT);
ROW(insert, ll_call_fallocate, .mode = FALLOC_FL_INSERT_RANGE, .off = CUT,
    .len = CUT);

/* New inodes, which nobody has cloned. */
static int make(const char *path, long long len)
{
	static char buf[1 << 16];
	int fd;

	unlink(path);
	fd = open(path, O_RDWR | O_CREAT, 0666);
	if (fd < 0)
		return -errno;
	memset(buf, 0xa5, sizeof(buf));
	for (; len > 0; len -= sizeof(buf))
		if (write(fd, buf, sizeof(buf)) != sizeof(buf))
			return -errno;
	return close(fd);
}

FIXTURE_SETUP(barrier)
{
	int i;

	LL_NEEDS_XFS_IF(variant->two_files);
	LL_ENV_INIT(&self->env, false);
	ll_set_grace(0);
	for (i = 0; i < ASKERS; i++) {
		self->asking[i] = ll_shared(sizeof(struct asking));
		ASSERT_NE(MAP_FAILED, self->asking[i]);
		self->asking[i]->path = self->env.path;
		self->asking[i]->who = i;
		ASSERT_EQ(0, ll_proc_start(&self->asker[i], asker,
					   self->asking[i]));
	}
	for (i = 0; i < ASKERS; i++)
		ASSERT_EQ(0, ll_get(self->asker[i].sock, LL_SOON_MS));
}

FIXTURE_TEARDOWN(barrier)
{
	int i;

	for (i = 0; i < ASKERS; i++)
		ll_proc_stop(&self->asker[i]);
	ll_proc_stop(&self->reader);
	ll_freezer_stop(&self->freezer);
	ll_proc_stop(&self->changer);
	ll_env_exit(&self->env);
}

/* One round: who asks, of which files, and how the operation is made to dwell. */
struct round {
	FIXTURE_DATA(barrier) *self;
	const FIXTURE_VARIANT(barrier) *variant;
	enum asker from, to;
	long after_ms;		/* begins to ask */
};

static void start(struct __test_metadata *_metadata, struct round *round,
		  long long len)
{
	FIXTURE_DATA(barrier) *self = round->self;
	struct ll_call call = round->variant->call;
	int i;

	ASSERT_EQ(0, make(self->env.path, len));
	call.path = self->env.path;
	if (round->variant->two_files) {
		ASSERT_EQ(0, make(self->env.other, len));
		call.other = self->env.other;
	}
	if (call.fn == ll_call_dedupe)
		call.len = len;
	ASSERT_EQ(0, ll_call_start(&self->changer, &call));
	for (i = round->from; i <= round->to; i++) {
		self->asking[i]->stop = false;
		ASSERT_EQ(0, ll_put(self->asker[i].sock, 0));
		ASSERT_EQ(0, ll_get(self->asker[i].sock, LL_SOON_MS));
	}
}

/* The operation begins, and after a while others ask. */
static void begin(struct round *round)
{
	FIXTURE_DATA(barrier) *self = round->self;
	int i;

	ll_call_go(&self->changer);
	ll_sleep_ms(round->after_ms);
	for (i = round->from; i <= round->to; i++)
		ll_put(self->asker[i].sock, 0);
}

static void end(struct __test_metadata *_metadata, struct round *round,
		const char *where)
{
	FIXTURE_DATA(barrier) *self = round->self;
	struct ll_result res = { .ret = -1 };
	int i;

	ASSERT_EQ(0, ll_done(&self->changer, LL_SOON_MS, &res));
	/* Not if the file was changed, or mapped pages are used all the time. */
	if (round->variant->call.fn == ll_call_swapext &&
	    (res.ret == -EBUSY || res.ret == -EINVAL))
		res.ret = 0;
	EXPECT_EQ(0, res.ret) TH_LOG("%s", where);
	for (i = round->from; i <= round->to; i++)
		__atomic_store_n(&self->asking[i]->stop, true,
				 __ATOMIC_SEQ_CST);
	for (i = round->from; i <= round->to; i++)
		ASSERT_EQ(0, ll_get(self->asker[i].sock, LL_SOON_MS));
	for (i = round->from; i <= round->to; i++) {
		ASSERT_EQ(0, ll_put(self->asker[i].sock, 0));
		ASSERT_EQ(0, ll_get(self->asker[i].sock, LL_SOON_MS));
		EXPECT_EQ(0, self->asking[i]->wrong[0])
			TH_LOG("%s, asker %d: %s", where, i,
			       self->asking[i]->wrong);
	}
	ll_proc_stop(&self->changer);
}

/* Before it has any lock, and write access: the filesystem is frozen. */
static void frozen(struct __test_metadata *_metadata, struct round *round)
{
	FIXTURE_DATA(barrier) *self = round->self;

	start(_metadata, round, LEN);
	ASSERT_EQ(0, ll_freezer_start(&self->freezer, getenv("DAX1")));
	ASSERT_EQ(0, ll_freeze(&self->freezer, LL_SOON_MS));
	begin(round);
	ll_sleep_ms(DWELL_MS);
	EXPECT_EQ(0, ll_thaw(&self->freezer));
	ll_freezer_stop(&self->freezer);
	end(_metadata, round, "frozen");
}

/* Before the lock of a file: a reader has it. */
static void locked(struct __test_metadata *_metadata, struct round *round,
		   const char *path)
{
	FIXTURE_DATA(barrier) *self = round->self;

	start(_metadata, round, LEN);
	ASSERT_EQ(0, ll_reader_start(&self->reader, path));
	begin(round);
	ll_sleep_ms(DWELL_MS);
	EXPECT_EQ(0, ll_reader_let_go(&self->reader));
	end(_metadata, round, path == self->env.other ? "second file locked" :
						    "file locked");
	ll_proc_stop(&self->reader);
}

/*
 * While it waits for a page that a pipe has, which no lease is about. If the
 * pipe got a copy there is nothing to wait for.
 */
static void busy_page(struct __test_metadata *_metadata, struct round *round)
{
	FIXTURE_DATA(barrier) *self = round->self;
	struct iovec iov = { .iov_len = PAGE };
	int p[2], fd;

	start(_metadata, round, LEN);
	fd = open(self->env.path, O_RDWR);
	iov.iov_base = ll_map(fd, AT, PAGE, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, iov.iov_base);
	close(fd);
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(PAGE, syscall(__NR_vmsplice, p[1], &iov, 1, 0));
	ASSERT_EQ(0, munmap(iov.iov_base, PAGE));
	begin(round);
	ll_sleep_ms(DWELL_MS);
	close(p[0]);
	close(p[1]);
	end(_metadata, round, "page in a pipe");
}

/* In the middle of it, wherever that is. */
static void under_way(struct __test_metadata *_metadata, struct round *round)
{
	static const long after_ms[] = { 0, 2, 10, 40 };
	bool compares = round->variant->call.fn == ll_call_dedupe;
	char where[32];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(after_ms); i++) {
		start(_metadata, round, compares ? BIG : LEN);
		round->after_ms = after_ms[i];
		begin(round);
		snprintf(where, sizeof(where), "after %ld ms", after_ms[i]);
		end(_metadata, round, where);
	}
}

static void everywhere(struct __test_metadata *_metadata,
		       FIXTURE_DATA(barrier) *self,
		       const FIXTURE_VARIANT(barrier) *variant,
		       enum asker from, enum asker to)
{
	struct round round = { self, variant, from, to, DWELL_MS };

	frozen(_metadata, &round);
	locked(_metadata, &round, self->env.path);
	if (variant->two_files)
		locked(_metadata, &round, self->env.other);
	busy_page(_metadata, &round);
	under_way(_metadata, &round);
}

TEST_F_TIMEOUT(barrier, first_lease, 240)
{
	everywhere(_metadata, self, variant, FIRST, FIRST);
}

TEST_F_TIMEOUT(barrier, among_others, 240)
{
	everywhere(_metadata, self, variant, SECOND, DIES);
}

/*
 * How somebody without privileges read and overwrote files of others: a first
 * lease and a region on a page beside blocks that a deduplication shares. What
 * is written to those moves the page, and its block goes to somebody else.
 */
#define UNSHARED_PAGES	16

struct window {
	const char *path;
	long after_ms;
	char wrong[128];	/* in shared memory */
	bool granted, registered;
};

static void lease_in_the_middle(int sock, void *arg)
{
	struct window *w = arg;
	struct ll_rdma r;
	struct region g = {};
	const char *wrong;
	char c = 0x22;

	if (ll_rdma_open(&r) || ll_drop_privileges()) {
		ll_put(sock, -EIO);
		return;
	}
	g.fd = open(w->path, O_RDWR);
	g.map = ll_map(g.fd, AT, REGION, PROT_READ | PROT_WRITE);
	ll_put(sock, 0);
	ll_get(sock, INT_MAX);
	ll_sleep_ms(w->after_ms);
	if (!ll_lease(g.fd, F_RDLCK, 0, 0)) {
		w->granted = true;
		g.mr = ll_reg(&r, g.map, REGION, LL_ACCESS);
		w->registered = g.mr;
	}
	ll_put(sock, 0);
	ll_get(sock, INT_MAX);
	/* Stages blocks around this one, if the file is copy-on-write. */
	if (pwrite(g.fd, &c, 1, UNSHARED_PAGES * PAGE) != 1)
		w->wrong[0] = '!';
	wrong = ll_lease_wrong(&r, w->path, g.fd, AT, REGION, g.mr);
	if (wrong)
		snprintf(w->wrong, sizeof(w->wrong), "%s", wrong);
	drop(&g);
	ll_put(sock, 0);
}

FIXTURE(window) {
	struct ll_env env;
	struct ll_proc changer, holder;
};

FIXTURE_SETUP(window)
{
	int fd;

	LL_NEEDS_XFS();
	LL_ENV_INIT(&self->env, false);
	/* It may have to be loaded first. */
	fd = open(self->env.path, O_RDWR);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	close(fd);
}

FIXTURE_TEARDOWN(window)
{
	ll_proc_stop(&self->changer);
	ll_proc_stop(&self->holder);
	ll_env_exit(&self->env);
}

TEST_F_TIMEOUT(window, dedupe_of_neighbours, 240)
{
	static const long after_ms[] = { 5, 20, 50 };
	struct ll_result res = {};
	struct ll_call call = {
		.fn = ll_call_dedupe,
		.path = self->env.path,
		.other = self->env.other,
		.nobody = true,
		.off = UNSHARED_PAGES * PAGE,
		.other_off = UNSHARED_PAGES * PAGE,
		.len = BIG - UNSHARED_PAGES * PAGE,
	};
	struct window *w;
	unsigned int i;

	w = ll_shared(sizeof(*w));
	ASSERT_NE(MAP_FAILED, w);
	w->path = self->env.path;
	for (i = 0; i < ARRAY_SIZE(after_ms); i++) {
		ASSERT_EQ(0, make(self->env.path, BIG));
		ASSERT_EQ(0, make(self->env.other, BIG));
		ASSERT_EQ(0, chown(self->env.path, 65534, 65534));
		ASSERT_EQ(0, chown(self->env.other, 65534, 65534));
		w->after_ms = after_ms[i];
		ASSERT_EQ(0, ll_call_start(&self->changer, &call));
		ASSERT_EQ(0, ll_proc_start(&self->holder, lease_in_the_middle,
					   w));
		ASSERT_EQ(0, ll_get(self->holder.sock, LL_SOON_MS));
		ll_set_grace(0);
		ll_call_go(&self->changer);
		ll_put(self->holder.sock, 0);
		ASSERT_EQ(0, ll_get(self->holder.sock, LL_SOON_MS));
		ASSERT_EQ(0, ll_done(&self->changer, LL_SOON_MS, &res));
		EXPECT_EQ(0, res.ret);
		ll_put(self->holder.sock, 0);
		ASSERT_EQ(0, ll_get(self->holder.sock, LL_SOON_MS));
		EXPECT_EQ(0, w->wrong[0])
			TH_LOG("after %ld ms: %s", after_ms[i], w->wrong);
		ll_proc_stop(&self->holder);
		ll_proc_stop(&self->changer);
	}
}

TEST_HARNESS_MAIN
