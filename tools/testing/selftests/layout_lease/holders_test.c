// SPDX-License-Identifier: GPL-2.0
/*
 * Who the holder is: the process that took the lease, whoever else shares its
 * open file, its memory, its descriptors or its RDMA context, whatever becomes
 * of its descriptors, of its program, of its user and of itself.
 *
 * In most tests the holder is the puppet, another process that does what it is
 * told. It inherits the open file, the mapping and the RDMA context of the
 * test, so that the test can use the memory regions of the puppet: for it the
 * context is one that was passed on.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define LEN	(8 * ll_pg)

struct region {			/* of the puppet, in shared memory */
	char *addr;
	__u32 rkey;
};

struct puppet {
	const char *path;
	int fd;			/* inherited */
	char *map;
	struct ll_rdma *rdma;
	struct ibv_mr *mr;
	struct region *region;
	int sock;
	int post;		/* where nobody reads */
};

enum order {
	OPEN = 1,	/* the file once more, and forget the inherited one */
	LEASE,
	EXCLUSIVE,
	UNLOCK,
	REVOKE,
	SEIZE,
	STATE,
	HOLD,		/* a lease and a memory region */
	REGISTER,	/* and deregister */
	DEREGISTER,
	SIGNAL,		/* si_code of the next one */
	QUIET,		/* no signal is there */
	CLOSE,
	CLOSE_ON_EXEC,
	OWN_CONTEXT,	/* of its own, with nothing but a protection domain */
	CLOSE_CONTEXT,
	SEND_FILE,	/* the descriptor comes with the answer */
	POST_FILE,
	SEND_CONTEXT,
	DROP,		/* all privileges */
	USER_A,		/* and the way back to root */
	USER_B,
	USER_NAMESPACE,
	EXEC,
	EXEC_IN_THREAD,
	LEADER_EXITS,	/* another thread goes on */
	DIE,
};

static void play(struct puppet *p);

static int send_fd(int sock, int fd)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(int))];
	} cmsg = {};
	int value = 0;
	struct iovec iov = { &value, sizeof(value) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &cmsg,
		.msg_controllen = sizeof(cmsg.buf),
	};

	cmsg.hdr.cmsg_len = CMSG_LEN(sizeof(int));
	cmsg.hdr.cmsg_level = SOL_SOCKET;
	cmsg.hdr.cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(&cmsg.hdr), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == sizeof(value) ? 0 : -errno;
}

static int receive_fd(int sock)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(int))];
	} cmsg = {};
	struct pollfd pfd = { .fd = sock, .events = POLLIN };
	int value, fd = -1;
	struct iovec iov = { &value, sizeof(value) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &cmsg,
		.msg_controllen = sizeof(cmsg.buf),
	};

	if (poll(&pfd, 1, LL_SOON_MS) == 1 &&
	    recvmsg(sock, &msg, 0) == sizeof(value) &&
	    cmsg.hdr.cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(&cmsg.hdr), sizeof(fd));
	return fd;
}

static int hold(struct puppet *p)
{
	int ret = ll_lease(p->fd, F_RDLCK, 0, 0);

	if (ret)
		return ret;
	p->mr = ll_reg(p->rdma, p->map, LEN, LL_ACCESS);
	if (!p->mr)
		return -errno;
	p->region->addr = p->mr->addr;
	p->region->rkey = p->mr->rkey;
	return 0;
}

static int own_context(struct puppet *p)
{
	static struct ll_rdma own;

	own.ctx = ibv_open_device(p->rdma->ctx->device);
	own.pd = own.ctx ? ibv_alloc_pd(own.ctx) : NULL;
	p->rdma = &own;
	return own.pd ? 0 : -errno;
}

/* A namespace in which it is root and may everything. */
static int user_namespace(void)
{
	int ret = ll_drop_privileges();

	if (ret)
		return ret;
	if (syscall(__NR_unshare, CLONE_NEWUSER) ||
	    prctl(PR_SET_DUMPABLE, 1))	/* /proc/self is its own again */
		return -errno;
	return ll_write_str("/proc/self/uid_map", "0 65534 1");
}

static void *become_program(void *arg)
{
	struct puppet *p = arg;
	char sock[16], fd[16];
	char *argv[] = { "puppet", sock, fd, (char *)p->path, NULL };

	snprintf(sock, sizeof(sock), "%d", p->sock);
	snprintf(fd, sizeof(fd), "%d", p->fd);
	/* The new one sends the answer. */
	execv("/proc/self/exe", argv);
	ll_put(p->sock, -errno);
	return NULL;
}

