// SPDX-License-Identifier: GPL-2.0
/*
 * Injected faults: each allocation and each copy of the calls fails once, with
 * the right error and nothing left behind; devices do not stop, or take long.
 *
 * The kernel needs CONFIG_FAULT_INJECTION_DEBUG_FS and what it has below that,
 * see "config".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define DEBUG		"/sys/kernel/debug/"
#define REVOKE_FINISH	"rxe_mr_revoke_finish"

/* Leases and regions are in this part of the file. */
#define PART		(64 * ll_pg)

FIXTURE(nth) {
	struct ll_env env;
	int control;
	int fd;
	long pinned;
	int n, failures;
};

FIXTURE_SETUP(nth)
{
	LL_ENV_INIT(&self->env, true);
	self->control = open("/proc/thread-self/fail-nth", O_RDWR);
	LL_ENV_SKIP_IF(&self->env, self->control < 0,
		       "no CONFIG_FAULT_INJECTION");
	/* Where there could be reclaim as well, and without a report of each. */
	ASSERT_EQ(0, ll_sh("cd " DEBUG " && for i in failslab fail_page_alloc; do "
			   "echo N >$i/ignore-gfp-wait && echo 0 >$i/verbose || "
			   "exit; done && echo 0 >fail_usercopy/verbose && "
			   "echo N >fail_page_alloc/ignore-gfp-highmem && "
			   "echo 0 >fail_page_alloc/min-order"));
	self->fd = open(self->env.path, O_RDWR);
	ASSERT_LE(0, self->fd);
	/* Loads the module. */
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_unlock(self->fd));
	self->pinned = ll_status_kb("VmPin");
	ll_set_grace(0);
}

FIXTURE_TEARDOWN(nth)
{
	ll_env_exit(&self->env);
}

#define NTH_TEST(name)	TEST_F_TIMEOUT(nth, name, 240)

/* The nth fault that can be in what this thread does next is one. */
static void fault(FIXTURE_DATA(nth) *self)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", ++self->n);

	if (pwrite(self->control, text, len, 0) != len)
		abort();
}

/* There was such a fault; if these calls have it, then not. */
static bool faulted(FIXTURE_DATA(nth) *self)
{
	char text[16] = {};
	ssize_t len = pread(self->control, text, sizeof(text) - 1, 0);

	if (len > 0 && atoi(text) == 0)
		return true;
	(void)!pwrite(self->control, "0", 1, 0);
	return false;
}

/* Does call once for each fault that can be in it; ret is what it returned. */
#define FOR_EACH_FAULT(ret, call)					\
	for (bool more = true;						\
	     more && (fault(self), ret = (call), more = faulted(self),	\
		      self->failures += more && ret, true);)

#define EXPECT_FAULT_ERROR(ret)						\
	EXPECT_TRUE((ret) == -ENOMEM || (ret) == -EFAULT)		\
	TH_LOG("fault %d: %d", self->n, ret)

/* One lease of this kind covers the range, and nothing else is beside it. */
static bool only_lease(int fd, int type, __u64 start, __u64 len)
{
	struct layout_lease lease;

	return !ll_getlayout(fd, 0, 0, &lease) && lease.type == type &&
	       lease.state == LAYOUT_LEASE_GRANTED && lease.start == start &&
	       lease.len == len &&
	       !ll_getlayout(fd, start + len, 0, &lease) &&
	       lease.state == LAYOUT_LEASE_NONE;
}

NTH_TEST(grant)
{
	int ret;

	FOR_EACH_FAULT(ret, ll_lease(self->fd, F_RDLCK, 0, PART)) {
		if (!ret) {
			EXPECT_TRUE(only_lease(self->fd, F_RDLCK, 0, PART));
			EXPECT_EQ(0, ll_unlock(self->fd));
			continue;
		}
		EXPECT_FAULT_ERROR(ret);
		EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(self->fd));
		EXPECT_EQ(0, ll_proc_locks(self->fd));
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(3, self->failures);
}

