// SPDX-License-Identifier: GPL-2.0
/*
 * Memory regions of rxe against a peer that does what it likes: it sends packets
 * made by hand, over Ethernet, from a network namespace of its own. After a
 * region was taken back, or deregistered, no packet reaches its pages, whatever
 * came before; and what the peer has left undone delays neither.
 */
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>

#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define PORT		4791
#define PEER_QPN	0x777
#define PSN		0x1000
#define MTU		1024
#define LEN		(16 * ll_pg)
#define OURS		"203.0.113.1"
#define PEERS		"203.0.113.2"

#ifndef __packed
#define __packed __attribute__((packed))
#endif

/* Operations of a reliable connection */
#define SEND_FIRST	0x00
#define SEND_LAST	0x02
#define SEND_ONLY	0x04
#define WRITE_FIRST	0x06
#define WRITE_MIDDLE	0x07
#define WRITE_LAST	0x08
#define WRITE_ONLY	0x0a
#define READ_REQUEST	0x0c
#define READ_FIRST	0x0d
#define READ_ONLY	0x10
#define ACK		0x11
#define ATOMIC_ACK	0x12
#define CMP_SWAP	0x13
#define FETCH_ADD	0x14
#define ATOMIC_WRITE	0x1d

/* What an acknowledgment says */
#define POSITIVE(syndrome)	(!((syndrome) & 0x60))
#define NAK_REM_ACC_ERR		0x62

struct bth {
	__u8 opcode, flags;
	__be16 pkey;
	__be32 qpn, psn;	/* the top bit of psn: answer, please */
} __packed;

struct reth {
	__be64 va;
	__be32 rkey, len;
} __packed;

struct atomic {
	__be64 va;
	__be32 rkey;
	__be64 swap_add, compare;
} __packed;

struct answer {
	int opcode;		/* -ETIME: none came */
	__u32 psn;
	int syndrome;		/* of ACK and ATOMIC_ACK */
};

struct headers {
	struct iphdr ip;
	struct udphdr udp;
	struct bth bth;
	unsigned char rest[sizeof(struct atomic) + MTU + 4];
} __packed;

struct peer {
	int out, in, port;	/* sockets in its namespace */
	char dev[16], netdev[16];
	__u32 qpn;		/* what it talks to */
};

/* What routers change does not count, nor does a header that is not there. */
static __u32 icrc(const struct headers *h, size_t len)
{
	struct headers masked = *h;

	masked.ip.tos = 0xff;
	masked.ip.ttl = 0xff;
	masked.ip.check = 0xffff;
	masked.udp.check = 0xffff;
	masked.bth.qpn |= htonl(0xff000000);
	return ~ll_crc32(0xedb88320, 0xdebb20e3, &masked, len);
}

/* A header of the operation and a payload, either of which may be missing. */
static int peer_send(struct peer *p, int opcode, __u32 psn, const void *ext,
		     size_t ext_len, size_t payload, unsigned char byte)
{
	size_t len = offsetof(struct headers, rest) + ext_len + payload;
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct headers h = {
		.ip = {
			.version = 4, .ihl = 5, .id = htons(1), .ttl = 64,
			.frag_off = htons(IP_DF), .protocol = IPPROTO_UDP,
			.tot_len = htons(len + 4),
			.saddr = inet_addr(PEERS), .daddr = inet_addr(OURS),
		},
		.udp = {
			.source = htons(PORT), .dest = htons(PORT),
			.len = htons(len + 4 - sizeof(struct iphdr)),
		},
		.bth = {
			.opcode = opcode, .pkey = htons(0xffff),
			.qpn = htonl(p->qpn),
			.psn = htonl(psn | 1U << 31),
		},
	};
	__u32 crc;

	memcpy(h.rest, ext, ext_len);
	memset(h.rest + ext_len, byte, payload);
	crc = icrc(&h, len);
	memcpy((char *)&h + len, &crc, sizeof(crc));
	to.sin_addr.s_addr = h.ip.daddr;
	return sendto(p->out, &h, len + 4, 0, (struct sockaddr *)&to,
		      sizeof(to)) == (ssize_t)len + 4 ? 0 : -errno;
}