static void *play_on(void *arg)
{
	char path[64], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", getpid());
	while (state != 'Z') {
		f = fopen(path, "re");
		if (!f || fscanf(f, "%*d %*s %c", &state) != 1)
			_exit(1);
		fclose(f);
		ll_sleep_ms(5);
	}
	ll_put(((struct puppet *)arg)->sock, 0);
	play(arg);
	_exit(0);
}

static int in_thread(void *(*fn)(void *arg), struct puppet *p)
{
	pthread_t thread;

	return -pthread_create(&thread, NULL, fn, p);
}

#define NO_ANSWER	1000	/* somebody else gives it */

static int obey(struct puppet *p, enum order order)
{
	siginfo_t info;
	int ret;

	switch (order) {
	case OPEN:
		p->fd = open(p->path, O_RDWR);
		return fcntl(p->fd, F_SETSIG, SIGRTMIN) ? -errno : 0;
	case LEASE:
		return ll_lease(p->fd, F_RDLCK, 0, 0);
	case EXCLUSIVE:
		return ll_lease(p->fd, F_WRLCK, 0, 0);
	case UNLOCK:
		return ll_unlock(p->fd);
	case REVOKE:
		return ll_revoke(p->fd);
	case SEIZE:
		return ll_setlayout(p->fd, F_UNLCK, 0, 0, LAYOUT_LEASE_SEIZE);
	case STATE:
		return ll_state(p->fd);
	case HOLD:
		return hold(p);
	case REGISTER:
		return -ll_reg_errno(p->rdma, p->map, LEN, LL_ACCESS);
	case DEREGISTER:
		return -ibv_dereg_mr(p->mr);
	case SIGNAL:
		ret = ll_signal(SIGRTMIN, LL_SOON_MS / 2, &info);
		return ret ?: info.si_code;
	case QUIET:
		return ll_no_signal() ? 0 : -EINTR;
	case CLOSE:
		return close(p->fd) ? -errno : 0;
	case CLOSE_ON_EXEC:
		return fcntl(p->fd, F_SETFD, FD_CLOEXEC) ? -errno : 0;
	case OWN_CONTEXT:
		return own_context(p);
	case CLOSE_CONTEXT:
		return close(p->rdma->ctx->cmd_fd) ? -errno : 0;
	case SEND_FILE:
		return send_fd(p->sock, p->fd) ?: NO_ANSWER;
	case POST_FILE:
		return send_fd(p->post, p->fd);
	case SEND_CONTEXT:
		return send_fd(p->sock, p->rdma->ctx->cmd_fd) ?: NO_ANSWER;
	case DROP:
		return ll_drop_privileges();
	case USER_A:
		return setresuid(1001, 1001, 0) ? -errno : 0;
	case USER_B:
		return setresuid(-1, 0, -1) || setresuid(1002, 1002, 1002) ?
			-errno : 0;
	case USER_NAMESPACE:
		return user_namespace();
	case EXEC:
		become_program(p);
		return NO_ANSWER;
	case EXEC_IN_THREAD:
		return in_thread(become_program, p) ?: NO_ANSWER;
	case LEADER_EXITS:
		ret = in_thread(play_on, p);
		if (!ret)
			syscall(__NR_exit, 0);
		return ret;
	case DIE:
		_exit(0);
	}
	return -EINVAL;
}

static void play(struct puppet *p)
{
	int order, ret;

	while ((order = ll_get(p->sock, INT_MAX)) > 0) {
		ret = obey(p, order);
		if (ret != NO_ANSWER)
			ll_put(p->sock, ret);
	}
}

/* What the puppet became by EXEC: it has the socket and the open file. */
static int play_as_program(char **argv)
{
	struct ll_rdma rdma;
	struct region region;
	struct puppet p = {
		.sock = atoi(argv[1]),
		.fd = atoi(argv[2]),
		.path = argv[3],
		.rdma = &rdma,
		.region = &region,
	};

	if (ll_rdma_open(&rdma))
		return 1;
	p.map = ll_map(p.fd, 0, LEN, PROT_READ | PROT_WRITE);
	ll_put(p.sock, 0);
	play(&p);
	return 0;
}

