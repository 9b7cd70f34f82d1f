// SPDX-License-Identifier: GPL-2.0
/*
 * Breaks of leases with memory regions attached: whoever holds them and
 * whatever the holder does, the operation goes on after the grace period at
 * the latest, and no access reaches the file after that.
 */
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "layout_lease_fixture.h"

#define LEN		(LL_PAGES * ll_pg)

/* And the memory region works. */
static int hold(struct held *h, struct ll_env *env)
{
	int ret = ll_hold(h, &env->rdma, env->path, LEN);

	if (ret)
		return ret;
	return ll_rdma_write(&env->rdma, h->map, h->mr->rkey, 64, 1) ==
		IBV_WC_SUCCESS ? 0 : -EIO;
}

/* So that nothing but the region is left of it. */
static int close_and_unmap(struct held *h)
{
	return close(h->fd) || munmap(h->map, LEN) ? -errno : 0;
}

/* The operations that break, with the holder doing this or that. */
LL_FIXTURE(breaks, true)

FIXTURE_VARIANT(breaks) {
	enum ll_op op;
	long long a, b;
};

FIXTURE_VARIANT_ADD(breaks, truncate) { LL_OP_TRUNCATE };
FIXTURE_VARIANT_ADD(breaks, punch) { LL_OP_PUNCH, 0, 65536 };

TEST_F_TIMEOUT(breaks, cooperative, 240)
{
	struct ll_proc *helper = &self->env.helper;
	struct ll_rdma *r = &self->env.rdma;
	struct layout_lease lease;
	struct held h;
	__u32 rkey;

	ASSERT_EQ(0, hold(&h, &self->env));
	ll_send(helper, variant->op, self->env.path, variant->a, variant->b, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_NOT_DONE(helper);

	/* During the break: told how long, nothing new, the old one works. */
	ASSERT_EQ(0, ll_getlayout(h.fd, 0, 0, &lease));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, lease.state);
	EXPECT_LT(0, lease.remaining_ms);
	EXPECT_GE(LL_GRACE * 1000, lease.remaining_ms);
	EXPECT_EQ(-EAGAIN, ll_lease(h.fd, F_RDLCK, 0, 0));
	EXPECT_EQ(EAGAIN, ll_reg_errno(r, h.map, LEN, LL_ACCESS));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(r, h.map, h.mr->rkey, 64, 2));
	EXPECT_EQ(-EBUSY, ll_unlock(h.fd));

	rkey = h.mr->rkey;
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_DONE_SOON(helper);
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h.fd));
	EXPECT_EQ(0, ll_unlock(h.fd));
	EXPECT_TRUE(ll_rkey_is_dead(r, h.map, rkey));

	/* And once more from the start. */
	ASSERT_EQ(0, ll_fill(h.fd, LL_PAGES, 0));
	ASSERT_EQ(0, ll_lease(h.fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ll_reg_errno(r, h.map, LEN, LL_ACCESS));
	EXPECT_EQ(0, ll_unlock(h.fd));
}

/* Unlock and take the attached regions along, in one call. */
TEST_F_TIMEOUT(breaks, cooperative_by_revoking, 240)
{
	struct ll_proc *helper = &self->env.helper;
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env));
	ll_send(helper, variant->op, self->env.path, variant->a, variant->b, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_EQ(0, ll_revoke(h.fd));
	EXPECT_DONE_SOON(helper);
	EXPECT_TRUE(ll_rkey_is_dead(&self->env.rdma, h.map, h.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_unlock(h.fd));
}

TEST_F_TIMEOUT(breaks, silent, 240)
{
	struct ll_proc *helper = &self->env.helper;
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env));
	ll_set_grace(1);
	ll_send(helper, variant->op, self->env.path, variant->a, variant->b, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, ll_state(h.fd));
	EXPECT_DONE_AT_DEADLINE(helper, 1);
	EXPECT_SIGNAL(h.fd, POLL_HUP);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h.fd));

	EXPECT_TRUE(ll_rkey_is_dead(&self->env.rdma, h.map, h.mr->rkey));
	EXPECT_TRUE(variant->op != LL_OP_PUNCH ||
		    ll_file_is(self->env.path, 0, variant->b, 0));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_unlock(h.fd));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(h.fd));
}

/* The holder changes the file itself: its own regions go, without a signal. */
TEST_F_TIMEOUT(breaks, own, 240)
{
	long start = ll_now_ms();
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env));
	ASSERT_EQ(0, variant->op == LL_OP_PUNCH ?
		     ll_punch(h.fd, variant->a, variant->b) :
		     ftruncate(h.fd, variant->a));
	EXPECT_GE(LL_SOON_MS, ll_now_ms() - start);
	EXPECT_TRUE(ll_no_signal());
	EXPECT_TRUE(ll_rkey_is_dead(&self->env.rdma, h.map, h.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_unlock(h.fd));
}

