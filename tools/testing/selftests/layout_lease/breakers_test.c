// SPDX-License-Identifier: GPL-2.0
/*
 * Who breaks leases, and what else happens to them: signals, holders who are
 * breakers, several at once, the grace period, administrators, a freeze,
 * holders who come back at once, and the holder itself.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "layout_lease_fixture.h"

#define LEN	(8 * ll_pg)
#define MB	(1024 * 1024LL)

/*
 * Operations that wait, each interrupted by a signal: nothing has happened, and
 * no trace of the break is left but the deadline of the holder.
 */
FIXTURE(interrupted) {
	struct ll_env env;
	struct held held;
};

FIXTURE_VARIANT(interrupted) {
	enum ll_op op;
	long long a, b;
	bool to;		/* the leased file is the destination */
};

FIXTURE_VARIANT_ADD(interrupted, ftruncate) { LL_OP_FTRUNCATE };
FIXTURE_VARIANT_ADD(interrupted, open_trunc) { LL_OP_OPEN_TRUNC };
FIXTURE_VARIANT_ADD(interrupted, punch) { LL_OP_PUNCH, 0, 65536 };
FIXTURE_VARIANT_ADD(interrupted, collapse) { LL_OP_COLLAPSE, 0, 65536 };
FIXTURE_VARIANT_ADD(interrupted, clone_from) { LL_OP_CLONE };
FIXTURE_VARIANT_ADD(interrupted, clone_to) { LL_OP_CLONE, .to = true };

FIXTURE_SETUP(interrupted)
{
	LL_NEEDS_XFS_IF(variant->op == LL_OP_CLONE);
	LL_ENV_INIT(&self->env, true);
	ASSERT_EQ(0, ll_make(self->env.other, LL_PAGES, 0x40));
	ASSERT_EQ(0, ll_hold(&self->held, &self->env.rdma, self->env.path,
			     LEN));
}

FIXTURE_TEARDOWN(interrupted)
{
	ll_env_exit(&self->env);
}

TEST_F_TIMEOUT(interrupted, breaker, 240)
{
	const char *path = self->env.path;
	struct ll_proc *helper = &self->env.helper;
	struct held *h = &self->held;
	struct ll_result res = {};
	int other, i;

	for (i = 0; i < 2; i++) {
		if (variant->op != LL_OP_CLONE)
			ll_send(helper, variant->op, path, variant->a,
				variant->b, 0);
		else if (variant->to)
			ll_send2(helper, LL_OP_CLONE, self->env.other, path, 0,
				 0);
		else
			ll_send2(helper, LL_OP_CLONE, path, self->env.other, 0,
				 0);
		if (i == 0)
			EXPECT_SIGNAL(h->fd, POLL_MSG);
		EXPECT_NOT_DONE(helper);
		if (i == 1)
			break;

		ASSERT_EQ(0, kill(helper->pid, SIGUSR1));
		ASSERT_EQ(0, ll_done(helper, LL_SOON_MS, &res));
		EXPECT_EQ(-EINTR, res.ret);
		EXPECT_TRUE(ll_file_is(path, 0, ll_pg, 0));
		EXPECT_TRUE(ll_file_is(path, (LL_PAGES - 1) * ll_pg, ll_pg,
				       LL_PAGES - 1));
		EXPECT_TRUE(ll_file_is(self->env.other, 0, ll_pg, 0x40));
		EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(h->fd));
		other = open(self->env.other, O_RDWR);
		EXPECT_EQ(0, ll_lease(other, F_WRLCK, 0, 0));
		EXPECT_EQ(0, ll_unlock(other));
		close(other);
	}
	/* Once told is enough. */
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(0, ibv_dereg_mr(h->mr));
	EXPECT_DONE_SOON(helper);
}

static volatile sig_atomic_t handled;

static void count_handler(int sig)
{
	handled++;
}

static void restarting(int sock, void *arg)
{
	struct sigaction sa = {
		.sa_handler = count_handler,
		.sa_flags = SA_RESTART,
	};

	sigaction(SIGUSR1, &sa, NULL);
	ll_put(sock, truncate(arg, 0) ? -errno : 0);
	ll_put(sock, handled);
}

/* With SA_RESTART it goes on waiting. */
LL_TEST(restarted)
{
	struct ll_proc p = {};
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, ll_proc_start(&p, restarting, (void *)self->path));
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	ASSERT_EQ(0, kill(p.pid, SIGUSR1));
	EXPECT_EQ(-ETIME, ll_get(p.sock, 500));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_TRUE(ll_mr_works(self->rdma, h.mr));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(1, ll_get(p.sock, LL_SOON_MS));
	ll_proc_stop(&p);
}

/*
 * Two processes of one thread each, which hold a file and truncate the one of
 * the other, at the same time: each runs its handler while it waits.
 */
struct crossing {
	const char *mine, *other;
	bool restart;
};

static struct held crossed;

static void let_go(int sig)
{
	if (crossed.mr && !ibv_dereg_mr(crossed.mr))
		crossed.mr = NULL;
	ll_unlock(crossed.fd);
}