static int tell(struct ll_proc *p, enum order order)
{
	int ret = ll_put(p->sock, order);

	return ret ?: ll_get(p->sock, LL_SOON_MS);
}

FIXTURE(holders) {
	struct ll_env env;
	const char *path;
	struct ll_proc *helper;
	struct ll_rdma *rdma;
	int fd;			/* the puppet has these, too */
	char *map;
	struct puppet puppet;
	struct ll_proc p;
};

FIXTURE_SETUP(holders)
{
	LL_ENV_INIT(&self->env, true);
	self->path = self->env.path;
	self->helper = &self->env.helper;
	self->rdma = &self->env.rdma;
	self->fd = open(self->path, O_RDWR);
	ASSERT_EQ(0, fcntl(self->fd, F_SETSIG, SIGRTMIN));
	self->map = ll_map(self->fd, 0, LEN, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, self->map);
	self->puppet = (struct puppet) {
		.path = self->path,
		.fd = self->fd,
		.map = self->map,
		.rdma = self->rdma,
		.region = ll_shared(ll_pg),
	};
	ASSERT_NE(MAP_FAILED, self->puppet.region);
}

FIXTURE_TEARDOWN(holders)
{
	ll_proc_stop(&self->p);
	ll_env_exit(&self->env);
}

#define HOLDERS_TEST(name)	TEST_F_TIMEOUT(holders, name, 240)

/* With flags of clone(2), and with a pid of our choice unless that is 0. */
static int start(struct ll_proc *p, struct puppet *puppet, __u64 flags,
		 pid_t pid)
{
	struct clone_args args = {
		.flags = flags,
		.exit_signal = SIGCHLD,
		.set_tid = pid ? (uintptr_t)&pid : 0,
		.set_tid_size = pid ? 1 : 0,
	};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -errno;
	fflush(NULL);
	p->pid = syscall(__NR_clone3, &args, sizeof(args));
	if (!p->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!(flags & CLONE_FILES))
			close(pair[0]);
		puppet->sock = pair[1];
		play(puppet);
		_exit(0);
	}
	if (!(flags & CLONE_FILES))
		close(pair[1]);
	p->sock = pair[0];
	return p->pid < 0 ? -errno : 0;
}

#define ASSERT_START()	ASSERT_EQ(0, start(&self->p, &self->puppet, 0, 0))

/* With a region on a file that it has opened itself. */
#define ASSERT_START_HOLDER()						\
	do {								\
		ASSERT_START();						\
		ASSERT_EQ(0, tell(&self->p, OPEN));			\
		ASSERT_EQ(0, tell(&self->p, HOLD));			\
	} while (0)

/* A truncate tells it, and waits until it lets go in this way. */
#define EXPECT_BREAK_UNTIL(order)					\
	do {								\
		ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0,	\
			0);						\
		EXPECT_EQ(POLL_MSG, tell(&self->p, SIGNAL));		\
		EXPECT_NOT_DONE(self->helper);				\
		EXPECT_EQ(0, tell(&self->p, order));			\
		EXPECT_DONE_SOON(self->helper);				\
	} while (0)

/* The region of the puppet, through the queue pair of the test. */
static bool region_works(struct puppet *puppet)
{
	static unsigned char byte;

	return ll_rdma_write(puppet->rdma, puppet->region->addr,
			     puppet->region->rkey, 8, ++byte) ==
		IBV_WC_SUCCESS &&
		ll_file_byte(puppet->path, 0) == byte;
}

static bool region_is_dead(struct puppet *puppet)
{
	return ll_rkey_is_dead(puppet->rdma, puppet->region->addr,
			       puppet->region->rkey);
}

/*
 * Passed on: open files and RDMA contexts
 */

