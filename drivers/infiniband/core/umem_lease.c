// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * How pages of DAX files are pinned for memory regions, under layout leases.
 *
 * A pin that the kernel can take back is not a long-term pin: it is taken with
 * FOLL_PIN alone. First each piece of the region that is a shared mapping of a
 * DAX file is attached to a lease, then its pages are pinned. All other pieces
 * are pinned as ever.
 */

#include <linux/dax.h>
#include <linux/layout_lease.h>
#include <linux/libnvdimm.h>
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

/**
 * umem_lease_attach - attach the DAX pieces of a umem to leases
 * @umem: the umem, before any page is pinned
 * @pieces: filled in; kvfree() @pieces->piece
 *
 * Return: 0, with umem->lease set if there are any, or what
 *	layout_lease_attach() says.
 */
int umem_lease_attach(struct ib_umem *umem, struct umem_pieces *pieces)
{
	unsigned long end = PAGE_ALIGN(umem->address + umem->length);
	unsigned long addr = umem->address & PAGE_MASK;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int ret;

	VMA_ITERATOR(vmi, mm, addr);

	ret = mmap_read_lock_killable(mm);
	if (ret)
		return ret;
	for_each_vma_range(vmi, vma, end) {
		struct umem_piece piece = {
			.start = max(addr, vma->vm_start),
			.end = min(end, vma->vm_end),
		};
		unsigned long first = max(umem->address, vma->vm_start);
		unsigned long last = min(umem->address + umem->length,
					 vma->vm_end) - 1;
		struct umem_piece *grown;
		u64 pos;

		if (!vma_is_leasable(vma))
			continue;
		piece.mapping = vma->vm_file->f_mapping;
		piece.pgoff = linear_page_index(vma, piece.start);
		pos = ((u64)piece.pgoff << PAGE_SHIFT) + offset_in_page(first);

		ret = umem->lease ? 0 : add_lease(umem);
		if (ret)
			break;
		ret = -ENOMEM;
		grown = krealloc_array(pieces->piece, pieces->nr + 1,
				       sizeof(piece), GFP_KERNEL_ACCOUNT);
		if (!grown)
			break;
		pieces->piece = grown;
		ret = mr_lease_attach(umem->lease, vma->vm_file, pos,
				      pos + (last - first), umem->writable);
		if (ret)
			break;
		pieces->piece[pieces->nr++] = piece;
	}
	mmap_read_unlock(mm);
	return ret;
}

/* Is each page one of this file alone, so that a break of it meets the pin? */
static int check_pages(struct page **pages, int nr,
		       struct address_space *mapping)
{
	int i;

	for (i = 0; i < nr; i++) {
		struct folio *folio = page_folio(pages[i]);

		/* Not the zero page of a hole, nor a block that files share. */
		if (!folio_is_fsdax(folio) || folio->mapping != mapping)
			return -EOPNOTSUPP;
		/* memunmap_pages() has taken back, or will, what came before. */
		if (percpu_ref_is_dying(&page_pgmap(pages[i])->ref))
			return -EOPNOTSUPP;
		if (PageHWPoison(pages[i]))
			return -EHWPOISON;
	}
	return 0;
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
	pinned = pin_user_pages(addr, nr, gup_flags, pages) ?: -EFAULT;
	ret = check_pages(pages, pinned, piece->mapping) ?: pinned;
	if (ret < 0 && pinned > 0)
		unpin_user_pages(pages, pinned);
unlock:
	mmap_read_unlock(mm);
	return ret;
}

/**
 * umem_lease_pin - pin some pages, as pin_user_pages_fast() does
 * @pieces: what umem_lease_attach() found
 * @addr: address of the first page
 * @nr: how many pages at most
 * @gup_flags: FOLL_WRITE or 0
 * @pages: filled in
 *
 * Return: how many pages were pinned, or -errno. When the pages are in the
 *	scatter list or unpinned again, the caller calls umem_lease_pinned().
 */
int umem_lease_pin(struct umem_pieces *pieces, unsigned long addr,
		   unsigned long nr, unsigned int gup_flags,
		   struct page **pages)
{
	unsigned int i;

	for (i = 0; i < pieces->nr; i++) {
		const struct umem_piece *piece = &pieces->piece[i];

		if (addr >= piece->end)
			continue;
		if (addr >= piece->start)
			return pin_piece(pieces, piece, addr, nr, gup_flags,
					 pages);
		nr = min(nr, (piece->start - addr) >> PAGE_SHIFT);
		break;
	}
	return pin_user_pages_fast(addr, nr, gup_flags | FOLL_LONGTERM, pages);
}

/**
 * umem_lease_pinned - undo what umem_lease_pin() left open
 * @pieces: the same
 */