/*
 * Loads from the mapping, all the time. Each one may fault a page in again that
 * the break has just unmapped.
 */
struct poller {
	char *map;
	size_t len, at;
	bool stop;
	unsigned long loads, faults;
};

static __thread sigjmp_buf on_sigbus;

static void sigbus(int sig)
{
	siglongjmp(on_sigbus, 1);
}

static void *poll_mapping(void *arg)
{
	struct poller *p = arg;

	while (!__atomic_load_n(&p->stop, __ATOMIC_RELAXED)) {
		if (sigsetjmp(on_sigbus, 1))
			p->faults++;
		else
			__atomic_load_n(p->map + p->at, __ATOMIC_RELAXED);
		p->loads++;
		p->at = (p->at + ll_pg) % p->len;
	}
	return NULL;
}

static void poll_and_break(struct __test_metadata *_metadata,
			   struct ll_env *env, enum ll_op op, size_t b,
			   bool silent)
{
	struct sigaction sa = { .sa_handler = sigbus };
	struct poller p = { .len = 16 * ll_pg };
	pthread_t thread;
	struct held h;

	ASSERT_EQ(0, hold(&h, env));
	ll_set_grace(silent ? 1 : LL_GRACE);
	sigaction(SIGBUS, &sa, NULL);
	p.map = h.map;
	ASSERT_EQ(0, pthread_create(&thread, NULL, poll_mapping, &p));
	ll_send(&env->helper, op, env->path, 0, b, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	if (silent) {
		EXPECT_DONE_AT_DEADLINE(&env->helper, 1);
	} else {
		EXPECT_NOT_DONE(&env->helper);
		EXPECT_EQ(0, ibv_dereg_mr(h.mr));
		EXPECT_DONE_SOON(&env->helper);
	}
	__atomic_store_n(&p.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_LT(0, p.loads);
	if (silent) {
		EXPECT_TRUE(ll_rkey_is_dead(&env->rdma, h.map, h.mr->rkey));
		EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	}
}

TEST_F_TIMEOUT(breaks, polling_and_cooperative, 240)
{
	poll_and_break(_metadata, &self->env, variant->op, variant->b, false);
}

TEST_F_TIMEOUT(breaks, polling_and_silent, 240)
{
	poll_and_break(_metadata, &self->env, variant->op, variant->b, true);
}

/* How long the holder has. */
LL_TEST(no_grace)
{
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env));
	ll_set_grace(0);
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_DONE_SOON(self->helper);
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h.fd));
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

LL_TEST(grace_of_plain_leases)
{
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env));
	ll_set_grace(-1);
	ASSERT_EQ(0, ll_write_long(LL_PLAIN_GRACE, 1));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	/* Too late for this break. */
	ASSERT_EQ(0, ll_write_long(LL_PLAIN_GRACE, 60));
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* Where a plain lease waits for ever, a layout lease waits 45 seconds. */
LL_TEST(grace_is_never_infinite)
{
	struct layout_lease lease;
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env));
	ll_set_grace(-1);
	ASSERT_EQ(0, ll_write_long(LL_PLAIN_GRACE, 0));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_EQ(0, ll_getlayout(h.fd, 0, 0, &lease));
	EXPECT_EQ(LAYOUT_LEASE_BREAKING, lease.state);
	EXPECT_LT(45000 - LL_SLACK_MS, lease.remaining_ms);
	EXPECT_GE(45000, lease.remaining_ms);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_DONE_SOON(self->helper);
}

/* A break does not let others begin a new grace period. */
LL_TEST(two_breakers_one_deadline)
{
	struct ll_proc second = {};
	struct held h;

	ASSERT_EQ(0, ll_helper_start(&second));
	ASSERT_EQ(0, hold(&h, &self->env));
	ll_set_grace(2);
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	ll_sleep_ms(500);
	ll_send(&second, LL_OP_PUNCH, self->path, 0, ll_pg, 0);
	EXPECT_DONE_AT_DEADLINE(self->helper, 2);
	EXPECT_DONE_SOON(&second);
	EXPECT_SIGNAL(h.fd, POLL_HUP);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ll_proc_stop(&second);
}

/* The region lives without descriptor and mapping, and still is taken back. */
LL_TEST(closed_and_unmapped)
{
	struct held h;
	int fd;

	ASSERT_EQ(0, hold(&h, &self->env));
	ASSERT_EQ(0, close_and_unmap(&h));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, h.map + ll_pg,
						h.mr->rkey, ll_pg, 0x66));
	EXPECT_TRUE(ll_file_is(self->path, ll_pg, ll_pg, 0x66));
	fd = open(self->path, O_RDWR);
	EXPECT_EQ(1, ll_proc_locks(fd));

	ll_set_grace(1);
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_TRUE(ll_gone(fd));
}

