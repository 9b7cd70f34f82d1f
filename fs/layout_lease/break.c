// SPDX-License-Identifier: GPL-2.0
/*
 * Whoever changes the layout of a file: asks the holders of leases, waits, and
 * keeps the range free until the change is over.
 *
 * The way of a truncate to the revocation of what is in its way:
 *
 *	vfs_truncate()		fs/open.c	layout_op_begin(); the filesystem
 *						takes its locks and checks all else
 *	dax_break_layout()	fs/dax.c	what is about to be freed
 *	layout_break()		layout_lease.h	no lease anywhere: that was all
 *	break_record()		here		one break an inode and operation
 *	break_begin()		breaker.rs	it is on record, deadlines are set,
 *						holders are signalled
 *	revoke_overdue()	breaker.rs	the worker, at the deadline
 *	Batch::revoke()		attachment.rs	consumers stop devices and unpin
 *
 * From break_begin() on the filesystem backs out with -EWOULDBLOCK and drops its
 * locks. vfs_truncate() waits in layout_op_again(), that is in break_wait() here, until
 * nothing is attached in the range: because holders let go, or because of the
 * worker. Whoever takes the last attachment away wakes it, in
 * layout_break_detached() here. It does all again then, and in layout_op_end() the
 * break goes off the record.
 */
#include <linux/atomic.h>
#include <linux/cleanup.h>
#include <linux/dax.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/layout_lease.h>
#include <linux/srcu.h>
#include <linux/wait_bit.h>

#include <trace/events/layout_lease.h>

#include "internal.h"

/* What break_record() has met: leases; and what is attached to them. */
#define BREAK_MET	0x1
#define BREAK_PENDING	0x2

/* Both spellings of infinity are U64_MAX here, as for leases. */
static u64 break_first(loff_t start)
{
	return round_down((u64)start, LAYOUT_BREAK_ALIGN);
}

static u64 break_last(loff_t last)
{
	return last == LLONG_MAX ? U64_MAX : (u64)last | (LAYOUT_BREAK_ALIGN - 1);
}

/* No lease and no break, most likely, without a look at the provider. */
static bool layout_has_context(struct inode *inode)
{
	struct file_lock_context *ctx = locks_inode_context(inode);

	return ctx && READ_ONCE(ctx->flc_layout_context);
}

bool __layout_inode_is_leased(struct inode *inode)
{
	if (!layout_has_context(inode))
		return false;

	CLASS(layout_context, found)(inode);

	return found.context && found.ops->is_leased(found.context);
}
EXPORT_SYMBOL_GPL(__layout_inode_is_leased);

/* Put a break on record. False: there is nothing to break. */
static bool break_start(struct layout_break *brk, struct inode *inode,
			u64 start, u64 last, u64 deadline, unsigned int flags)
{
	struct layout_context found = layout_context_find(inode);

	/* break_end() puts both. */
	brk->context = found.context;
	if (!found.context)
		return false;
	brk->inode = inode;
	brk->start = start;
	brk->last = last;
	brk->deadline = deadline;
	/* Withdrawn, since it held nothing. */
	if (!found.ops->break_begin(brk)) {
		layout_context_put(&found);
		return false;
	}
	trace_layout_lease_break(inode, start, last, flags,
				 READ_ONCE(brk->pending));
	return true;
}

static void break_end(struct layout_break *brk, unsigned int how)
{
	const struct layout_lease_ops *ops = layout_provider_held();

	ops->break_end(brk, how);
	layout_provider_put(ops);
}

/* Wait until nothing is attached any more. On an error the break goes on. */
static int break_wait(struct layout_break *brk, unsigned int state,
		      void (*wait)(struct inode *inode))
{
	u64 begun = layout_lease_now_ms();
	int error;

	if (!READ_ONCE(brk->pending))
		return 0;
	error = ___wait_var_event(&brk->pending, !READ_ONCE(brk->pending),
				  state, 0, 0,
				  wait ? wait(brk->inode) : schedule());
	trace_layout_lease_break_waited(brk->inode, brk->start, brk->last,
					layout_lease_now_ms() - begun, error);
	return error;
}

/* Take a range back from everybody, without a grace period. */
static int break_now(struct inode *inode, loff_t start, loff_t last,
		     unsigned int state)
{
	struct layout_break brk;
	int error;

	if (!layout_has_context(inode) ||
	    !break_start(&brk, inode, break_first(start), break_last(last),
			 layout_lease_now_ms(), LAYOUT_OP_NOW))
		return 0;
	error = break_wait(&brk, state, NULL);
	break_end(&brk, 0);
	return error;
}

static struct layout_op *outermost(struct layout_op *op)
{
	while (op->outer)
		op = op->outer;
	return op;
}