/* A process may use what it is given. To pin more it needs a lease of its own. */
HOLDERS_TEST(passed_context_gives_no_lease)
{
	struct ibv_mr *mr;

	ASSERT_START();
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	mr = ll_reg(self->rdma, self->map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(-EOPNOTSUPP, tell(&self->p, REGISTER));
	EXPECT_EQ(-EBUSY, tell(&self->p, LEASE));

	ASSERT_EQ(0, tell(&self->p, OPEN));
	EXPECT_EQ(-EOPNOTSUPP, tell(&self->p, REGISTER));
	ASSERT_EQ(0, tell(&self->p, LEASE));
	EXPECT_EQ(0, tell(&self->p, REGISTER));
	ASSERT_EQ(0, tell(&self->p, HOLD));

	/* From then on it depends on its own lease alone. */
	EXPECT_EQ(-EBUSY, ll_unlock(self->fd));
	EXPECT_EQ(0, ll_revoke(self->fd));
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, mr->addr, mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_TRUE(region_works(&self->puppet));
	EXPECT_EQ(-EBUSY, tell(&self->p, UNLOCK));
	EXPECT_EQ(0, tell(&self->p, DEREGISTER));
	EXPECT_EQ(0, tell(&self->p, UNLOCK));
}

/* Who uses the region is not asked: its holder is, and it is silent. */
HOLDERS_TEST(holder_answers_for_a_passed_context)
{
	ASSERT_START_HOLDER();
	EXPECT_TRUE(region_works(&self->puppet));
	ll_set_grace(1);
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_EQ(POLL_MSG, tell(&self->p, SIGNAL));
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	EXPECT_EQ(POLL_HUP, tell(&self->p, SIGNAL));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_TRUE(region_is_dead(&self->puppet));
	EXPECT_EQ(0, tell(&self->p, DEREGISTER));
	EXPECT_EQ(0, tell(&self->p, UNLOCK));
}

/* It can let go without the context, while others still use that. */
HOLDERS_TEST(holder_revokes_what_others_use)
{
	ASSERT_START_HOLDER();
	ASSERT_EQ(0, tell(&self->p, CLOSE_CONTEXT));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, ll_pg, 0, 0);
	EXPECT_EQ(POLL_MSG, tell(&self->p, SIGNAL));
	EXPECT_NOT_DONE(self->helper);
	EXPECT_TRUE(region_works(&self->puppet));
	EXPECT_EQ(-EBUSY, tell(&self->p, UNLOCK));
	EXPECT_EQ(0, tell(&self->p, REVOKE));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_TRUE(region_is_dead(&self->puppet));
	EXPECT_EQ(0, tell(&self->p, QUIET));
}

/* Whoever has the context may let go of a region in it. */
HOLDERS_TEST(user_of_a_passed_context_deregisters)
{
	struct held h;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	self->puppet.mr = h.mr;
	ASSERT_START();
	EXPECT_EQ(-EBUSY, ll_unlock(h.fd));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_EQ(0, tell(&self->p, QUIET));
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, tell(&self->p, DEREGISTER));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_TRUE(ll_rkey_is_dead(self->rdma, h.map, h.mr->rkey));
	EXPECT_NE(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, ll_unlock(h.fd));
}

/* The descriptor moves to another process, the lease does not. */
HOLDERS_TEST(file_in_a_message)
{
	int fd;

	ASSERT_START();
	ASSERT_EQ(0, tell(&self->p, OPEN));
	ASSERT_EQ(0, tell(&self->p, LEASE));
	ASSERT_EQ(0, ll_put(self->p.sock, SEND_FILE));
	fd = receive_fd(self->p.sock);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, tell(&self->p, CLOSE));

	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
	EXPECT_EQ(-EBUSY, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(-EBUSY, ll_unlock(fd));
	EXPECT_EQ(-EBUSY, ll_revoke(fd));
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, self->map, LEN,
					   LL_ACCESS));
	/* Its mapping is enough for the holder. */
	EXPECT_EQ(0, tell(&self->p, REGISTER));

	ASSERT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	EXPECT_EQ(POLL_MSG, tell(&self->p, SIGNAL));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(fd));
	EXPECT_EQ(-EBUSY, ll_lease(fd, F_RDLCK, 0, 0));
	ll_proc_stop(&self->p);
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
}