static void cross(int sock, void *arg)
{
	struct crossing *c = arg;
	struct sigaction sa = {
		.sa_handler = let_go,
		.sa_flags = c->restart ? SA_RESTART : 0,
	};
	struct ll_rdma rdma;
	sigset_t set;
	long ms;
	int ret;

	if (ll_rdma_open(&rdma))
		return;
	ll_put(sock, ll_hold(&crossed, &rdma, c->mine, LEN));
	sigaction(SIGRTMIN, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	ll_get(sock, LL_SOON_MS);
	ms = ll_now_ms();
	do {
		ret = truncate(c->other, 0);
	} while (ret && errno == EINTR && !c->restart);
	ll_put(sock, ret ? -errno : 0);
	ll_put(sock, ll_now_ms() - ms);
	/* The other one may not have begun. */
	while (crossed.mr)
		ll_sleep_ms(5);
	ll_put(sock, 0);
}

LL_TEST(truncate_each_other)
{
	struct crossing c[2] = {};
	struct ll_proc p[2] = {};
	char other[PATH_MAX];
	int i;

	ASSERT_EQ(0, ll_mkfile(other, sizeof(other), getenv("DAX1"), LL_PAGES,
			       0));
	for (i = 0; i < 2; i++) {
		c[i].mine = i ? other : self->path;
		c[i].other = i ? self->path : other;
		c[i].restart = i;
		ASSERT_EQ(0, ll_proc_start(&p[i], cross, &c[i]));
		ASSERT_EQ(0, ll_get(p[i].sock, LL_SOON_MS));
	}
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ll_put(p[i].sock, 0));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, ll_get(p[i].sock, LL_SOON_MS));
		EXPECT_GE(LL_SOON_MS, ll_get(p[i].sock, LL_SOON_MS));
		EXPECT_EQ(0, ll_get(p[i].sock, LL_SOON_MS));
	}
	for (i = 0; i < 2; i++)
		ll_proc_stop(&p[i]);
	EXPECT_EQ(-EIO, ll_file_byte(self->path, 0));
	EXPECT_EQ(-EIO, ll_file_byte(other, 0));
	unlink(other);
}

/* Only an open with O_TRUNC looks at O_NONBLOCK: callers_test has that one. */
static void nonblock(int sock, void *arg)
{
	int fd = open(arg, O_RDWR | O_NONBLOCK);

	ll_put(sock, ll_punch(fd, 0, 65536));
	ll_get(sock, INT_MAX);
	ll_put(sock, ftruncate(fd, 0) ? -errno : 0);
}

LL_TEST(nonblock_descriptor)
{
	struct ll_proc p = {};
	struct held h;
	int i;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, ll_proc_start(&p, nonblock, (void *)self->path));
	for (i = 0; i < 2; i++) {
		EXPECT_SIGNAL(h.fd, POLL_MSG);
		EXPECT_EQ(-ETIME, ll_get(p.sock, 300));
		EXPECT_EQ(0, ibv_dereg_mr(h.mr));
		EXPECT_EQ(0, ll_get(p.sock, LL_SOON_MS));
		if (i == 1)
			break;
		ASSERT_EQ(0, ll_lease(h.fd, F_RDLCK, 0, 0));
		h.mr = ll_reg(self->rdma, h.map, LEN, LL_ACCESS);
		ASSERT_NE(NULL, h.mr);
		ASSERT_EQ(0, ll_put(p.sock, 0));
	}
	ll_proc_stop(&p);
}

/*
 * Whoever does not wait comes again and again. A holder who lets go, and wants the
 * lease back at once, does not keep it out; and has it back when that is done.
 */
LL_TEST(comes_again)
{
	long end = ll_now_ms() + LL_SOON_MS;
	struct held h;
	int ret;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	EXPECT_EQ(-EWOULDBLOCK, ll_do(self->helper, LL_OP_OPEN_TRUNC,
				      self->path, 0, 0, O_NONBLOCK));
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	do {
		ll_let_go(&h);
		if (!ll_lease(h.fd, F_RDLCK, 0, 0))
			h.mr = ll_reg(self->rdma, h.map, LEN, LL_ACCESS);
		ret = ll_do(self->helper, LL_OP_OPEN_TRUNC, self->path, 0, 0,
			    O_NONBLOCK);
	} while (ret == -EWOULDBLOCK && ll_now_ms() < end);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, ll_lease(h.fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ll_unlock(h.fd));
}

/* Or it does not come again: nobody has to wait for that as long as for a holder. */
LL_TEST(does_not_come_again)
{
	struct held h;
	long end;
	int ret;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	EXPECT_EQ(-EWOULDBLOCK, ll_do(self->helper, LL_OP_OPEN_TRUNC,
				      self->path, 0, 0, O_NONBLOCK));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	end = ll_now_ms() + LL_SLACK_MS;
	while ((ret = ll_lease(h.fd, F_RDLCK, 0, 0)) == -EAGAIN &&
	       ll_now_ms() < end)
		ll_sleep_ms(10);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, ll_unlock(h.fd));
}

/*
 * A first lease while an operation waits for a page that a pipe has, which no
 * lease is about.
 */
