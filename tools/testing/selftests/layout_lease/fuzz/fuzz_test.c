// SPDX-License-Identifier: GPL-2.0
/*
 * Random requests in random order, see README.
 */
#include <sys/wait.h>

#include "../layout_lease_setup.h"
#include "files.h"
#include "memory.h"
#include "run.h"

#define CALLS	80000
#define ROUNDS	4	/* without turns; in each of them somebody dies */

static void ignore_signals(void)
{
	static const int signals[] = { SIGIO, SIGUSR1 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(signals); i++)
		signal(signals[i], SIG_IGN);
	signal(SIGRTMIN, SIG_IGN);
}

static bool all_ended(pid_t *pid, bool may_be_killed)
{
	int i, n = PROCS, status;

	while (n) {
		ll_sleep_ms(10);
		for (i = 0; i < PROCS; i++) {
			if (!pid[i] || !waitpid(pid[i], &status, WNOHANG))
				continue;
			pid[i] = 0;
			n--;
			if (status && !(may_be_killed && status == SIGKILL)) {
				complain("a process ended with status %#x",
					 status);
				return false;
			}
		}
	}
	return true;
}

FIXTURE(fuzz) {
	struct ll_env env;
	long limit, refs;
	__u64 seed;
	int fd;			/* of a file that nobody else opens */
	pid_t pid[PROCS];
};

FIXTURE_SETUP(fuzz)
{
	LL_ENV_INIT(&self->env, false);
	self->limit = ll_read_long(LIMIT_SYSCTL, -1);
	ASSERT_EQ(0, ll_write_long(LIMIT_SYSCTL, NO_LIMIT));
	self->fd = open(self->env.path, O_RDWR);
	self->refs = ll_module_settle(self->fd);

	ASSERT_EQ(0, make_files(getenv("DAX1")));
	ASSERT_EQ(0, map_arena());
	self->seed = ll_env_number("FUZZ_SEED", ll_now_ms() ^ getpid());
	ASSERT_EQ(0, make_world(self->seed, ll_env_number("FUZZ_CALLS", CALLS)));
	TH_LOG("FUZZ_SEED=%llu FUZZ_CALLS=%ld", (unsigned long long)self->seed,
	       world->total);
	ignore_signals();
}

FIXTURE_TEARDOWN(fuzz)
{
	int i;

	for (i = 0; i < PROCS; i++)
		if (self->pid[i] > 0)
			kill(self->pid[i], SIGKILL);
	ll_write_long(LIMIT_SYSCTL, self->limit);
	ll_env_exit(&self->env);
}

/* Nothing was wrong, and nothing is left. */
#define EXPECT_CLEAN()							\
	do {								\
		EXPECT_FALSE(report->failed) TH_LOG("%s", report->what); \
		EXPECT_EQ(0, ll_proc_leases());				\
		EXPECT_TRUE(ll_module_refs_become(self->refs));		\
	} while (0)

/* All that can be provoked. */
static const int answers[] = {
	0, EBADF, EFAULT, EINVAL, E2BIG, EACCES, EPERM, EOPNOTSUPP, EAGAIN,
	EBUSY, ENOLCK,
};

TEST_F_TIMEOUT(fuzz, in_turns, 1200)
{
	long start = ll_now_ms();
	unsigned int n;
	int i;

	me.privileged = true;
	open_slots();
	inherit_slots(PROCS);
	ASSERT_EQ(0, make_turns());
	for (i = 0; i < PROCS; i++) {
		self->pid[i] = fork();
		ASSERT_LE(0, self->pid[i]);
		if (!self->pid[i])
			take_turns(i);
	}
	close_slots();
	give_turn(0);
	EXPECT_TRUE(all_ended(self->pid, false));
	TH_LOG("%ld calls in %ld ms", world->calls, ll_now_ms() - start);
	for (n = 0; n < ARRAY_SIZE(answers); n++) {
		TH_LOG("%ld times: %s", report->answers[answers[n]],
		       strerror(answers[n]));
		if (world->calls >= 20000 && !report->failed)
			EXPECT_LT(0, report->answers[answers[n]]);
	}
	EXPECT_CLEAN();
}

TEST_F_TIMEOUT(fuzz, all_at_once, 1200)
{
	long calls = world->total / 4 / ROUNDS / PROCS, start = ll_now_ms();
	int i, round;

	me.privileged = true;
	me.serial = PROCS + 1;
	open_slots();
	for (round = 0; round < ROUNDS && !report->failed; round++) {
		for (i = 0; i < PROCS; i++) {
			self->pid[i] = fork();
			ASSERT_LE(0, self->pid[i]);
			if (!self->pid[i])
				run_free(self->seed, round * PROCS + i, calls,
					 i == round % PROCS);
		}
		EXPECT_TRUE(all_ended(self->pid, true));
	}
	close_slots();
	TH_LOG("%ld calls in %ld ms", report->calls, ll_now_ms() - start);
	EXPECT_CLEAN();
}

TEST_F_TIMEOUT(fuzz, changed_meanwhile, 240)
{
	static const struct {
		int cmd;
		bool unmap;
		int error;
	} calls[] = {
		{ F_SETLAYOUT, false, 0 },
		{ F_GETLAYOUT, false, 0 },
		{ F_SETLAYOUT, true, 0 },
		{ F_GETLAYOUT, true, EFAULT },
	};
	char *page = malloc(ll_pg), *want = malloc(ll_pg);
	unsigned int i;
	int ret;

	if (ll_pg != 4096)
		SKIP(return, "pages have not 4096 bytes");
	memset(want, CANARY, ll_pg);
	memset(want, 0, LAYOUT_LEASE_SIZE_VER0 / 2);
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		ret = call_changed(self->fd, calls[i].cmd, calls[i].unmap, page);
		if (ret == -ENOSYS)
			SKIP(return, "no userfaultfd");
		EXPECT_EQ(calls[i].error, ret) TH_LOG("call %u", i);
		/* The size counts that was read first. */
		EXPECT_EQ(0, memcmp(want, page, ll_pg)) TH_LOG("call %u", i);
		EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(self->fd));
	}
	ASSERT_EQ(0, ll_unlock(self->fd));
	EXPECT_CLEAN();
}

TEST_HARNESS_MAIN