/* A lease in the middle of another one of the same open file. */
NTH_TEST(upgrade)
{
	struct layout_lease lease;
	int ret;

	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, PART));
	FOR_EACH_FAULT(ret, ll_lease(self->fd, F_WRLCK, PART / 4, PART / 4)) {
		if (ret) {
			EXPECT_FAULT_ERROR(ret);
			EXPECT_TRUE(only_lease(self->fd, F_RDLCK, 0, PART));
			continue;
		}
		EXPECT_EQ(0, ll_getlayout(self->fd, PART / 4, 1, &lease));
		EXPECT_EQ(F_WRLCK, lease.type);
		EXPECT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, PART));
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(2, self->failures);
}

NTH_TEST(unlock_part)
{
	struct layout_lease lease;
	int ret;

	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, PART));
	FOR_EACH_FAULT(ret, ll_setlayout(self->fd, F_UNLCK, PART / 4, PART / 4,
					 0)) {
		if (ret) {
			EXPECT_FAULT_ERROR(ret);
			EXPECT_TRUE(only_lease(self->fd, F_RDLCK, 0, PART));
			continue;
		}
		EXPECT_EQ(0, ll_getlayout(self->fd, PART / 4, 1, &lease));
		EXPECT_EQ(LAYOUT_LEASE_NONE, lease.state);
		EXPECT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, PART));
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(2, self->failures);
}

NTH_TEST(query)
{
	struct layout_lease lease;
	int ret;

	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, PART));
	FOR_EACH_FAULT(ret, ll_getlayout(self->fd, 0, 0, &lease)) {
		if (ret) {
			EXPECT_EQ(-EFAULT, ret);
		} else {
			EXPECT_EQ(PART, lease.len);
		}
		EXPECT_TRUE(only_lease(self->fd, F_RDLCK, 0, PART));
	}
	EXPECT_EQ(0, ret);
	EXPECT_LE(2, self->failures);
}

static void registration(struct __test_metadata *_metadata,
			 FIXTURE_DATA(nth) *self, const char *path, char *map,
			 size_t len)
{
	struct ll_rdma *r = &self->env.rdma;
	struct ibv_mr *mr;
	int ret;

	FOR_EACH_FAULT(ret, (ll_lease(self->fd, F_RDLCK, 0, len), errno = 0,
			     mr = ll_reg(r, map, len, LL_ACCESS),
			     mr ? 0 : -errno)) {
		if (mr) {
			EXPECT_TRUE(ll_mr_works(r, mr));
			EXPECT_EQ(0, ibv_dereg_mr(mr));
		} else {
			EXPECT_NE(0, ret);
		}
		/* EBUSY if something were still attached. */
		EXPECT_EQ(0, ll_unlock(self->fd)) TH_LOG("fault %d", self->n);
		EXPECT_EQ(self->pinned, ll_status_kb("VmPin"));
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(10, self->failures);
	TH_LOG("%d faults, %d errors", self->n - 1, self->failures);
	EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_TRUNCATE, path, 0, 0, 0));
}

/* To attach, to pin, and all that the driver does. */
NTH_TEST(registration)
{
	registration(_metadata, self, self->env.path,
		     ll_map(self->fd, 0, PART, PROT_READ | PROT_WRITE), PART);
}

/* The same in entries of 2 MiB, which are pinned by extent. */
NTH_TEST(registration_of_extents)
{
	const size_t huge = 2 << 20, len = 2 * huge;
	char dev[64], path[PATH_MAX], *map;

	LL_NEEDS_DAX2();
	ASSERT_EQ(0, ll_renew_filesystem(dev, sizeof(dev), getenv("DAX2")));
	snprintf(path, sizeof(path), "%s/extents", getenv("DAX2"));
	EXPECT_EQ(0, close(self->fd));
	self->fd = open(path, O_RDWR | O_CREAT, 0600);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, fallocate(self->fd, 0, 0, len));
	map = mmap(NULL, len + huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		   0);
	map = (char *)(((uintptr_t)map + huge - 1) & ~(huge - 1));
	map = mmap(map, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		   self->fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	memset(map, 0x33, len);
	registration(_metadata, self, path, map, len);
	EXPECT_EQ(0, close(self->fd));
	EXPECT_EQ(0, unlink(path));
}