static struct reth reth(const struct ibv_mr *mr, __u32 len)
{
	return (struct reth) {
		.va = htobe64((uintptr_t)mr->addr),
		.rkey = htonl(mr->rkey),
		.len = htonl(len),
	};
}

static int peer_write(struct peer *p, int opcode, __u32 psn,
		      const struct ibv_mr *mr, __u32 len, size_t payload,
		      unsigned char byte)
{
	struct reth ext = reth(mr, len);

	return peer_send(p, opcode, psn, &ext, sizeof(ext), payload, byte);
}

static int peer_read(struct peer *p, __u32 psn, const struct ibv_mr *mr,
		     __u32 len)
{
	return peer_write(p, READ_REQUEST, psn, mr, len, 0, 0);
}

static int peer_atomic(struct peer *p, int opcode, __u32 psn,
		       const struct ibv_mr *mr)
{
	struct atomic ext = {
		.va = htobe64((uintptr_t)mr->addr),
		.rkey = htonl(mr->rkey),
		.swap_add = htobe64(1),
		/* What ll_fill() wrote to the first page. */
		.compare = 0,
	};

	return peer_send(p, opcode, psn, &ext, sizeof(ext), 0, 0);
}

/* The next answer from the queue pair. */
static struct answer peer_hears(struct peer *p, long timeout_ms)
{
	struct answer a = { .opcode = -ETIME };
	struct pollfd pfd = { .fd = p->in, .events = POLLIN };
	long end = ll_now_ms() + timeout_ms;
	struct headers h;
	ssize_t len;

	while (poll(&pfd, 1, end - ll_now_ms()) == 1) {
		len = recv(p->in, &h, sizeof(h), 0);
		if (len < (ssize_t)offsetof(struct headers, rest) + 4 ||
		    h.udp.dest != htons(PORT) || h.bth.qpn != htonl(PEER_QPN))
			continue;
		a.opcode = h.bth.opcode;
		a.psn = ntohl(h.bth.psn) & 0xffffff;
		a.syndrome = h.rest[0];
		break;
	}
	return a;
}

/* What arrives until it is silent; true: data of a read were among it. */
static bool peer_hears_data(struct peer *p)
{
	struct answer a;
	bool data = false;

	while ((a = peer_hears(p, 300)).opcode >= 0)
		data |= a.opcode >= READ_FIRST && a.opcode <= READ_ONLY;
	return data;
}

/* True: an operation was acknowledged that must not succeed. */
static bool peer_hears_success(struct peer *p, __u32 psn)
{
	struct answer a;
	bool success = false;

	while ((a = peer_hears(p, 300)).opcode >= 0)
		success |= a.psn == psn && a.opcode == ACK &&
			   POSITIVE(a.syndrome);
	return success;
}

/* Its half of a pair of Ethernet devices, in a new namespace. */
static const char *peer_namespace(struct peer *p, int home)
{
	struct sockaddr_in any = {
		.sin_family = AF_INET, .sin_port = htons(PORT),
	};

	if (ll_sh("ip link add %s type veth peer name %s netns /proc/%d/fd/%d",
		  "peer0", p->netdev, getpid(), home) ||
	    ll_sh("ip address add " PEERS "/24 dev peer0 && "
		  "ip link set peer0 up"))
		return "no pair of Ethernet devices (CONFIG_VETH, CONFIG_NET_NS)";
	p->out = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	p->in = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_UDP);
	/* So that nobody says that there is none. */
	p->port = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (p->out < 0 || p->in < 0 ||
	    bind(p->port, (struct sockaddr *)&any, sizeof(any)))
		return "no raw sockets";
	return NULL;
}

static const char *peer_open(struct peer *p)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	const char *why;

	snprintf(p->dev, sizeof(p->dev), "rxe_%d", getpid());
	snprintf(p->netdev, sizeof(p->netdev), "veth%d", getpid());
	if (home < 0 || unshare(CLONE_NEWNET))
		return perror("unshare"), "no network namespaces, or not root";
	why = peer_namespace(p, home);
	if (setns(home, CLONE_NEWNET))
		abort();
	close(home);
	if (why)
		return why;
	if (ll_sh("ip address add " OURS "/24 dev %s && ip link set %s up",
		  p->netdev, p->netdev) ||
	    ll_sh("rdma link add %s type rxe netdev %s", p->dev, p->netdev))
		return "no rxe";
	setenv("RDMA_DEV", p->dev, 1);
	return NULL;
}

