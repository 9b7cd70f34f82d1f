/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs of the demonstration share. Nothing here is about leases:
 * those are in server.c.
 */
#ifndef __DEMO_H
#define __DEMO_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/layout_lease.h>
#include <linux/types.h>

#define ARRAY_SIZE(arr)	(sizeof(arr) / sizeof((arr)[0]))

/* Output, demo.c: time since the start of the demonstration, who, what. */
extern const char *demo_who;

long demo_ms(void);
void say(const char *fmt, ...);
void event(const char *name);		/* a line of the table at the end */
void die(const char *what);

/* RDMA, rdma.c: one RC queue pair, connected by hand. */
struct rdma {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	int gid_index;
	__u8 gid[16];
	int mtu;
};

/* What the two sides tell each other over a socket. */
struct address {
	__u32 qpn;
	__u8 gid[16];
	__u64 addr;		/* from here on: the server's memory region */
	__u64 len;
	__u32 rkey;
};

void rdma_open(struct rdma *r);
void rdma_new_qp(struct rdma *r, struct address *mine);
void rdma_connect(struct rdma *r, const struct address *peer);

#endif /* __DEMO_H */