/* A breaker never fails for want of memory: then it breaks all of a lease. */
NTH_TEST(break_of_a_part)
{
	char *map = ll_map(self->fd, 0, PART, PROT_READ | PROT_WRITE);
	struct ll_rdma *r = &self->env.rdma;
	unsigned int whole = 0;
	struct ibv_mr *mr;
	int ret, state;

	/* Breaks round outward to 2 MiB. */
	FOR_EACH_FAULT(ret, (ll_lease(self->fd, F_RDLCK, 0, 0),
			     ll_setlayout(self->fd, F_UNLCK, 8 << 20, ll_pg,
					  LAYOUT_LEASE_SEIZE))) {
		state = ll_state(self->fd);
		if (ret) {
			EXPECT_FAULT_ERROR(ret);
		} else if (state == LAYOUT_LEASE_REVOKED) {
			whole++;
		} else if (state == LAYOUT_LEASE_GRANTED) {
			mr = ll_reg(r, map, ll_pg, LL_ACCESS);
			ASSERT_NE(NULL, mr);
			EXPECT_TRUE(ll_mr_works(r, mr));
			EXPECT_EQ(0, ibv_dereg_mr(mr));
		}
		EXPECT_EQ(0, ll_unlock(self->fd));
	}
	EXPECT_EQ(0, ret);
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, state);
	EXPECT_LT(0, whole);
}

/* A holder that is new, and an eventfd that it gives. */
NTH_TEST(grant_with_event)
{
	int event = eventfd(0, EFD_CLOEXEC);
	struct layout_lease lease = {
		.size = sizeof(lease),
		.type = F_RDLCK,
		.flags = LAYOUT_LEASE_EVENTFD,
		.event_fd = event,
	};
	int ret;

	FOR_EACH_FAULT(ret, fcntl(self->fd, F_SETLAYOUT, &lease) ? -errno : 0) {
		if (ret) {
			EXPECT_FAULT_ERROR(ret);
			EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(self->fd));
		} else {
			EXPECT_EQ(0, ll_unlock(self->fd));
		}
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(3, self->failures);
}

/*
 * Who does not wait is promised the range. Without memory for that he is told the
 * same, and is done when he comes again.
 */
NTH_TEST(break_without_waiting)
{
	struct ll_holder deaf = { .path = self->env.path };
	struct ll_proc holder;
	bool more = true;
	long end;
	int ret;

	ll_set_grace(LL_GRACE);
	while (more) {
		ASSERT_EQ(0, ll_holder_start(&holder, &deaf));
		fault(self);
		ret = ll_setlayout(self->fd, F_UNLCK, 0, 0, LAYOUT_LEASE_BREAK);
		more = faulted(self);
		if (ret != -EAGAIN)
			EXPECT_FAULT_ERROR(ret);
		ll_proc_stop(&holder);
		end = ll_now_ms() + LL_SOON_MS;
		do {
			ret = ll_setlayout(self->fd, F_UNLCK, 0, 0,
					   LAYOUT_LEASE_BREAK);
		} while (ret == -EAGAIN && ll_now_ms() < end);
		EXPECT_EQ(0, ret) TH_LOG("fault %d", self->n);
		/* What is kept free for him is not kept for ever. */
		do {
			ret = ll_lease(self->fd, F_RDLCK, 0, 0);
		} while (ret == -EAGAIN && ll_now_ms() < end);
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, ll_unlock(self->fd));
	}
	EXPECT_LT(2, self->n);
}

/* Which suites of KUnit run when a module is loaded: not those, for they would fail. */
static int kunit_suites(const char *glob)
{
	const char *param = "/sys/module/kunit/parameters/filter_glob";

	return access(param, F_OK) ? 0 : ll_sh("echo '%s' >%s", glob, param);
}

/* A module that cannot be loaded leaves nothing that the next one trips over. */
NTH_TEST(load_of_the_module)
{
	bool more = true;
	char path[PATH_MAX];
	int ko, ret;

	if (ll_module_settle(self->fd) < 0)
		SKIP(return, "layout leases are built in");
	ASSERT_EQ(0, ll_sh_line(path, sizeof(path), "modinfo -n " LL_MODULE));
	ko = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, ko);
	ASSERT_EQ(0, ll_module_delete());
	ASSERT_EQ(0, kunit_suites("none"));
	while (more) {
		fault(self);
		ret = syscall(__NR_finit_module, ko, "", 0) ? -errno : 0;
		more = faulted(self);
		if (ret) {
			self->failures++;
			EXPECT_EQ(-1, ll_module_refs());
		} else {
			EXPECT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, PART));
			EXPECT_EQ(0, ll_unlock(self->fd));
			EXPECT_TRUE(ll_module_refs_become(0));
			EXPECT_EQ(0, ll_module_delete());
		}
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(10, self->failures);
	TH_LOG("%d faults, %d errors", self->n - 1, self->failures);
	close(ko);
	EXPECT_EQ(0, ll_sh("modprobe " LL_MODULE));
	EXPECT_EQ(0, kunit_suites("*.*"));
}