static void peer_close(struct peer *p)
{
	close(p->out);
	close(p->in);
	close(p->port);
	/* The namespace goes with its last socket, the other device with it. */
	ll_sh("rdma link delete %s 2>/dev/null; ip link delete %s 2>/dev/null",
	      p->dev, p->netdev);
}

/* As if the peer had just connected. */
static int connect_to_peer(struct ibv_qp *qp, struct ll_rdma *r)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RESET,
	};

	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE))
		return -errno;
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = r->qp_access,
	};
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX |
			  IBV_QP_PORT | IBV_QP_ACCESS_FLAGS))
		return -errno;
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = PEER_QPN,
		.rq_psn = PSN,
		.max_dest_rd_atomic = LL_READS,
		.min_rnr_timer = 1,
		.ah_attr = {
			.is_global = 1,
			.port_num = 1,
			.grh = {
				.sgid_index = r->gid_index, .hop_limit = 64,
			},
		},
	};
	attr.ah_attr.grh.dgid.raw[10] = 0xff;
	attr.ah_attr.grh.dgid.raw[11] = 0xff;
	inet_pton(AF_INET, PEERS, attr.ah_attr.grh.dgid.raw + 12);
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV |
			  IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			  IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
		return -errno;
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTS,
		.timeout = 14, .retry_cnt = 7, .rnr_retry = 7,
		.max_rd_atomic = LL_READS,
	};
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT |
			  IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
			  IBV_QP_MAX_QP_RD_ATOMIC))
		return -errno;
	return 0;
}

static struct ibv_qp *qp_for_peer(struct ll_rdma *r)
{
	struct ibv_qp_init_attr init = r->init;
	struct ibv_qp *qp;

	init.send_cq = ibv_create_cq(r->ctx, 64, NULL, NULL, 0);
	init.recv_cq = init.send_cq;
	if (!init.send_cq)
		return NULL;
	qp = ibv_create_qp(r->pd, &init);
	return qp && !connect_to_peer(qp, r) ? qp : NULL;
}

/* The next message goes to the beginning of the region. */
static int receive_into(struct ibv_qp *qp, const struct held *h)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)h->map, .length = 2 * MTU,
		.lkey = h->mr->lkey,
	};
	struct ibv_recv_wr *bad, wr = { .sg_list = &sge, .num_sge = 1 };

	return qp->srq ? ibv_post_srq_recv(qp->srq, &wr, &bad) :
			 ibv_post_recv(qp, &wr, &bad);
}

/* What a peer sees of a window to the region. */
static int open_window(struct ibv_qp *qp, struct ibv_mw *mw,
		       const struct held *h, struct ibv_mr *seen)
{
	long end = ll_now_ms() + LL_SOON_MS;
	struct ibv_send_wr *bad, wr;
	struct ibv_wc wc;
	int n;

	if (!mw)
		return -ENOMEM;
	wr = ll_bind_wr(mw, h->mr);
	if (ibv_post_send(qp, &wr, &bad))
		return -EIO;
	while (!(n = ibv_poll_cq(qp->send_cq, 1, &wc)) && ll_now_ms() < end)
		;
	*seen = *h->mr;
	seen->rkey = wr.bind_mw.rkey;
	return n == 1 && wc.status == IBV_WC_SUCCESS ? 0 : -EIO;
}

static struct ibv_srq *srq_for_peer(struct ll_rdma *r)
{
	struct ibv_srq_init_attr srq = { .attr = { 1, 1 } };

	return ibv_create_srq(r->pd, &srq);
}