/* In a message that nobody has read. */
HOLDERS_TEST(file_in_flight)
{
	int pair[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	self->puppet.post = pair[0];
	ASSERT_START();
	ASSERT_EQ(0, tell(&self->p, OPEN));
	ASSERT_EQ(0, tell(&self->p, LEASE));
	ASSERT_EQ(0, tell(&self->p, POST_FILE));
	ASSERT_EQ(0, tell(&self->p, CLOSE));
	EXPECT_EQ(1, ll_proc_locks(self->fd));
	EXPECT_EQ(-EAGAIN, ll_lease(self->fd, F_WRLCK, 0, 0));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	EXPECT_EQ(POLL_MSG, tell(&self->p, SIGNAL));
	EXPECT_EQ(1, ll_proc_locks(self->fd));
	ll_proc_stop(&self->p);
	close(pair[0]);
	close(pair[1]);
	EXPECT_TRUE(ll_gone(self->fd));
}

/*
 * The RDMA context moves to another process, and with it the region; what the
 * region is for its lease stays as it was.
 */
HOLDERS_TEST(context_in_a_message)
{
	int uverbs;

	ASSERT_START();
	ASSERT_EQ(0, tell(&self->p, OWN_CONTEXT));
	ASSERT_EQ(0, tell(&self->p, OPEN));
	ASSERT_EQ(0, tell(&self->p, HOLD));
	ASSERT_EQ(0, ll_put(self->p.sock, SEND_CONTEXT));
	uverbs = receive_fd(self->p.sock);
	ASSERT_LE(0, uverbs);
	ASSERT_EQ(0, tell(&self->p, CLOSE_CONTEXT));
	ASSERT_EQ(0, tell(&self->p, CLOSE));
	EXPECT_EQ(1, ll_proc_locks(self->fd));

	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_EQ(POLL_MSG, tell(&self->p, SIGNAL));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_NOT_DONE(self->helper);
	/* The last who has it. */
	EXPECT_EQ(0, close(uverbs));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_EQ(0, tell(&self->p, QUIET));
	EXPECT_TRUE(ll_gone(self->fd));
}

/*
 * Shared: descriptors and memory
 */

/* One table of descriptors, but two processes. */
HOLDERS_TEST(shared_descriptors)
{
	int fd = open(self->path, O_RDWR), copy = dup(self->fd);

	ASSERT_EQ(0, start(&self->p, &self->puppet, CLONE_FILES, 0));
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, tell(&self->p, STATE));
	EXPECT_EQ(-EBUSY, tell(&self->p, LEASE));
	EXPECT_EQ(-EBUSY, tell(&self->p, UNLOCK));
	EXPECT_EQ(-EBUSY, tell(&self->p, REVOKE));
	EXPECT_EQ(-EOPNOTSUPP, tell(&self->p, REGISTER));

	/* It closes our descriptor, then the last one of this open file. */
	ASSERT_EQ(0, tell(&self->p, CLOSE));
	EXPECT_EQ(-EBADF, ll_state(self->fd));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(copy));
	EXPECT_EQ(0, close(copy));
	EXPECT_EQ(0, munmap(self->map, LEN));
	EXPECT_EQ(1, ll_proc_locks(fd));
	ll_proc_stop(&self->p);	/* its mapping was the last */
	EXPECT_TRUE(ll_gone(fd));
}

struct borrower {
	struct ll_rdma *rdma;
	char *map;
	int fd, lease, revoke, error;
};

static int borrow(void *arg)
{
	struct borrower *b = arg;

	b->lease = ll_lease(b->fd, F_RDLCK, 0, 0);
	b->revoke = ll_revoke(b->fd);
	b->error = ll_reg_errno(b->rdma, b->map, LEN, LL_ACCESS);
	return 0;
}

/* One memory besides, as after vfork(2). */
HOLDERS_TEST(shared_memory)
{
	struct borrower b = {
		.rdma = self->rdma,
		.map = self->map,
		.fd = self->fd,
	};
	size_t size = 256 * 1024;
	char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, stack);
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	pid = clone(borrow, stack + size,
		    CLONE_VM | CLONE_FILES | CLONE_VFORK | SIGCHLD, &b);
	ASSERT_LT(0, pid);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(-EBUSY, b.lease);
	EXPECT_EQ(-EBUSY, b.revoke);
	EXPECT_EQ(EOPNOTSUPP, b.error);
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(self->fd));
}

/*
 * Closed
 */

/* While a break waits for the region: neither close nor munmap does. */
HOLDERS_TEST(close_does_not_wait)
{
	struct held h;
	long ms;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_NOT_DONE(self->helper);
	ms = ll_now_ms();
	EXPECT_EQ(0, close(h.fd));
	EXPECT_EQ(0, munmap(h.map, LEN));
	EXPECT_GE(LL_SOON_MS, ll_now_ms() - ms);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(1, ll_proc_locks(self->fd));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_TRUE(ll_gone(self->fd));
}

static bool proc_locks_become(int fd, int lines)
{
	long end = ll_now_ms() + LL_SLACK_MS;

	while (ll_proc_locks(fd) != lines && ll_now_ms() < end)
		ll_sleep_ms(20);
	return ll_proc_locks(fd) == lines;
}

