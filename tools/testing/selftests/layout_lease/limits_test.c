// SPDX-License-Identifier: GPL-2.0
/*
 * A user has a limited number of leases, also across user namespaces, and pays
 * for their memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <linux/sched.h>

#include "layout_lease_setup.h"

int unshare(int flags);

#define LIMIT_SYSCTL	"/proc/sys/user/max_layout_leases"
#define CGROUP		"/sys/fs/cgroup/layout_lease"

FIXTURE(limits) {
	struct ll_env env;
	const char *path;
	long saved;
	int fd;
};

FIXTURE_SETUP(limits)
{
	LL_ENV_INIT(&self->env, false);
	self->path = self->env.path;
	self->saved = ll_read_long(LIMIT_SYSCTL, -1);
	ASSERT_LT(0, self->saved);
	self->fd = open(self->path, O_RDWR);
	ASSERT_EQ(0, fchown(self->fd, 65534, 65534));
	ASSERT_EQ(0, fchmod(self->fd, 0666));
}

FIXTURE_TEARDOWN(limits)
{
	ll_write_long(LIMIT_SYSCTL, self->saved);
	ll_env_exit(&self->env);
}

/* Take leases in disjoint pieces: how many there are before an error. */
static int lease_many(int fd, int most, int *error)
{
	int n = 0;

	*error = 0;
	while (n < most && !*error) {
		*error = ll_lease(fd, F_RDLCK, 2 * n * ll_pg, ll_pg);
		n += !*error;
	}
	return n;
}

TEST_F_TIMEOUT(limits, one_user, 240)
{
	int other = open(self->path, O_RDWR);
	int error;

	ASSERT_EQ(0, ll_write_long(LIMIT_SYSCTL, 20));
	EXPECT_EQ(20, lease_many(self->fd, 30, &error));
	EXPECT_EQ(-ENOLCK, error);
	/* The limit is that of the user, not of the open file. */
	EXPECT_EQ(-ENOLCK, ll_lease(other, F_RDLCK, 100 * ll_pg, ll_pg));

	/* What needs no more than there are is possible, and nothing else. */
	EXPECT_EQ(0, ll_lease(self->fd, F_WRLCK, 0, ll_pg));
	EXPECT_EQ(-ENOLCK, ll_lease(self->fd, F_RDLCK, 1, 1));
	EXPECT_EQ(-ENOLCK, ll_lease(self->fd, F_UNLCK, 1, 1));
	EXPECT_EQ(0, ll_lease(self->fd, F_UNLCK, 0, ll_pg));
	EXPECT_EQ(0, ll_lease(other, F_RDLCK, 0, ll_pg));
	EXPECT_EQ(-ENOLCK, ll_lease(other, F_RDLCK, 100 * ll_pg, ll_pg));

	/* One in place of many. */
	EXPECT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ll_lease(other, F_RDLCK, 100 * ll_pg, ll_pg));

	/* All are given back. */
	ASSERT_EQ(0, ll_unlock(self->fd));
	ASSERT_EQ(0, close(other));
	ASSERT_TRUE(ll_gone(self->fd));
	EXPECT_EQ(20, lease_many(self->fd, 30, &error));
}

/* A break at the limit: the lease cannot be split, so all of it is taken. */
TEST_F_TIMEOUT(limits, break_without_room, 240)
{
	struct layout_lease lease;
	const off_t far = 64 << 20;

	ASSERT_EQ(0, ll_write_long(LIMIT_SYSCTL, 2));
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_do(&self->env.helper, LL_OP_PUNCH, self->path, 0, 1, 0));
	ASSERT_EQ(0, ll_getlayout(self->fd, 0, 1, &lease));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, lease.state);
	ASSERT_EQ(0, ll_getlayout(self->fd, far, 1, &lease));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, lease.state);

	ASSERT_EQ(0, ll_do(&self->env.helper, LL_OP_PUNCH, self->path, far, 1,
			   0));
	ASSERT_EQ(0, ll_getlayout(self->fd, far * 2, 1, &lease));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, lease.state);
	EXPECT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
}

/*
 * What others break a lease into counts for its holder, who gives it back in one
 * go. At the limit there is nothing left to break.
 */