LL_TEST(first_lease_during_a_change)
{
	int fd = open(self->path, O_RDWR), p[2];
	char *map = ll_map(fd, 0, ll_pg, PROT_READ | PROT_WRITE);
	struct iovec iov = { map, ll_pg };
	struct ll_result res;
	char buf[64];

	memset(map, 1, ll_pg);
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(sizeof(buf), write(p[1], buf, sizeof(buf)));
	ASSERT_EQ((ssize_t)ll_pg, syscall(__NR_vmsplice, p[1], &iov, 1, 0));
	ASSERT_EQ(0, munmap(map, ll_pg));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	if (!ll_done(self->helper, 300, &res))
		SKIP(return, "pipes get copies of DAX pages");
	/* It is asleep, and has changed nothing yet: it asks when it wakes up. */
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	close(p[0]);
	close(p[1]);
	EXPECT_DONE_SOON(self->helper);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(fd));
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ll_unlock(fd));
}

/* Holds 4 to 6 MiB, with a region there, and punches a hole at 0. */
static void holding_breaker(int sock, void *arg)
{
	int fd = open(arg, O_RDWR);
	char *map = ll_map(fd, 4 * MB, LEN, PROT_READ | PROT_WRITE);
	struct ibv_mr *mr = NULL;
	struct ll_rdma rdma;

	if (!ll_rdma_open(&rdma) && !ll_lease(fd, F_WRLCK, 4 * MB, 2 * MB))
		mr = ll_reg(&rdma, map, LEN, LL_ACCESS);
	ll_put(sock, mr ? 0 : -EIO);
	ll_get(sock, INT_MAX);
	ll_put(sock, ll_punch(fd, 0, 65536));
	ll_put(sock, ll_state(fd));
	ll_put(sock, ll_mr_works(&rdma, mr));
	ll_put(sock, ll_no_signal());
	ll_get(sock, INT_MAX);
}

LL_TEST(breaker_holds_another_range)
{
	struct ll_proc p = {};
	struct ibv_mr *mr;
	char *map;
	int fd;

	fd = open(self->path, O_RDWR);
	ASSERT_EQ(0, ll_fill(fd, 6 * MB / ll_pg, 0));
	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_proc_start(&p, holding_breaker, (void *)self->path));
	ASSERT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 2 * MB));
	mr = ll_reg(self->rdma, map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	ASSERT_EQ(0, ll_put(p.sock, 0));
	EXPECT_SIGNAL(fd, POLL_MSG);
	EXPECT_EQ(-ETIME, ll_get(p.sock, 300));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(true, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(true, ll_get(p.sock, LL_SOON_MS));
	ll_proc_stop(&p);
}

/* A test that holds two regions, at 0 and at 4 MiB. */
static void hold_two(struct __test_metadata *_metadata, struct ll_env *env,
		     struct held *h, struct ibv_mr *mr[2])
{
	h->fd = open(env->path, O_RDWR);
	ASSERT_EQ(0, ll_fill(h->fd, 6 * MB / ll_pg, 0));
	ASSERT_EQ(0, fcntl(h->fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(h->fd, F_RDLCK, 0, 0));
	h->map = ll_map(h->fd, 0, 6 * MB, PROT_READ | PROT_WRITE);
	mr[0] = ll_reg(&env->rdma, h->map, LEN, LL_ACCESS);
	mr[1] = ll_reg(&env->rdma, h->map + 4 * MB, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr[0]);
	ASSERT_NE(NULL, mr[1]);
}

static int state_at(int fd, __u64 start)
{
	struct layout_lease lease;

	return ll_getlayout(fd, start, 1, &lease) ?: lease.state;
}

/* Each waits for what it breaks. */
LL_TEST(two_breakers_two_ranges)
{
	struct ll_proc second = {};
	struct ibv_mr *mr[2];
	struct held h;

	ASSERT_EQ(0, ll_helper_start(&second));
	hold_two(_metadata, &self->env, &h, mr);
	ll_send(self->helper, LL_OP_PUNCH, self->path, 0, 65536, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	ll_send(&second, LL_OP_PUNCH, self->path, 4 * MB, 65536, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, ibv_dereg_mr(mr[1]));
	EXPECT_DONE_SOON(&second);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, state_at(h.fd, 0));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, state_at(h.fd, 2 * MB));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, state_at(h.fd, 4 * MB));
	EXPECT_EQ(0, ibv_dereg_mr(mr[0]));
	EXPECT_DONE_SOON(self->helper);
	ll_proc_stop(&second);
}

/* A clone breaks two files at once, not one after the other. */
LL_TEST(two_files)
{
	struct layout_lease lease;
	siginfo_t info = {};
	char other[PATH_MAX];
	struct held h[2];
	int fd;

	if (!ll_is_xfs())
		SKIP(return, "XFS only");
	ASSERT_EQ(0, ll_mkfile(other, sizeof(other), getenv("DAX1"), LL_PAGES,
			       0));
	ASSERT_EQ(0, ll_hold(&h[0], self->rdma, self->path, LEN));
	ASSERT_EQ(0, ll_hold(&h[1], self->rdma, other, LEN));
	ll_send2(self->helper, LL_OP_CLONE, self->path, other, 0, 0);
	ASSERT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, &info));
	EXPECT_TRUE(info.si_fd == h[0].fd || info.si_fd == h[1].fd);
	fd = h[info.si_fd == h[0].fd].fd;
	EXPECT_SIGNAL(fd, POLL_MSG);
	ASSERT_EQ(0, ll_getlayout(h[0].fd, 0, 0, &lease));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, lease.state);
	EXPECT_LT(0, lease.remaining_ms);
	ASSERT_EQ(0, ll_getlayout(h[1].fd, 0, 0, &lease));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, lease.state);
	EXPECT_LT(0, lease.remaining_ms);
	/* While the first one is waited for, the second one stays broken. */
	EXPECT_EQ(0, ibv_dereg_mr(h[1].mr));
	EXPECT_EQ(-EAGAIN, ll_lease(h[1].fd, F_RDLCK, 0, 0));
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, ibv_dereg_mr(h[0].mr));
	EXPECT_DONE_SOON(self->helper);
	unlink(other);
}

