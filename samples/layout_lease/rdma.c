// SPDX-License-Identifier: GPL-2.0
/*
 * The usual way to a connected queue pair, without a connection manager.
 * Environment: RDMA_DEV, name of the device (default: the first one).
 */
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>

#include "demo.h"

/* RoCE v2 over IPv4. */
static int find_gid(struct rdma *r)
{
	static const __u8 v4[12] = { [10] = 0xff, [11] = 0xff };
	struct ibv_gid_entry entry;
	int i;

	for (i = 0; i < 32; i++) {
		if (ibv_query_gid_ex(r->ctx, 1, i, &entry, 0) ||
		    entry.gid_type != IBV_GID_TYPE_ROCE_V2 ||
		    memcmp(entry.gid.raw, v4, sizeof(v4)))
			continue;
		memcpy(r->gid, entry.gid.raw, sizeof(r->gid));
		return i;
	}
	die("no RoCE v2 address");
	return -1;
}

void rdma_open(struct rdma *r)
{
	const char *name = getenv("RDMA_DEV");
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_port_attr port;
	int i;

	memset(r, 0, sizeof(*r));
	for (i = 0; list && list[i]; i++)
		if (!name || !strcmp(name, ibv_get_device_name(list[i])))
			break;
	if (!list || !list[i])
		die("no RDMA device");
	r->ctx = ibv_open_device(list[i]);
	ibv_free_device_list(list);
	if (!r->ctx || ibv_query_port(r->ctx, 1, &port))
		die("ibv_open_device");
	r->mtu = port.active_mtu;
	r->gid_index = find_gid(r);
	r->pd = ibv_alloc_pd(r->ctx);
	r->cq = ibv_create_cq(r->ctx, 16, NULL, NULL, 0);
	if (!r->pd || !r->cq)
		die("ibv_create_cq");
}

/* A fresh queue pair in place of the old one, which may be in error. */
void rdma_new_qp(struct rdma *r, struct address *mine)
{
	struct ibv_qp_init_attr init = {
		.send_cq = r->cq,
		.recv_cq = r->cq,
		.cap = { 4, 4, 1, 1, 0 },
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
	};
	struct ibv_wc wc;

	if (r->qp)
		ibv_destroy_qp(r->qp);
	while (ibv_poll_cq(r->cq, 1, &wc) > 0)
		;
	r->qp = ibv_create_qp(r->pd, &init);
	if (!r->qp)
		die("ibv_create_qp");
	mine->qpn = r->qp->qp_num;
	memcpy(mine->gid, r->gid, sizeof(mine->gid));
}

void rdma_connect(struct rdma *r, const struct address *peer)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
		.path_mtu = r->mtu,
		.dest_qp_num = peer->qpn,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		.timeout = 18,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.max_rd_atomic = 1,
		.ah_attr = {
			.is_global = 1,
			.port_num = 1,
			.grh = { .sgid_index = r->gid_index, .hop_limit = 64 },
		},
	};

	memcpy(attr.ah_attr.grh.dgid.raw, peer->gid, sizeof(peer->gid));
	if (ibv_modify_qp(r->qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX |
			  IBV_QP_PORT | IBV_QP_ACCESS_FLAGS))
		die("ibv_modify_qp to INIT");
	attr.qp_state = IBV_QPS_RTR;
	if (ibv_modify_qp(r->qp, &attr, IBV_QP_STATE | IBV_QP_AV |
			  IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			  IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
		die("ibv_modify_qp to RTR");
	attr.qp_state = IBV_QPS_RTS;
	if (ibv_modify_qp(r->qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT |
			  IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
			  IBV_QP_MAX_QP_RD_ATOMIC))
		die("ibv_modify_qp to RTS");
}
