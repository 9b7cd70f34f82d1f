// SPDX-License-Identifier: GPL-2.0
/*
 * A server and a client in network namespaces of their own, with a virtual
 * cable between them and RDMA devices on its ends, of the kind of RDMA_DEV. The
 * server leases a file, the client writes into it all the time, and an
 * administrator truncates it: what each of them gets to see.
 */
#include <arpa/inet.h>
#include <sched.h>
#include <unistd.h>

#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define LEN	(LL_PAGES * ll_pg)
#define PUSHES	12	/* of the server, each an eighth of the region */
#define ATTEMPTS	10

/* What the leased file, the memory of the client and the new owner contain. */
#define OLD	0x11
#define CLIENT	0x22
#define NEW	0x33

/* What one of them says ... */
enum {
	UNSHARED = LL_HOLDER_ERROR + 1,
	LISTENS,
	WRITES,			/* the client, successfully */
	REFUSED,		/* the server has an event that says so */
	FAILED,			/* the client, with a status */
};

/* ... and what it is told. */
enum {
	GO_ON,
	PUSH,
};

struct target {
	__u64 addr;
	__u32 rkey;
};

struct end {
	const char *type;	/* of the RDMA device */
	const char *me, *other;	/* addresses */
	const char *path;	/* of the file */
	bool cooperative;
	char link[16], dev[32];
	char mac[32];		/* of the other one */
};

static bool all(ssize_t n, size_t len)
{
	return n == (ssize_t)len;
}

/* The end of the cable is here, with an RDMA device; NULL, or why not. */
static const char *come_up(int sock, struct end *e, struct ll_rdma *r)
{
	long end = ll_now_ms() + LL_SOON_MS;
	const char *why;

	if (unshare(CLONE_NEWNET))
		return "no network namespace";
	ll_put(sock, UNSHARED);
	if (ll_get(sock, LL_SOON_MS) != GO_ON)
		return "no cable";
	if (ll_sh("ip link set lo up && ip address add %s/24 dev %s && "
		  "ip link set %s up && rdma link add %s type %s netdev %s",
		  e->me, e->link, e->link, e->dev, e->type, e->link))
		return "no RDMA device";
	setenv("RDMA_DEV", e->dev, 1);
	while ((why = ll_rdma_device(r)) && ll_now_ms() < end)
		ll_sleep_ms(50);
	return why;
}

static void push(struct ll_rdma *r, const struct held *h,
		 const struct target *to)
{
	size_t len = LEN / 8;
	int i;

	for (i = 0; i < PUSHES; i++)
		ll_post(r, LL_B, IBV_WR_RDMA_WRITE,
			(uintptr_t)h->map + i % 8 * len, h->mr->lkey, len,
			to->addr + i % 8 * len, to->rkey);
}

static void server(int sock, void *arg)
{
	struct pollfd pfd = { .fd = sock, .events = POLLIN };
	struct target target = {}, client = {};
	struct end *e = arg;
	struct ll_rdma r;
	struct held h;
	siginfo_t info;
	const char *why = come_up(sock, e, &r);
	int port = why ? -1 : ll_rdma_listen(&r);

	if (port < 0 || ll_hold(&h, &r, e->path, LEN)) {
		fprintf(stderr, "# server: %s\n", why ?: strerror(errno));
		ll_put(sock, LL_HOLDER_ERROR);
		return;
	}
	target.addr = (uintptr_t)h.map;
	target.rkey = h.mr->rkey;
	ll_put(sock, LISTENS);
	ll_put(sock, port);
	send(sock, &target, sizeof(target), 0);
	if (!all(recv(sock, &client, sizeof(client), MSG_WAITALL),
		 sizeof(client)))
		return;

	for (;;) {
		/* The client, again and again if it likes. */
		ll_rdma_meet(&r, 0);
		if (ll_refused(&r))
			ll_put(sock, REFUSED);
		if (poll(&pfd, 1, 0) == 1) {
			if (ll_get(sock, LL_SOON_MS) != PUSH)
				return;
			push(&r, &h, &client);
			ll_put(sock, GO_ON);
		}
		if (ll_signal(SIGRTMIN, 10, &info))
			continue;
		if (info.si_code == POLL_HUP) {
			ll_put(sock, LL_HOLDER_REVOKED);
			continue;
		}
		ll_put(sock, LL_HOLDER_BREAK);
		if (e->cooperative)
			ll_put(sock, ibv_dereg_mr(h.mr) || ll_unlock(h.fd) ?
			       LL_HOLDER_ERROR : LL_HOLDER_RELEASED);
	}
}

