/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
#ifndef UMEM_LEASE_H
#define UMEM_LEASE_H

#include <linux/errno.h>
#include <rdma/ib_umem.h>
#include <rdma/mr_lease.h>

struct address_space;
struct page;

/**
 * struct umem_piece - a part of a umem that is a shared mapping of a DAX file
 * @start: first address, of a page
 * @end: address behind it
 * @mapping: the file
 * @pgoff: page of the file at @start
 */
struct umem_piece {
	unsigned long start;
	unsigned long end;
	struct address_space *mapping;
	pgoff_t pgoff;
};

/* By ascending address, only needed while the umem is being pinned. */
struct umem_pieces {
	struct umem_piece *piece;
	unsigned int nr;
	/* Of layout_pin_begin(). */
	bool in_section;
	int section;
};

/* In umem.c */
void __ib_umem_release(struct ib_device *dev, struct ib_umem *umem, int dirty);

#ifdef CONFIG_INFINIBAND_LAYOUT_LEASE

int umem_lease_attach(struct ib_umem *umem, struct umem_pieces *pieces);
int umem_lease_pin(struct umem_pieces *pieces, unsigned long addr,
		   unsigned long nr, unsigned int gup_flags,
		   struct page **pages);
void umem_lease_pinned(struct umem_pieces *pieces);
void umem_lease_mapped_locked(struct ib_umem *umem);
bool umem_lease_take_pages(struct ib_umem *umem);
void umem_lease_free(struct ib_umem *umem);
void umem_lease_device_gone(struct ib_device *device);

#else

static inline int umem_lease_attach(struct ib_umem *umem,
				    struct umem_pieces *pieces)
{
	return 0;
}

static inline int umem_lease_pin(struct umem_pieces *pieces,
				 unsigned long addr, unsigned long nr,
				 unsigned int gup_flags, struct page **pages)
{
	return -EOPNOTSUPP;
}

static inline void umem_lease_pinned(struct umem_pieces *pieces)
{
}

static inline void umem_lease_mapped_locked(struct ib_umem *umem)
{
}

static inline bool umem_lease_take_pages(struct ib_umem *umem)
{
	return true;
}

static inline void umem_lease_free(struct ib_umem *umem)
{
}

static inline void umem_lease_device_gone(struct ib_device *device)
{
}

#endif /* CONFIG_INFINIBAND_LAYOUT_LEASE */
#endif /* UMEM_LEASE_H */