/* It has refused something, and got over it. */
static bool soon_in_error(struct ibv_qp *qp)
{
	long end = ll_now_ms() + LL_SOON_MS;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	while (!ibv_query_qp(qp, &attr, IBV_QP_STATE, &init)) {
		if (attr.qp_state == IBV_QPS_ERR)
			return true;
		if (ll_now_ms() > end)
			break;
		ll_sleep_ms(1);
	}
	return false;
}

/* How the region goes. */
enum how {
	DEREGISTERED,
	SEIZED,
	BROKEN,			/* by a change, whose holder says nothing */
	UNLINKED,		/* with its device */
};

FIXTURE(roce) {
	struct ll_env env;
	struct ll_rdma r;
	struct peer peer;
	struct ibv_qp *qp;
	struct ibv_mw *mw;	/* if there is a window to the region */
	struct held h;
};

FIXTURE_VARIANT(roce) {
	enum how how;
};

FIXTURE_VARIANT_ADD(roce, deregistered) { .how = DEREGISTERED };
FIXTURE_VARIANT_ADD(roce, seized) { .how = SEIZED };
FIXTURE_VARIANT_ADD(roce, broken) { .how = BROKEN };
FIXTURE_VARIANT_ADD(roce, unlinked) { .how = UNLINKED };

FIXTURE_SETUP(roce)
{
	const char *why;

	LL_ENV_INIT(&self->env, false);
	why = peer_open(&self->peer) ?: ll_rdma_device(&self->r);
	if (why)
		peer_close(&self->peer);
	LL_ENV_SKIP_IF(&self->env, why, "%s", why);
	self->qp = qp_for_peer(&self->r);
	ASSERT_NE(NULL, self->qp);
	self->peer.qpn = self->qp->qp_num;
	ASSERT_EQ(0, ll_hold(&self->h, &self->r, self->env.path, LEN));
}

FIXTURE_TEARDOWN(roce)
{
	peer_close(&self->peer);
	ll_env_exit(&self->env);
}

#define ROCE_TEST(name)	TEST_F_TIMEOUT(roce, name, 240)

/* At once, and then this is in the file. */
static int take_back(FIXTURE_DATA(roce) *self, enum how how, char *content)
{
	long begin = ll_now_ms();
	int ret, fd;

	switch (how) {
	case DEREGISTERED:
		/* Not behind a window that is bound. */
		if (self->mw && (ibv_dereg_mr(self->h.mr) != EINVAL ||
				 ibv_dealloc_mw(self->mw)))
			return -EBUSY;
		ret = -ibv_dereg_mr(self->h.mr);
		break;
	case SEIZED:
		ret = ll_revoke(self->h.fd);
		break;
	case UNLINKED:
		ret = ll_sh("rdma link delete %s", self->peer.dev);
		break;
	default:
		ll_set_grace(0);
		ret = ll_do(&self->env.helper, LL_OP_ZERO, self->env.path, 0,
			    LEN, 0);
		break;
	}
	if (ret)
		return ret;
	if (ll_now_ms() - begin > LL_SOON_MS)
		return -ETIME;
	fd = open(self->env.path, O_RDONLY | O_CLOEXEC);
	ret = read(fd, content, LEN) == (ssize_t)LEN ? 0 : -EIO;
	close(fd);
	return ret;
}

static bool file_is_still(const char *path, const char *content)
{
	char *now = malloc(LEN);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool is = read(fd, now, LEN) == (ssize_t)LEN &&
		  !memcmp(now, content, LEN);

	close(fd);
	free(now);
	return is;
}

#define TAKE_BACK()							\
	char *content = malloc(LEN);					\
									\
	ASSERT_EQ(0, take_back(self, variant->how, content))

#define EXPECT_UNTOUCHED()						\
	do {								\
		EXPECT_TRUE(file_is_still(self->env.path, content));	\
		free(content);						\
	} while (0)

