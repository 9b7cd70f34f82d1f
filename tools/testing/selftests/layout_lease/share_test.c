// SPDX-License-Identifier: GPL-2.0
/*
 * A lease belongs to one process and one open file: what a child, an inherited
 * descriptor and an inherited RDMA context are worth.
 */
#include <sys/socket.h>

#include "layout_lease_fixture.h"

#define LEN	(8 * ll_pg)

/* Run fn(arg) in a child that inherits everything: its return value, 0..255. */
static int in_child(int (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(fn(arg));
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

struct shared {
	const char *path;
	struct ll_rdma *rdma;
	char *map;
	int fd, type;
	pid_t holder;
	bool stays;	/* until it is told to die */
};

static int hold(struct shared *s, struct ll_env *env)
{
	s->path = env->path;
	s->rdma = &env->rdma;
	s->fd = open(env->path, O_RDWR);
	s->map = ll_map(s->fd, 0, LEN, PROT_READ | PROT_WRITE);
	return s->map == MAP_FAILED ? -errno : ll_lease(s->fd, F_RDLCK, 0, 0);
}

static int lease_inherited(void *arg)
{
	struct shared *s = arg;

	return -ll_lease(s->fd, s->type, 0, 0);
}

LL_TEST(inherited_fd)
{
	struct shared s = {};

	ASSERT_EQ(0, hold(&s, &self->env));
	s.type = F_RDLCK;
	EXPECT_EQ(EBUSY, in_child(lease_inherited, &s));
	s.type = F_WRLCK;
	EXPECT_EQ(EBUSY, in_child(lease_inherited, &s));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(s.fd));

	/* Free for the first that asks, once nobody holds it. */
	ASSERT_EQ(0, ll_unlock(s.fd));
	EXPECT_EQ(0, in_child(lease_inherited, &s));
}

static int unlock_inherited(void *arg)
{
	return -ll_revoke(((struct shared *)arg)->fd);
}

LL_TEST(unlock_through_inherited_fd)
{
	struct shared s = {};
	struct ibv_mr *mr;

	ASSERT_EQ(0, hold(&s, &self->env));
	mr = ll_reg(s.rdma, s.map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(EBUSY, in_child(unlock_inherited, &s));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(s.fd));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(s.rdma, s.map, mr->rkey, 8, 1));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

static int fork_again(void *arg)
{
	return in_child(lease_inherited, arg);
}

LL_TEST(grandchild)
{
	struct shared s = { .type = F_RDLCK };

	ASSERT_EQ(0, hold(&s, &self->env));
	EXPECT_EQ(EBUSY, in_child(fork_again, &s));
}

/* Another process, no child of the open file, gets hold of the descriptor. */
static void lease_received(int sock, void *arg)
{
	int fd = ll_steal(getppid(), ll_get(sock, INT_MAX));

	ll_put(sock, fd < 0 ? -fd : -ll_lease(fd, F_RDLCK, 0, 0));
}

LL_TEST(passed_fd)
{
	struct ll_proc p = {};
	struct shared s = {};

	ASSERT_EQ(0, ll_proc_start(&p, lease_received, NULL));
	ASSERT_EQ(0, hold(&s, &self->env));
	ASSERT_EQ(0, ll_put(p.sock, s.fd));
	EXPECT_EQ(EBUSY, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(s.fd));
	ll_proc_stop(&p);
}

static int state_inherited(void *arg)
{
	return ll_state(((struct shared *)arg)->fd);
}

/* Looking is free. */
LL_TEST(state_through_inherited_fd)
{
	struct shared s = {};

	ASSERT_EQ(0, hold(&s, &self->env));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, in_child(state_inherited, &s));
}

static int register_in_child(void *arg)
{
	struct shared *s = arg;
	struct ll_rdma own;

	if (ll_rdma_open(&own))
		return 255;
	return ll_reg_errno(&own, s->map, LEN, LL_ACCESS);
}

/* The mapping is inherited, the lease is not. */
LL_TEST(child_registers)
{
	struct shared s = {};

	ASSERT_EQ(0, hold(&s, &self->env));
	EXPECT_EQ(EOPNOTSUPP, in_child(register_in_child, &s));
	EXPECT_EQ(0, ll_unlock(s.fd));
}

static int lease_and_register(void *arg)
{
	struct shared *s = arg;
	int fd = open(s->path, O_RDWR);
	int ret = ll_lease(fd, s->type, 0, 0);

	return ret ? -ret : register_in_child(s);
}

/* Its own open and its own lease are what it needs. */
LL_TEST(child_with_own_lease)
{
	struct shared s = { .type = F_RDLCK };

	ASSERT_EQ(0, hold(&s, &self->env));
	EXPECT_EQ(0, in_child(lease_and_register, &s));
	s.type = F_WRLCK;
	EXPECT_EQ(EAGAIN, in_child(lease_and_register, &s));
	ASSERT_EQ(0, ll_lease(s.fd, F_WRLCK, 0, 0));
	s.type = F_RDLCK;
	EXPECT_EQ(EAGAIN, in_child(lease_and_register, &s));
}

