// SPDX-License-Identifier: GPL-2.0
/*
 * Leases without anything attached: kinds, ranges, conflicts, states, signals,
 * and what breaks them.
 */
#include <pthread.h>

#define LL_NO_RDMA
#include "layout_lease_fixture.h"

#define EXPECT_LEASE(fd, from, n, t, s, l)				\
	do {								\
		struct layout_lease lease;				\
									\
		EXPECT_EQ(0, ll_getlayout(fd, from, n, &lease));	\
		EXPECT_EQ(LAYOUT_LEASE_GRANTED, lease.state);		\
		EXPECT_EQ(t, lease.type);				\
		EXPECT_EQ(s, lease.start);				\
		EXPECT_EQ(l, lease.len);				\
		EXPECT_EQ(0, lease.remaining_ms);			\
	} while (0)

#define EXPECT_NO_LEASE(fd, from, n)					\
	do {								\
		struct layout_lease lease;				\
									\
		EXPECT_EQ(0, ll_getlayout(fd, from, n, &lease));	\
		EXPECT_EQ(LAYOUT_LEASE_NONE, lease.state);		\
		EXPECT_EQ(F_UNLCK, lease.type);				\
		EXPECT_EQ(0, lease.remaining_ms);			\
	} while (0)

LL_TEST(grant_and_unlock)
{
	int fd = open(self->path, O_RDWR);

	EXPECT_NO_LEASE(fd, 0, 0);
	EXPECT_EQ(0, ll_unlock(fd));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 2 * ll_pg, 3 * ll_pg));
	EXPECT_LEASE(fd, 0, 0, F_RDLCK, 2 * ll_pg, 3 * ll_pg);
	EXPECT_LEASE(fd, 4 * ll_pg, 1, F_RDLCK, 2 * ll_pg, 3 * ll_pg);
	EXPECT_NO_LEASE(fd, 0, 2 * ll_pg);
	EXPECT_NO_LEASE(fd, 5 * ll_pg, 0);
	EXPECT_EQ(0, ll_unlock(fd));
	EXPECT_NO_LEASE(fd, 0, 0);
	EXPECT_EQ(0, ll_unlock(fd));
}

LL_TEST(infinity)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, ll_pg, 0));
	EXPECT_LEASE(fd, 0, 0, F_WRLCK, ll_pg, 0);
	EXPECT_LEASE(fd, 1ULL << 40, 1, F_WRLCK, ll_pg, 0);
	EXPECT_NO_LEASE(fd, 0, ll_pg);
	EXPECT_EQ(-EAGAIN, ll_other_lease(self->helper, self->path, F_RDLCK,
					  1ULL << 50, 1));
	EXPECT_EQ(0, ll_other_lease(self->helper, self->path, F_WRLCK, 0,
				    ll_pg));
}

LL_TEST(unlock_part)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 8 * ll_pg));
	ASSERT_EQ(0, ll_setlayout(fd, F_UNLCK, 2 * ll_pg, ll_pg, 0));
	EXPECT_LEASE(fd, 0, 0, F_RDLCK, 0, 2 * ll_pg);
	EXPECT_NO_LEASE(fd, 2 * ll_pg, ll_pg);
	EXPECT_LEASE(fd, 2 * ll_pg, 0, F_RDLCK, 3 * ll_pg, 5 * ll_pg);
	EXPECT_EQ(1, ll_proc_locks(fd));

	/* The hole is free for others. */
	EXPECT_EQ(-EAGAIN, ll_other_lease(self->helper, self->path, F_WRLCK,
					  ll_pg, 2 * ll_pg));
	EXPECT_EQ(0, ll_other_lease(self->helper, self->path, F_WRLCK,
				    2 * ll_pg, ll_pg));
}