/* That the hand-made packets are good ones. */
ROCE_TEST(packets_arrive)
{
	struct peer *p = &self->peer;
	struct ibv_mr *mr = self->h.mr;
	struct answer a;

	ASSERT_EQ(0, peer_write(p, WRITE_ONLY, PSN, mr, MTU, MTU, 0xaa));
	a = peer_hears(p, LL_SOON_MS);
	EXPECT_EQ(ACK, a.opcode);
	EXPECT_TRUE(POSITIVE(a.syndrome));
	EXPECT_TRUE(ll_file_is(self->env.path, 0, MTU, 0xaa));
	ASSERT_EQ(0, peer_read(p, PSN + 1, mr, MTU));
	EXPECT_EQ(READ_ONLY, peer_hears(p, LL_SOON_MS).opcode);
	ASSERT_EQ(0, peer_atomic(p, FETCH_ADD, PSN + 2, mr));
	EXPECT_EQ(ATOMIC_ACK, peer_hears(p, LL_SOON_MS).opcode);
}

/* The first packet of a write has come, the others come later. */
ROCE_TEST(half_a_write)
{
	struct peer *p = &self->peer;

	ASSERT_EQ(0, peer_write(p, WRITE_FIRST, PSN, self->h.mr, 3 * MTU, MTU,
				0xaa));
	ASSERT_TRUE(ll_soon_file_is(self->env.path, MTU, 0xaa));
	TAKE_BACK();
	ASSERT_EQ(0, peer_send(p, WRITE_MIDDLE, PSN + 1, "", 0, MTU, 0xbb));
	ASSERT_EQ(0, peer_send(p, WRITE_LAST, PSN + 2, "", 0, MTU, 0xbb));
	EXPECT_FALSE(peer_hears_success(p, PSN + 2));
	EXPECT_UNTOUCHED();
}

/* Half a message, and the buffer that it is received into is in the region. */
static void half_a_message(struct __test_metadata *_metadata,
			   FIXTURE_DATA(roce) *self,
			   const FIXTURE_VARIANT(roce) *variant,
			   struct ibv_qp *qp)
{
	struct peer *p = &self->peer;

	p->qpn = qp->qp_num;
	ASSERT_EQ(0, receive_into(qp, &self->h));
	ASSERT_EQ(0, peer_send(p, SEND_FIRST, PSN, "", 0, MTU, 0xaa));
	ASSERT_TRUE(ll_soon_file_is(self->env.path, MTU, 0xaa));
	TAKE_BACK();
	ASSERT_EQ(0, peer_send(p, SEND_LAST, PSN + 1, "", 0, MTU, 0xbb));
	EXPECT_FALSE(peer_hears_success(p, PSN + 1));
	EXPECT_UNTOUCHED();
}

ROCE_TEST(half_a_message)
{
	half_a_message(_metadata, self, variant, self->qp);
}

/* Any queue pair could receive it. */
ROCE_TEST(half_a_message_of_many)
{
	struct ibv_qp *qp;

	self->r.init.srq = srq_for_peer(&self->r);
	ASSERT_NE(NULL, self->r.init.srq);
	qp = qp_for_peer(&self->r);
	ASSERT_NE(NULL, qp);
	half_a_message(_metadata, self, variant, qp);
}

/* A buffer that was posted when the region lived, and a message that comes late. */
ROCE_TEST(late_message)
{
	struct peer *p = &self->peer;

	ASSERT_EQ(0, receive_into(self->qp, &self->h));
	TAKE_BACK();
	ASSERT_EQ(0, peer_send(p, SEND_ONLY, PSN, "", 0, MTU, 0xbb));
	EXPECT_FALSE(peer_hears_success(p, PSN));
	EXPECT_UNTOUCHED();
}

