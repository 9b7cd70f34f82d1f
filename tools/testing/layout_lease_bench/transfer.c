// SPDX-License-Identifier: GPL-2.0
/* What a peer writes to and reads from a region, and what is sent from one. */
#include <sched.h>

#include "bench.h"

#define ROUNDS	17

static int wait_for(int side, int count)
{
	struct ibv_wc wc;
	long tries;
	int n;

	for (tries = 0; count && tries < 3000000; tries++) {
		n = ibv_poll_cq(rdma.cq[side], 1, &wc);
		if (n < 0 || (n && wc.status))
			return -1;
		if (!n)
			sched_yield();
		count -= n;
	}
	return count ? -1 : 0;
}

int rdma_operation(enum ibv_wr_opcode op, char *local, unsigned int lkey, size_t len,
		   char *remote, unsigned int rkey)
{
	int count = 1;

	if (ll_post(&rdma, LL_A, op, (__u64)local, lkey, len, (__u64)remote, rkey))
		return -1;
	/* A WRITE of iWARP is complete when TCP has it: a READ comes behind it. */
	if (rdma.iwarp && op == IBV_WR_RDMA_WRITE) {
		if (ll_post(&rdma, LL_A, IBV_WR_RDMA_READ, (__u64)rdma.buf,
			    rdma.buf_mr->lkey, 8, (__u64)rdma.buf + 64,
			    rdma.buf_mr->rkey))
			return -1;
		count++;
	}
	return wait_for(LL_A, count);
}

static int send_message(char *from, unsigned int from_key, size_t len, char *to,
			unsigned int to_key)
{
	struct ibv_sge sge = { .addr = (__u64)to, .length = len, .lkey = to_key };
	struct ibv_recv_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;

	if (ibv_post_recv(rdma.qp[LL_B], &wr, &bad))
		return -1;
	if (ll_post(&rdma, LL_A, IBV_WR_SEND, (__u64)from, from_key, len, 0, 0))
		return -1;
	return wait_for(LL_B, 1) ?: wait_for(LL_A, 1);
}

static void with(const char *how, char *buf, int access)
{
	static const size_t lengths[] = { KB, 64 * KB };
	struct ibv_mr *mr = ibv_reg_mr(rdma.pd, buf, MB, access), *peer = rdma.buf_mr;
	unsigned int i, n;
	size_t len;

	if (!mr) {
		failed(strerror(errno), "transfer/%s", how);
		return;
	}
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		len = lengths[i];
		/* Faults come first. */
		for (n = 0; n < 4; n++)
			rdma_operation(IBV_WR_RDMA_WRITE, rdma.buf, peer->lkey, len, buf,
				       mr->rkey);
		measure(ROUNDS, "write-to-%zuK/%s", len / KB, how) {
			begin();
			end(rdma_operation(IBV_WR_RDMA_WRITE, rdma.buf, peer->lkey, len,
					   buf, mr->rkey));
		}
		measure(ROUNDS, "read-of-%zuK/%s", len / KB, how) {
			begin();
			end(rdma_operation(IBV_WR_RDMA_READ, rdma.buf, peer->lkey, len,
					   buf, mr->rkey));
		}
		measure(ROUNDS, "write-from-%zuK/%s", len / KB, how) {
			begin();
			end(rdma_operation(IBV_WR_RDMA_WRITE, buf, mr->lkey, len,
					   rdma.buf, peer->rkey));
		}
		measure(ROUNDS, "send-from-%zuK/%s", len / KB, how) {
			begin();
			end(send_message(buf, mr->lkey, len, rdma.buf, peer->lkey));
		}
	}
	ibv_dereg_mr(mr);
}

void transfer(void)
{
	char path[PATH_MAX], *map, *buf = anonymous(2 * MB, MADV_NOHUGEPAGE);
	int fd;

	with("anon", buf, ACCESS);
	munmap(buf, 2 * MB);
	fd = device_dax();
	if (fd >= 0) {
		map = map_file(fd, 2 * MB, PROT_READ | PROT_WRITE);
		map[0] = 1;
		with("devdax", map, ACCESS);
		munmap(map, 2 * MB);
		close(fd);
	}
	snprintf(path, sizeof(path), "%s/transfer", dax1);
	fd = new_file(path, 2 * MB);
	fill(fd, 2 * MB);
	map = map_file(fd, 2 * MB, PROT_READ | PROT_WRITE);
	store(map, 2 * MB);
	if (bench_odp())
		with("odp", map, ACCESS | ODP);
	if (has_leases) {
		lease(fd, F_RDLCK, 0, 0);
		with("leased", map, ACCESS);
	}
	munmap(map, 2 * MB);
	close(fd);
	unlink(path);
}
