// SPDX-License-Identifier: GPL-2.0
/*
 * How the holder is told of a break: by which signal, with what in it, how
 * often, and what if it cannot or does not want to hear it.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "layout_lease_fixture.h"

#define LEN	(8 * ll_pg)

/* Breaks what is leased in the first 64 KiB, time after time. */
static int punch(struct ll_proc *helper, const char *path)
{
	return ll_do(helper, LL_OP_PUNCH, path, 0, 65536, 0);
}

static void send_punch(struct ll_proc *helper, const char *path)
{
	ll_send(helper, LL_OP_PUNCH, path, 0, 65536, 0);
}

/* Also without F_SETSIG, unlike the SIGIO of other files. */
LL_TEST(sigio_tells_all)
{
	siginfo_t info = {};
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, fcntl(h.fd, F_SETSIG, 0));
	ll_set_grace(1);
	send_punch(self->helper, self->path);
	ASSERT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, &info));
	EXPECT_EQ(POLL_MSG, info.si_code);
	EXPECT_EQ(h.fd, info.si_fd);
	EXPECT_EQ(POLLMSG, info.si_band & (POLLMSG | POLLHUP));
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	ASSERT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, &info));
	EXPECT_EQ(POLL_HUP, info.si_code);
	EXPECT_EQ(h.fd, info.si_fd);
	EXPECT_EQ(POLLHUP, info.si_band & (POLLMSG | POLLHUP));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* The number is the one of the time when the signal is sent. */
LL_TEST(number_changes)
{
	siginfo_t info = {};
	sigset_t set;
	struct held h;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ll_set_grace(1);
	send_punch(self->helper, self->path);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	ASSERT_EQ(0, fcntl(h.fd, F_SETSIG, SIGRTMIN + 1));
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	ASSERT_EQ(0, ll_signal(SIGRTMIN + 1, LL_SOON_MS, &info));
	EXPECT_EQ(POLL_HUP, info.si_code);
	EXPECT_EQ(h.fd, info.si_fd);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));

	ASSERT_EQ(0, ll_lease(h.fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, fcntl(h.fd, F_SETSIG, 0));
	ASSERT_EQ(0, punch(self->helper, self->path));
	ASSERT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, &info));
	EXPECT_EQ(POLL_MSG, info.si_code);
	EXPECT_TRUE(ll_no_signal());
	EXPECT_NE(0, ll_signal(SIGRTMIN + 1, 0, NULL));
}

/* The leader of a group of processes; says whether it got a signal. */
static void bystander(int sock, void *arg)
{
	setpgid(0, 0);
	ll_put(sock, 0);
	while (ll_get(sock, INT_MAX) == 0)
		ll_put(sock, !ll_no_signal());
}

/* Whoever owns the file for other signals, its lease is the holder's. */
LL_TEST(setown_to_others)
{
	struct ll_proc p = {};
	int fd = open(self->path, O_RDWR), i;
	struct f_owner_ex owner[4];

	ASSERT_EQ(0, ll_proc_start(&p, bystander, NULL));
	ASSERT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	owner[0] = (struct f_owner_ex) { F_OWNER_PID, p.pid };
	owner[1] = (struct f_owner_ex) { F_OWNER_PGRP, p.pid };
	owner[2] = (struct f_owner_ex) { F_OWNER_TID, p.pid };
	owner[3] = (struct f_owner_ex) { F_OWNER_PID, 0 };
	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	for (i = 0; i < 4; i++) {
		struct f_owner_ex now = {};

		/* Once before the lease is taken, once after. */
		if (i & 1)
			ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
		ASSERT_EQ(0, fcntl(fd, F_SETOWN_EX, &owner[i]));
		if (!(i & 1))
			ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
		ASSERT_EQ(0, punch(self->helper, self->path));
		EXPECT_SIGNAL(fd, POLL_MSG);
		EXPECT_TRUE(ll_no_signal());
		ASSERT_EQ(0, ll_put(p.sock, 0));
		EXPECT_EQ(0, ll_get(p.sock, LL_SOON_MS)) TH_LOG("owner %d", i);
		/* And it stays its owner. */
		ASSERT_EQ(0, fcntl(fd, F_GETOWN_EX, &now));
		EXPECT_EQ(owner[i].pid, now.pid);
	}
	ll_proc_stop(&p);
}