/* By when holders let go: one grace period for all of an operation. */
static u64 op_deadline(struct layout_op *op)
{
	if (!op->deadline)
		op->deadline = layout_lease_now_ms() + layout_lease_grace_ms();
	return op->deadline;
}

void __layout_op_waits(void)
{
	op_deadline(outermost(current->layout_op));
}

/* What any part of the operation asks for. */
static bool op_has_flag(const struct layout_op *op, unsigned int flags)
{
	for (; op; op = op->outer)
		if (op->flags & flags)
			return true;
	return false;
}

/* An operation may have let go of the inode, as an NFS compound does. */
static void op_drop_break(struct layout_op *op, unsigned int n, unsigned int how)
{
	struct inode *inode = op->brk[n].inode;

	op->used &= ~BIT(n);
	break_end(&op->brk[n], how);
	iput(inode);
}

/*
 * Put a break on record until the end of an operation. One that has all of the
 * range is enough; one of another range, which the file had at another try, gives
 * way to one that has both. There are two, for two inodes; no operation needs
 * more, but if one did, the first one would go.
 *
 * Return: BREAK_*.
 */
static unsigned int break_record(struct layout_op *op, struct inode *inode,
				 loff_t from, loff_t to)
{
	u64 start = break_first(from), last = break_last(to);
	struct layout_break *brk;
	unsigned int n, old = 0;

	for (n = 0; n < ARRAY_SIZE(op->brk); n++) {
		brk = &op->brk[n];
		if (!(op->used & BIT(n)) || brk->inode != inode)
			continue;
		if (brk->start <= start && brk->last >= last)
			return READ_ONCE(brk->pending) ? BREAK_PENDING : 0;
		start = min(start, brk->start);
		last = max(last, brk->last);
		old = n;
	}
	if (op->used == BIT(ARRAY_SIZE(op->brk)) - 1)
		op_drop_break(op, old, 0);
	n = ffz(op->used);
	brk = &op->brk[n];
	if (!break_start(brk, inode, start, last, op_deadline(op),
			 op->flags))
		return 0;
	ihold(inode);
	op->used |= BIT(n);
	if (n != old && (op->used & BIT(old)) && op->brk[old].inode == inode)
		op_drop_break(op, old, 0);
	return (brk->met ? BREAK_MET : 0) |
	       (READ_ONCE(brk->pending) ? BREAK_PENDING : 0);
}

int __layout_break(struct inode *inode, loff_t start, loff_t last,
		   void (*wait)(struct inode *inode))
{
	struct layout_op *op;

	if (!layout_has_context(inode))
		return 0;
	if (op_has_flag(current->layout_op,
			LAYOUT_OP_YIELD | LAYOUT_OP_YIELD_SOURCE) &&
	    __layout_inode_is_leased(inode))
		return -EOPNOTSUPP;
	op = outermost(current->layout_op);
	if (!(break_record(op, inode, start, last) & BREAK_PENDING))
		return 0;
	/* One inode and one range, hence one break. */
	if (op->flags & LAYOUT_OP_LOCKED)
		return wait ? break_wait(&op->brk[0], TASK_INTERRUPTIBLE,
					 wait) : -ERESTARTSYS;
	op->again = true;
	return -EWOULDBLOCK;
}
EXPORT_SYMBOL_GPL(__layout_break);

int __layout_break_two(struct inode *source, struct inode *dest)
{
	struct layout_op *op = current->layout_op;
	unsigned int seen;
	bool later;

	if (!op)
		return 0;
	/* The holders may have let go since. */
	later = op->later;
	op->later = false;
	if (op_has_flag(op, LAYOUT_OP_YIELD | LAYOUT_OP_YIELD_SOURCE) &&
	    __layout_inode_is_leased(source))
		return -EOPNOTSUPP;
	if (op_has_flag(op, LAYOUT_OP_YIELD) && __layout_inode_is_leased(dest))
		return -EOPNOTSUPP;
	op = outermost(op);
	seen = break_record(op, source, 0, LLONG_MAX);
	if (dest != source)
		seen |= break_record(op, dest, 0, LLONG_MAX);
	if (!seen && !later)
		return 0;
	op->again = true;
	return -EWOULDBLOCK;
}
EXPORT_SYMBOL_GPL(__layout_break_two);

bool __layout_op_again(struct layout_op *op, loff_t ret)
{
	unsigned int n;

	/* Done in another way, as a copy for example. */
	if (ret >= 0) {
		op->again = false;
		return false;
	}
	if (op->flags & LAYOUT_OP_NONBLOCK) {
		op->error = -EWOULDBLOCK;
		return false;
	}
	op->again = false;
	for (n = 0; n < ARRAY_SIZE(op->brk) && !op->error; n++)
		if (op->used & BIT(n))
			op->error = break_wait(&op->brk[n], TASK_INTERRUPTIBLE,
					       NULL);
	return !op->error;
}
EXPORT_SYMBOL_GPL(__layout_op_again);