/*
 * The grace period of a break is the one of its begin. A later break with a
 * shorter one does not wait longer than that, and the holder can see it.
 */
LL_TEST(grace_changes_meanwhile)
{
	struct layout_lease lease;
	struct ll_proc second = {};
	struct ll_result res = {};
	bool shorter = false;
	struct held h;

	ASSERT_EQ(0, ll_helper_start(&second));
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ll_send(self->helper, LL_OP_PUNCH, self->path, 0, 65536, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	ll_set_grace(1);
	EXPECT_EQ(-ETIME, ll_done(self->helper, 1500, &res));
	ASSERT_EQ(0, ll_getlayout(h.fd, 0, 0, &lease));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, lease.state);
	EXPECT_LT(LL_GRACE * 1000 / 2, lease.remaining_ms);
	EXPECT_TRUE(ll_mr_works(self->rdma, h.mr));

	ll_send(&second, LL_OP_PUNCH, self->path, 0, 65536, 0);
	do {
		ASSERT_EQ(0, ll_getlayout(h.fd, 0, 0, &lease));
		shorter |= lease.state == LAYOUT_LEASE_BREAKING &&
			lease.remaining_ms <= 1000;
		ll_sleep_ms(10);
	} while (lease.state == LAYOUT_LEASE_BREAKING);
	EXPECT_TRUE(shorter);
	EXPECT_DONE_AT_DEADLINE(&second, 1);
	EXPECT_DONE_SOON(self->helper);
	EXPECT_SIGNAL(h.fd, POLL_HUP);
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ll_proc_stop(&second);
}

/*
 * Administrators
 */

static int seize(int fd, __u64 start, __u64 len)
{
	return ll_setlayout(fd, F_UNLCK, start, len, LAYOUT_LEASE_SEIZE);
}

/* The descriptor need not be a writable one. */
LL_TEST(seize)
{
	struct ll_holder holder = { .path = self->path };
	int fd = open(self->path, O_RDONLY);
	struct ll_proc p = {};
	long ms;

	ASSERT_EQ(0, ll_holder_start(&p, &holder));
	EXPECT_EQ(-EAGAIN, ll_do(self->helper, LL_OP_LEASE, self->path, 0, 0,
				 F_WRLCK));
	ms = ll_now_ms();
	EXPECT_EQ(0, seize(fd, 0, 0));
	EXPECT_GE(LL_SOON_MS, ll_now_ms() - ms);
	EXPECT_EQ(LL_HOLDER_BREAK, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(LL_HOLDER_REVOKED, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_LEASE, self->path, 0, 0,
			   F_WRLCK));
	ll_proc_stop(&p);
}

/* And who waits for its turn has it. */
LL_TEST(seize_during_a_break)
{
	struct ll_holder holder = { .path = self->path };
	int fd = open(self->path, O_RDONLY);
	struct ll_proc p = {};

	ASSERT_EQ(0, ll_holder_start(&p, &holder));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_EQ(LL_HOLDER_BREAK, ll_get(p.sock, LL_SOON_MS));
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, seize(fd, 0, 0));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_EQ(LL_HOLDER_REVOKED, ll_get(p.sock, LL_SOON_MS));
	ll_proc_stop(&p);
}

static void seize_head(int sock, void *arg)
{
	ll_put(sock, seize(open(arg, O_RDONLY), 0, 2 * MB));
}

LL_TEST(seize_a_part)
{
	struct ll_proc p = {};
	struct ibv_mr *mr[2];
	struct held h;

	hold_two(_metadata, &self->env, &h, mr);
	ASSERT_EQ(0, ll_proc_start(&p, seize_head, (void *)self->path));
	EXPECT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_SIGNAL(h.fd, POLL_HUP);
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, mr[0]->addr, mr[0]->rkey));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, state_at(h.fd, 0));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, state_at(h.fd, 2 * MB));
	EXPECT_TRUE(ll_mr_works(self->rdma, mr[1]));
	EXPECT_EQ(0, ibv_dereg_mr(mr[0]));
	EXPECT_EQ(0, ibv_dereg_mr(mr[1]));
	ll_proc_stop(&p);
}

/*
 * A file that has no name any more, whose blocks a silent holder keeps. The
 * ways to it that an administrator has, without having kept anything: the
 * holder's descriptor; its mapping; or, if it closed and unmapped the file, the
 * number of the inode in /proc/locks, which open_by_handle_at(2) opens.
 */
FIXTURE(nameless) {
	struct ll_env env;
	struct ll_proc p;
};

FIXTURE_VARIANT(nameless) {
	bool closed, unmapped;
};

FIXTURE_VARIANT_ADD(nameless, open) {};
FIXTURE_VARIANT_ADD(nameless, mapped) { .closed = true };
FIXTURE_VARIANT_ADD(nameless, closed_and_unmapped) { true, true };

FIXTURE_SETUP(nameless)
{
	LL_ENV_INIT(&self->env, true);
}

