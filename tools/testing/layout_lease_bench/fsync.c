// SPDX-License-Identifier: GPL-2.0
/* fsync(2) of a file with a memory region on it. */
#include "bench.h"

static int rdma_write(char *to, unsigned int rkey)
{
	return rdma_operation(IBV_WR_RDMA_WRITE, rdma.buf, rdma.buf_mr->lkey, KB, to,
			      rkey);
}

static void with(const char *how, size_t size, int access, bool leased)
{
	int prot = access & IBV_ACCESS_REMOTE_WRITE ? PROT_READ | PROT_WRITE : PROT_READ;
	char path[PATH_MAX], *map, *stores;
	struct ibv_mr *mr;
	int fd, err;

	snprintf(path, sizeof(path), "%s/fsync", dax1);
	fd = new_file(path, size);
	fill(fd, size);
	fsync(fd);
	stores = map_file(fd, size, PROT_READ | PROT_WRITE);
	map = map_file(fd, size, prot);
	if (leased)
		lease(fd, F_RDLCK, 0, 0);
	mr = ibv_reg_mr(rdma.pd, map, size, access);
	if (!mr) {
		failed(strerror(errno), "fsync/%s", how);
		goto out;
	}
	fsync(fd);
	measure(5, "fsync-%zuM-nothing/%s", size / MB, how) {
		begin();
		end(fsync(fd));
	}
	measure(5, "fsync-%zuM-stored/%s", size / MB, how) {
		stores[5 * PAGE]++;
		begin();
		end(fsync(fd));
	}
	if (access & IBV_ACCESS_REMOTE_WRITE) {
		rdma_write(map, mr->rkey);
		measure(5, "fsync-%zuM-written/%s", size / MB, how) {
			begin();
			err = rdma_write(map, mr->rkey) ?: fsync(fd);
			end(err);
		}
	}
	ibv_dereg_mr(mr);
out:
	munmap(map, size);
	munmap(stores, size);
	close(fd);
	unlink(path);
}

void fsyncs(void)
{
	static const size_t sizes[] = { 4 * MB, 256 * MB };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (bench_odp())
			with("odp", sizes[i], ACCESS | ODP, false);
		if (!has_leases)
			continue;
		with("leased", sizes[i], ACCESS, true);
		with("leased-ro", sizes[i], IBV_ACCESS_REMOTE_READ, true);
	}
}