/* The same as half a write, and what comes later, through a window. */
ROCE_TEST(through_a_window)
{
	struct peer *p = &self->peer;
	struct ibv_mr window;

	self->mw = ibv_alloc_mw(self->r.pd, IBV_MW_TYPE_2);
	ASSERT_EQ(0, open_window(self->qp, self->mw, &self->h, &window));
	ASSERT_EQ(0, peer_write(p, WRITE_FIRST, PSN, &window, 3 * MTU, MTU,
				0xaa));
	ASSERT_TRUE(ll_soon_file_is(self->env.path, MTU, 0xaa));
	TAKE_BACK();
	ASSERT_EQ(0, peer_send(p, WRITE_MIDDLE, PSN + 1, "", 0, MTU, 0xbb));
	ASSERT_EQ(0, peer_send(p, WRITE_LAST, PSN + 2, "", 0, MTU, 0xbb));
	EXPECT_FALSE(peer_hears_success(p, PSN + 2));
	if (variant->how != UNLINKED) {
		ASSERT_EQ(0, connect_to_peer(self->qp, &self->r));
		ASSERT_EQ(0, peer_write(p, WRITE_ONLY, PSN, &window, MTU, MTU,
					0xbb));
		EXPECT_EQ(NAK_REM_ACC_ERR,
			  peer_hears(p, LL_SOON_MS).syndrome);
		ASSERT_TRUE(soon_in_error(self->qp));
		ASSERT_EQ(0, connect_to_peer(self->qp, &self->r));
		ASSERT_EQ(0, peer_read(p, PSN, &window, MTU));
		EXPECT_FALSE(peer_hears_data(p));
	}
	EXPECT_UNTOUCHED();
}

/* A read that was answered is asked for again. */
ROCE_TEST(replayed_read)
{
	struct peer *p = &self->peer;
	struct ibv_mr mr = *self->h.mr;

	ASSERT_EQ(0, peer_read(p, PSN, &mr, MTU));
	EXPECT_EQ(READ_ONLY, peer_hears(p, LL_SOON_MS).opcode);
	TAKE_BACK();
	ASSERT_EQ(0, peer_read(p, PSN, &mr, MTU));
	EXPECT_FALSE(peer_hears_data(p));
	EXPECT_UNTOUCHED();
}

/* A read of everything, whose answers nobody acknowledges, is under way. */
ROCE_TEST(read_under_way)
{
	struct peer *p = &self->peer;
	struct ibv_mr mr = *self->h.mr;

	ASSERT_EQ(0, peer_read(p, PSN, &mr, LEN));
	EXPECT_EQ(READ_FIRST, peer_hears(p, LL_SOON_MS).opcode);
	TAKE_BACK();
	/* What was on its way. */
	peer_hears_data(p);
	ASSERT_EQ(0, peer_read(p, PSN, &mr, LEN));
	EXPECT_FALSE(peer_hears_data(p));
	EXPECT_UNTOUCHED();
}

/* The answer is remembered, the memory not. */
ROCE_TEST(replayed_atomic)
{
	struct peer *p = &self->peer;
	struct ibv_mr mr = *self->h.mr;

	ASSERT_EQ(0, peer_atomic(p, FETCH_ADD, PSN, &mr));
	EXPECT_EQ(ATOMIC_ACK, peer_hears(p, LL_SOON_MS).opcode);
	TAKE_BACK();
	ASSERT_EQ(0, peer_atomic(p, FETCH_ADD, PSN, &mr));
	peer_hears_data(p);
	EXPECT_UNTOUCHED();
}

/* Each operation with the dead key. */
ROCE_TEST(dead_key)
{
	static const int ops[] = {
		WRITE_ONLY, READ_REQUEST, CMP_SWAP, FETCH_ADD, ATOMIC_WRITE,
	};
	struct peer *p = &self->peer;
	struct ibv_mr mr = *self->h.mr;
	unsigned int i;
	int ret;
	TAKE_BACK();

	if (variant->how == UNLINKED)
		SKIP(return, "nobody is there to refuse it");
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		ASSERT_EQ(0, connect_to_peer(self->qp, &self->r));
		if (ops[i] == CMP_SWAP || ops[i] == FETCH_ADD)
			ret = peer_atomic(p, ops[i], PSN, &mr);
		else if (ops[i] == ATOMIC_WRITE)
			ret = peer_write(p, ops[i], PSN, &mr, 8, 8, 0xbb);
		else if (ops[i] == WRITE_ONLY)
			ret = peer_write(p, ops[i], PSN, &mr, MTU, MTU, 0xbb);
		else
			ret = peer_read(p, PSN, &mr, MTU);
		ASSERT_EQ(0, ret);
		EXPECT_EQ(NAK_REM_ACC_ERR, peer_hears(p, LL_SOON_MS).syndrome)
			TH_LOG("operation %#x", ops[i]);
		ASSERT_TRUE(soon_in_error(self->qp));
	}
	EXPECT_UNTOUCHED();
}