void umem_lease_pinned(struct umem_pieces *pieces)
{
	if (pieces->in_section)
		layout_pin_end(pieces->section);
	pieces->in_section = false;
}

/* What a device wrote into the CPU cache is not tracked by the filesystem. */
static void flush_pages(struct ib_umem *umem)
{
	struct scatterlist *sg;
	unsigned int i;

	if (!umem->writable)
		return;
	for_each_sgtable_sg(&umem->sgt_append.sgt, sg, i)
		if (folio_is_fsdax(page_folio(sg_page(sg))))
			arch_wb_cache_pmem(page_address(sg_page(sg)),
					   sg->length);
}

/**
 * umem_lease_unpin - unpin the pages of a umem
 * @umem: the umem, whose pages no device accesses any more
 * @mapped: they are mapped for DMA
 *
 * Called once, by mr_lease.rs, or by umem.c after umem_lease_take_pages().
 */
void umem_lease_unpin(struct ib_umem *umem, bool mapped)
{
	flush_pages(umem);
	__ib_umem_release(umem->ibdev, umem, mapped);
}

/**
 * umem_lease_mapped_locked - the pages are mapped for DMA from now on
 * @umem: any umem, locked by ib_umem_lease_lock()
 */
void umem_lease_mapped_locked(struct ib_umem *umem)
{
	if (umem->lease)
		mr_lease_set_mapped_locked(umem->lease);
}

/**
 * umem_lease_take_pages - must the caller unpin the pages?
 * @umem: any umem
 *
 * Return: false if a revocation has done so.
 */
bool umem_lease_take_pages(struct ib_umem *umem)
{
	if (!umem->lease)
		return true;
	if (!mr_lease_take_pages(umem->lease))
		return false;
	flush_pages(umem);
	return true;
}

/**
 * umem_lease_free - detach from all leases
 * @umem: any umem, whose pages are unpinned
 */
void umem_lease_free(struct ib_umem *umem)
{
	if (!umem->lease)
		return;
	spin_lock(&leased_umems_lock);
	list_del_init(&umem->leased);
	spin_unlock(&leased_umems_lock);
	mr_lease_free(umem->lease);
}

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
		mr_lease_abandon(umem->lease);
	}
}

/**
 * ib_umem_lease_lock - keep a revocation away while the pages are exposed
 * @umem: what ib_umem_get_va_leased() returned
 *
 * The scatter list of @umem may be used, and a key be made valid, only with
 * this lock held. No fault and no copy to or from user space while it is held.
 *
 * Return: 0, or -EAGAIN: already revoked, unwind.
 */
int ib_umem_lease_lock(struct ib_umem *umem)
{
	return umem->lease ? mr_lease_lock(umem->lease) : 0;
}
EXPORT_SYMBOL(ib_umem_lease_lock);

/**
 * ib_umem_lease_arm_locked - the key is valid from now on
 * @umem: what ib_umem_get_va_leased() returned, locked
 * @ops: how to take the memory region from the device
 * @priv: for @ops, valid until ib_umem_lease_disarm() returned
 */
void ib_umem_lease_arm_locked(struct ib_umem *umem,
			      const struct ib_umem_revoke_ops *ops, void *priv)
{
	if (umem->lease)
		mr_lease_arm_locked(umem->lease, ops, priv);
}
EXPORT_SYMBOL(ib_umem_lease_arm_locked);

/**
 * ib_umem_lease_unlock - undo ib_umem_lease_lock()
 * @umem: what ib_umem_get_va_leased() returned
 */
void ib_umem_lease_unlock(struct ib_umem *umem)
{
	if (umem->lease)
		mr_lease_unlock(umem->lease);
}
EXPORT_SYMBOL(ib_umem_lease_unlock);

/**
 * ib_umem_lease_disarm - the driver is about to deregister the memory region
 * @umem: any umem or NULL
 *
 * Before the key can be recycled. Waits for a call into the driver; none is
 * made after it returned. May sleep.
 */
void ib_umem_lease_disarm(struct ib_umem *umem)
{
	if (umem && umem->lease)
		mr_lease_disarm(umem->lease);
}
EXPORT_SYMBOL(ib_umem_lease_disarm);

/**
 * ib_umem_lease_fill_res - show that a memory region is under leases
 * @msg: the message that fill_res_mr_entry() of a driver fills
 * @umem: of the memory region, or NULL. It must stay until this returns: a
 *	driver that gives other memory regions a new umem when they are
 *	registered again calls this for leased ones only
 *
 * Never waits for a revocation.
 *
 * Return: 0, or -EMSGSIZE.
 */
int ib_umem_lease_fill_res(struct sk_buff *msg, struct ib_umem *umem)
{
	struct nlattr *table;

	if (!umem || !umem->lease)
		return 0;

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
EXPORT_SYMBOL(ib_umem_lease_fill_res);
