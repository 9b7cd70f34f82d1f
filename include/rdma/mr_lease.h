/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Memory regions on DAX files: what drivers/infiniband/core/mr_lease.rs exports
 * to umem.c, and the contract of drivers. Needs no other rdma header.
 */
#ifndef RDMA_MR_LEASE_H
#define RDMA_MR_LEASE_H

#include <linux/types.h>

struct file;
struct ib_device;
struct ib_mr;
struct ib_umem;
struct mr_lease;
struct workqueue_struct;

/* As in ib_verbs.h */
extern struct workqueue_struct *ib_wq;

/**
 * struct ib_umem_revoke_ops - how a driver takes a memory region from a device
 * @begin: stop new accesses; never waits for the device. NULL if the device
 *	stops new and old accesses in one step, which is @finish then
 * @finish: wait for old accesses; may sleep. 0: the device does not access the
 *	memory any more, and never will. Otherwise nothing is unpinned, and it
 *	is asked again
 *
 * A revocation of many regions calls all @begin, then all @finish; after a
 * @finish that failed it may begin once more. Calls for one region never
 * overlap, and there is none once @finish has returned 0. The key stays reserved
 * until the region is deregistered.
 *
 * Both are called with a lock held that the region has from its getter until
 * ib_umem_revoke_unlock(): take no lock in them that is held around those.
 */
struct ib_umem_revoke_ops {
	void (*begin)(struct ib_mr *mr);
	int (*finish)(struct ib_mr *mr);
};

struct mr_lease *mr_lease_alloc(struct ib_umem *umem);
int mr_lease_attach(struct mr_lease *lease, struct file *file, u64 start,
		    u64 last, bool write);
int mr_lease_lock(struct mr_lease *lease);
void mr_lease_unlock(struct mr_lease *lease);
void mr_lease_set_mapped_locked(struct mr_lease *lease);
void mr_lease_set_revoke_locked(struct mr_lease *lease,
				const struct ib_umem_revoke_ops *ops,
				struct ib_mr *mr);
int mr_lease_revoke(struct mr_lease *lease);
void mr_lease_release(struct mr_lease *lease);
const char *mr_lease_state(struct mr_lease *lease);
void mr_lease_free(struct mr_lease *lease);

/* In umem_lease.c, for KUnit tests of drivers */
struct ib_umem *ib_umem_lease_kunit(struct ib_device *device);

/* In umem.c and umem_lease.c, called by mr_lease.rs */
void umem_unpin(struct ib_umem *umem, int dirty);
void umem_lease_warn(struct ib_umem *umem, int err);

#endif /* RDMA_MR_LEASE_H */