/*
 * A holder that is killed in the middle of it: what the peer has begun does not
 * keep the memory, and a truncate need not wait.
 */
/* In shared memory. */
struct doomed {
	const char *path;
	bool indirect;		/* a window, and a shared receive queue */
	__u32 qpn;
	struct ibv_mr mr;	/* or the window to it */
};

static void doomed_holder(int sock, void *arg)
{
	struct doomed *d = arg;
	struct ibv_qp *qp;
	struct ll_rdma r;
	struct held h;
	int ret = -EIO;

	if (!ll_rdma_device(&r) &&
	    (!d->indirect || (r.init.srq = srq_for_peer(&r))) &&
	    (qp = qp_for_peer(&r)) && !ll_hold(&h, &r, d->path, LEN)) {
		ret = receive_into(qp, &h);
		d->qpn = qp->qp_num;
		d->mr = *h.mr;
		if (!ret && d->indirect)
			ret = open_window(qp,
					  ibv_alloc_mw(r.pd, IBV_MW_TYPE_2),
					  &h, &d->mr);
	}
	ll_put(sock, ret);
	ll_get(sock, INT_MAX);
}

FIXTURE(killed) {
	struct ll_env env;
	struct peer peer;
	struct ll_proc holder;
	struct doomed *doomed;
};

FIXTURE_VARIANT(killed) {
	bool indirect;
};

FIXTURE_VARIANT_ADD(killed, direct) { };
FIXTURE_VARIANT_ADD(killed, indirect) { .indirect = true };

FIXTURE_SETUP(killed)
{
	const char *why;

	LL_ENV_INIT(&self->env, false);
	why = peer_open(&self->peer);
	if (why)
		peer_close(&self->peer);
	LL_ENV_SKIP_IF(&self->env, why, "%s", why);
	self->doomed = ll_shared(sizeof(*self->doomed));
	ASSERT_NE(MAP_FAILED, self->doomed);
	self->doomed->path = self->env.path;
	self->doomed->indirect = variant->indirect;
	ASSERT_EQ(0, ll_proc_start(&self->holder, doomed_holder,
				   self->doomed));
	ASSERT_EQ(0, ll_get(self->holder.sock, LL_SOON_MS));
	self->peer.qpn = self->doomed->qpn;
}

FIXTURE_TEARDOWN(killed)
{
	ll_proc_stop(&self->holder);
	peer_close(&self->peer);
	ll_env_exit(&self->env);
}

#define KILLED_TEST(name)	TEST_F_TIMEOUT(killed, name, 240)

/* In the middle of a break, too, whose deadline is far away. */
#define EXPECT_GONE_SOON()						\
	do {								\
		ll_send(&self->env.helper, LL_OP_TRUNCATE,		\
			self->env.path, 0, 0, 0);			\
		EXPECT_NOT_DONE(&self->env.helper);			\
		ll_proc_stop(&self->holder);				\
		EXPECT_DONE_SOON(&self->env.helper);			\
	} while (0)

KILLED_TEST(half_a_write)
{
	ASSERT_EQ(0, peer_write(&self->peer, WRITE_FIRST, PSN,
				&self->doomed->mr, 3 * MTU, MTU, 0xaa));
	ASSERT_TRUE(ll_soon_file_is(self->env.path, MTU, 0xaa));
	EXPECT_GONE_SOON();
}

KILLED_TEST(half_a_message)
{
	ASSERT_EQ(0, peer_send(&self->peer, SEND_FIRST, PSN, "", 0, MTU,
			       0xaa));
	ASSERT_TRUE(ll_soon_file_is(self->env.path, MTU, 0xaa));
	EXPECT_GONE_SOON();
}

KILLED_TEST(read_under_way)
{
	ASSERT_EQ(0, peer_read(&self->peer, PSN, &self->doomed->mr, LEN));
	EXPECT_EQ(READ_FIRST, peer_hears(&self->peer, LL_SOON_MS).opcode);
	EXPECT_GONE_SOON();
}

TEST_HARNESS_MAIN