/* Of two open files, both leased and closed, the one with the region stays. */
HOLDERS_TEST(second_open_file)
{
	struct held h;
	int fd;

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	fd = open(self->path, O_RDWR);
	ASSERT_EQ(0, ll_lease(fd, F_WRLCK, 0, 0));
	EXPECT_EQ(2, ll_proc_locks(self->fd));
	EXPECT_EQ(0, close(fd));
	EXPECT_TRUE(proc_locks_become(self->fd, 1));
	EXPECT_EQ(0, close(h.fd));
	EXPECT_EQ(0, munmap(h.map, LEN));
	ll_sleep_ms(100);
	EXPECT_EQ(1, ll_proc_locks(self->fd));
	EXPECT_EQ(IBV_WC_SUCCESS, ll_rdma_write(self->rdma, h.map, h.mr->rkey,
						8, 1));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(h.fd, POLL_MSG);
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_DONE_SOON(self->helper);
	EXPECT_TRUE(ll_gone(self->fd));
}

/*
 * Another program, other threads
 */

static void exec(struct __test_metadata *_metadata,
		 FIXTURE_DATA(holders) *self, enum order how)
{
	ASSERT_START_HOLDER();
	EXPECT_TRUE(region_works(&self->puppet));
	ASSERT_EQ(0, tell(&self->p, how));

	/* The program has changed, the process is the same. */
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, tell(&self->p, STATE));
	EXPECT_TRUE(region_works(&self->puppet));
	EXPECT_EQ(-EBUSY, tell(&self->p, UNLOCK));
	EXPECT_EQ(0, tell(&self->p, REGISTER));
	EXPECT_EQ(-EAGAIN, ll_lease(self->fd, F_WRLCK, 0, 0));
	EXPECT_EQ(0, tell(&self->p, QUIET));

	EXPECT_BREAK_UNTIL(REVOKE);
	EXPECT_TRUE(region_is_dead(&self->puppet));
}

HOLDERS_TEST(exec)
{
	exec(_metadata, self, EXEC);
}

/* That thread becomes the first one, whose number the process has. */
HOLDERS_TEST(exec_in_thread)
{
	exec(_metadata, self, EXEC_IN_THREAD);
}

HOLDERS_TEST(exec_closes_the_file)
{
	ASSERT_START();
	ASSERT_EQ(0, tell(&self->p, OPEN));
	ASSERT_EQ(0, tell(&self->p, LEASE));
	EXPECT_EQ(1, ll_proc_locks(self->fd));
	ASSERT_EQ(0, tell(&self->p, CLOSE_ON_EXEC));
	ASSERT_EQ(0, ll_put(self->p.sock, EXEC));
	EXPECT_TRUE(ll_gone(self->fd));
	EXPECT_EQ(0, ll_lease(self->fd, F_WRLCK, 0, 0));
}