FIXTURE_TEARDOWN(nameless)
{
	ll_proc_stop(&self->p);
	ll_env_exit(&self->env);
}

struct hidden {
	const char *path;
	bool closed, unmapped;
	/* in shared memory */
	int fd;
	char *map;
};

static void hide(int sock, void *arg)
{
	struct hidden *hidden = arg;
	struct ll_rdma rdma;
	siginfo_t info = {};
	struct held h;

	if (ll_rdma_open(&rdma) || ll_hold(&h, &rdma, hidden->path, LEN)) {
		ll_put(sock, -EIO);
		return;
	}
	hidden->fd = h.fd;
	hidden->map = h.map;
	if (hidden->closed)
		close(h.fd);
	if (hidden->unmapped)
		munmap(h.map, LEN);
	ll_put(sock, 0);
	ll_signal(SIGRTMIN, INT_MAX, &info);
	ll_put(sock, info.si_code);
	ll_signal(SIGRTMIN, LL_SOON_MS, &info);
	ll_put(sock, info.si_code);
	ll_get(sock, INT_MAX);
}

static unsigned long leased_inode(pid_t pid)
{
	FILE *f = fopen("/proc/locks", "re");
	unsigned long ino, found = 0;
	char line[256];
	int holder;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s LAYOUT %*s %*s %d %*x:%*x:%lu", &holder,
			   &ino) == 2 && holder == pid)
			found = ino;
	if (f)
		fclose(f);
	return found;
}

/* ext4 takes 0 for any generation. */
static __u32 generation(int dir, unsigned long ino)
{
	struct {
		__u64 ino;
		__u32 flags, icount, ocount, agno;
		__u64 reserved[5];
		struct {
			__u64 ino, more[7];
			__u32 gen, rest[31];
		} stat;
	} req = { .ino = ino, .icount = 1 };

	/* XFS_IOC_BULKSTAT; <xfs/xfs_fs.h> may be missing. */
	if (ll_is_xfs() && (ioctl(dir, _IOC(_IOC_READ, 'X', 127, 64), &req) ||
			 req.ocount != 1 || req.stat.ino != ino))
		return 0;
	return req.stat.gen;
}

static int open_inode(unsigned long ino)
{
	int dir = open(getenv("DAX1"), O_RDONLY | O_DIRECTORY);
	struct {
		unsigned int bytes;
		int type;
		__u32 ino, generation;
	} handle = { 8, 1, ino, generation(dir, ino) };	/* FILEID_INO32_GEN */

	return syscall(__NR_open_by_handle_at, dir, &handle, O_RDONLY);
}

static int open_nameless(struct ll_proc *p, const struct hidden *hidden)
{
	char path[128];

	if (hidden->unmapped)
		return open_inode(leased_inode(p->pid));
	if (hidden->closed)
		snprintf(path, sizeof(path), "/proc/%d/map_files/%lx-%lx",
			 p->pid, (unsigned long)hidden->map,
			 (unsigned long)hidden->map + LEN);
	else
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", p->pid,
			 hidden->fd);
	return open(path, O_RDONLY);
}

static long free_blocks(void)
{
	struct statfs st;

	return statfs(getenv("DAX1"), &st) ? -errno : st.f_bfree;
}

TEST_F_TIMEOUT(nameless, seize, 240)
{
	struct hidden *hidden = ll_shared(ll_pg);
	long end, before;
	int fd;

	ASSERT_NE(MAP_FAILED, hidden);
	hidden->path = self->env.path;
	hidden->closed = variant->closed;
	hidden->unmapped = variant->unmapped;
	ASSERT_EQ(0, ll_proc_start(&self->p, hide, hidden));
	ASSERT_EQ(0, ll_get(self->p.sock, LL_SOON_MS));
	ASSERT_EQ(0, unlink(self->env.path));
	sync();
	before = free_blocks();

	fd = open_nameless(&self->p, hidden);
	ASSERT_LE(0, fd) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(1, ll_proc_locks(fd));
	EXPECT_EQ(0, seize(fd, 0, 0));
	EXPECT_EQ(POLL_MSG, ll_get(self->p.sock, LL_SOON_MS));
	EXPECT_EQ(POLL_HUP, ll_get(self->p.sock, LL_SOON_MS));
	EXPECT_EQ(0, close(fd));
	if (!variant->unmapped)
		return;

	/* Nothing else kept it: the blocks are free again. */
	end = ll_now_ms() + LL_SOON_MS;
	while (free_blocks() < before + LL_PAGES && ll_now_ms() < end) {
		sync();
		ll_sleep_ms(50);
	}
	EXPECT_LE(before + LL_PAGES, free_blocks());
}

/*
 * A freeze comes while a breaker waits. Neither it nor all others who then wait
 * for the thaw wait for the holder.
 */
FIXTURE(freeze) {
	struct ll_env env;
	struct ll_proc freezer;
};

FIXTURE_VARIANT(freeze) {
	enum ll_op op;
	long long a, b;
	bool silent;
};

FIXTURE_VARIANT_ADD(freeze, truncate) { LL_OP_TRUNCATE };
FIXTURE_VARIANT_ADD(freeze, ftruncate) { LL_OP_FTRUNCATE };
FIXTURE_VARIANT_ADD(freeze, punch) { LL_OP_PUNCH, 0, 65536 };
FIXTURE_VARIANT_ADD(freeze, clone) { LL_OP_CLONE };
FIXTURE_VARIANT_ADD(freeze, punch_silent) { LL_OP_PUNCH, 0, 65536, true };