void __layout_op_end(struct layout_op *op, loff_t ret)
{
	unsigned int n, how = 0;

	if (op->again || (op->flags & LAYOUT_OP_PROMISE))
		how = LAYOUT_BREAK_PROMISE;
	else if (ret >= 0 && !op->error)
		how = LAYOUT_BREAK_DONE;
	for (n = 0; n < ARRAY_SIZE(op->brk); n++)
		if (op->used & BIT(n))
			op_drop_break(op, n, how);
}
EXPORT_SYMBOL_GPL(__layout_op_end);

/*
 * F_SETLAYOUT, after request.rs
 */

/* Take the range from all holders, without a grace period. */
int layout_seize(struct file *file, loff_t start, loff_t last)
{
	return break_now(file_inode(file), start, last, TASK_INTERRUPTIBLE);
}

/* For who may write the file, and will soon: start the break, do not wait. */
int layout_start_break(struct file *file, loff_t start, loff_t last)
{
	struct layout_op op;
	int error = 0;

	if (!(file->f_mode & FMODE_WRITE))
		return -EACCES;
	if (!layout_leases_exist())
		return 0;
	layout_op_begin(&op, LAYOUT_OP_NONBLOCK | LAYOUT_OP_PROMISE);
	if (break_record(&op, file_inode(file), start, last) & BREAK_PENDING)
		error = -EWOULDBLOCK;
	return layout_op_end(&op, error);
}

/* Of walks over all open files with leases. */
static atomic64_t walks;

/*
 * One break of an inode is enough, however many open files of it a walk meets.
 * An inode without a context has nothing to break any more.
 */
static bool layout_first_visit(struct inode *inode, u64 walk)
{
	CLASS(layout_context, found)(inode);

	return found.context && found.ops->first_visit(found.context, walk);
}

/* All files, also those that have no name and no descriptor any more. */
int layout_seize_filesystem(const struct file *of)
{
	const struct super_block *sb = file_inode(of)->i_sb;
	u64 walk = atomic64_inc_return(&walks);
	struct file *file;
	unsigned long id;
	int error = 0;

	for (id = 0; !error && (file = layout_next_leased_file(&id)); id++) {
		if (file_inode(file)->i_sb == sb &&
		    layout_first_visit(file_inode(file), walk))
			error = layout_seize(file, 0, LLONG_MAX);
		fput(file);
	}
	return error;
}

/*
 * Memory that goes away
 */

/* From pinning pages until they are where the consumer's unpin finds them. */
DEFINE_STATIC_SRCU(pin_srcu);

/**
 * layout_pin_begin - a consumer is about to pin some pages
 *
 * Until layout_pin_end() the device with this memory does not go away. Check in
 * between that it is not going away already (percpu_ref_is_dying() of the
 * pagemap), and let nothing else wait in between for what user space decides.
 *
 * Return: for layout_pin_end().
 */
int layout_pin_begin(void)
{
	return srcu_read_lock(&pin_srcu);
}
EXPORT_SYMBOL_GPL(layout_pin_begin);

/**
 * layout_pin_end - the pages are where the consumer's unpin finds them
 * @section: what layout_pin_begin() returned
 */
void layout_pin_end(int section)
{
	srcu_read_unlock(&pin_srcu, section);
}
EXPORT_SYMBOL_GPL(layout_pin_end);

void __layout_revoke(struct inode *inode, loff_t start, loff_t last)
{
	/* Without an end of the wait there is no error. */
	break_now(inode, start, last, TASK_UNINTERRUPTIBLE);
}
EXPORT_SYMBOL_GPL(__layout_revoke);

void __layout_revoke_pagemap(const struct dev_pagemap *pgmap)
{
	u64 walk = atomic64_inc_return(&walks);
	struct file *file;
	unsigned long id;

	/* What was pinned before is where a consumer unpins it, after this. */
	synchronize_srcu(&pin_srcu);
	for (id = 0; (file = layout_next_leased_file(&id)); id++) {
		if (dax_mapping_uses_pagemap(file->f_mapping, pgmap) &&
		    layout_first_visit(file_inode(file), walk))
			layout_revoke(file_inode(file), 0, LLONG_MAX);
		fput(file);
	}
}

/*
 * An attachment in the way of a break is gone. Under the context lock, which
 * keeps @brk.
 */
void layout_break_detached(struct layout_break *brk)
{
	WRITE_ONCE(brk->pending, brk->pending - 1);
	if (!brk->pending)
		wake_up_var(&brk->pending);
}
EXPORT_SYMBOL_GPL(layout_break_detached);