/* One in a domain that may not signal others, which has the open file, too. */
static void confined_heir(int sock, void *arg)
{
	struct landlock_ruleset_attr attr = { .scoped = LANDLOCK_SCOPE_SIGNAL };
	int fd = ll_steal(getppid(), *(int *)arg);
	int rules = syscall(__NR_landlock_create_ruleset, &attr, sizeof(attr), 0);

	if (rules < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(__NR_landlock_restrict_self, rules, 0))
		ll_put(sock, -errno);
	else
		ll_put(sock, kill(getppid(), 0) ? errno : 0);
	ll_get(sock, INT_MAX);
	ll_put(sock, fcntl(fd, F_SETOWN, getppid()) ? -errno : 0);
	ll_get(sock, INT_MAX);
}

/*
 * Who called F_SETOWN last is asked, as with other files, whether he may signal
 * the owner. So the holder may not be told, and loses the region then.
 */
LL_TEST(owner_in_a_landlock_domain)
{
	struct ll_proc p = {};
	struct held h;
	int ret;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, ll_proc_start(&p, confined_heir, &h.fd));
	ret = ll_get(p.sock, LL_SOON_MS);
	if (ret == -ENOSYS || ret == -EOPNOTSUPP) {
		ll_proc_stop(&p);
		SKIP(return, "no CONFIG_SECURITY_LANDLOCK, or not in lsm=");
	}
	ASSERT_EQ(EPERM, ret);
	send_punch(self->helper, self->path);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_DONE_SOON(self->helper);

	ASSERT_EQ(0, ll_put(p.sock, 0));
	ASSERT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	ASSERT_EQ(0, ll_lease(h.fd, F_RDLCK, 0, 0));
	h.mr = ll_reg(self->rdma, h.map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, h.mr);
	ll_set_grace(1);
	send_punch(self->helper, self->path);
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h.fd));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ll_proc_stop(&p);
}

LL_TEST(signalfd)
{
	struct signalfd_siginfo info[3];
	struct pollfd pfd = { .events = POLLIN };
	sigset_t set;
	struct held h;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	pfd.fd = signalfd(-1, &set, SFD_NONBLOCK);
	ASSERT_LE(0, pfd.fd);
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	EXPECT_EQ(0, poll(&pfd, 1, 0));
	ll_set_grace(0);
	ASSERT_EQ(0, punch(self->helper, self->path));
	ASSERT_EQ(1, poll(&pfd, 1, LL_SOON_MS));
	ASSERT_EQ(2 * sizeof(info[0]), read(pfd.fd, info, sizeof(info)));
	EXPECT_EQ(SIGRTMIN, info[0].ssi_signo);
	EXPECT_EQ(POLL_MSG, info[0].ssi_code);
	EXPECT_EQ(h.fd, info[0].ssi_fd);
	EXPECT_EQ(SIGRTMIN, info[1].ssi_signo);
	EXPECT_EQ(POLL_HUP, info[1].ssi_code);
	EXPECT_EQ(h.fd, info[1].ssi_fd);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/*
 * A blocked signal is no excuse: break_test has one that is queued. Of SIGIO,
 * which is not, the first one is kept.
 */
LL_TEST(blocked_sigio)
{
	siginfo_t info = {};
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, fcntl(h.fd, F_SETSIG, 0));
	ll_set_grace(0);
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	ASSERT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, &info));
	EXPECT_EQ(POLL_MSG, info.si_code);
	EXPECT_TRUE(ll_no_signal());
	/* The state tells what the signal cannot. */
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h.fd));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* Nor is an ignored one. */
LL_TEST(ignored)
{
	struct held h;
	sigset_t set;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	signal(SIGRTMIN, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	ll_set_grace(1);
	send_punch(self->helper, self->path);
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* What cannot be queued becomes a plain SIGIO, as for other files. */
LL_TEST(full_queue)
{
	int fd = open(self->path, O_RDWR);
	struct rlimit limit = {};

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, setrlimit(RLIMIT_SIGPENDING, &limit));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, NULL));
	EXPECT_TRUE(ll_no_signal());
}