/* Write until it fails: the status. */
static int write_on(struct ll_rdma *r, const struct target *t, int sock)
{
	unsigned int n;
	int status;

	for (n = 0; ; n++) {
		memset(r->buf, CLIENT, ll_pg);
		status = ll_rdma_op(r, LL_A, IBV_WR_RDMA_WRITE, r->buf,
				    r->buf_mr->lkey, ll_pg,
				    (void *)(uintptr_t)t->addr +
				    n % LL_PAGES * ll_pg, t->rkey);
		if (status)
			return status;
		if (n == 10)
			ll_put(sock, WRITES);
	}
}

static bool only_ours(const char *mem)
{
	size_t i;

	for (i = 0; i < LEN && (mem[i] == OLD || mem[i] == CLIENT); i++)
		;
	return i == LEN;
}

static void client(int sock, void *arg)
{
	struct target target, mine = {};
	struct sockaddr_in to;
	struct end *e = arg;
	struct ll_rdma r;
	struct ibv_mr *mr;
	const char *why = come_up(sock, e, &r);
	char *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i, refused = 0;

	mr = why || mem == MAP_FAILED ? NULL : ll_reg(&r, mem, LEN, LL_ACCESS);
	if (!mr) {
		fprintf(stderr, "# client: %s\n", why ?: strerror(errno));
		ll_put(sock, LL_HOLDER_ERROR);
		return;
	}
	memset(mem, CLIENT, LEN);
	mine.addr = (uintptr_t)mem;
	mine.rkey = mr->rkey;
	ll_put(sock, LISTENS);
	send(sock, &mine, sizeof(mine), 0);
	if (!all(recv(sock, &to, sizeof(to), MSG_WAITALL), sizeof(to)) ||
	    !all(recv(sock, &target, sizeof(target), MSG_WAITALL),
		 sizeof(target)))
		return;
	if (ll_rdma_dial(&r, &to)) {
		ll_put(sock, LL_HOLDER_ERROR);
		return;
	}
	i = write_on(&r, &target, sock);
	ll_put(sock, FAILED);
	ll_put(sock, i);

	/* Once more with the old key, when the blocks have a new owner. */
	ll_get(sock, INT_MAX);
	for (i = 0; i < ATTEMPTS; i++)
		refused += !ll_rdma_dial(&r, &to) &&
			   ll_rdma_write(&r, (void *)(uintptr_t)target.addr +
					 i * ll_pg, target.rkey, ll_pg,
					 CLIENT) == IBV_WC_REM_ACCESS_ERR;
	ll_put(sock, refused);
	ll_put(sock, only_ours(mem));
	ll_get(sock, INT_MAX);
}

FIXTURE(peers) {
	struct ll_env env;
	struct end end[2];	/* A, the client; B, the server */
	struct ll_proc proc[2];
};

FIXTURE_VARIANT(peers) {
	bool cooperative;	/* is the server */
	bool cut;		/* the cable is, when the truncate comes */
};

FIXTURE_VARIANT_ADD(peers, cooperative) { .cooperative = true };
FIXTURE_VARIANT_ADD(peers, silent) { .cooperative = false };
FIXTURE_VARIANT_ADD(peers, cut) { .cut = true };

FIXTURE_SETUP(peers)
{
	static const char * const addr[] = { "203.0.113.2", "203.0.113.1" };
	static void (* const fn[])(int sock, void *arg) = { client, server };
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct target target[2];
	int i;

	LL_ENV_INIT(&self->env, false);
	LL_ENV_SKIP_IF(&self->env,
		       ll_sh("ip link add ll0 type veth peer name ll1 && "
			     "ip link delete ll0"),
		       "no virtual cable (CONFIG_VETH)");
	ASSERT_EQ(0, ll_do(&self->env.helper, LL_OP_WRITE, self->env.path, 0,
			   LEN, OLD));
	ASSERT_EQ(0, ll_fill_up(getenv("DAX1"), 1 << 20));

	for (i = 0; i < 2; i++) {
		struct end *e = &self->end[i];

		e->type = ll_rdma_type();
		e->me = addr[i];
		e->other = addr[!i];
		e->path = self->env.path;
		e->cooperative = variant->cooperative;
		snprintf(e->link, sizeof(e->link), "ll%d", i);
		snprintf(e->dev, sizeof(e->dev), "%s_%d_%d", e->type,
			 getpid(), i);
		ASSERT_EQ(0, ll_proc_start(&self->proc[i], fn[i], e));
		ASSERT_EQ(UNSHARED, ll_get(self->proc[i].sock, LL_SOON_MS));
	}
	ASSERT_EQ(0, ll_sh("ip link add ll0 netns %d type veth "
			   "peer name ll1 netns %d",
			   self->proc[0].pid, self->proc[1].pid));
	for (i = 0; i < 2; i++)
		ll_put(self->proc[i].sock, GO_ON);

	for (i = 0; i < 2; i++) {
		int sock = self->proc[i].sock;

		ASSERT_EQ(LISTENS, ll_get(sock, 2 * LL_SOON_MS));
		if (i == LL_B) {
			to.sin_port = htons(ll_get(sock, LL_SOON_MS));
			inet_aton(addr[i], &to.sin_addr);
		}
		ASSERT_TRUE(all(recv(sock, &target[i], sizeof(target[i]),
				     MSG_WAITALL), sizeof(target[i])));
	}
	for (i = 0; i < 2; i++) {
		int sock = self->proc[i].sock;

		if (i == LL_A)
			ASSERT_EQ(sizeof(to), write(sock, &to, sizeof(to)));
		ASSERT_EQ(sizeof(target[0]), write(sock, &target[!i],
						   sizeof(target[0])));
	}
	ASSERT_EQ(WRITES, ll_get(self->proc[LL_A].sock, 2 * LL_SOON_MS));
}

