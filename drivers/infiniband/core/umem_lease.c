// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * How pages of DAX files are pinned for memory regions, under layout leases.
 *
 * A pin that the kernel can take back is not a long-term pin: it is taken with
 * FOLL_PIN alone. First each piece of the region that is a shared mapping of a
 * DAX file is attached to a lease, then its pages are pinned. All other pieces
 * are pinned as ever.
 */

#include <kunit/visibility.h>
#include <linux/dax.h>
#include <linux/layout_lease.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <net/netlink.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>
#include <rdma/restrack.h>
#include <uapi/rdma/rdma_netlink.h>

#include "umem_lease.h"

/* All umems with a lease, for umem_lease_device_gone(). */
static LIST_HEAD(leased_umems);
static DEFINE_SPINLOCK(leased_umems_lock);

static bool vma_is_leasable(struct vm_area_struct *vma)
{
	return vma_is_fsdax(vma) && (vma->vm_flags & VM_MAYSHARE);
}

/* The umem gets a lease, which is attached to nothing yet. */
static int add_lease(struct ib_umem *umem)
{
	struct mr_lease *lease = mr_lease_alloc(umem);

	if (!lease)
		return -ENOMEM;
	umem->lease = lease;
	spin_lock(&leased_umems_lock);
	list_add(&umem->leased, &leased_umems);
	spin_unlock(&leased_umems_lock);
	return 0;
}

/* A shared mapping of a DAX file, or more of one that was found before it. */
static int add_piece(struct umem_pieces *pieces, struct vm_area_struct *vma,
		     unsigned long start, unsigned long end)
{
	struct address_space *mapping = vma->vm_file->f_mapping;
	pgoff_t pgoff = linear_page_index(vma, start);
	struct umem_piece *piece, *grown;
	unsigned int max;

	piece = pieces->nr ? &pieces->piece[pieces->nr - 1] : NULL;
	if (piece && piece->end == start && piece->file == vma->vm_file &&
	    piece->pgoff + ((start - piece->start) >> PAGE_SHIFT) == pgoff) {
		piece->end = end;
		return 0;
	}

	if (pieces->nr == pieces->max) {
		max = max(2 * pieces->max, 16);
		grown = kvrealloc(pieces->piece, array_size(max, sizeof(*grown)),
				  GFP_KERNEL_ACCOUNT);
		if (!grown)
			return -ENOMEM;
		pieces->piece = grown;
		pieces->max = max;
	}
	pieces->piece[pieces->nr++] = (struct umem_piece) {
		.start = start,
		.end = end,
		.file = vma->vm_file,
		.mapping = mapping,
		.pgoff = pgoff,
	};
	return 0;
}

/* A piece is attached byte by byte, as user space has registered it. */
static int attach_piece(struct ib_umem *umem, const struct umem_piece *piece)
{
	unsigned long first = max(umem->address, piece->start);
	unsigned long last = min(umem->address + umem->length, piece->end) - 1;
	u64 pos = ((u64)piece->pgoff << PAGE_SHIFT) + offset_in_page(first);

	return mr_lease_attach(umem->lease, piece->file, pos,
			       pos + (last - first), umem->writable);
}

/* umem_lease_attach() of a process that may hold leases. */
int __umem_lease_attach(struct ib_umem *umem, struct umem_pieces *pieces)
{
	unsigned long end = PAGE_ALIGN(umem->address + umem->length);
	unsigned long addr = umem->address & PAGE_MASK;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	unsigned int i;
	int ret;

	VMA_ITERATOR(vmi, mm, addr);

	ret = mmap_read_lock_killable(mm);
	if (ret)
		return ret;
	for_each_vma_range(vmi, vma, end) {
		cond_resched();
		if (!vma_is_leasable(vma))
			continue;
		ret = add_piece(pieces, vma, max(addr, vma->vm_start),
				min(end, vma->vm_end));
		if (ret)
			goto unlock;
	}
	if (!pieces->nr)
		goto unlock;

	ret = add_lease(umem);
	for (i = 0; !ret && i < pieces->nr; i++) {
		cond_resched();
		ret = fatal_signal_pending(current) ? -EINTR :
		      attach_piece(umem, &pieces->piece[i]);
	}
unlock:
	mmap_read_unlock(mm);
	return ret;
}

/* Is it one of this file alone, so that a break of it meets the pin? */
static int check_folio(struct folio *folio, struct address_space *mapping)
{
	/* There is no block in a hole, nor data in an unwritten one. */
	if (is_zero_folio(folio) || is_huge_zero_folio(folio))
		return -ENODATA;
	/* Not a block that files share. */
	if (!folio_is_fsdax(folio) || folio->mapping != mapping)
		return -EOPNOTSUPP;
	/* memunmap_pages() has taken back, or will, what came before. */
	if (percpu_ref_is_dying(&page_pgmap(folio_page(folio, 0))->ref))
		return -EOPNOTSUPP;
	return 0;
}

static int check_pages(struct umem_pieces *pieces, struct page **pages, int nr,
		       struct address_space *mapping)
{
	struct page *page;
	int i, err = 0;