LL_TEST(own_open_file_only)
{
	int fd1 = open(self->path, O_RDWR);
	int fd2 = open(self->path, O_RDWR);
	int copy;

	ASSERT_EQ(0, ll_lease(fd1, F_RDLCK, 0, ll_pg));
	EXPECT_NO_LEASE(fd2, 0, 0);
	EXPECT_EQ(0, ll_unlock(fd2));
	EXPECT_LEASE(fd1, 0, 0, F_RDLCK, 0, ll_pg);

	/* One description, two descriptors. */
	copy = dup(fd1);
	EXPECT_LEASE(copy, 0, 0, F_RDLCK, 0, ll_pg);
	close(fd1);
	EXPECT_LEASE(copy, 0, 0, F_RDLCK, 0, ll_pg);
	close(copy);
	EXPECT_TRUE(ll_gone(fd2));
}

LL_TEST(no_conflict_in_one_process)
{
	int fd1 = open(self->path, O_RDWR);
	int fd2 = open(self->path, O_RDWR);

	EXPECT_EQ(0, ll_lease(fd1, F_WRLCK, 0, 0));
	EXPECT_EQ(0, ll_lease(fd2, F_WRLCK, 0, 0));
	EXPECT_EQ(0, ll_lease(fd2, F_RDLCK, 0, 0));
	EXPECT_EQ(2, ll_proc_locks(fd1));
}

/* Shared with shared; exclusive with nobody, but only where ranges overlap. */
LL_TEST(conflicts_between_processes)
{
	static const struct {
		int mine, others, result;
	} kinds[] = {
		{ F_RDLCK, F_RDLCK, 0 },
		{ F_RDLCK, F_WRLCK, -EAGAIN },
		{ F_WRLCK, F_RDLCK, -EAGAIN },
		{ F_WRLCK, F_WRLCK, -EAGAIN },
	};
	int fd = open(self->path, O_RDWR);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, ll_lease(fd, kinds[i].mine, ll_pg, ll_pg));
		EXPECT_EQ(kinds[i].result,
			  ll_other_lease(self->helper, self->path,
					 kinds[i].others, 0, 0))
			TH_LOG("kinds %u", i);
		EXPECT_EQ(0, ll_other_unlock(self->helper));
		EXPECT_EQ(kinds[i].result,
			  ll_other_lease(self->helper, self->path,
					 kinds[i].others, 2 * ll_pg - 1, 1))
			TH_LOG("kinds %u", i);
		EXPECT_EQ(0, ll_other_unlock(self->helper));
		EXPECT_EQ(0, ll_other_lease(self->helper, self->path,
					    kinds[i].others, 0, ll_pg));
		EXPECT_EQ(0, ll_other_lease(self->helper, self->path,
					    kinds[i].others, 2 * ll_pg, 0));
		EXPECT_EQ(0, ll_other_unlock(self->helper));
		EXPECT_EQ(0, ll_unlock(fd));
	}
}

LL_TEST(upgrade_and_downgrade)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK, 0, 0));
	EXPECT_EQ(-EAGAIN, ll_lease(fd, F_WRLCK, 0, 0));
	EXPECT_LEASE(fd, 0, 0, F_RDLCK, 0, 0);

	ASSERT_EQ(0, ll_other_unlock(self->helper));
	EXPECT_EQ(0, ll_lease(fd, F_WRLCK, 0, 0));
	EXPECT_LEASE(fd, 0, 0, F_WRLCK, 0, 0);
	EXPECT_EQ(-EAGAIN, ll_other_lease(self->helper, self->path, F_RDLCK, 0,
					  0));

	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_LEASE(fd, 0, 0, F_RDLCK, 0, 0);
	EXPECT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK, 0, 0));
}

LL_TEST(close_releases)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_WRLCK, 0, 0));
	EXPECT_EQ(1, ll_proc_locks(fd));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_CLOSE, "", 0, 0, 0));
	EXPECT_TRUE(ll_gone(fd));
	EXPECT_EQ(0, ll_lease(fd, F_WRLCK, 0, 0));
}