FIXTURE_SETUP(freeze)
{
	LL_NEEDS_XFS_IF(variant->op == LL_OP_CLONE);
	LL_ENV_INIT(&self->env, true);
	ASSERT_EQ(0, ll_make(self->env.other, 0, 0));
	ASSERT_EQ(0, ll_freezer_start(&self->freezer, getenv("DAX1")));
}

FIXTURE_TEARDOWN(freeze)
{
	ll_freezer_stop(&self->freezer);
	ll_env_exit(&self->env);
}

TEST_F_TIMEOUT(freeze, breaker_waits, 240)
{
	struct ll_proc *helper = &self->env.helper;
	struct held h;
	int frozen;

	ASSERT_EQ(0, ll_hold(&h, &self->env.rdma, self->env.path, LEN));
	if (variant->silent)
		ll_set_grace(2);
	if (variant->op == LL_OP_CLONE)
		ll_send2(helper, LL_OP_CLONE, self->env.path, self->env.other, 0,
			 0);
	else
		ll_send(helper, variant->op, self->env.path, variant->a,
			variant->b, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_NOT_DONE(helper);

	frozen = ll_freeze(&self->freezer, LL_SOON_MS / 2);
	EXPECT_EQ(0, frozen) TH_LOG("the freeze waits for the holder");
	/* A frozen filesystem does not keep anybody's regions. */
	if (variant->silent) {
		EXPECT_SIGNAL(h.fd, POLL_HUP);
		EXPECT_TRUE(ll_rkey_is_dead(&self->env.rdma, h.map,
					    h.mr->rkey));
	}
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	if (frozen)
		return;
	EXPECT_NOT_DONE(helper);
	EXPECT_EQ(0, ll_thaw(&self->freezer));
	EXPECT_DONE_SOON(helper);
}

/* So does an open that truncates, which has write access before that. */
LL_TEST(open_that_truncates_and_freeze)
{
	struct ll_proc freezer;
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, ll_freezer_start(&freezer, getenv("DAX1")));
	ll_send(self->helper, LL_OP_OPEN_TRUNC, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_EQ(0, ll_freeze(&freezer, LL_SOON_MS))
		TH_LOG("the freeze waits for the holder");
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_thaw(&freezer));
	ll_freezer_stop(&freezer);
	EXPECT_DONE_SOON(self->helper);
}

/*
 * A first lease when the operation has begun, and does not have its locks yet: it
 * meets the lease under these, gives them back, and comes again.
 */
#define FIRST_LEASE_GRACE	10

LL_TEST(first_lease_before_a_change)
{
	int fd = open(self->path, O_RDWR), leased;
	struct ll_proc freezer, reader;
	struct ibv_mr *mr;
	char *map;

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	map = ll_map(fd, 0, LEN, PROT_READ);
	ASSERT_EQ(0, ll_helper_start(&reader));
	ll_set_grace(FIRST_LEASE_GRACE);
	ASSERT_EQ(0, ll_freezer_start(&freezer, getenv("DAX1")));
	ASSERT_EQ(0, ll_freeze(&freezer, LL_SOON_MS));
	ll_send(self->helper, LL_OP_PUNCH, self->path, 0, 65536, 0);
	EXPECT_NOT_DONE(self->helper);
	leased = ll_lease(fd, F_RDLCK, 0, 0);
	mr = ll_reg(self->rdma, map, LEN, IBV_ACCESS_REMOTE_READ);
	ASSERT_EQ(0, ll_thaw(&freezer));
	ll_freezer_stop(&freezer);
	ASSERT_EQ(0, leased);
	ASSERT_NE(NULL, mr);

	EXPECT_SIGNAL(fd, POLL_MSG);
	ll_send(&reader, LL_OP_READ, self->path, 0, 1, 0);
	EXPECT_DONE_SOON(&reader);
	ASSERT_EQ(0, ll_freezer_start(&freezer, getenv("DAX1")));
	EXPECT_EQ(0, ll_freeze(&freezer, LL_SOON_MS));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(fd));
	EXPECT_EQ(0, ll_thaw(&freezer));
	ll_freezer_stop(&freezer);
	ll_proc_stop(&reader);
	EXPECT_DONE_AT_DEADLINE(self->helper, FIRST_LEASE_GRACE);
	EXPECT_SIGNAL(fd, POLL_HUP);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(fd));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/*
 * A region is no write that a freeze waits for, and goes on. Who wants a file to
 * stand still takes all leases first, and has none granted.
 */