LL_TEST(closed_and_released)
{
	struct held h;
	int fd;

	ASSERT_EQ(0, hold(&h, &self->env));
	ASSERT_EQ(0, close_and_unmap(&h));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_DONE_SOON(self->helper);
	fd = open(self->path, O_RDWR);
	EXPECT_TRUE(ll_gone(fd));
}

/* The file can go while a region keeps it; its blocks go with the region. */
LL_TEST(unlinked)
{
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env));
	ASSERT_EQ(0, unlink(self->path));
	ASSERT_EQ(0, close_and_unmap(&h));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, h.map, h.mr->rkey,
						64, 3));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/*
 * A region whose file has no name and no descriptor left: an administrator gets
 * the blocks back without waiting for the holder.
 */
LL_TEST(unlinked_and_seized)
{
	int dir = open(getenv("DAX1"), O_RDONLY | O_DIRECTORY);
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env));
	ASSERT_EQ(0, unlink(self->path));
	ASSERT_EQ(0, close_and_unmap(&h));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, h.map, h.mr->rkey,
						64, 3));
	EXPECT_EQ(0, ll_setlayout(dir, F_UNLCK, 0, 0, LAYOUT_LEASE_SEIZE_FS));
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* A holder that is killed does not make the breaker wait. */
LL_TEST(killed_before)
{
	struct ll_holder holder = { .path = self->path };
	struct ll_proc p = {};

	ASSERT_EQ(0, ll_holder_start(&p, &holder));
	ll_proc_stop(&p);
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_DONE_SOON(self->helper);
}

LL_TEST(killed_meanwhile)
{
	struct ll_holder holder = { .path = self->path };
	struct ll_proc p = {};

	ASSERT_EQ(0, ll_holder_start(&p, &holder));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_EQ(LL_HOLDER_BREAK, ll_get(p.sock, LL_SOON_MS));
	EXPECT_NOT_DONE(self->helper);
	ll_proc_stop(&p);
	EXPECT_DONE_SOON(self->helper);
}