LL_TEST(exit_releases)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_WRLCK, 0, 0));
	EXPECT_EQ(-EAGAIN, ll_lease(fd, F_WRLCK, 0, 0));
	ll_proc_stop(self->helper);
	EXPECT_TRUE(ll_gone(fd));
	EXPECT_EQ(0, ll_lease(fd, F_WRLCK, 0, 0));
}

LL_TEST(setlease_spelling)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, fcntl(fd, F_SETLEASE, F_LAYOUT | F_RDLCK));
	EXPECT_LEASE(fd, 0, 0, F_RDLCK, 0, 0);
	EXPECT_EQ(0, fcntl(fd, F_SETLEASE, F_LAYOUT | F_WRLCK));
	EXPECT_LEASE(fd, 0, 0, F_WRLCK, 0, 0);
	EXPECT_EQ(F_UNLCK, fcntl(fd, F_GETLEASE));
	EXPECT_EQ(0, fcntl(fd, F_SETLEASE, F_LAYOUT | F_UNLCK));
	EXPECT_NO_LEASE(fd, 0, 0);
	EXPECT_EQ(0, fcntl(fd, F_SETLEASE, F_LAYOUT | F_UNLCK));
}

LL_TEST(proc_files)
{
	char path[64], line[256], word[7][32], extra[32];
	int fd = open(self->path, O_RDWR), n;
	bool seen = false;
	FILE *f;

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(1, ll_proc_locks(fd));

	/* lslocks(8) wants exactly eight fields. */
	f = fopen("/proc/locks", "re");
	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f)) {
		if (!strstr(line, " LAYOUT "))
			continue;
		n = sscanf(line, "%*s %31s %31s %31s %31s %31s %31s %31s %31s",
			   word[0], word[1], word[2], word[3], word[4], word[5],
			   word[6], extra);
		EXPECT_EQ(7, n) TH_LOG("%s", line);
		EXPECT_STREQ("LAYOUT", word[0]);
	}
	fclose(f);

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, "lock:", 5) && strstr(line, "LAYOUT"))
			seen = true;
	fclose(f);
	EXPECT_TRUE(seen);

	EXPECT_EQ(0, ll_unlock(fd));
	EXPECT_EQ(0, ll_proc_locks(fd));
}

/*
 * With nothing attached a break is over at once. The holder hears of it, and
 * sees it until it asks anew.
 */
LL_FIXTURE(breaks, false)

FIXTURE_VARIANT(breaks) {
	enum ll_op op;
	long long a, b;
};

FIXTURE_VARIANT_ADD(breaks, truncate) { LL_OP_TRUNCATE };
FIXTURE_VARIANT_ADD(breaks, ftruncate) { LL_OP_FTRUNCATE, 65536 };
FIXTURE_VARIANT_ADD(breaks, open_trunc) { LL_OP_OPEN_TRUNC };
FIXTURE_VARIANT_ADD(breaks, punch) { LL_OP_PUNCH, 0, 65536 };
FIXTURE_VARIANT_ADD(breaks, zero_range) { LL_OP_ZERO, 0, 65536 };
FIXTURE_VARIANT_ADD(breaks, collapse) { LL_OP_COLLAPSE, 0, 65536 };
FIXTURE_VARIANT_ADD(breaks, insert) { LL_OP_INSERT, 0, 65536 };

TEST_F_TIMEOUT(breaks, lease, 240)
{
	int fd = open(self->env.path, O_RDWR);
	struct layout_lease lease;
	siginfo_t info;

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_TRUE(ll_no_signal());
	ASSERT_EQ(0, ll_do(&self->env.helper, variant->op, self->env.path,
			   variant->a, variant->b, 0));
	ASSERT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, &info));
	EXPECT_EQ(POLL_MSG, info.si_code);
	EXPECT_EQ(fd, info.si_fd);
	EXPECT_TRUE(ll_no_signal());

	ASSERT_EQ(0, ll_getlayout(fd, 0, 0, &lease));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, lease.state);
	EXPECT_EQ(0, lease.remaining_ms);

	/* Acknowledged, and asked anew without that. */
	EXPECT_EQ(0, ll_unlock(fd));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_fill(fd, LL_PAGES, 0));
	ASSERT_EQ(0, ll_do(&self->env.helper, LL_OP_TRUNCATE, self->env.path,
			   0, 0, 0));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(fd));
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
}

