// SPDX-License-Identifier: GPL-2.0
/*
 * A lease that is waited for, LAYOUT_LEASE_WAIT: until the break is over, until
 * another process lets go, but for one grace period only, so that two processes
 * that want what the other one has do not hang.
 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "layout_lease_fixture.h"

#define LEN	(8 * ll_pg)

static int lease_wait(int fd, int type)
{
	return ll_setlayout(fd, type, 0, 0, LAYOUT_LEASE_WAIT);
}

/* Another process, which waits for a lease; says 1 before, then what it got. */
struct waiter {
	const char *path;
	int type;
	int fd;			/* instead of the path, one of its parent's */
};

static void wait_for(int sock, void *arg)
{
	const struct waiter *w = arg;
	int fd = w->path ? open(w->path, O_RDWR) : ll_steal(getppid(), w->fd);

	ll_put(sock, 1);
	ll_put(sock, fd < 0 ? -errno : lease_wait(fd, w->type));
	ll_get(sock, INT_MAX);
}

#define START_WAITER(p, w)						\
	do {								\
		ASSERT_EQ(0, ll_proc_start(p, wait_for, w));		\
		ASSERT_EQ(1, ll_get((p)->sock, LL_SOON_MS));		\
	} while (0)

#define EXPECT_WAITS(p)		EXPECT_EQ(-ETIME, ll_get((p)->sock, 300))
#define EXPECT_GRANTED(p)	EXPECT_EQ(0, ll_get((p)->sock, LL_SOON_MS))

LL_TEST(nothing_in_the_way)
{
	struct waiter w = { .path = self->path, .type = F_RDLCK };
	struct ll_proc p = {};
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, lease_wait(fd, F_RDLCK));
	START_WAITER(&p, &w);
	EXPECT_GRANTED(&p);
	ll_proc_stop(&p);
	EXPECT_EQ(0, lease_wait(fd, F_WRLCK));
	EXPECT_EQ(-EINVAL, ll_setlayout(fd, F_UNLCK, 0, 0, LAYOUT_LEASE_WAIT));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
}

/* Until the operation is over, and not only until the holder has let go. */
LL_TEST(for_a_break)
{
	struct waiter w = { .path = self->path, .type = F_RDLCK };
	struct ll_proc p = {};
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ll_send(self->helper, LL_OP_PUNCH, self->path, 0, 65536, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	START_WAITER(&p, &w);
	EXPECT_WAITS(&p);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_GRANTED(&p);
	ll_proc_stop(&p);

	/* And so does the holder itself: no loop around EAGAIN. */
	EXPECT_EQ(0, lease_wait(h.fd, F_RDLCK));
}

/* Whoever has something registered there is waited for as well, if it is oneself. */
LL_TEST(for_the_own_break)
{
	struct held h;
	long start;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ll_set_grace(2);
	start = ll_now_ms();
	ll_send(self->helper, LL_OP_PUNCH, self->path, 0, 65536, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	ASSERT_EQ(0, lease_wait(h.fd, F_RDLCK));
	EXPECT_LE(1900, ll_now_ms() - start);
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(h.fd));
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* What is kept free for a breaker who does not come back is free again by itself. */
LL_TEST(for_a_promise)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_setlayout(fd, F_UNLCK, 0, 0, LAYOUT_LEASE_BREAK));
	ASSERT_EQ(-EAGAIN, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, lease_wait(fd, F_RDLCK));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
}

/* Each way in which another process gives its lease up. */
LL_TEST(for_a_lease)
{
	struct waiter w = { .path = self->path, .type = F_RDLCK };
	struct ll_proc p = {};
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 0, 0));
	START_WAITER(&p, &w);
	EXPECT_WAITS(&p);
	ASSERT_EQ(0, ll_unlock(fd));
	EXPECT_GRANTED(&p);
	ll_proc_stop(&p);

	ASSERT_EQ(0, lease_wait(fd, F_WRLCK));
	START_WAITER(&p, &w);
	EXPECT_WAITS(&p);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));	/* to a shared one */
	EXPECT_GRANTED(&p);
	ll_proc_stop(&p);

	/* Not our descriptor, which the waiter has, too. */
	ASSERT_EQ(0, ll_unlock(fd));
	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_WRLCK, 0, 0));
	START_WAITER(&p, &w);
	EXPECT_WAITS(&p);
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_CLOSE, "", 0, 0, 0));
	EXPECT_GRANTED(&p);
	ll_proc_stop(&p);
}

static void hold_exclusively(int sock, void *arg)
{
	int fd = ll_steal(getppid(), *(int *)arg);

	ll_put(sock, fd < 0 ? -errno : ll_lease(fd, F_WRLCK, 0, 0));
	ll_get(sock, INT_MAX);
}

