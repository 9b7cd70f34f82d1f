// SPDX-License-Identifier: GPL-2.0
/*
 * The eventfd that a holder gives with a lease: counted at each break and at each
 * revocation, and not lost where signals are.
 */
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "layout_lease_fixture.h"

#define LEN	(8 * ll_pg)

static int lease_with(int fd, int type, int event)
{
	struct layout_lease lease = {
		.size = sizeof(lease),
		.flags = LAYOUT_LEASE_EVENTFD,
		.type = type,
		.event_fd = event,
	};

	return fcntl(fd, F_SETLAYOUT, &lease) ? -errno : 0;
}

static int new_event(void)
{
	return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

/* How often it was counted since it was last asked. */
static int count(int event)
{
	__u64 n = 0;

	if (read(event, &n, sizeof(n)) != sizeof(n))
		return errno == EAGAIN ? 0 : -errno;
	return n;
}

static int punch(struct ll_proc *helper, const char *path)
{
	return ll_do(helper, LL_OP_PUNCH, path, 0, 65536, 0);
}

/* A break is one, and so is the revocation of whatever was not let go. */
LL_TEST(break_and_revocation)
{
	struct pollfd pfd = { .fd = new_event(), .events = POLLIN };
	struct held h;

	ASSERT_LE(0, pfd.fd);
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, lease_with(h.fd, F_RDLCK, pfd.fd));
	EXPECT_EQ(0, poll(&pfd, 1, 0));
	ll_set_grace(1);
	ll_send(self->helper, LL_OP_PUNCH, self->path, 0, 65536, 0);
	ASSERT_EQ(1, poll(&pfd, 1, LL_SOON_MS));
	EXPECT_EQ(1, count(pfd.fd));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(h.fd));
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	ASSERT_EQ(1, poll(&pfd, 1, LL_SOON_MS));
	EXPECT_EQ(1, count(pfd.fd));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h.fd));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, count(pfd.fd));
}

/* Two files, two breaks, both there: SIGIO would be one. */
LL_TEST(none_is_lost)
{
	int event = new_event(), ep = epoll_create1(EPOLL_CLOEXEC), i;
	struct epoll_event ev = { .events = EPOLLIN };
	char other[PATH_MAX];
	int fd[2];

	ASSERT_EQ(0, ll_mkfile(other, sizeof(other), getenv("DAX1"), LL_PAGES, 0));
	fd[0] = open(self->path, O_RDWR);
	fd[1] = open(other, O_RDWR);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, lease_with(fd[i], F_RDLCK, event));
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, event, &ev));
	ASSERT_EQ(0, punch(self->helper, self->path));
	ASSERT_EQ(0, punch(self->helper, other));
	ASSERT_EQ(1, epoll_wait(ep, &ev, 1, 0));
	EXPECT_EQ(2, count(event));
	unlink(other);
}

/* Who has an eventfd gets no signal that it did not ask for. */
LL_TEST(signals)
{
	int fd = open(self->path, O_RDWR), event = new_event();
	struct rlimit limit = {};

	ASSERT_EQ(0, lease_with(fd, F_RDLCK, event));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(1, count(event));

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_SIGNAL(fd, POLL_MSG);
	EXPECT_EQ(1, count(event));

	/* The queue of signals is full: this one is told all the same. */
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, setrlimit(RLIMIT_SIGPENDING, &limit));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_EQ(1, count(event));
	EXPECT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, NULL));
}

/* Blocks and handles no signal: SIGIO would end it. */
static void unprepared(int sock, void *arg)
{
	int fd = open(arg, O_RDWR), event = eventfd(0, EFD_CLOEXEC);
	sigset_t set;
	__u64 n = 0;

	sigfillset(&set);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	ll_put(sock, lease_with(fd, F_RDLCK, event));
	ll_put(sock, read(event, &n, sizeof(n)) == sizeof(n) ? (int)n : -errno);
	ll_get(sock, INT_MAX);
}