	if (pieces->extent) {
		err = check_folio(page_folio(pages[0]), mapping);
		for (page = pages[0]; !err && page < pages[0] + nr; page++)
			if (PageHWPoison(page))
				err = -EHWPOISON;
		return err;
	}
	for (i = 0; i < nr && !err; i++)
		err = check_folio(page_folio(pages[i]), mapping) ?:
		      (PageHWPoison(pages[i]) ? -EHWPOISON : 0);
	return err;
}

/*
 * pin_user_pages() of one mapping of a file. A huge entry of a DAX file is one
 * folio, in the file as in memory: an extent, of which only the first page is
 * looked up.
 */
static int pin_pages(struct umem_pieces *pieces, unsigned long addr,
		     unsigned long nr, unsigned int gup_flags,
		     struct page **pages)
{
	struct folio *folio;
	int ret;

	ret = pin_user_pages(addr, 1, gup_flags, pages);
	if (ret != 1)
		return ret ?: -EFAULT;
	folio = page_folio(pages[0]);
	if (folio_is_fsdax(folio) && folio_test_large(folio)) {
		nr = min(nr, folio_nr_pages(folio) -
			     folio_page_idx(folio, pages[0]));
		if (folio_add_pins(folio, nr - 1))
			return 1;
		pieces->extent = true;
		return nr;
	}

	/* Behind this address there may be a huge one. */
	addr += PAGE_SIZE;
	nr = min(nr - 1, (ALIGN(addr, PMD_SIZE) - addr) >> PAGE_SHIFT);
	ret = nr ? pin_user_pages(addr, nr, gup_flags, pages + 1) : 0;
	return 1 + max(ret, 0);
}

/*
 * Pin what still is the mapping that was attached. User space can hold the
 * mmap_lock for as long as it likes; under it we wait for a filesystem only.
 */
static int pin_piece(struct umem_pieces *pieces, const struct umem_piece *piece,
		     unsigned long addr, unsigned long nr,
		     unsigned int gup_flags, struct page **pages)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int pinned, ret;

	ret = mmap_read_lock_killable(mm);
	if (ret)
		return ret;
	pieces->section = layout_pin_begin();
	pieces->in_section = true;
	ret = -EFAULT;
	vma = vma_lookup(mm, addr);
	if (!vma || !vma_is_leasable(vma) ||
	    vma->vm_file->f_mapping != piece->mapping ||
	    linear_page_index(vma, addr) !=
	    piece->pgoff + ((addr - piece->start) >> PAGE_SHIFT))
		goto unlock;

	nr = min(nr, (min(vma->vm_end, piece->end) - addr) >> PAGE_SHIFT);
	/* A read fault in a hole or an unwritten block finds the zero page. */
	if (vma->vm_flags & VM_WRITE)
		gup_flags |= FOLL_WRITE;
	pinned = pin_pages(pieces, addr, nr, gup_flags, pages);
	ret = check_pages(pieces, pages, pinned, piece->mapping) ?: pinned;
	/* Asked when it was attached, and now that the pages are pinned. */
	if (ret > 0 && !layout_is_stable(file_inode(vma->vm_file)))
		ret = -EOPNOTSUPP;
	if (ret < 0 && pinned > 0)
		umem_lease_unpin(pieces, pages, pinned);
unlock:
	mmap_read_unlock(mm);
	return ret;
}

/**
 * umem_lease_pin - pin some pages, as pin_user_pages_fast() does
 * @pieces: what umem_lease_attach() found
 * @addr: address of the first page, behind what was pinned before
 * @nr: how many pages at most
 * @gup_flags: FOLL_WRITE or 0
 * @pages: filled in, for umem_lease_append() or umem_lease_unpin()
 *
 * Return: how many pages were pinned, or -errno. When the pages are in the
 *	scatter list or unpinned again, the caller calls umem_lease_pinned().
 */
int umem_lease_pin(struct umem_pieces *pieces, unsigned long addr,
		   unsigned long nr, unsigned int gup_flags,
		   struct page **pages)
{
	const struct umem_piece *piece;

	pieces->extent = false;
	pieces->appended = 0;
	while (pieces->next < pieces->nr &&
	       addr >= pieces->piece[pieces->next].end)
		pieces->next++;
	if (pieces->next < pieces->nr) {
		piece = &pieces->piece[pieces->next];
		if (addr >= piece->start)
			return pin_piece(pieces, piece, addr, nr, gup_flags,
					 pages);
		nr = min(nr, (piece->start - addr) >> PAGE_SHIFT);
	}
	return pin_user_pages_fast(addr, nr, gup_flags | FOLL_LONGTERM, pages);
}

