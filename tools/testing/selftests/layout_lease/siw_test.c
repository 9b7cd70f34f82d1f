// SPDX-License-Identifier: GPL-2.0
/*
 * Soft iWARP, with a peer that is no RDMA device but a TCP socket of the test:
 * it falls silent in the middle of a message, or sends the rest of one when the
 * memory region is gone. Neither delays a layout change, nor reaches the file.
 *
 * Environment: as in layout_lease_lib.h; SIW_DEV, a siw device (default: siw0).
 */
#include "layout_lease_setup.h"

#include <arpa/inet.h>
#include <endian.h>
#include <netinet/in.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <rdma/siw-abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* More than TCP takes while the peer does not read. */
#define PAGES		4096
#define LEN		(PAGES * ll_pg)
#define SIW_ACCESS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | \
			 IBV_ACCESS_REMOTE_READ)

/* RFC 5040, 5041 and 5044, without markers */
#define IW_TAGGED	0x8000
#define IW_LAST		0x4000
#define IW_VERSIONS	0x0140
#define IW_WRITE	0
#define IW_READ_REQ	1
#define IW_READ_RESP	2
#define IW_SEND		3
#define IW_TERMINATE	7

#define IW_TRAILER	4	/* the CRC; none of our messages needs padding */

#define MPA_REVISION	1
#define MPA_CRC		0x4000

#ifndef __packed
#define __packed	__attribute__((packed))
#endif

struct iw_ctrl {
	__be16 mpa_len;
	__be16 ctrl;
} __packed;

struct iw_tagged {
	struct iw_ctrl ctrl;
	__be32 stag;
	__be64 to;
} __packed;

struct iw_untagged {
	struct iw_ctrl ctrl;
	__be32 rsvd, qn, msn, mo;
} __packed;

struct iw_read_req {
	struct iw_untagged u;
	__be32 sink_stag;
	__be64 sink_to;
	__be32 size;
	__be32 source_stag;
	__be64 source_to;
} __packed;

struct mpa {
	char key[16];
	__be16 bits;
	__be16 pd_len;
};

/* What a connection is with. */
#define WITH_CRC	1
#define WITH_SRQ	2

/* The device under test, and its peer. */
struct siw {
	struct rdma_event_channel *channel;
	struct rdma_cm_id *listener;
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_srq *srq;	/* if receives are shared */
	int peer;
	bool crc;		/* they have agreed on checksums */
	__u32 sent;		/* that of the message being sent, so far */
	const char *dev;
	char netdev[64];
};

static int cm_event(struct siw *s, enum rdma_cm_event_type type)
{
	struct pollfd pfd = { .fd = s->channel->fd, .events = POLLIN };
	struct rdma_cm_event *event;
	int ret;

	if (poll(&pfd, 1, LL_SOON_MS) != 1 ||
	    rdma_get_cm_event(s->channel, &event))
		return -ETIME;
	ret = event->event == type ? 0 : -EPROTO;
	if (!ret && type == RDMA_CM_EVENT_CONNECT_REQUEST)
		s->id = event->id;
	rdma_ack_cm_event(event);
	return ret;
}

static int read_all(int sock, void *buf, size_t len)
{
	ssize_t n = recv(sock, buf, len, MSG_WAITALL);

	return n == (ssize_t)len ? 0 : -EPIPE;
}

static int send_all(int sock, const void *buf, size_t len)
{
	ssize_t n = send(sock, buf, len, MSG_NOSIGNAL);

	return n == (ssize_t)len ? 0 : -EPIPE;
}

/* CRC-32C of some more bytes, without the final inversion; starts with ~0. */
static __u32 crc32c(__u32 crc, const void *buf, size_t len)
{
	return ll_crc32(0x82f63b78, crc, buf, len);
}

/* As rdma_connect() would, on a bare socket with a small receive buffer. */
static int peer_connect(struct siw *s, struct sockaddr_in *addr)
{
	struct timeval soon = { .tv_sec = LL_SOON_MS / 1000 };
	struct mpa mpa = {
		.key = "MPA ID Req Frame",
		.bits = htons(MPA_REVISION | (s->crc ? MPA_CRC : 0)),
	};
	int small = 4096;

	s->peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->peer < 0 ||
	    setsockopt(s->peer, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) ||
	    setsockopt(s->peer, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon)) ||
	    connect(s->peer, (struct sockaddr *)addr, sizeof(*addr)))
		return -errno;
	return send_all(s->peer, &mpa, sizeof(mpa));
}