LL_TEST(written_while_frozen)
{
	static const char enable[] = "/proc/sys/fs/leases-enable";
	struct ll_proc freezer;
	bool written, dead;
	int frozen, again;
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, ll_freezer_start(&freezer, getenv("DAX1")));
	ASSERT_EQ(0, ll_freeze(&freezer, LL_SOON_MS));
	written = ll_rdma_write(self->rdma, h.map, h.mr->rkey, ll_pg, 0x5a) ==
		IBV_WC_SUCCESS;
	EXPECT_EQ(0, ll_thaw(&freezer));
	ll_freezer_stop(&freezer);
	EXPECT_TRUE(written);
	EXPECT_EQ(0x5a, ll_file_byte(self->path, 0));

	ASSERT_EQ(0, ll_freezer_start(&freezer, getenv("DAX1")));
	ASSERT_EQ(0, ll_write_str(enable, "0"));
	EXPECT_EQ(0, ll_setlayout(h.fd, F_UNLCK, 0, 0, LAYOUT_LEASE_SEIZE_FS));
	again = ll_lease(h.fd, F_RDLCK, 0, 0);
	frozen = ll_freeze(&freezer, LL_SOON_MS);
	dead = ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey);
	EXPECT_EQ(0, ll_thaw(&freezer));
	ll_freezer_stop(&freezer);
	/* Whatever became of the rest, other tests want leases. */
	ASSERT_EQ(0, ll_write_str(enable, "1"));
	ASSERT_EQ(0, frozen);
	EXPECT_EQ(-EINVAL, again);
	EXPECT_TRUE(dead);
	EXPECT_EQ(0x5a, ll_file_byte(self->path, 0));

	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_lease(h.fd, F_RDLCK, 0, 0));
}

/*
 * Holders who ask again all the time, let go once for each break, and do
 * nothing after that: what they would get during a break would cost the breaker
 * all of the grace period.
 */
#define GREEDY	3

struct greedy {
	const char *path;
	int held;		/* how many of them, in shared memory */
};

static void greedy(int sock, void *arg)
{
	struct greedy *g = arg;
	struct ibv_mr *mr = NULL;
	struct ll_rdma rdma;
	char *map;
	int fd;

	fd = open(g->path, O_RDWR);
	map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
	if (fcntl(fd, F_SETSIG, SIGRTMIN) || ll_rdma_open(&rdma))
		return;
	for (;;) {
		while (ll_lease(fd, F_RDLCK, 0, 0))
			;
		mr = ll_reg(&rdma, map, LEN, LL_ACCESS);
		if (mr)
			__atomic_add_fetch(&g->held, 1, __ATOMIC_SEQ_CST);
		ll_signal(SIGRTMIN, INT_MAX, NULL);
		if (mr) {
			__atomic_sub_fetch(&g->held, 1, __ATOMIC_SEQ_CST);
			ibv_dereg_mr(mr);
		}
		ll_unlock(fd);
	}
}

LL_TEST(holders_lease_again)
{
	struct ll_proc p[GREEDY] = {};
	struct ll_result res = {};
	struct greedy *g;
	long end;
	int i;

	g = ll_shared(ll_pg);
	ASSERT_NE(MAP_FAILED, g);
	g->path = self->path;
	for (i = 0; i < GREEDY; i++)
		ASSERT_EQ(0, ll_proc_start(&p[i], greedy, g));
	for (i = 0; i < 5; i++) {
		end = ll_now_ms() + LL_SOON_MS;
		while (__atomic_load_n(&g->held, __ATOMIC_SEQ_CST) < GREEDY &&
		       ll_now_ms() < end)
			ll_sleep_ms(5);
		ASSERT_EQ(GREEDY, __atomic_load_n(&g->held, __ATOMIC_SEQ_CST));
		ll_send(self->helper, LL_OP_PUNCH, self->path, 0, 65536, 0);
		ASSERT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
		EXPECT_EQ(0, res.ret);
	}
	for (i = 0; i < GREEDY; i++)
		ll_proc_stop(&p[i]);
}

/*
 * The holder itself
 */

struct thread {
	struct ll_rdma *rdma;
	const char *path;
	struct held *h;
	enum ll_op op;
	int ret, done;
};

static void *hold_in_thread(void *arg)
{
	struct thread *t = arg;

	t->ret = ll_hold(t->h, t->rdma, t->path, LEN);
	return NULL;
}

static void *change_in_thread(void *arg)
{
	struct thread *t = arg;

	if (t->op == LL_OP_PUNCH)
		t->ret = ll_punch(t->h->fd, 0, 65536);
	else
		t->ret = truncate(t->path, 0) ? -errno : 0;
	__atomic_store_n(&t->done, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static int run(void *(*fn)(void *arg), struct thread *t)
{
	pthread_t thread;
	int ret = pthread_create(&thread, NULL, fn, t);

	return -ret ?: -pthread_join(thread, NULL) ?: t->ret;
}

/* Threads are one holder: one of them leases, another one changes. */
LL_TEST(change_in_another_thread)
{
	struct held h;
	struct thread t = { self->rdma, self->path, &h };
	enum ll_op ops[] = { LL_OP_PUNCH, LL_OP_TRUNCATE };
	unsigned int i;
	long ms;

	for (i = 0; i < 2 * ARRAY_SIZE(ops); i++) {
		ASSERT_EQ(0, i & 1 ? run(hold_in_thread, &t) :
			     ll_hold(&h, self->rdma, self->path, LEN));
		EXPECT_TRUE(ll_mr_works(self->rdma, h.mr));
		t.op = ops[i / 2];
		ms = ll_now_ms();
		if (i & 1)
			change_in_thread(&t);
		else
			run(change_in_thread, &t);
		EXPECT_EQ(0, t.ret);
		EXPECT_GE(LL_SOON_MS, ll_now_ms() - ms);
		EXPECT_TRUE(ll_no_signal());
		EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
		EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h.fd));
		EXPECT_EQ(0, ibv_dereg_mr(h.mr));
		EXPECT_EQ(0, close(h.fd));
		EXPECT_EQ(0, munmap(h.map, LEN));
		ASSERT_EQ(0, truncate(self->path, LL_PAGES * ll_pg));
	}
}