static int do_nothing(void *arg)
{
	return 0;
}

/* A child that comes and goes takes nothing along. */
LL_TEST(child_exits)
{
	struct shared s = {};
	struct ibv_mr *mr;

	ASSERT_EQ(0, hold(&s, &self->env));
	mr = ll_reg(s.rdma, s.map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, in_child(do_nothing, NULL));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(s.fd));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(s.rdma, s.map, mr->rkey, 8, 1));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ll_unlock(s.fd));
}

/*
 * The holder dies and leaves its open file, its mapping and its RDMA context to
 * a child. Nobody is there to be told, so nobody is waited for; and the open
 * file is free for a new holder.
 */
static int orphan(struct shared *s, int sock)
{
	struct ibv_mr *mr;

	if (ll_rdma_open(s->rdma))
		return LL_HOLDER_ERROR;
	s->map = ll_map(s->fd, 0, LEN, PROT_READ | PROT_WRITE);
	if (s->map == MAP_FAILED || ll_lease(s->fd, F_RDLCK, 0, 0))
		return LL_HOLDER_ERROR;
	mr = ll_reg(s->rdma, s->map, LEN, LL_ACCESS);
	if (!mr)
		return LL_HOLDER_ERROR;
	switch (fork()) {
	case -1:
		return LL_HOLDER_ERROR;
	case 0:
		break;
	default:
		if (s->stays) {
			ll_put(sock, LL_HOLDER_READY);
			ll_get(sock, INT_MAX);
		}
		_exit(0);
	}

	/* The heir: has everything but the lease. */
	while (getppid() == s->holder)
		ll_sleep_ms(5);
	ll_put(sock, LL_HOLDER_READY);
	ll_get(sock, INT_MAX);
	ll_put(sock, -ll_lease(s->fd, F_RDLCK, 0, 0));
	ll_get(sock, INT_MAX);
	return 0;
}

/* Start such a holder: its process; the other end of its socket in *sock. */
static pid_t start_holder(struct shared *s, const char *path, int *sock)
{
	struct ll_rdma rdma;
	int pair[2], status;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -1;
	pid = fork();
	if (!pid) {
		close(pair[0]);
		s->rdma = &rdma;
		s->holder = getpid();
		s->fd = open(path, O_RDWR);
		status = orphan(s, pair[1]);
		if (status)
			ll_put(pair[1], status);
		_exit(0);
	}
	close(pair[1]);
	*sock = pair[0];
	return pid;
}

LL_TEST(holder_is_dead)
{
	struct ll_result res = {};
	struct shared s = {};
	int sock, status;
	pid_t pid;

	pid = start_holder(&s, self->path, &sock);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(LL_HOLDER_READY, ll_get(sock, LL_SOON_MS));

	s.fd = open(self->path, O_RDWR);
	EXPECT_EQ(1, ll_proc_locks(s.fd));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	ASSERT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);

	ll_put(sock, 0);
	EXPECT_EQ(0, ll_get(sock, LL_SOON_MS));
	close(sock);
	EXPECT_TRUE(ll_gone(s.fd));
}

/* It dies while somebody waits for it; nobody has waited for it as a child. */
LL_TEST(holder_dies_during_a_break)
{
	struct shared s = { .stays = true };
	struct ll_result res = {};
	int sock, status;
	pid_t pid;

	pid = start_holder(&s, self->path, &sock);
	ASSERT_EQ(LL_HOLDER_READY, ll_get(sock, LL_SOON_MS));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	ASSERT_EQ(-ETIME, ll_done(self->helper, 500, &res));

	ll_put(sock, 0);
	ASSERT_EQ(LL_HOLDER_READY, ll_get(sock, LL_SOON_MS));
	ASSERT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
	EXPECT_EQ(0, res.ret);
	close(sock);
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
}

/* The same, but the heir asks before anybody broke the dead holder's lease. */
LL_TEST(heir_of_a_dead_holder)
{
	struct shared s = { .type = F_RDLCK };

	s.fd = open(self->path, O_RDWR);
	EXPECT_EQ(0, in_child(lease_inherited, &s));
	EXPECT_EQ(0, ll_lease(s.fd, F_WRLCK, 0, 0));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(s.fd));
}

/* Both hold a shared lease; each writes through its own region. */
LL_TEST(two_writers)
{
	struct ll_holder other = { .path = self->path };
	struct ll_proc p = {};
	struct shared s = {};
	struct ibv_mr *mr;

	ASSERT_EQ(0, ll_holder_start(&p, &other));
	ASSERT_EQ(0, hold(&s, &self->env));
	mr = ll_reg(s.rdma, s.map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(s.rdma, s.map, mr->rkey, 8, 9));
	EXPECT_EQ(-EAGAIN, ll_lease(s.fd, F_WRLCK, 0, 0));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	ll_proc_stop(&p);
	EXPECT_EQ(0, ll_unlock(s.fd));
}

TEST_HARNESS_MAIN