static const char *siw_open(struct siw *s, unsigned int with)
{
	struct ibv_srq_init_attr shared = { .attr = { 4, 1 } };
	struct rdma_conn_param param = {
		.responder_resources = 4, .initiator_depth = 4,
	};
	struct ibv_qp_init_attr init = {
		.cap = { 16, 16, 2, 2, 0 }, .qp_type = IBV_QPT_RC,
	};
	struct sockaddr_in addr = { .sin_family = AF_INET };
	char line[64];
	struct mpa mpa;

	memset(s, 0, sizeof(*s));
	s->crc = with & WITH_CRC;
	s->dev = getenv("SIW_DEV") ?: "siw0";
	if (ll_sh_line(s->netdev, sizeof(s->netdev),
		       "rdma link show %s/1 | sed 's/.*netdev //; s/ .*//'",
		       s->dev) ||
	    ll_sh_line(line, sizeof(line),
		       "ip -4 -o address show dev %s | sed 's/.*inet //; s,/.*,,'",
		       s->netdev) ||
	    !inet_aton(line, &addr.sin_addr))
		return "no siw device with an IPv4 address, see SIW_DEV";
	s->channel = rdma_create_event_channel();
	if (!s->channel)
		return "no connection manager (rdma_ucm)";
	s->listener = ll_cm_listen(s->channel, &addr, 1);
	if (!s->listener)
		return "cannot listen";
	if (peer_connect(s, &addr) ||
	    cm_event(s, RDMA_CM_EVENT_CONNECT_REQUEST))
		return "the peer cannot connect";

	s->pd = ibv_alloc_pd(s->id->verbs);
	s->cq = ibv_create_cq(s->id->verbs, 64, NULL, NULL, 0);
	init.send_cq = s->cq;
	init.recv_cq = s->cq;
	if ((with & WITH_SRQ) && s->pd)
		s->srq = init.srq = ibv_create_srq(s->pd, &shared);
	if (!s->pd || !s->cq || ((with & WITH_SRQ) && !s->srq) ||
	    rdma_create_qp(s->id, s->pd, &init))
		return "cannot make a queue pair";
	if (rdma_accept(s->id, &param) ||
	    cm_event(s, RDMA_CM_EVENT_ESTABLISHED) ||
	    read_all(s->peer, &mpa, sizeof(mpa)) ||
	    memcmp(mpa.key, "MPA ID Rep Frame", sizeof(mpa.key)) ||
	    mpa.bits != htons(MPA_REVISION | (s->crc ? MPA_CRC : 0)) || mpa.pd_len)
		return "the peer was not accepted";
	return NULL;
}

static void siw_close(struct siw *s, struct ibv_mr *mr)
{
	rdma_destroy_qp(s->id);
	ibv_dereg_mr(mr);
	ibv_destroy_cq(s->cq);
	ibv_dealloc_pd(s->pd);
	rdma_destroy_id(s->id);
	rdma_destroy_id(s->listener);
	rdma_destroy_event_channel(s->channel);
	close(s->peer);
}

/* What the peer sends. */

/* The beginning of a message. */
static int peer_begin(struct siw *s, const void *hdr, size_t len)
{
	s->sent = crc32c(~0, hdr, len);
	return send_all(s->peer, hdr, len);
}

/* Some more bytes of it, and behind the last ones the trailer. */
static int peer_bytes(struct siw *s, size_t len, unsigned char byte, bool last)
{
	char *buf = calloc(1, len + IW_TRAILER);
	__le32 crc;
	int ret = -ENOMEM;

	if (buf) {
		memset(buf, byte, len);
		if (s->crc) {
			s->sent = crc32c(s->sent, buf, len);
			crc = htole32(~s->sent);
			memcpy(buf + len, &crc, sizeof(crc));
		}
		ret = send_all(s->peer, buf, len + (last ? IW_TRAILER : 0));
	}
	free(buf);
	return ret;
}

static struct iw_ctrl iw_ctrl(int flags, int op, size_t hdr, size_t payload)
{
	struct iw_ctrl ctrl = {
		.mpa_len = htons(hdr - 2 + payload),
		.ctrl = htons(IW_LAST | IW_VERSIONS | flags | op),
	};

	return ctrl;
}

static int peer_tagged(struct siw *s, int op, __u32 stag, __u64 to, size_t len)
{
	struct iw_tagged hdr = {
		.ctrl = iw_ctrl(IW_TAGGED, op, sizeof(hdr), len),
		.stag = htonl(stag),
		.to = htobe64(to),
	};

	return peer_begin(s, &hdr, sizeof(hdr));
}

static int peer_send_hdr(struct siw *s, size_t len)
{
	struct iw_untagged hdr = {
		.ctrl = iw_ctrl(0, IW_SEND, sizeof(hdr), len),
		.msn = htonl(1),
	};

	return peer_begin(s, &hdr, sizeof(hdr));
}

static int peer_read_req(struct siw *s, __u32 stag, const void *addr,
			 size_t len)
{
	struct iw_read_req req = {
		.u = {
			.ctrl = iw_ctrl(0, IW_READ_REQ, sizeof(req), 0),
			.qn = htonl(1),
			.msn = htonl(1),
		},
		.size = htonl(len),
		.source_stag = htonl(stag),
		.source_to = htobe64((uintptr_t)addr),
	};

	return peer_begin(s, &req, sizeof(req)) ?: peer_bytes(s, 0, 0, true);
}

/* What the peer receives. */

static bool peer_has_data(struct siw *s)
{
	struct pollfd pfd = { .fd = s->peer, .events = POLLIN };
	int n = 0;

	return poll(&pfd, 1, LL_SOON_MS) == 1 &&
	       !ioctl(s->peer, FIONREAD, &n) && n > 0;
}

/*
 * Opcode of the next message, and len bytes of its payload at buf if there are
 * as many, or -EPIPE: there is none, or its checksum is wrong.
 */
static int peer_receive(struct siw *s, void *buf, size_t len, __u64 *to)
{
	struct iw_tagged hdr;
	char skipped[4096];
	__u32 sum = ~0;
	size_t rest, n;
	__le32 crc;

	if (read_all(s->peer, &hdr, sizeof(hdr)))
		return -EPIPE;
	if (s->crc)
		sum = crc32c(sum, &hdr, sizeof(hdr));
	rest = ntohs(hdr.ctrl.mpa_len) + 2 - sizeof(hdr);
	if (to)
		*to = be64toh(hdr.to);
	if (buf && rest >= len) {
		if (read_all(s->peer, buf, len))
			return -EPIPE;
		if (s->crc)
			sum = crc32c(sum, buf, len);
		rest -= len;
	}
	for (; rest; rest -= n) {
		n = rest < sizeof(skipped) ? rest : sizeof(skipped);
		if (read_all(s->peer, skipped, n))
			return -EPIPE;
		if (s->crc)
			sum = crc32c(sum, skipped, n);
	}
	if (read_all(s->peer, &crc, sizeof(crc)) ||
	    (s->crc && crc != htole32(~sum)))
		return -EPIPE;
	return ntohs(hdr.ctrl.ctrl) & 0xf;
}