LL_TEST(own_change_of_a_part)
{
	struct ibv_mr *mr[2];
	struct held h;
	long ms;

	hold_two(_metadata, &self->env, &h, mr);
	ms = ll_now_ms();
	ASSERT_EQ(0, ll_punch(h.fd, 0, 65536));
	EXPECT_GE(LL_SOON_MS, ll_now_ms() - ms);
	EXPECT_TRUE(ll_no_signal());
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, mr[0]->addr, mr[0]->rkey));
	EXPECT_TRUE(ll_mr_works(self->rdma, mr[1]));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, state_at(h.fd, 0));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, state_at(h.fd, 2 * MB));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, state_at(h.fd, 4 * MB));
	EXPECT_EQ(0, ibv_dereg_mr(mr[0]));
	EXPECT_EQ(0, ibv_dereg_mr(mr[1]));
}

/* Its own region goes at once, others have their time. */
LL_TEST(own_change_waits_for_others)
{
	struct ll_holder other = { .path = self->path };
	struct held h;
	struct thread t = { self->rdma, self->path, &h, LL_OP_TRUNCATE };
	struct ll_proc p = {};
	pthread_t thread;
	bool dead;
	long end;

	ASSERT_EQ(0, ll_holder_start(&p, &other));
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, pthread_create(&thread, NULL, change_in_thread, &t));
	EXPECT_EQ(LL_HOLDER_BREAK, ll_get(p.sock, LL_SOON_MS));
	end = ll_now_ms() + LL_SOON_MS;
	while (!(dead = ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey)) &&
	       ll_now_ms() < end)
		;
	EXPECT_TRUE(dead);
	EXPECT_EQ(-ETIME, ll_get(p.sock, 300));
	EXPECT_EQ(0, __atomic_load_n(&t.done, __ATOMIC_SEQ_CST));
	/* No need to wait for all of it here. */
	EXPECT_EQ(0, seize(h.fd, 0, 0));
	EXPECT_EQ(LL_HOLDER_REVOKED, ll_get(p.sock, LL_SOON_MS));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, t.ret);
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ll_proc_stop(&p);
}

/* A child is another process, whatever it inherited. */
LL_TEST(child_changes)
{
	struct held h;
	int status;
	pid_t pid;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(ftruncate(h.fd, 0) ? errno : 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	ll_sleep_ms(300);
	EXPECT_EQ(0, waitpid(pid, &status, WNOHANG));
	EXPECT_TRUE(ll_mr_works(self->rdma, h.mr));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/*
 * Everybody else
 */

/* Who waits for a holder keeps nobody from the file. */
LL_TEST(others_go_on)
{
	char moved[PATH_MAX + 8], cmd[PATH_MAX + 32];
	struct ll_result res = {};
	struct ll_proc p = {};
	struct held h;

	ASSERT_EQ(0, ll_helper_start(&p));
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, ll_pg, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, ll_do(&p, LL_OP_WRITE, self->path, 0, 2 * ll_pg, 0x55));
	EXPECT_EQ(0, ll_do(&p, LL_OP_READ, self->path, 0, ll_pg, 0));
	EXPECT_EQ(0, ll_do(&p, LL_OP_OPEN_WRITE, self->path, 0, 0, 0));
	snprintf(cmd, sizeof(cmd), "chmod 0640 %s && sync %s", self->path,
		 self->path);
	EXPECT_EQ(0, ll_sh_soon(cmd));
	snprintf(moved, sizeof(moved), "%s.moved", self->path);
	ll_send2(&p, LL_OP_RENAME, self->path, moved, 0, 0);
	EXPECT_EQ(0, ll_done(&p, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_EQ(0x55, ll_file_byte(moved, ll_pg - 1));
	EXPECT_EQ(-EIO, ll_file_byte(moved, ll_pg));
	unlink(moved);
	ll_proc_stop(&p);
}

static void nobody(int sock, void *arg)
{
	int fd = open(arg, O_RDONLY);

	ll_put(sock, ll_drop_privileges());
	ll_put(sock, truncate(arg, 0) ? -errno : 0);
	ll_put(sock, open(arg, O_WRONLY | O_TRUNC) < 0 ? -errno : 0);
	ll_put(sock, ftruncate(fd, 0) ? -errno : 0);
	ll_put(sock, ll_punch(fd, 0, 65536));
}

/* Who may not change the file does not break anything either. */
LL_TEST(refused_changes)
{
	struct ll_proc p = {};
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, ll_proc_start(&p, nobody, (void *)self->path));
	ASSERT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(-EACCES, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(-EACCES, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(-EINVAL, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(-EBADF, ll_get(p.sock, LL_SOON_MS));

	ASSERT_EQ(0, ll_set_immutable(h.fd, 1));
	EXPECT_EQ(-EPERM, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0,
				0));
	EXPECT_EQ(-EPERM, ll_punch(h.fd, 0, 65536));
	ASSERT_EQ(0, ll_set_immutable(h.fd, 0));

	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(h.fd));
	EXPECT_TRUE(ll_mr_works(self->rdma, h.mr));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ll_proc_stop(&p);
}

TEST_HARNESS_MAIN