/* Two processes share the range; one or none of them lets go. */
static void two_holders(struct __test_metadata *_metadata, struct ll_env *env,
			bool one_is_silent)
{
	struct ll_holder other = { .path = env->path, .cooperative = true };
	struct ll_proc p = {};
	struct held h;

	ASSERT_EQ(0, ll_holder_start(&p, &other));
	ASSERT_EQ(0, hold(&h, env));
	EXPECT_EQ(2, ll_proc_locks(h.fd));
	if (one_is_silent)
		ll_set_grace(3);
	ll_send(&env->helper, LL_OP_TRUNCATE, env->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_EQ(LL_HOLDER_BREAK, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(LL_HOLDER_RELEASED, ll_get(p.sock, LL_SOON_MS));
	if (one_is_silent) {
		EXPECT_DONE_AT_DEADLINE(&env->helper, 3);
		EXPECT_SIGNAL(h.fd, POLL_HUP);
		EXPECT_TRUE(ll_rkey_is_dead(&env->rdma, h.map, h.mr->rkey));
		EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	} else {
		EXPECT_NOT_DONE(&env->helper);
		EXPECT_EQ(0, ibv_dereg_mr(h.mr));
		EXPECT_DONE_SOON(&env->helper);
	}
	/* The one that let go lost nothing. */
	EXPECT_EQ(-ETIME, ll_get(p.sock, 200));
	ll_proc_stop(&p);
}

LL_TEST(two_holders_cooperative)
{
	two_holders(_metadata, &self->env, false);
}

LL_TEST(two_holders_one_silent)
{
	two_holders(_metadata, &self->env, true);
}

LL_TEST(two_holders_silent)
{
	struct ll_holder other = { .path = self->path };
	struct ll_proc p = {};
	struct held h;

	ASSERT_EQ(0, ll_holder_start(&p, &other));
	ASSERT_EQ(0, hold(&h, &self->env));
	ll_set_grace(1);
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_SIGNAL(h.fd, POLL_HUP);
	EXPECT_EQ(LL_HOLDER_BREAK, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(LL_HOLDER_REVOKED, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ll_proc_stop(&p);
}

/* A holder's own operation spares its signal, and waits for the others. */
LL_TEST(own_and_others)
{
	struct ll_holder other = { .path = self->path, .cooperative = true };
	struct ll_proc p = {};
	struct held h;

	ASSERT_EQ(0, ll_holder_start(&p, &other));
	ASSERT_EQ(0, hold(&h, &self->env));
	ASSERT_EQ(0, ftruncate(h.fd, 0));
	EXPECT_EQ(LL_HOLDER_BREAK, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(LL_HOLDER_RELEASED, ll_get(p.sock, LL_SOON_MS));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ll_proc_stop(&p);
}

/* Several regions and anonymous ones beside them. */
LL_TEST(many_regions)
{
	struct ibv_mr *mr[16];
	struct held h;
	unsigned int i;

	ASSERT_EQ(0, hold(&h, &self->env));
	for (i = 0; i < ARRAY_SIZE(mr); i++) {
		mr[i] = ll_reg(self->rdma, h.map + i * ll_pg, (1 + i) * ll_pg,
			       LL_ACCESS);
		ASSERT_NE(NULL, mr[i]);
	}
	ll_set_grace(1);
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	/* Those that go in time do not save the others. */
	EXPECT_EQ(0, ibv_dereg_mr(mr[0]));
	EXPECT_EQ(0, ibv_dereg_mr(mr[15]));
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	EXPECT_SIGNAL(h.fd, POLL_HUP);
	EXPECT_TRUE(ll_no_signal());
	for (i = 1; i < 15; i++) {
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
			  ll_rdma_write(self->rdma, mr[i]->addr, mr[i]->rkey, 8,
					1));
		EXPECT_EQ(0, ll_rdma_connect(self->rdma));
		EXPECT_EQ(0, ibv_dereg_mr(mr[i]));
	}
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma,
						self->rdma->buf + LL_BUF / 2,
						self->rdma->buf_mr->rkey, 8, 1));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

/* A signal ends the wait; the holder keeps its region and its time. */
LL_TEST(breaker_interrupted)
{
	struct ll_result res = {};
	struct held h;

	ASSERT_EQ(0, hold(&h, &self->env));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_NOT_DONE(self->helper);
	ASSERT_EQ(0, kill(self->helper->pid, SIGUSR1));
	ASSERT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
	EXPECT_EQ(-EINTR, res.ret);
	EXPECT_EQ(1, ll_file_byte(self->path, 0));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, h.map, h.mr->rkey,
						64, 4));
	EXPECT_EQ(4, ll_file_byte(self->path, 0));

	/* The next attempt succeeds as soon as the region is gone. */
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_EQ(-EIO, ll_file_byte(self->path, 0));
}

LL_TEST(breaker_killed)
{
	struct ll_proc second = {};
	struct held h;

	ASSERT_EQ(0, ll_helper_start(&second));
	ASSERT_EQ(0, hold(&h, &self->env));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	kill(self->helper->pid, SIGKILL);
	EXPECT_NE(-ETIME, ll_proc_wait(self->helper, LL_SOON_MS));
	EXPECT_EQ(1, ll_file_byte(self->path, 0));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	ll_send(&second, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_DONE_SOON(&second);
	ll_proc_stop(&second);
}

/*
 * A registration that user space keeps blocked: its first piece, on the leased
 * file, is pinned, the second one waits for a page that nobody brings.
 */
LL_TEST(blocked_registration)
{
	struct ll_registration b = {
		.rdma = self->rdma, .len = 8 * ll_pg,
		.access = LL_ACCESS, .error = -1,
	};
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage zero = {};
	struct pollfd pfd = { .events = POLLIN };
	pthread_t thread;
	int fd;

	pfd.fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (pfd.fd < 0)
		SKIP(return, "userfaultfd: %s", strerror(errno));
	ASSERT_EQ(0, ioctl(pfd.fd, UFFDIO_API, &api));

	fd = open(self->path, O_RDWR);
	ASSERT_EQ(0, fcntl(fd, F_SETSIG, SIGRTMIN));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	b.addr = mmap(NULL, 8 * ll_pg, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, b.addr);
	ASSERT_EQ(b.addr, mmap(b.addr, 4 * ll_pg, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_FIXED, fd, 0));
	reg.range.start = (uintptr_t)b.addr + 4 * ll_pg;
	reg.range.len = 4 * ll_pg;
	ASSERT_EQ(0, ioctl(pfd.fd, UFFDIO_REGISTER, &reg));

	ASSERT_EQ(0, pthread_create(&thread, NULL, ll_reg_thread, &b));
	ASSERT_EQ(1, poll(&pfd, 1, LL_SOON_MS));

	ll_set_grace(1);
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(fd, POLL_MSG);
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	EXPECT_EQ(-1, b.error);
	EXPECT_EQ(-EIO, ll_file_byte(self->path, 0));

	zero.range = reg.range;
	ASSERT_EQ(0, ioctl(pfd.fd, UFFDIO_ZEROPAGE, &zero));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(EAGAIN, b.error);
	EXPECT_EQ(0, ll_unlock(fd));
}

TEST_HARNESS_MAIN