static bool peer_is_cut_off(struct siw *s)
{
	char buf[4096];
	ssize_t n;

	do {
		n = recv(s->peer, buf, sizeof(buf), 0);
	} while (n > 0);
	return n == 0 || errno == ECONNRESET;
}

/* What the owner sees. */

static int next_wc(struct siw *s)
{
	long end = ll_now_ms() + LL_SOON_MS;
	struct ibv_wc wc;
	int n;

	while (!(n = ibv_poll_cq(s->cq, 1, &wc)) && ll_now_ms() < end)
		ll_sleep_ms(1);
	return n == 1 ? (int)wc.status : LL_TIMEOUT;
}

static int next_event(struct siw *s)
{
	struct pollfd pfd = { .fd = s->id->verbs->async_fd, .events = POLLIN };
	struct ibv_async_event event;

	if (poll(&pfd, 1, LL_SOON_MS) != 1 ||
	    ibv_get_async_event(s->id->verbs, &event))
		return -1;
	ibv_ack_async_event(&event);
	return event.event_type;
}

#define WR_ID		0x5155455545ULL

static int post(struct siw *s, enum ibv_wr_opcode op, const struct ibv_sge *sge,
		int nr, int flags)
{
	struct ibv_send_wr wr = {
		.wr_id = WR_ID, .opcode = op,
		.sg_list = (struct ibv_sge *)sge, .num_sge = nr,
		.send_flags = flags,
		.wr.rdma = { .rkey = 0x1234 },
	}, *bad;

	return ibv_post_send(s->id->qp, &wr, &bad);
}

static char *anonymous(size_t len)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

FIXTURE(siw) {
	struct ll_env env;
	struct siw s;
	int fd;
	char *map;
	struct ibv_mr *mr;
	struct ibv_sge sge;	/* all of it */
};

static const char *setup(FIXTURE_DATA(siw) *self, unsigned int with)
{
	const char *why = ll_env_init(&self->env, false);

	if (why)
		return why;
	why = siw_open(&self->s, with);
	if (why)
		goto exit;
	self->fd = open(self->env.path, O_RDWR);
	ll_fill(self->fd, PAGES, 0);
	self->map = ll_map(self->fd, 0, LEN, PROT_READ | PROT_WRITE);
	if (!ll_lease(self->fd, F_RDLCK, 0, 0))
		self->mr = ibv_reg_mr(self->s.pd, self->map, LEN, SIW_ACCESS);
	/* A setup that fails has no teardown. */
	if (!self->mr)
		goto exit;
	self->sge.addr = (uintptr_t)self->map;
	self->sge.length = LEN;
	self->sge.lkey = self->mr->lkey;
	return NULL;
exit:
	ll_env_exit(&self->env);
	return why;
}

FIXTURE_SETUP(siw)
{
	const char *why = setup(self, 0);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_NE(NULL, self->mr);
}

FIXTURE_TEARDOWN(siw)
{
	ll_env_exit(&self->env);
}

#define SIW_TEST(name)	TEST_F_TIMEOUT(siw, name, 240)

/* The same with checksums. */
FIXTURE(crc) {
	FIXTURE_DATA(siw) siw;
};

FIXTURE_SETUP(crc)
{
	const char *why = setup(&self->siw, WITH_CRC);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_NE(NULL, self->siw.mr);
}

FIXTURE_TEARDOWN(crc)
{
	ll_env_exit(&self->siw.env);
}

#define CRC_TEST(name)	TEST_F_TIMEOUT(crc, name, 240)

/* The same with a shared receive queue. */
FIXTURE(srq) {
	FIXTURE_DATA(siw) siw;
};

FIXTURE_SETUP(srq)
{
	const char *why = setup(&self->siw, WITH_SRQ);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_NE(NULL, self->siw.mr);
}

FIXTURE_TEARDOWN(srq)
{
	ll_env_exit(&self->siw.env);
}

#define SRQ_TEST(name)	TEST_F_TIMEOUT(srq, name, 240)

/* Nobody waits for the peer; and the file may be truncated. */
#define ASSERT_TAKEN_BACK()						\
	do {								\
		ASSERT_EQ(0, ll_revoke(self->fd));			\
		ASSERT_EQ(0, ll_do(&self->env.helper, LL_OP_TRUNCATE,	\
				   self->env.path, 0, 0, 0));		\
	} while (0)

/* Of what the peer got, each byte was in the file at its place. */
static bool peer_has_only_the_file(struct siw *s, int op)
{
	bool right = true;
	__u64 to;
	char byte;

	while (peer_receive(s, &byte, 1, &to) == op)
		if (byte != (char)(to / ll_pg))
			right = false;
	return right && peer_is_cut_off(s);
}