/* A process whose first thread has exited is not dead, and is told. */
HOLDERS_TEST(first_thread_exits)
{
	ASSERT_START_HOLDER();
	ASSERT_EQ(0, tell(&self->p, EXCLUSIVE));
	ASSERT_EQ(0, tell(&self->p, LEADER_EXITS));
	EXPECT_EQ(-EAGAIN, ll_lease(self->fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, tell(&self->p, REGISTER));
	EXPECT_TRUE(region_works(&self->puppet));
	EXPECT_BREAK_UNTIL(DEREGISTER);
	EXPECT_EQ(0, tell(&self->p, UNLOCK));
}

/*
 * Dead
 */

/*
 * The region outlives the process that registered it, and others use it: until
 * somebody wants the blocks, who then does not wait for the dead.
 */
static void dead_holder(struct __test_metadata *_metadata,
			FIXTURE_DATA(holders) *self)
{
	EXPECT_TRUE(region_works(&self->puppet));
	EXPECT_EQ(1, ll_proc_locks(self->fd));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_DONE_SOON(self->helper);
	EXPECT_TRUE(region_is_dead(&self->puppet));
	EXPECT_TRUE(ll_no_signal());
	EXPECT_EQ(-EIO, ll_file_byte(self->path, 0));
	EXPECT_TRUE(ll_gone(self->fd));
}

HOLDERS_TEST(holder_exits)
{
	ASSERT_START_HOLDER();
	ASSERT_EQ(0, ll_put(self->p.sock, DIE));
	ASSERT_EQ(0, ll_proc_wait(&self->p, LL_SOON_MS));
	dead_holder(_metadata, self);
}

HOLDERS_TEST(holder_is_killed)
{
	ASSERT_START_HOLDER();
	ll_proc_stop(&self->p);
	dead_holder(_metadata, self);
}

/* Nobody has waited for it: its number is still taken. */
HOLDERS_TEST(holder_is_a_zombie)
{
	siginfo_t info;

	ASSERT_START_HOLDER();
	ASSERT_EQ(0, kill(self->p.pid, SIGKILL));
	ASSERT_EQ(0, waitid(P_PID, self->p.pid, &info, WEXITED | WNOWAIT));
	dead_holder(_metadata, self);
}

/* What a dead process holds is in nobody's way. */
HOLDERS_TEST(dead_holder_in_the_way)
{
	ASSERT_START_HOLDER();
	ASSERT_EQ(0, tell(&self->p, EXCLUSIVE));
	EXPECT_EQ(-EAGAIN, ll_lease(self->fd, F_RDLCK, 0, 0));
	ll_proc_stop(&self->p);
	EXPECT_TRUE(region_works(&self->puppet));
	EXPECT_EQ(0, ll_lease(self->fd, F_WRLCK, 0, 0));
	EXPECT_TRUE(region_is_dead(&self->puppet));
	EXPECT_TRUE(proc_locks_become(self->fd, 1));
	EXPECT_EQ(0, ll_reg_errno(self->rdma, self->map, LEN, LL_ACCESS));
	EXPECT_EQ(0, ll_unlock(self->fd));
}

/* But it loses nothing for a lease that is refused: the open file has a holder. */
HOLDERS_TEST(refused_beside_the_dead)
{
	int status;
	pid_t pid;

	ASSERT_START_HOLDER();
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	ll_proc_stop(&self->p);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(-ll_lease(self->fd, F_RDLCK, 0, 0));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(EBUSY, WEXITSTATUS(status));
	EXPECT_TRUE(region_works(&self->puppet));
	EXPECT_EQ(2, ll_proc_locks(self->fd));
	EXPECT_EQ(0, ll_unlock(self->fd));
}

/* Nor is its open file, which others may have. */
HOLDERS_TEST(dead_holders_open_file)
{
	struct ibv_mr *mr;

	ASSERT_START();
	ASSERT_EQ(0, tell(&self->p, HOLD));
	EXPECT_EQ(-EBUSY, ll_lease(self->fd, F_RDLCK, 0, 0));
	ll_proc_stop(&self->p);
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(self->fd));
	EXPECT_TRUE(region_works(&self->puppet));
	/* Not without saying so. */
	EXPECT_EQ(-EBUSY, ll_unlock(self->fd));
	EXPECT_TRUE(region_works(&self->puppet));

	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	EXPECT_TRUE(region_is_dead(&self->puppet));
	mr = ll_reg(self->rdma, self->map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_SIGNAL(self->fd, POLL_MSG);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_DONE_SOON(self->helper);
}

HOLDERS_TEST(revoke_what_the_dead_left)
{
	ASSERT_START();
	ASSERT_EQ(0, tell(&self->p, HOLD));
	EXPECT_EQ(-EBUSY, ll_revoke(self->fd));
	ll_proc_stop(&self->p);
	EXPECT_EQ(0, ll_revoke(self->fd));
	EXPECT_TRUE(region_is_dead(&self->puppet));
	EXPECT_EQ(0, ll_proc_locks(self->fd));
}

/* A new process with the number of the dead one has nothing of its. */
HOLDERS_TEST(pid_is_used_again)
{
	pid_t pid;

	ASSERT_START();
	ASSERT_EQ(0, tell(&self->p, HOLD));
	pid = self->p.pid;
	ll_proc_stop(&self->p);
	EXPECT_TRUE(region_works(&self->puppet));
	ASSERT_EQ(0, start(&self->p, &self->puppet, 0, pid));
	ASSERT_EQ(pid, self->p.pid);
	EXPECT_EQ(-EOPNOTSUPP, tell(&self->p, REGISTER));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, ll_pg, 0, 0);
	EXPECT_DONE_SOON(self->helper);
	EXPECT_EQ(0, tell(&self->p, QUIET));
	EXPECT_TRUE(region_is_dead(&self->puppet));
	EXPECT_EQ(0, tell(&self->p, LEASE));
	EXPECT_EQ(0, tell(&self->p, QUIET));
}