LL_TEST(unprepared_holder)
{
	struct ll_proc p = {};

	ASSERT_EQ(0, ll_proc_start(&p, unprepared, (void *)self->path));
	ASSERT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(0, punch(self->helper, self->path));
	EXPECT_EQ(1, ll_get(p.sock, LL_SOON_MS));
	ll_proc_stop(&p);
}

/* It belongs to the open file: a later lease keeps, changes or drops it. */
LL_TEST(kept_changed_dropped)
{
	int fd = open(self->path, O_RDWR), one = new_event(), two = new_event();

	ASSERT_EQ(0, lease_with(fd, F_RDLCK, one));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, ll_pg));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_EQ(1, count(one));

	ASSERT_EQ(0, lease_with(fd, F_WRLCK, two));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_EQ(0, count(one));
	EXPECT_EQ(1, count(two));

	/* What is refused changes nothing. */
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK, 0, 0));
	ASSERT_EQ(-EAGAIN, lease_with(fd, F_WRLCK, one));
	ASSERT_EQ(0, ll_other_unlock(self->helper));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_EQ(0, count(one));
	EXPECT_EQ(1, count(two));

	/* The descriptor may move, or be closed. */
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(one, dup2(two, one));
	ASSERT_EQ(0, close(two));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_EQ(1, count(one));

	ASSERT_EQ(0, lease_with(fd, F_RDLCK, -1));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_EQ(0, count(one));
	EXPECT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, NULL));

	/* It goes with the last lease. */
	ASSERT_EQ(0, lease_with(fd, F_RDLCK, one));
	ASSERT_EQ(0, ll_unlock(fd));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_EQ(0, count(one));
	EXPECT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, NULL));
}

/* Who shares the open file gives none. */
LL_TEST(heir)
{
	int fd = open(self->path, O_RDWR), event = new_event(), status;
	pid_t pid;

	ASSERT_EQ(0, lease_with(fd, F_RDLCK, event));
	pid = fork();
	if (!pid)
		_exit(lease_with(fd, F_RDLCK, new_event()) != -EBUSY ||
		      lease_with(fd, F_RDLCK, -1) != -EBUSY);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_EQ(1, count(event));
}

/* A change that the holder makes itself is no news. */
LL_TEST(own_change)
{
	int event = new_event();
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, lease_with(h.fd, F_RDLCK, event));
	ASSERT_EQ(0, ll_punch(h.fd, 0, LEN));
	EXPECT_EQ(0, count(event));
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

LL_TEST(errors)
{
	struct layout_lease l = {
		.size = sizeof(l),
		.type = F_RDLCK,
		.flags = LAYOUT_LEASE_EVENTFD,
	};
	int fd = open(self->path, O_RDWR), event = new_event();

	EXPECT_EQ(-EBADF, lease_with(fd, F_RDLCK, 9999));
	EXPECT_EQ(-EBADF, lease_with(fd, F_RDLCK, -2));
	EXPECT_EQ(-EINVAL, lease_with(fd, F_RDLCK, fd));
	EXPECT_EQ(-EINVAL, lease_with(fd, F_UNLCK, event));

	/* A program that does not know the field does not mean descriptor 0. */
	l.size = LAYOUT_LEASE_SIZE_VER0;
	EXPECT_EQ(-1, fcntl(fd, F_SETLAYOUT, &l));
	EXPECT_EQ(EINVAL, errno);
	l.size = sizeof(l);
	l.event_fd = event;
	l.__pad = 1;
	EXPECT_EQ(-1, fcntl(fd, F_SETLAYOUT, &l));
	EXPECT_EQ(EINVAL, errno);
	l.__pad = 0;
	l.flags = 0;
	EXPECT_EQ(-1, fcntl(fd, F_SETLAYOUT, &l));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, fcntl(fd, F_GETLAYOUT, &l));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
	EXPECT_EQ(0, ll_proc_locks(fd));
}

TEST_HARNESS_MAIN