FIXTURE_TEARDOWN(peers)
{
	long end = ll_now_ms() + LL_SOON_MS;
	char path[64];
	int i;

	for (i = 0; i < 2; i++)
		ll_proc_stop(&self->proc[i]);
	/*
	 * Their devices and the cable go with the namespaces, a little later. A
	 * new namespace may be refused until then.
	 */
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/sys/class/infiniband/%s",
			 self->end[i].dev);
		while (!access(path, F_OK) && ll_now_ms() < end)
			ll_sleep_ms(20);
	}
	ll_env_exit(&self->env);
}

/* Frames for the other one go to an address that nobody has. */
static int cut(struct end *e, pid_t pid)
{
	return ll_sh_line(e->mac, sizeof(e->mac),
			  "nsenter -t %d -n ip neigh show %s dev %s | "
			  "sed 's/.*lladdr //; s/ .*//'",
			  pid, e->other, e->link) ?:
		ll_sh("nsenter -t %d -n ip neigh replace %s dev %s "
		      "lladdr 02:00:00:00:00:99 nud permanent",
		      pid, e->other, e->link);
}

static int mend(struct end *e, pid_t pid)
{
	return ll_sh("nsenter -t %d -n ip neigh replace %s dev %s "
		     "lladdr %s nud permanent",
		     pid, e->other, e->link, e->mac);
}

TEST_F_TIMEOUT(peers, truncate, 240)
{
	int client = self->proc[LL_A].sock, server = self->proc[LL_B].sock;
	struct ll_proc *helper = &self->env.helper;
	char victim[32];
	int status, i, told = 0;
	long size;

	if (!variant->cooperative)
		ll_set_grace(1);
	if (variant->cut) {
		for (i = 0; i < 2; i++)
			ASSERT_EQ(0, cut(&self->end[i], self->proc[i].pid));
		ll_put(server, PUSH);
		ASSERT_EQ(GO_ON, ll_get(server, LL_SOON_MS));
	}
	ll_send(helper, LL_OP_TRUNCATE, self->env.path, 0, 0, 0);
	EXPECT_EQ(LL_HOLDER_BREAK, ll_get(server, LL_SOON_MS));
	if (variant->cooperative) {
		EXPECT_EQ(LL_HOLDER_RELEASED, ll_get(server, LL_SOON_MS));
		EXPECT_DONE_SOON(helper);
	} else {
		EXPECT_DONE_AT_DEADLINE(helper, 1);
	}
	size = ll_take_all(victim, getenv("DAX1"), NEW);
	EXPECT_LE((long)LEN, size);
	for (i = 0; i < 2 && variant->cut; i++)
		EXPECT_EQ(0, mend(&self->end[i], self->proc[i].pid));

	/* The client: its connection is down, and the old key is dead. */
	ASSERT_EQ(FAILED, ll_get(client, 2 * LL_SOON_MS));
	status = ll_get(client, LL_SOON_MS);
	TH_LOG("the client got: %s", ibv_wc_status_str(status));
	EXPECT_TRUE(status == IBV_WC_REM_ACCESS_ERR ||
		    (variant->cut && status > 0));

	/* The silent server has both signals, and the device's event. */
	if (!variant->cooperative) {
		for (i = 0; i < 2 - variant->cut; i++)
			told |= 1 << ll_get(server, LL_SOON_MS);
		EXPECT_NE(0, told & 1 << LL_HOLDER_REVOKED);
		EXPECT_EQ(variant->cut, !(told & 1 << REFUSED));
	}
	ll_put(client, GO_ON);
	EXPECT_EQ(ATTEMPTS, ll_get(client, 5 * LL_SOON_MS));
	/* And nothing of the new owner came to it. */
	EXPECT_EQ(true, ll_get(client, LL_SOON_MS));
	EXPECT_TRUE(ll_file_is(victim, 0, size, NEW));
}

TEST_HARNESS_MAIN