/* One operation, one open file: one signal. */
LL_TEST(two_leases)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, ll_pg));
	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 2 * ll_pg, ll_pg));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_SIGNAL(fd, POLL_MSG);
	EXPECT_TRUE(ll_no_signal());
	/* The next one, another signal: there is something to break again. */
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, ll_pg));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_SIGNAL(fd, POLL_MSG);
	/* And without anything to break none. */
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_TRUE(ll_no_signal());
}

/* Many small changes: one signal for each 2 MiB that is leased, and no more. */
LL_TEST(many_small_changes)
{
	int fd = open(self->path, O_RDWR), i;

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	for (i = 0; i < 50; i++)
		ASSERT_EQ(0, ll_do(self->helper, LL_OP_PUNCH, self->path,
				   (off_t)i * 40960, 4096, 0));
	EXPECT_SIGNAL(fd, POLL_MSG);
	EXPECT_TRUE(ll_no_signal());
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_PUNCH, self->path, 2 << 20, 1,
			   0));
	EXPECT_SIGNAL(fd, POLL_MSG);
	EXPECT_TRUE(ll_no_signal());
}

/* Who shares the open file chooses the number, and is not told itself. */
LL_TEST(number_of_another_process)
{
	int fd = open(self->path, O_RDWR), status;
	siginfo_t info = {};
	pid_t pid;

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	pid = fork();
	if (!pid)
		_exit(fcntl(fd, F_SETSIG, SIGIO) || punch(self->helper,
							  self->path) ||
		      !ll_no_signal());
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, &info));
	EXPECT_EQ(POLL_MSG, info.si_code);
	EXPECT_EQ(fd, info.si_fd);
	EXPECT_TRUE(ll_no_signal());
}

/* Two open files: one signal for each, with its descriptor and its number. */
LL_TEST(two_open_files)
{
	int fd[2] = { open(self->path, O_RDWR), open(self->path, O_RDWR) };
	siginfo_t info = {};
	int other;

	ASSERT_EQ(0, fcntl(fd[0], F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd[0], F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_lease(fd[1], F_RDLCK, 0, 0));
	ASSERT_EQ(0, punch(self->helper, self->path));
	EXPECT_SIGNAL(fd[0], POLL_MSG);
	EXPECT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, &info));
	EXPECT_EQ(fd[1], info.si_fd);
	EXPECT_TRUE(ll_no_signal());

	ASSERT_EQ(0, fcntl(fd[1], F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd[0], F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_lease(fd[1], F_RDLCK, 0, 0));
	ASSERT_EQ(0, punch(self->helper, self->path));
	ASSERT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, &info));
	EXPECT_TRUE(info.si_fd == fd[0] || info.si_fd == fd[1]);
	other = fd[info.si_fd == fd[0]];
	EXPECT_SIGNAL(other, POLL_MSG);
	EXPECT_TRUE(ll_no_signal());
}

/* It hears of both when it goes on, and neither was put off. */
LL_TEST(stopped_holder)
{
	struct ll_holder holder = { .path = self->path };
	struct ll_proc p = {};
	int status;

	ASSERT_EQ(0, ll_holder_start(&p, &holder));
	ASSERT_EQ(0, kill(p.pid, SIGSTOP));
	ASSERT_EQ(p.pid, waitpid(p.pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	ll_set_grace(1);
	send_punch(self->helper, self->path);
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	EXPECT_EQ(-ETIME, ll_get(p.sock, 100));
	ASSERT_EQ(0, kill(p.pid, SIGCONT));
	EXPECT_EQ(LL_HOLDER_BREAK, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(LL_HOLDER_REVOKED, ll_get(p.sock, LL_SOON_MS));
	ll_proc_stop(&p);
}

/* Has no handler and blocks nothing. */
static void unprepared(int sock, void *arg)
{
	int fd = open(arg, O_RDWR);
	sigset_t set;

	sigfillset(&set);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	ll_put(sock, ll_lease(fd, F_RDLCK, 0, 0));
	for (;;)
		pause();
}

/* The default action of SIGIO is the same as for other files. */
LL_TEST(unprepared_holder)
{
	struct ll_proc p = {};
	int status;

	ASSERT_EQ(0, ll_proc_start(&p, unprepared, (void *)self->path));
	ASSERT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(0, punch(self->helper, self->path));
	status = ll_proc_wait(&p, LL_SOON_MS);
	ASSERT_NE(-ETIME, status);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGIO, WTERMSIG(status));
}

TEST_HARNESS_MAIN