/* A region of rxe, and a device of it that fails to stop. */
FIXTURE(device) {
	struct ll_env env;
	struct held held;
};

static int injected(int times)
{
	return ll_sh("cd " DEBUG "fail_function && "
		     "echo 0 >/proc/sys/debug/kprobes-optimization && "
		     "echo " REVOKE_FINISH " >inject && "
		     "printf %%#x -16 >" REVOKE_FINISH "/retval && "
		     "echo 0 >verbose && echo 100 >probability && "
		     "echo %d >times", times);
}

static int no_injected(void)
{
	return ll_sh("cd " DEBUG "fail_function && echo 0 >probability && "
		     "echo >inject");
}

FIXTURE_SETUP(device)
{
	LL_ENV_INIT(&self->env, true);
	LL_ENV_SKIP_IF(&self->env, strcmp(ll_rdma_type(), "rxe"),
		       "the fault is one of rxe");
	LL_ENV_SKIP_IF(&self->env, access(DEBUG "fail_function/inject", W_OK),
		       "no CONFIG_FAIL_FUNCTION");
	ll_set_grace(0);
	ASSERT_EQ(0, ll_hold(&self->held, &self->env.rdma, self->env.path,
			     PART));
}

FIXTURE_TEARDOWN(device)
{
	no_injected();
	ll_env_exit(&self->env);
}

#define DEVICE_TEST(name)	TEST_F_TIMEOUT(device, name, 240)