/*
 * Other users, other namespaces
 */

/* Its root is the owner of its own files, and nobody to others. */
HOLDERS_TEST(user_namespace)
{
	ASSERT_START();
	ASSERT_EQ(0, fchmod(self->fd, 0666));
	ASSERT_EQ(0, tell(&self->p, USER_NAMESPACE));
	EXPECT_EQ(-EACCES, tell(&self->p, LEASE));
	ASSERT_EQ(0, fchown(self->fd, 65534, 65534));
	EXPECT_EQ(0, tell(&self->p, LEASE));
	EXPECT_EQ(-EPERM, tell(&self->p, SEIZE));
	ASSERT_EQ(0, tell(&self->p, HOLD));
	EXPECT_BREAK_UNTIL(DEREGISTER);
}

/* The first process of a namespace, which many signals do not reach. */
HOLDERS_TEST(pid_namespace)
{
	ASSERT_EQ(0, start(&self->p, &self->puppet, CLONE_NEWPID, 0));
	ASSERT_EQ(0, tell(&self->p, HOLD));
	EXPECT_EQ(-EBUSY, ll_lease(self->fd, F_RDLCK, 0, 0));
	EXPECT_BREAK_UNTIL(DEREGISTER);
}

/* Who may take a lease is asked when it is taken, and not again. */
HOLDERS_TEST(chown_after_grant)
{
	ASSERT_START();
	ASSERT_EQ(0, fchown(self->fd, 65534, 65534));
	ASSERT_EQ(0, tell(&self->p, DROP));
	ASSERT_EQ(0, tell(&self->p, LEASE));
	ASSERT_EQ(0, fchown(self->fd, 1001, 1001));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, tell(&self->p, STATE));
	EXPECT_EQ(0, tell(&self->p, REGISTER));
	EXPECT_EQ(-EACCES, tell(&self->p, EXCLUSIVE));
	EXPECT_EQ(-EACCES, tell(&self->p, LEASE));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, tell(&self->p, STATE));
	EXPECT_EQ(0, tell(&self->p, UNLOCK));
	EXPECT_EQ(-EACCES, tell(&self->p, LEASE));

	/* And who owns the file now is not in the way of a lease there is. */
	ASSERT_EQ(0, fchown(self->fd, 65534, 65534));
	ASSERT_EQ(0, tell(&self->p, HOLD));
	ASSERT_EQ(0, fchown(self->fd, 0, 0));
	EXPECT_BREAK_UNTIL(DEREGISTER);
}

/* Whoever drops privileges still is told. */
HOLDERS_TEST(drops_privileges_after_grant)
{
	ASSERT_START();
	ASSERT_EQ(0, tell(&self->p, HOLD));
	ASSERT_EQ(0, tell(&self->p, USER_A));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, tell(&self->p, STATE));
	EXPECT_EQ(-EACCES, tell(&self->p, LEASE));
	EXPECT_EQ(0, tell(&self->p, REGISTER));
	EXPECT_BREAK_UNTIL(DEREGISTER);
	EXPECT_EQ(0, tell(&self->p, UNLOCK));
}

/*
 * Somebody else by now, whom the user that leased may not signal: others who
 * have the open file could choose number and time of the signal. The deadline
 * stands.
 */
HOLDERS_TEST(another_user_after_grant)
{
	ASSERT_START();
	ll_set_grace(1);
	ASSERT_EQ(0, fchown(self->fd, 1001, 1001));
	ASSERT_EQ(0, tell(&self->p, USER_A));
	ASSERT_EQ(0, tell(&self->p, HOLD));
	ASSERT_EQ(0, tell(&self->p, USER_B));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, tell(&self->p, STATE));
	EXPECT_EQ(0, tell(&self->p, REGISTER));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	EXPECT_DONE_AT_DEADLINE(self->helper, 1);
	EXPECT_EQ(0, tell(&self->p, QUIET));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, tell(&self->p, STATE));
	EXPECT_EQ(0, tell(&self->p, DEREGISTER));
	EXPECT_EQ(0, tell(&self->p, UNLOCK));
}

int main(int argc, char **argv)
{
	if (!strcmp(argv[0], "puppet"))
		return play_as_program(argv);
	return test_harness_run(argc, argv);
}