LL_TEST(not_broken_by)
{
	int fd = open(self->path, O_RDWR);
	char to[PATH_MAX + 8];
	struct ll_result res;

	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 0, 0));
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_WRITE, self->path, ll_pg,
			   3 * ll_pg, 0x55));
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_READ, self->path, 0, ll_pg, 0));
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_OPEN_WRITE, self->path, 0, 0, 0));
	snprintf(to, sizeof(to), "%s.moved", self->path);
	ll_send2(self->helper, LL_OP_RENAME, self->path, to, 0, 0);
	EXPECT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	EXPECT_EQ(0, unlink(to));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
	EXPECT_TRUE(ll_no_signal());
}

LL_TEST(default_signal_is_sigio)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	EXPECT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, NULL));
}

/* The lease stays with its holder, whoever owns the file for other signals. */
LL_TEST(setown_does_not_move_the_lease)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, fcntl(fd, F_SETOWN, self->helper->pid));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	EXPECT_EQ(self->helper->pid, fcntl(fd, F_GETOWN));
}

static void *lease_and_exit(void *fd)
{
	return (void *)(intptr_t)ll_lease(*(int *)fd, F_RDLCK, 0, 0);
}

/* The process is the holder, not the thread that asked. */
LL_TEST(thread_that_leased_is_gone)
{
	int fd = open(self->path, O_RDWR);
	pthread_t thread;
	void *ret;

	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, pthread_create(&thread, NULL, lease_and_exit, &fd));
	ASSERT_EQ(0, pthread_join(thread, &ret));
	ASSERT_EQ(NULL, ret);
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
}

LL_TEST(two_holders_hear_of_a_break)
{
	struct ll_proc other = {};
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_helper_start(&other));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_other_lease(&other, self->path, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	EXPECT_EQ(0, ll_signal(SIGIO, LL_SOON_MS, NULL));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(fd));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_do(&other, LL_OP_STATE, "", 0, 0, 0));
	ll_proc_stop(&other);
}

/* The owner's own truncate takes the lease without telling the owner. */
LL_TEST(own_truncate)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ftruncate(fd, 0));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(fd));
	EXPECT_TRUE(ll_no_signal());
}

LL_TEST(seize)
{
	int fd = open(self->path, O_RDWR);

	/* Nothing to seize. */
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 0, 0, LAYOUT_LEASE_SEIZE));

	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_WRLCK, 0, 0));
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 0, 0, LAYOUT_LEASE_SEIZE));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED,
		  ll_do(self->helper, LL_OP_STATE, "", 0, 0, 0));
	EXPECT_EQ(0, ll_lease(fd, F_WRLCK, 0, 0));
}

/* Through any file of the filesystem, be it a directory. */
LL_TEST(seize_filesystem)
{
	int fd = open(getenv("DAX1"), O_RDONLY | O_DIRECTORY);
	int fd2 = open(getenv("DAX2"), O_RDONLY | O_DIRECTORY);

	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 0, 0, LAYOUT_LEASE_SEIZE_FS));

	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ll_setlayout(fd2, F_UNLCK, 0, 0, LAYOUT_LEASE_SEIZE_FS));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED,
		  ll_do(self->helper, LL_OP_STATE, "", 0, 0, 0));
	EXPECT_EQ(0, ll_setlayout(fd, F_UNLCK, 0, 0, LAYOUT_LEASE_SEIZE_FS));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED,
		  ll_do(self->helper, LL_OP_STATE, "", 0, 0, 0));
}

TEST_HARNESS_MAIN