TEST_F_TIMEOUT(limits, pieces_of_breaks, 240)
{
	const off_t step = 64 << 20;
	struct layout_lease lease;
	char other[PATH_MAX];
	int fd, i;

	ASSERT_EQ(0, ll_mkfile(other, sizeof(other), getenv("DAX1"), 1, 0));
	fd = open(other, O_RDWR);
	unlink(other);
	ASSERT_EQ(0, ll_write_long(LIMIT_SYSCTL, 9));
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	/* Each of them makes two more of it. */
	for (i = 1; i <= 4; i++)
		ASSERT_EQ(0, ll_do(&self->env.helper, LL_OP_PUNCH, self->path,
				   i * step, 1, 0));
	EXPECT_EQ(-ENOLCK, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_getlayout(self->fd, 5 * step, 1, &lease));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, lease.state);
	ASSERT_EQ(0, ll_do(&self->env.helper, LL_OP_PUNCH, self->path, 5 * step,
			   1, 0));
	ASSERT_EQ(0, ll_getlayout(self->fd, 6 * step, 1, &lease));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, lease.state);

	ASSERT_EQ(0, ll_unlock(self->fd));
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ll_unlock(fd));
	close(fd);
}

/* As another user, optionally in a user namespace of his own. */
static int other_user(const char *path, bool namespace)
{
	int error, status;
	pid_t pid = fork();

	if (!pid) {
		if (ll_drop_privileges() ||
		    (namespace && unshare(CLONE_NEWUSER)))
			_exit(255);
		_exit(lease_many(open(path, O_RDWR), 30, &error));
	}
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

/* Another user has a number of his own, which a namespace does not extend. */
TEST_F_TIMEOUT(limits, other_user, 240)
{
	int error;

	ASSERT_EQ(0, ll_write_long(LIMIT_SYSCTL, 7));
	ASSERT_EQ(7, lease_many(self->fd, 30, &error));
	EXPECT_EQ(7, other_user(self->path, false));
	EXPECT_EQ(7, other_user(self->path, true));
	EXPECT_EQ(0, ll_unlock(self->fd));
	EXPECT_TRUE(ll_gone(self->fd));
}

static long cgroup_kb(void)
{
	return ll_read_long(CGROUP "/memory.current", -1) / 1024;
}

/* Leases are memory of the cgroup. */
TEST_F_TIMEOUT(limits, memory_cgroup, 240)
{
	const int n = 20000;
	long before, with;
	int error;

	if (ll_write_str("/sys/fs/cgroup/cgroup.subtree_control", "+memory"))
		SKIP(return, "no memory cgroups");
	ASSERT_EQ(0, ll_sh("mkdir -p " CGROUP));
	ASSERT_EQ(0, ll_write_long(CGROUP "/cgroup.procs", getpid()));
	before = cgroup_kb();
	ASSERT_EQ(n, lease_many(self->fd, n, &error));
	with = cgroup_kb();
	EXPECT_LT(n * 64 / 1024, with - before);
	ASSERT_EQ(0, ll_unlock(self->fd));
	ASSERT_EQ(0, ll_write_long("/sys/fs/cgroup/cgroup.procs", getpid()));
	EXPECT_EQ(0, ll_sh("rmdir " CGROUP));
}

#define TRACING		"/sys/kernel/tracing"
#define PATCH		"arch_jump_label_transform_apply"

/* How often kernel text has been patched for a static branch. */
static long patched(void)
{
	char hits[24];

	return ll_sh_line(hits, sizeof(hits), "awk '$1 == \"patched\" "
			  "{ print $2 }' " TRACING "/kprobe_profile") ?
		-1 : atol(hits);
}

/* The first and the last lease switch what costs others time on and off. */
TEST_F_TIMEOUT(limits, kernel_text, 240)
{
	long before, after, end, begun;
	unsigned int n = 0;

	if (access(TRACING "/kprobe_events", W_OK))
		SKIP(return, "no CONFIG_KPROBE_EVENTS");
	if (ll_sh("grep -q ' " PATCH "$' /proc/kallsyms"))
		SKIP(return, "no CONFIG_JUMP_LABEL");
	ASSERT_EQ(0, ll_sh("echo 'p:patched " PATCH "' >>" TRACING
			   "/kprobe_events && echo 1 >" TRACING
			   "/events/kprobes/patched/enable"));
	before = patched();
	begun = ll_now_ms();
	for (end = begun + 5000; ll_now_ms() < end; n++) {
		ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
		ASSERT_EQ(0, ll_unlock(self->fd));
	}
	after = patched();
	end = ll_now_ms();
	TH_LOG("%u leases, patched %ld times in %ld ms", n, after - before,
	       end - begun);
	EXPECT_EQ(0, ll_sh("echo 0 >" TRACING "/events/kprobes/patched/enable && "
			   "echo -:patched >>" TRACING "/kprobe_events"));
	EXPECT_LT(100, n);
	EXPECT_LE(0, before);
	EXPECT_LE(1, after - before);
	EXPECT_GE(2 * ((end - begun) / 1000 + 1), after - before);
}

TEST_HARNESS_MAIN