/* Its open file lives on here, so that its death is not a close. */
LL_TEST(for_a_process_that_dies)
{
	int fd = open(self->path, O_RDWR), other = open(self->path, O_RDWR);
	struct waiter w = { .fd = other, .type = F_WRLCK };
	struct ll_proc holder = {}, p = {};

	ASSERT_EQ(0, ll_proc_start(&holder, hold_exclusively, &fd));
	ASSERT_EQ(0, ll_get(holder.sock, LL_SOON_MS));
	START_WAITER(&p, &w);
	EXPECT_WAITS(&p);
	ll_proc_stop(&holder);
	EXPECT_GRANTED(&p);
	ll_proc_stop(&p);
}

/* Who keeps it for ever is waited for during one grace period. */
LL_TEST(not_for_ever)
{
	struct waiter w = { .path = self->path, .type = F_RDLCK };
	int fd = open(self->path, O_RDWR);
	struct ll_proc p = {};
	long start;

	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 0, 0));
	ll_set_grace(2);
	start = ll_now_ms();
	START_WAITER(&p, &w);
	EXPECT_EQ(-EAGAIN, ll_get(p.sock, 2000 + LL_SLACK_MS));
	EXPECT_LE(1900, ll_now_ms() - start);
	ll_proc_stop(&p);

	ll_set_grace(0);
	START_WAITER(&p, &w);
	EXPECT_EQ(-EAGAIN, ll_get(p.sock, LL_SOON_MS));
	ll_proc_stop(&p);
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
}

/* Has the second file, wants the first one. */
struct other {
	const char *has, *wants;
};

static void wants_the_other(int sock, void *arg)
{
	const struct other *o = arg;
	int fd[2] = { open(o->has, O_RDWR), open(o->wants, O_RDWR) };

	ll_put(sock, ll_lease(fd[0], F_WRLCK, 0, 0));
	ll_get(sock, INT_MAX);
	ll_put(sock, lease_wait(fd[1], F_WRLCK));
	ll_get(sock, INT_MAX);
}

/* Two that hold what the other one wants, and two that both want more. */
LL_TEST(no_deadlock)
{
	int first = open(self->path, O_RDWR), second;
	struct other o = { .wants = self->path };
	struct ll_proc p = {};
	char path[PATH_MAX];
	int here, there;
	long start;

	ASSERT_EQ(0, ll_mkfile(path, sizeof(path), getenv("DAX1"), LL_PAGES, 0));
	second = open(path, O_RDWR);
	unlink(path);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), second);
	o.has = path;
	ASSERT_EQ(0, ll_lease(first, F_WRLCK, 0, 0));
	ASSERT_EQ(0, ll_proc_start(&p, wants_the_other, &o));
	ASSERT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	ll_set_grace(2);
	start = ll_now_ms();
	ASSERT_EQ(0, ll_put(p.sock, 0));
	here = lease_wait(second, F_WRLCK);
	there = ll_get(p.sock, 2000 + LL_SLACK_MS);
	EXPECT_EQ(-EAGAIN, here);
	EXPECT_EQ(-EAGAIN, there);
	EXPECT_GE(2000 + LL_SLACK_MS, ll_now_ms() - start);
	ll_proc_stop(&p);

	/* Both share it, and want it for themselves. */
	ASSERT_EQ(0, ll_lease(first, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK, 0, 0));
	start = ll_now_ms();
	EXPECT_EQ(-EAGAIN, lease_wait(first, F_WRLCK));
	EXPECT_LE(1900, ll_now_ms() - start);
	/* And still has what it had. */
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(first));
	ASSERT_EQ(0, ll_other_unlock(self->helper));
	EXPECT_EQ(0, lease_wait(first, F_WRLCK));
}

static void on_signal(int sig)
{
}

static void be_interrupted(int sock, void *arg)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGUSR1, &action, NULL);
	wait_for(sock, arg);
}

LL_TEST(signals)
{
	struct waiter w = { .path = self->path, .type = F_RDLCK };
	int fd = open(self->path, O_RDWR);
	struct ll_proc p = {};

	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 0, 0));
	ASSERT_EQ(0, ll_proc_start(&p, be_interrupted, &w));
	ASSERT_EQ(1, ll_get(p.sock, LL_SOON_MS));
	EXPECT_WAITS(&p);
	ASSERT_EQ(0, kill(p.pid, SIGUSR1));
	EXPECT_EQ(-EINTR, ll_get(p.sock, LL_SOON_MS));
	ll_proc_stop(&p);

	START_WAITER(&p, &w);
	EXPECT_WAITS(&p);
	ASSERT_EQ(0, kill(p.pid, SIGKILL));
	EXPECT_NE(-ETIME, ll_proc_wait(&p, LL_SOON_MS));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
}

TEST_HARNESS_MAIN