/* It is asked again after 200, 400 and 800 ms. */
DEVICE_TEST(stops_late)
{
	struct ll_result res;

	ASSERT_EQ(0, injected(3));
	ll_send(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	ASSERT_EQ(0, ll_done(&self->env.helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	EXPECT_LE(1300, res.ms);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(self->held.fd));
	EXPECT_EQ(0, ll_read_long(DEBUG "fail_function/times", -1));
	EXPECT_EQ(0, ibv_dereg_mr(self->held.mr));
}

/*
 * The break waits as long, its breaker can be killed, others may come. The
 * device is asked again after 200 ms and then each time twice as long.
 */
DEVICE_TEST(does_not_stop)
{
	struct ll_proc *helper = &self->env.helper;
	struct held *h = &self->held;
	struct ll_result res;
	long end;

	ASSERT_EQ(0, injected(-1));
	ASSERT_EQ(0, ll_sh("dmesg -C"));
	ll_send(helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	EXPECT_EQ(-ETIME, ll_done(helper, 2000, &res));
	/* By the clock of the log: the machine may be slow. */
	EXPECT_EQ(0, ll_sh("dmesg | awk -F '[][]' '"
			   "/a device does not stop/ { t[n++] = $2 } "
			   "END { for (i = 1; i < n; i++) "
			   "if (t[i] - t[i - 1] < 0.19 * 2 ^ (i - 1)) exit 1; "
			   "exit !n }'"));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(h->fd));
	EXPECT_TRUE(ll_rkey_is_dead(&self->env.rdma, h->map, h->mr->rkey));
	EXPECT_TRUE(ll_file_is(self->env.path, 0, 1, 0));

	ll_proc_stop(helper);
	ASSERT_EQ(0, ll_helper_start(helper));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(h->fd));
	ll_send(helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	EXPECT_EQ(-ETIME, ll_done(helper, 300, &res));

	ASSERT_EQ(0, no_injected());
	ASSERT_EQ(0, ll_done(helper, 2 * LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	end = ll_now_ms() + LL_SOON_MS;
	while (ll_state(h->fd) != LAYOUT_LEASE_REVOKED && ll_now_ms() < end)
		ll_sleep_ms(10);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h->fd));
	EXPECT_EQ(0, ibv_dereg_mr(h->mr));
}

/*
 * The deregistration asks it, too, and leaves the region as it is. A break asks
 * again by itself.
 */
DEVICE_TEST(does_not_stop_when_deregistered)
{
	struct ll_proc *helper = &self->env.helper;
	struct held *h = &self->held;
	struct ll_result res;

	ASSERT_EQ(0, injected(-1));
	EXPECT_EQ(EBUSY, ibv_dereg_mr(h->mr));
	EXPECT_TRUE(ll_rkey_is_dead(&self->env.rdma, h->map, h->mr->rkey));
	ll_send(helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	EXPECT_EQ(-ETIME, ll_done(helper, 1000, &res));
	EXPECT_EQ(EBUSY, ibv_dereg_mr(h->mr));
	EXPECT_EQ(-ETIME, ll_done(helper, 300, &res));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(h->fd));

	ASSERT_EQ(0, no_injected());
	ASSERT_EQ(0, ll_done(helper, 2 * LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h->fd));
	EXPECT_EQ(0, ibv_dereg_mr(h->mr));
}

/* The deregistration that succeeds ends the break, before it is asked again. */
DEVICE_TEST(stops_for_the_deregistration)
{
	struct ll_proc *helper = &self->env.helper;
	struct ll_result res;

	ASSERT_EQ(0, injected(-1));
	ll_send(helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	/* After 200, 400, 800, 1600 and 3200 ms; the next time is in 6400. */
	EXPECT_EQ(-ETIME, ll_done(helper, 7000, &res));
	ASSERT_EQ(0, no_injected());
	EXPECT_EQ(0, ibv_dereg_mr(self->held.mr));
	ASSERT_EQ(0, ll_done(helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
}

/* Without a process for each look: those take their time on a busy machine. */
static int soon_in_log(int log, const char *text)
{
	long end = ll_now_ms() + LL_SOON_MS;
	char line[1024], *found;
	ssize_t len;

	while (ll_now_ms() < end) {
		len = read(log, line, sizeof(line) - 1);
		if (len < 0) {
			ll_sleep_ms(1);
			continue;
		}
		line[len] = '\0';
		found = strstr(line, text);
		if (found)
			return atoi(found + strlen(text));
	}
	return -ETIME;
}

/* Ticks that a process has spent in the kernel. */
static long system_ticks(int pid)
{
	char text[64];

	return ll_sh_line(text, sizeof(text), "cut -d' ' -f15 /proc/%d/stat",
			  pid) ? -1 : atol(text);
}

/* It says that it begins, and then it computes: it is in what it holds. */
static bool lockup_begins(int log)
{
	int pid = soon_in_log(log, "test_lockup: START pid=");
	long end = ll_now_ms() + LL_SOON_MS, first = system_ticks(pid), ticks;

	if (pid < 0 || first < 0)
		return false;
	do {
		ticks = system_ticks(pid);
	} while (ticks >= first && ticks < first + 3 && ll_now_ms() < end);
	return ticks >= first + 3;
}

/* A grace period of RCU takes long: rxe must not stop before its readers. */
DEVICE_TEST(takes_long)
{
	struct ibv_mw *mw = ibv_alloc_mw(self->env.rdma.pd, IBV_MW_TYPE_1);
	struct ll_result res;
	int log;

	if (ll_sh("modinfo test_lockup >/dev/null 2>&1"))
		SKIP(return, "no CONFIG_TEST_LOCKUP");
	/* rxe waits for nobody if nobody refers to the region. */
	if (mw)
		ASSERT_EQ(IBV_WC_SUCCESS, ll_bind_mw(&self->env.rdma, mw,
						     self->held.mr));
	log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_LE(0, lseek(log, 0, SEEK_END));
	ASSERT_EQ(0, ll_sh("modprobe test_lockup time_secs=15 state=R "
			   "lock_rcu=Y >/dev/null 2>&1 &"));
	ASSERT_TRUE(lockup_begins(log));
	ll_send(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	EXPECT_EQ(-ETIME, ll_done(&self->env.helper, 1000, &res));
	EXPECT_TRUE(ll_rkey_is_dead(&self->env.rdma, self->held.map,
				    self->held.mr->rkey));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(self->held.fd));
	ASSERT_EQ(0, ll_done(&self->env.helper, 2 * LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(self->held.fd));
	if (mw)
		EXPECT_EQ(0, ibv_dealloc_mw(mw));
	EXPECT_EQ(0, ibv_dereg_mr(self->held.mr));
}

TEST_HARNESS_MAIN
