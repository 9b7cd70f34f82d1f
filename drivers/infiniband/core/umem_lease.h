/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
#ifndef UMEM_LEASE_H
#define UMEM_LEASE_H

#include <linux/errno.h>
#include <linux/layout_lease.h>
#include <linux/slab.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>
#include <rdma/mr_lease.h>

struct address_space;
struct file;
struct page;

/**
 * struct umem_piece - a part of a umem that is mapped from a DAX file
 * @start: first address, of a page
 * @end: address behind it
 * @file: the file, only valid until mmap_lock is dropped
 * @mapping: its pages
 * @pgoff: page of the file at @start
 */
struct umem_piece {
	unsigned long start;
	unsigned long end;
	struct file *file;
	struct address_space *mapping;
	pgoff_t pgoff;
};

/* By ascending address, only needed while the umem is being pinned. */
struct umem_pieces {
	struct umem_piece *piece;
	unsigned int nr;
	unsigned int max;
	/* The first one that is not pinned. */
	unsigned int next;
	/*
	 * What was pinned last is an extent, pages of one folio of which only the
	 * first is in the page list; and so many of them are in the scatter list.
	 */
	bool extent;
	unsigned int appended;
	/* Of layout_pin_begin(). */
	bool in_section;
	int section;
};

/* Most umems have none, and pay for no call. */
static inline void umem_pieces_free(struct umem_pieces *pieces)
{
	if (unlikely(pieces->piece))
		kvfree(pieces->piece);
}

int umem_lease_append_extent(struct ib_umem *umem, struct umem_pieces *pieces,
			     struct page *page, unsigned int nr,
			     unsigned long left);

/**
 * umem_lease_append - add pages to the scatter list of a umem
 * @umem: the umem
 * @pieces: what umem_lease_pin() was given, or without any
 * @pages: what was pinned
 * @nr: how many pages
 * @left: how many pages there will be behind them
 *
 * Return: 0, or -ENOMEM: umem_lease_unpin() what was not added.
 */
static inline int umem_lease_append(struct ib_umem *umem,
				    struct umem_pieces *pieces,
				    struct page **pages, unsigned int nr,
				    unsigned long left)
{
	if (IS_ENABLED(CONFIG_INFINIBAND_LAYOUT_LEASE) && pieces->extent)
		return umem_lease_append_extent(umem, pieces, pages[0], nr, left);
	return sg_alloc_append_table_from_pages(&umem->sgt_append, pages, nr, 0,
						nr << PAGE_SHIFT,
						ib_dma_max_seg_size(umem->ibdev),
						left, GFP_KERNEL);
}

/* Unpin what was pinned last, as far as it is not in the scatter list. */
static inline void umem_lease_unpin(struct umem_pieces *pieces,
				    struct page **pages, unsigned int nr)
{
	if (IS_ENABLED(CONFIG_INFINIBAND_LAYOUT_LEASE) && pieces->extent)
		unpin_user_page_range_dirty_lock(pages[0] + pieces->appended,
						 nr - pieces->appended, false);
	else
		unpin_user_pages_dirty_lock(pages, nr, false);
}

#ifdef CONFIG_INFINIBAND_LAYOUT_LEASE

int __umem_lease_attach(struct ib_umem *umem, struct umem_pieces *pieces);
int umem_lease_pin(struct umem_pieces *pieces, unsigned long addr,
		   unsigned long nr, unsigned int gup_flags,
		   struct page **pages);
void umem_lease_refused(unsigned long addr, bool revocable, int err);
void __umem_lease_release(struct ib_umem *umem);
void umem_lease_device_gone(struct ib_device *device);
int umem_lease_fill_res(struct sk_buff *msg, struct ib_umem *umem);

/**
 * umem_lease_attach - attach the DAX pieces of a umem to leases
 * @umem: the umem, before any page is pinned
 * @pieces: filled in, for umem_pieces_free()
 *
 * Who holds no lease is not made to look for any: pinning refuses those pieces.
 *
 * Return: 0, with umem->lease set if there are any, or what
 *	layout_lease_attach() says.
 */
static inline int umem_lease_attach(struct ib_umem *umem,
				    struct umem_pieces *pieces)
{
	return layout_leases_held() ? __umem_lease_attach(umem, pieces) : 0;
}

/**
 * umem_lease_pinned - undo what umem_lease_pin() left open
 * @pieces: the same
 */
static inline void umem_lease_pinned(struct umem_pieces *pieces)
{
	if (pieces->in_section)
		layout_pin_end(pieces->section);
	pieces->in_section = false;
}

/**
 * umem_lease_release - unpin the pages of a umem, and detach from all leases
 * @umem: any umem, whose pages no device accesses any more
 *
 * Return: false if it never was attached to any, and its pages are pinned.
 */
static inline bool umem_lease_release(struct ib_umem *umem)
{
	if (!umem->lease)
		return false;
	__umem_lease_release(umem);
	return true;
}

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

static inline void umem_lease_refused(unsigned long addr, bool revocable,
				      int err)
{
}

static inline bool umem_lease_release(struct ib_umem *umem)
{
	return false;
}

static inline void umem_lease_device_gone(struct ib_device *device)
{
}

static inline int umem_lease_fill_res(struct sk_buff *msg,
				      struct ib_umem *umem)
{
	return 0;
}

#endif /* CONFIG_INFINIBAND_LAYOUT_LEASE */

/* NULL if there is no lease, which the compiler knows if there never is one. */
static inline struct mr_lease *umem_lease(const struct ib_umem *umem)
{
	return IS_ENABLED(CONFIG_INFINIBAND_LAYOUT_LEASE) ? umem->lease : NULL;
}

/* Keeps a revocation away. -EAGAIN: there was one. */
static inline int umem_lease_lock(struct ib_umem *umem)
{
	return umem_lease(umem) ? mr_lease_lock(umem->lease) : 0;
}

static inline void umem_lease_unlock(struct ib_umem *umem)
{
	if (umem_lease(umem))
		mr_lease_unlock(umem->lease);
}

/* The pages are mapped for DMA from now on. */
static inline void umem_lease_mapped_locked(struct ib_umem *umem)
{
	if (umem_lease(umem))
		mr_lease_set_mapped_locked(umem->lease);
}

static inline void
umem_lease_set_revoke_locked(struct ib_umem *umem,
			     const struct ib_umem_revoke_ops *ops,
			     struct ib_mr *mr)
{
	if (!umem_lease(umem))
		return;
	mr->leased_umem = umem;
	mr_lease_set_revoke_locked(umem->lease, ops, mr);
}

static inline int umem_lease_revoke(struct ib_umem *umem)
{
	return umem_lease(umem) ? mr_lease_revoke(umem->lease) : 0;
}

#endif /* UMEM_LEASE_H */