/* The peer asks for the whole file, and does not take what it gets. */
SIW_TEST(silent_reader)
{
	ASSERT_EQ(0, peer_read_req(&self->s, self->mr->rkey, self->map, LEN));
	ASSERT_TRUE(peer_has_data(&self->s));
	ASSERT_TAKEN_BACK();
	EXPECT_TRUE(peer_has_only_the_file(&self->s, IW_READ_RESP));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* Unsignalled, hence a candidate for zero copy. */
SIW_TEST(silent_sink)
{
	ASSERT_EQ(0, post(&self->s, IBV_WR_RDMA_WRITE, &self->sge, 1, 0));
	ASSERT_TRUE(peer_has_data(&self->s));
	ASSERT_TAKEN_BACK();
	EXPECT_TRUE(peer_has_only_the_file(&self->s, IW_WRITE));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* Deregistration does not wait for the peer either, and takes the pages along. */
SIW_TEST(silent_reader_dereg)
{
	ASSERT_EQ(0, peer_read_req(&self->s, self->mr->rkey, self->map, LEN));
	ASSERT_TRUE(peer_has_data(&self->s));
	ASSERT_EQ(0, ibv_dereg_mr(self->mr));
	ASSERT_EQ(0, ll_unlock(self->fd));
	ASSERT_EQ(0, ll_do(&self->env.helper, LL_OP_TRUNCATE, self->env.path, 0,
			   0, 0));
	EXPECT_TRUE(peer_has_only_the_file(&self->s, IW_READ_RESP));
}

/* Half a message, revoked, and the other half. */
#define HALF		(2 * ll_pg)

#define ASSERT_HALF_ARRIVES()						\
	do {								\
		ASSERT_EQ(0, peer_bytes(&self->s, HALF, 0xa1, false));	\
		ASSERT_TRUE(ll_soon_file_is(self->env.path, HALF, 0xa1));	\
	} while (0)

#define EXPECT_HALF_REFUSED()						\
	do {								\
		unsigned int i;						\
									\
		ASSERT_EQ(0, ll_revoke(self->fd));			\
		/* The blocks are the file's: this has to stay. */	\
		ASSERT_EQ(0, ll_fill(self->fd, 4, 0x40));		\
		ASSERT_EQ(0, peer_bytes(&self->s, HALF, 0xa2, true));	\
		EXPECT_EQ(IBV_EVENT_QP_ACCESS_ERR, next_event(&self->s)); \
		EXPECT_TRUE(peer_is_cut_off(&self->s));			\
		for (i = 0; i < 4; i++)					\
			EXPECT_TRUE(ll_file_is(self->env.path,		\
					       i * ll_pg, ll_pg,	\
					       0x40 + i));		\
		EXPECT_EQ(0, ibv_dereg_mr(self->mr));			\
	} while (0)

static void half_a_write(struct __test_metadata *_metadata,
			 FIXTURE_DATA(siw) *self)
{
	ASSERT_EQ(0, peer_tagged(&self->s, IW_WRITE, self->mr->rkey,
				 (uintptr_t)self->map, 2 * HALF));
	ASSERT_HALF_ARRIVES();
	EXPECT_HALF_REFUSED();
}

SIW_TEST(half_a_write)
{
	half_a_write(_metadata, self);
}

CRC_TEST(half_a_write)
{
	half_a_write(_metadata, &self->siw);
}

/* There are checksums: a message with a wrong one is refused. */
CRC_TEST(wrong)
{
	FIXTURE_DATA(siw) *siw = &self->siw;
	struct siw *s = &siw->s;

	ASSERT_EQ(0, peer_tagged(s, IW_WRITE, siw->mr->rkey,
				 (uintptr_t)siw->map, HALF));
	ASSERT_EQ(0, peer_bytes(s, HALF, 0xa1, true));
	ASSERT_TRUE(ll_soon_file_is(siw->env.path, HALF, 0xa1));

	ASSERT_EQ(0, peer_tagged(s, IW_WRITE, siw->mr->rkey,
				 (uintptr_t)siw->map, HALF));
	s->sent++;
	ASSERT_EQ(0, peer_bytes(s, HALF, 0xa2, true));
	EXPECT_TRUE(peer_is_cut_off(s));
	EXPECT_EQ(0, ibv_dereg_mr(siw->mr));
}

static int post_receive(FIXTURE_DATA(siw) *self)
{
	struct ibv_recv_wr wr = { .sg_list = &self->sge, .num_sge = 1 }, *bad;

	return self->s.srq ? ibv_post_srq_recv(self->s.srq, &wr, &bad) :
			     ibv_post_recv(self->s.id->qp, &wr, &bad);
}

static void half_a_send(struct __test_metadata *_metadata,
			FIXTURE_DATA(siw) *self)
{
	ASSERT_EQ(0, post_receive(self));
	ASSERT_EQ(0, peer_send_hdr(&self->s, 2 * HALF));
	ASSERT_HALF_ARRIVES();
	EXPECT_HALF_REFUSED();
	EXPECT_EQ(IBV_WC_GENERAL_ERR, next_wc(&self->s));
}

SIW_TEST(half_a_send)
{
	half_a_send(_metadata, self);
}

SRQ_TEST(half_a_send)
{
	half_a_send(_metadata, &self->siw);
}

/* A buffer that was posted when the region lived, and a message that comes late. */
static void late_send(struct __test_metadata *_metadata,
		      FIXTURE_DATA(siw) *self)
{
	ASSERT_EQ(0, post_receive(self));
	ASSERT_EQ(0, ll_revoke(self->fd));
	ASSERT_EQ(0, peer_send_hdr(&self->s, HALF));
	ASSERT_EQ(0, peer_bytes(&self->s, HALF, 0xa1, true));
	EXPECT_TRUE(peer_is_cut_off(&self->s));
	EXPECT_TRUE(ll_file_is(self->env.path, 0, ll_pg, 0));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

SIW_TEST(late_send)
{
	late_send(_metadata, self);
}

SRQ_TEST(late_send)
{
	late_send(_metadata, &self->siw);
}

SIW_TEST(half_a_read_response)
{
	struct iw_read_req req;
	__be32 crc;

	self->sge.length = 2 * HALF;
	ASSERT_EQ(0, post(&self->s, IBV_WR_RDMA_READ, &self->sge, 1,
			  IBV_SEND_SIGNALED));
	ASSERT_EQ(0, read_all(self->s.peer, &req, sizeof(req)));
	ASSERT_EQ(0, read_all(self->s.peer, &crc, sizeof(crc)));
	ASSERT_EQ(htonl(2 * HALF), req.size);
	ASSERT_EQ(0, peer_tagged(&self->s, IW_READ_RESP, self->mr->lkey,
				 (uintptr_t)self->map, 2 * HALF));
	ASSERT_HALF_ARRIVES();
	EXPECT_HALF_REFUSED();
	EXPECT_EQ(IBV_WC_LOC_PROT_ERR, next_wc(&self->s));
}

/* Whole messages to and from a region that was revoked before. */
SIW_TEST(dead_key_written)
{
	ASSERT_EQ(0, ll_revoke(self->fd));
	ASSERT_EQ(0, peer_tagged(&self->s, IW_WRITE, self->mr->rkey,
				 (uintptr_t)self->map, HALF));
	ASSERT_EQ(0, peer_bytes(&self->s, HALF, 0xa1, true));
	EXPECT_EQ(IBV_EVENT_QP_ACCESS_ERR, next_event(&self->s));
	EXPECT_EQ(IW_TERMINATE, peer_receive(&self->s, NULL, 0, NULL));
	EXPECT_TRUE(peer_is_cut_off(&self->s));
	EXPECT_TRUE(ll_file_is(self->env.path, 0, ll_pg, 0));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

SIW_TEST(dead_key_read)
{
	ASSERT_EQ(0, ll_revoke(self->fd));
	ASSERT_EQ(0, peer_read_req(&self->s, self->mr->rkey, self->map, HALF));
	EXPECT_EQ(IBV_EVENT_QP_REQ_ERR, next_event(&self->s));
	EXPECT_EQ(IW_TERMINATE, peer_receive(&self->s, NULL, 0, NULL));
	EXPECT_TRUE(peer_is_cut_off(&self->s));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

SIW_TEST(dead_source)
{
	ASSERT_EQ(0, ll_revoke(self->fd));
	ASSERT_EQ(0, post(&self->s, IBV_WR_RDMA_WRITE, &self->sge, 1,
			  IBV_SEND_SIGNALED));
	EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, next_wc(&self->s));
	EXPECT_EQ(IBV_EVENT_QP_FATAL, next_event(&self->s));
	EXPECT_EQ(IW_TERMINATE, peer_receive(&self->s, NULL, 0, NULL));
	EXPECT_TRUE(peer_is_cut_off(&self->s));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* Short messages are copied behind their header, here around the end of a page. */
static void fill_pages(char *map)
{
	size_t i;

	for (i = 0; i < 2 * ll_pg; i++)
		map[i] = i * 7;
}

static bool short_read_is_right(struct siw *s, char *map, __u32 rkey)
{
	char *from = map + ll_pg - 4;
	char buf[16];

	fill_pages(map);
	return !peer_read_req(s, rkey, from, sizeof(buf)) &&
	       peer_receive(s, buf, sizeof(buf), NULL) == IW_READ_RESP &&
	       !memcmp(buf, from, sizeof(buf));
}

SIW_TEST(short_read)
{
	EXPECT_TRUE(short_read_is_right(&self->s, self->map, self->mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

SIW_TEST(short_read_of_other_memory)
{
	char *other = anonymous(2 * ll_pg);
	struct ibv_mr *mr;

	mr = ibv_reg_mr(self->s.pd, other, 2 * ll_pg, SIW_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_TRUE(short_read_is_right(&self->s, other, mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

SIW_TEST(short_write)
{
	size_t off = ll_pg - 4;
	char buf[16];

	fill_pages(self->map);
	self->sge.addr += off;
	self->sge.length = sizeof(buf);
	ASSERT_EQ(0, post(&self->s, IBV_WR_RDMA_WRITE, &self->sge, 1, 0));
	ASSERT_EQ(IW_WRITE, peer_receive(&self->s, buf, sizeof(buf), NULL));
	EXPECT_EQ(0, memcmp(buf, self->map + off, sizeof(buf)));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

CRC_TEST(short_read)
{
	EXPECT_TRUE(short_read_is_right(&self->siw.s, self->siw.map,
					self->siw.mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(self->siw.mr));
}

/* In several messages, the last of them after the region was revoked. */
CRC_TEST(read)
{
	FIXTURE_DATA(siw) *siw = &self->siw;
	size_t got = 0;
	char byte;
	__u64 to;

	ASSERT_EQ(0, peer_read_req(&siw->s, siw->mr->rkey, siw->map, LEN));
	while (got < 64 * ll_pg) {
		ASSERT_EQ(IW_READ_RESP, peer_receive(&siw->s, &byte, 1, &to));
		EXPECT_EQ((char)(to / ll_pg), byte);
		got = to;
	}
	ASSERT_EQ(0, ll_revoke(siw->fd));
	EXPECT_TRUE(peer_has_only_the_file(&siw->s, IW_READ_RESP));
	EXPECT_EQ(0, ibv_dereg_mr(siw->mr));
}

/* Two SGEs, of leased and of other memory, and none. */
static void mixed_source(struct __test_metadata *_metadata,
			 FIXTURE_DATA(siw) *self)
{
	char *other = anonymous(ll_pg);
	struct ibv_sge sge[2];
	struct ibv_mr *mr;
	char buf[200];

	memset(other, 0x55, ll_pg);
	mr = ibv_reg_mr(self->s.pd, other, ll_pg, SIW_ACCESS);
	ASSERT_NE(NULL, mr);
	sge[0] = self->sge;
	sge[0].addr += 3 * ll_pg;
	sge[0].length = 100;
	sge[1].addr = (uintptr_t)other;
	sge[1].length = 100;
	sge[1].lkey = mr->lkey;
	ASSERT_EQ(0, post(&self->s, IBV_WR_RDMA_WRITE, sge, 2, 0));
	ASSERT_EQ(IW_WRITE, peer_receive(&self->s, buf, sizeof(buf), NULL));
	EXPECT_EQ(3, buf[0]);
	EXPECT_EQ(3, buf[99]);
	EXPECT_EQ(0x55, buf[100]);
	EXPECT_EQ(0x55, buf[199]);

	/* An empty SGE has no memory. */
	sge[0].length = 0;
	ASSERT_EQ(0, post(&self->s, IBV_WR_RDMA_WRITE, sge, 2, 0));
	ASSERT_EQ(IW_WRITE, peer_receive(&self->s, buf, 100, NULL));
	EXPECT_EQ(0x55, buf[0]);
	EXPECT_EQ(0x55, buf[99]);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

SIW_TEST(mixed_source)
{
	mixed_source(_metadata, self);
}

CRC_TEST(mixed_source)
{
	mixed_source(_metadata, &self->siw);
}

/*
 * The last reference to memory of other kinds goes with the message, in the
 * receive path.
 */
SIW_TEST(half_a_write_dereg)
{
	char *other = anonymous(2 * HALF);
	struct ibv_mr *mr;
	long end;

	mr = ibv_reg_mr(self->s.pd, other, 2 * HALF, SIW_ACCESS);
	ASSERT_NE(NULL, mr);
	ASSERT_EQ(0, peer_tagged(&self->s, IW_WRITE, mr->rkey,
				 (uintptr_t)other, 2 * HALF));
	ASSERT_EQ(0, peer_bytes(&self->s, HALF, 0xa1, false));
	end = ll_now_ms() + LL_SOON_MS;
	while (__atomic_load_n(other + HALF - 1, __ATOMIC_RELAXED) != (char)0xa1)
		ASSERT_LT(ll_now_ms(), end);
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	ASSERT_EQ(0, peer_bytes(&self->s, HALF, 0xa2, true));
	EXPECT_TRUE(peer_is_cut_off(&self->s));
	EXPECT_EQ(0, other[HALF]);
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/*
 * User space must not ask for fast registration, with a pointer that the kernel
 * would follow. It can do so by writing into the send queue, which is mapped.
 */
static struct siw_sqe *mapped_send_queue(__u64 first_id)
{
	FILE *f = fopen("/proc/self/maps", "r");
	struct siw_sqe *queue = NULL;
	unsigned long start;
	char line[512];

	while (f && !queue && fgets(line, sizeof(line), f)) {
		if (!strstr(line, "uverbs") ||
		    sscanf(line, "%lx-", &start) != 1)
			continue;
		queue = (struct siw_sqe *)start;
		if (queue->id != first_id || queue->opcode != SIW_OP_WRITE)
			queue = NULL;
	}
	if (f)
		fclose(f);
	return queue;
}

SIW_TEST(fast_registration)
{
	struct siw_sqe *queue;
	char buf[100];

	self->sge.length = sizeof(buf);
	ASSERT_EQ(0, post(&self->s, IBV_WR_RDMA_WRITE, &self->sge, 1, 0));
	ASSERT_EQ(IW_WRITE, peer_receive(&self->s, buf, sizeof(buf), NULL));
	queue = mapped_send_queue(WR_ID);
	ASSERT_NE(NULL, queue);

	/* It will be processed behind the next one that is posted. */
	queue[2].opcode = SIW_OP_REG_MR;
	queue[2].rkey = self->mr->rkey;
	queue[2].base_mr = 0x1000;
	__atomic_store_n(&queue[2].flags, SIW_WQE_VALID, __ATOMIC_RELEASE);
	ASSERT_EQ(0, post(&self->s, IBV_WR_RDMA_WRITE, &self->sge, 1, 0));
	EXPECT_EQ(IW_WRITE, peer_receive(&self->s, buf, sizeof(buf), NULL));
	EXPECT_TRUE(peer_is_cut_off(&self->s));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* The same between two queue pairs of the device, at full speed. */
struct pair {
	struct siw client;
	char *buf;
	struct ibv_mr *mr;
};

static const char *pair_open(struct pair *p, struct siw *server)
{
	struct rdma_conn_param param = {
		.responder_resources = 4, .initiator_depth = 4,
	};
	struct ibv_qp_init_attr init = {
		.cap = { 16, 16, 2, 2, 0 }, .qp_type = IBV_QPT_RC,
	};
	struct siw *c = &p->client;

	c->channel = rdma_create_event_channel();
	if (!c->channel ||
	    rdma_create_id(c->channel, &c->id, NULL, RDMA_PS_TCP) ||
	    rdma_resolve_addr(c->id, NULL, rdma_get_local_addr(server->listener),
			      LL_SOON_MS) ||
	    cm_event(c, RDMA_CM_EVENT_ADDR_RESOLVED) ||
	    rdma_resolve_route(c->id, LL_SOON_MS) ||
	    cm_event(c, RDMA_CM_EVENT_ROUTE_RESOLVED))
		return "no route";
	c->cq = ibv_create_cq(c->id->verbs, 64, NULL, NULL, 0);
	init.send_cq = c->cq;
	init.recv_cq = c->cq;
	if (!c->cq || rdma_create_qp(c->id, server->pd, &init) ||
	    rdma_connect(c->id, &param) ||
	    cm_event(server, RDMA_CM_EVENT_CONNECT_REQUEST))
		return "cannot connect";
	init.send_cq = server->cq;
	init.recv_cq = server->cq;
	if (rdma_create_qp(server->id, server->pd, &init) ||
	    rdma_accept(server->id, &param) ||
	    cm_event(server, RDMA_CM_EVENT_ESTABLISHED) ||
	    cm_event(c, RDMA_CM_EVENT_ESTABLISHED))
		return "cannot accept";
	p->buf = anonymous(LEN);
	p->mr = ibv_reg_mr(server->pd, p->buf, LEN, SIW_ACCESS);
	return p->mr ? NULL : "cannot register";
}

#define BIG		(64 * ll_pg)

static int pair_post(struct pair *p, enum ibv_wr_opcode op, size_t off,
		     struct ibv_mr *remote)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)p->buf + off, .length = BIG,
		.lkey = p->mr->lkey,
	};
	struct ibv_send_wr wr = {
		.opcode = op, .sg_list = &sge, .num_sge = 1,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma.remote_addr = (uintptr_t)remote->addr + off,
		.wr.rdma.rkey = remote->rkey,
	}, *bad;

	return ibv_post_send(p->client.id->qp, &wr, &bad);
}

SIW_TEST(writes_in_flight)
{
	struct pair p = {};
	const char *why = pair_open(&p, &self->s);
	unsigned int i;

	ASSERT_EQ(NULL, why) TH_LOG("%s", why);
	memset(p.buf, 0x21, LEN);
	for (i = 0; i < 12; i++)
		ASSERT_EQ(0, pair_post(&p, IBV_WR_RDMA_WRITE, 0, self->mr));
	ASSERT_TRUE(ll_soon_file_is(self->env.path, ll_pg, 0x21));
	ASSERT_EQ(0, ll_revoke(self->fd));
	/* The blocks are the file's: this has to stay. */
	ASSERT_EQ(0, ll_fill(self->fd, BIG / ll_pg, 0x40));
	/* A write is complete when TCP has it; this one waits for an answer. */
	while (next_wc(&p.client) == IBV_WC_SUCCESS && --i)
		;
	if (!i && !pair_post(&p, IBV_WR_RDMA_READ, 0, self->mr))
		EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, next_wc(&p.client));
	for (i = 0; i < BIG / ll_pg; i++)
		EXPECT_TRUE(ll_file_is(self->env.path, i * ll_pg, ll_pg,
				       0x40 + i));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

SIW_TEST(reads_in_flight)
{
	struct pair p = {};
	const char *why = pair_open(&p, &self->s);
	unsigned int i, done = 1, failed = 0;
	int status;

	ASSERT_EQ(NULL, why) TH_LOG("%s", why);
	memset(p.buf, 0xee, LEN);
	for (i = 0; i < 12; i++)
		ASSERT_EQ(0, pair_post(&p, IBV_WR_RDMA_READ, i * BIG,
				       self->mr));
	ASSERT_EQ(IBV_WC_SUCCESS, next_wc(&p.client));
	ASSERT_EQ(0, ll_revoke(self->fd));
	/* Whoever reads blocks of the file now sees other data. */
	ASSERT_EQ(0, ll_fill(self->fd, 12 * BIG / ll_pg, 0x40));
	for (i = 1; i < 12; i++) {
		status = next_wc(&p.client);
		if (status == IBV_WC_SUCCESS)
			done++;
		else
			failed++;
		EXPECT_TRUE(status == IBV_WC_SUCCESS ||
			    status == IBV_WC_WR_FLUSH_ERR)
			TH_LOG("read %u: status %d", i, status);
		EXPECT_FALSE(status == IBV_WC_SUCCESS && failed);
	}
	TH_LOG("%u done, %u failed", done, failed);
	for (i = 0; i < 12 * BIG; i++) {
		char was = i / ll_pg;

		if (p.buf[i] != was && (p.buf[i] != (char)0xee ||
					i < done * BIG))
			break;
	}
	EXPECT_EQ(12 * BIG, i);
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
}

/* The device is gone, and with it what was pinned. The lease stays. */
#define EXPECT_REMOVED()						\
	do {								\
		EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(self->fd));	\
		EXPECT_EQ(0, ll_unlock(self->fd));			\
		EXPECT_EQ(0, ll_do(&self->env.helper, LL_OP_TRUNCATE,	\
				   self->env.path, 0, 0, 0));		\
		EXPECT_EQ(0, ibv_dereg_mr(self->mr));			\
		EXPECT_EQ(0, ll_status_kb("VmPin"));			\
		EXPECT_EQ(0, ll_sh("rdma link add %s type siw netdev %s", \
				   self->s.dev, self->s.netdev));	\
	} while (0)

/* User space has it open, and the peer keeps a message from its end. */
SIW_TEST(link_deleted)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rdma link delete %s", self->s.dev);
	ASSERT_EQ(0, peer_read_req(&self->s, self->mr->rkey, self->map, LEN));
	ASSERT_TRUE(peer_has_data(&self->s));
	ASSERT_EQ(0, ll_sh_soon(cmd));
	EXPECT_TRUE(peer_has_only_the_file(&self->s, IW_READ_RESP));
	EXPECT_REMOVED();
}

/* With lockdep, sockets hold the module: without a connection, then. */
SIW_TEST(driver_unloaded)
{
	long end = ll_now_ms() + LL_SOON_MS;
	struct ibv_qp_init_attr init = {
		.send_cq = self->s.cq, .recv_cq = self->s.cq,
		.cap = { 16, 16, 2, 2, 0 }, .qp_type = IBV_QPT_RC,
	};

	if (access("/sys/module/siw/refcnt", F_OK))
		SKIP(return, "siw is built in");
	ASSERT_NE(NULL, ibv_create_qp(self->s.pd, &init));
	rdma_destroy_qp(self->s.id);
	ASSERT_EQ(0, rdma_destroy_id(self->s.id));
	ASSERT_EQ(0, rdma_destroy_id(self->s.listener));
	ASSERT_EQ(0, close(self->s.peer));
	while (ll_read_long("/sys/module/siw/refcnt", -1) > 0) {
		ASSERT_LT(ll_now_ms(), end);
		ll_sleep_ms(10);
	}
	ASSERT_EQ(0, ll_sh_soon("modprobe -r siw"));
	ASSERT_EQ(0, ll_sh("modprobe siw"));
	EXPECT_REMOVED();
}

static int knock(const struct sockaddr_in *addr)
{
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!connect(sock, (struct sockaddr *)addr, sizeof(*addr)))
		return sock;
	close(sock);
	return -1;
}

static void hang_up(int sock, bool reset)
{
	struct linger linger = { .l_onoff = reset };

	setsockopt(sock, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(sock);
}

/*
 * A peer that has said good-bye and goes on reading: each acknowledgment makes
 * room for what is still to be sent, while the device ends the connection.
 */
SIW_TEST(peer_that_reads_after_its_end)
{
	static char in[1 << 16];
	struct ibv_sge sge = { .length = sizeof(in) };
	struct ibv_mr *mr;
	struct siw other;
	int i, lap;

	sge.addr = (uintptr_t)anonymous(sge.length);
	for (lap = 0; lap < 40; lap++) {
		ASSERT_EQ(NULL, siw_open(&other, 0));
		mr = ibv_reg_mr(other.pd, (void *)sge.addr, sge.length, 0);
		ASSERT_NE(NULL, mr);
		sge.lkey = mr->lkey;
		for (i = 0; i < 16; i++)
			ASSERT_EQ(0, post(&other, IBV_WR_RDMA_WRITE, &sge, 1,
					  IBV_SEND_SIGNALED));
		ASSERT_EQ(0, shutdown(other.peer, SHUT_WR));
		while (recv(other.peer, in, sizeof(in), 0) > 0)
			;
		siw_close(&other, mr);
	}
}

/*
 * Peers that are gone before anybody has accepted them: who is killed while it
 * connects, for one. They do not take the listener with them.
 */
SIW_TEST(peers_that_close_at_once)
{
	struct siw other = { .channel = self->s.channel };
	struct sockaddr_in addr;
	int i, sock;

	addr = *(struct sockaddr_in *)rdma_get_local_addr(self->s.listener);
	other.listener = ll_cm_listen(other.channel, &addr, 128);
	ASSERT_NE(NULL, other.listener);
	for (i = 0; i < 100; i++) {
		sock = knock(&addr);
		ASSERT_LE(0, sock) TH_LOG("peer %d", i);
		hang_up(sock, i & 1);
	}
	ASSERT_EQ(0, peer_connect(&other, &addr));
	EXPECT_EQ(0, cm_event(&other, RDMA_CM_EVENT_CONNECT_REQUEST));
	EXPECT_EQ(0, rdma_destroy_id(other.id));
	EXPECT_EQ(0, rdma_destroy_id(other.listener));
	close(other.peer);
}

/* One after the other, until nobody listens at that port any more. */
static void keep_knocking(int sock, void *arg)
{
	struct sockaddr_in addr = *(struct sockaddr_in *)arg;
	int port, peer;

	while ((port = ll_get(sock, INT_MAX)) > 0) {
		addr.sin_port = port;
		while ((peer = knock(&addr)) >= 0)
			hang_up(peer, true);
		ll_put(sock, 0);
	}
}

/* And listeners that are gone before they have accepted everybody. */
SIW_TEST(listener_that_closes_early)
{
	struct rdma_cm_id *listener;
	struct sockaddr_in addr;
	struct ll_proc p[4];
	unsigned int i, lap;

	addr = *(struct sockaddr_in *)rdma_get_local_addr(self->s.listener);
	for (i = 0; i < ARRAY_SIZE(p); i++)
		ASSERT_EQ(0, ll_proc_start(&p[i], keep_knocking, &addr));
	for (lap = 0; lap < 50; lap++) {
		listener = ll_cm_listen(self->s.channel, &addr, 128);
		ASSERT_NE(NULL, listener);
		for (i = 0; i < ARRAY_SIZE(p); i++)
			ASSERT_EQ(0, ll_put(p[i].sock, addr.sin_port));
		ll_sleep_ms(10);
		ASSERT_EQ(0, rdma_destroy_id(listener));
		for (i = 0; i < ARRAY_SIZE(p); i++)
			ASSERT_EQ(0, ll_get(p[i].sock, LL_SOON_MS));
	}
	for (i = 0; i < ARRAY_SIZE(p); i++)
		ll_proc_stop(&p[i]);
}

TEST_HARNESS_MAIN