/* umem_lease_append() of an extent, which is one entry unless that gets too long. */
int umem_lease_append_extent(struct ib_umem *umem, struct umem_pieces *pieces,
			     struct page *page, unsigned int nr,
			     unsigned long left)
{
	unsigned int max = ALIGN_DOWN(ib_dma_max_seg_size(umem->ibdev),
				      PAGE_SIZE);
	struct sg_append_table *append = &umem->sgt_append;
	unsigned int more, done;
	int ret;

	for (done = 0; done < nr; done += 1 + more) {
		struct page *first = page + done;

		ret = sg_alloc_append_table_from_pages(append, &first, 1, 0,
						       PAGE_SIZE, max,
						       left + nr - done - 1,
						       GFP_KERNEL);
		if (ret)
			return ret;
		more = min(nr - done - 1,
			   (max - append->prv->length) >> PAGE_SHIFT);
		append->prv->length += more << PAGE_SHIFT;
		pieces->appended = done + 1 + more;
	}
	if (!left)
		sg_mark_end(append->prv);
	return 0;
}

/**
 * umem_lease_refused - tell a tracepoint why pages could not be pinned
 * @addr: the first one that could not, of the current process
 * @revocable: the driver can take them back
 * @err: what pinning it said; only -EOPNOTSUPP, on which libraries fall back to
 *	something else, has several reasons
 *
 * May sleep, and takes mmap_lock. Not between umem_lease_pin() and
 * umem_lease_pinned().
 */
void umem_lease_refused(unsigned long addr, bool revocable, int err)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	const char *why;
	u64 pos;

	if (err != -EOPNOTSUPP || mmap_read_lock_killable(mm))
		return;
	vma = vma_lookup(mm, addr);
	if (vma && vma_is_fsdax(vma)) {
		if (!revocable)
			why = "driver";
		else if (!vma_is_leasable(vma))
			why = "private-mapping";
		else if (!layout_leases_held())
			why = NULL;
		else
			why = "page";	/* shared by files, or going away */
		pos = (u64)linear_page_index(vma, addr) << PAGE_SHIFT;
		layout_lease_refused(file_inode(vma->vm_file), pos,
				     pos + PAGE_SIZE - 1, why);
	}
	mmap_read_unlock(mm);
}

/**
 * umem_lease_warn - tell the log which device does not stop
 * @umem: a umem whose driver has been asked to revoke it
 * @err: what it said
 */
void umem_lease_warn(struct ib_umem *umem, int err)
{
	ibdev_warn_ratelimited(umem->ibdev,
			       "a leased memory region does not stop: %pe\n",
			       ERR_PTR(err));
}

/* umem_lease_release() of a umem with a lease. */
void __umem_lease_release(struct ib_umem *umem)
{
	spin_lock(&leased_umems_lock);
	list_del_init(&umem->leased);
	spin_unlock(&leased_umems_lock);
	mr_lease_release(umem->lease);
	mr_lease_free(umem->lease);
}

#if IS_ENABLED(CONFIG_KUNIT)
/**
 * ib_umem_lease_kunit - a umem under a lease, as its getter returns it
 * @device: that of a KUnit test
 *
 * It has no pages, and the lease is attached to nothing: what a layout change does
 * to it, ib_umem_revoke() does as well.
 *
 * Return: the umem, locked, or an error pointer.
 */
struct ib_umem *ib_umem_lease_kunit(struct ib_device *device)
{
	struct ib_umem *umem = kzalloc_obj(*umem);
	int err;

	if (!umem)
		return ERR_PTR(-ENOMEM);
	umem->ibdev = device;
	umem->owning_mm = &init_mm;
	mmgrab(umem->owning_mm);
	err = add_lease(umem);
	if (!err)
		err = umem_lease_lock(umem);
	if (err) {
		ib_umem_release(umem);
		return ERR_PTR(err);
	}
	return umem;
}
EXPORT_SYMBOL_IF_KUNIT(ib_umem_lease_kunit);
#endif

static struct ib_umem *next_leaked(struct ib_device *device)
{
	struct ib_umem *umem;

	guard(spinlock)(&leased_umems_lock);
	list_for_each_entry(umem, &leased_umems, leased) {
		if (umem->ibdev == device) {
			list_del_init(&umem->leased);
			return umem;
		}
	}
	return NULL;
}

/**
 * umem_lease_device_gone - take back what the driver of a device has leaked
 * @device: a device that accesses no memory any more
 *
 * A memory region that a driver cannot deregister when its device is removed is
 * leaked. Its pages are not: a layout change would wait for them for ever, and
 * call a driver that may be gone. May sleep.
 */
void umem_lease_device_gone(struct ib_device *device)
{
	struct ib_umem *umem;

	while ((umem = next_leaked(device))) {
		ibdev_warn(device,
			   "leased memory of a leaked memory region is taken back\n");
		mr_lease_release(umem->lease);
	}
}

/**
 * umem_lease_fill_res - show that a memory region is under leases
 * @msg: the message of fill_res_mr_entry() in nldev.c
 * @umem: of the memory region; it stays until this returns
 *
 * Never waits for a revocation.
 *
 * Return: 0, or -EMSGSIZE.
 */
int umem_lease_fill_res(struct sk_buff *msg, struct ib_umem *umem)
{
	struct nlattr *table;

	table = nla_nest_start(msg, RDMA_NLDEV_ATTR_DRIVER);
	if (!table)
		return -EMSGSIZE;
	if (rdma_nl_put_driver_string(msg, "layout",
				      mr_lease_state(umem->lease))) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}
