/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Layout leases: a recallable right to pin the blocks of a DAX file.
 *
 * Three parties meet here, none of which calls another one directly:
 *
 *  - breakers free, move or share blocks. A filesystem asks with layout_break(),
 *    with its locks held and when nothing can refuse the operation any more;
 *    the VFS, which holds no locks, waits in layout_op_again();
 *  - consumers (RDMA memory regions) attach pinned pages to a lease and give
 *    the operations that take the pages back;
 *  - layout_lease.ko keeps leases, attachments and breaks of each inode in an
 *    context and decides.
 *
 * See Documentation/filesystems/layout-leases.rst.
 */
#ifndef _LINUX_LAYOUT_LEASE_H
#define _LINUX_LAYOUT_LEASE_H

#include <linux/atomic.h>
#include <linux/compiler.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/jump_label.h>
#include <linux/jump_label_ratelimit.h>
#include <linux/sched.h>
#include <linux/types.h>
#include <uapi/linux/layout_lease.h>

struct dev_pagemap;
struct file;
struct file_lease;
struct file_lock_context;
struct inode;
struct layout_attachment;

/**
 * struct layout_break - one break of one file, in the layout_op of its breaker
 * @next: of the breaks of @context, protected by the context lock
 * @context: of the inode, with a reference
 * @inode: whose layout changes; with a reference, if of an operation
 * @start: first byte, rounded down to the largest DAX entry
 * @last: last byte, inclusive, rounded up likewise
 * @deadline: by which holders have let go, as layout_lease_now_ms()
 * @pending: attachments that overlap; written under the context lock
 * @met: leases were in the way when it began
 *
 * While it is on record overlapping grants and attachments fail with -EAGAIN, so
 * that @pending can only fall. Breaks do not exclude each other.
 */
struct layout_break {
	struct layout_break *next;
	void *context;
	struct inode *inode;
	u64 start;
	u64 last;
	u64 deadline;
	unsigned long pending;
	bool met;
};

/**
 * struct layout_op - an operation that may change the layout of files
 * @outer: the operation that this one is a part of, as overlayfs makes them
 * @flags: LAYOUT_OP_*
 * @deadline: by which all lease holders in the way have let go, those that it
 *	meets later too; 0 until it waits for the first one
 * @later: a filesystem has put off waiting for pages until layout_break_two()
 * @again: a filesystem has backed out, since something is attached
 * @used: which of @brk are on record, a bit each
 * @error: why it is not tried again
 * @brk: breaks on record from the first try to the end of the operation
 *
 * On the stack of a caller that holds no locks, current->layout_op points to it.
 * Only the outermost one waits and has breaks.
 */
struct layout_op {
	struct layout_op *outer;
	unsigned int flags;
	u64 deadline;
	bool later;
	bool again;
	u8 used;
	int error;
	struct layout_break brk[2];
};

/* Do not wait: -EWOULDBLOCK while something is attached. */
#define LAYOUT_OP_NONBLOCK	0x1
/* Take no lease away: -EOPNOTSUPP if there is one. */
#define LAYOUT_OP_YIELD		0x2
/* The same for leases of the source of a clone. */
#define LAYOUT_OP_YIELD_SOURCE	0x4
/* Keep what was broken free, until the change comes. */
#define LAYOUT_OP_PROMISE	0x8
/* Nobody above can wait: wait where the lease is met. */
#define LAYOUT_OP_LOCKED	0x10
/* No grace period: of a break outside of an operation, for its tracepoint. */
#define LAYOUT_OP_NOW		0x20

/**
 * struct layout_consumer_ops - how to take pages back from a consumer
 * @begin: stop new accesses; may sleep on a mutex, never waits for the device
 * @finish: wait for old accesses; may sleep. Non-zero: layout_lease.ko warns,
 *	backs off and calls it again
 * @unpin: unpin the pages, unless that was done
 *
 * A break of many attachments calls all @begin, then all @finish, then all
 * @unpin. Calls for one attachment never overlap, and none is made after
 * layout_lease_detach() returned. They run in a worker that holds no lock; they
 * must not fault user memory, take mmap_lock or enter the filesystem.
 */
struct layout_consumer_ops {
	void (*begin)(void *data);
	int (*finish)(void *data);
	void (*unpin)(void *data);
};

#ifdef CONFIG_LAYOUT_LEASE_HOOKS

extern struct static_key_false_deferred layout_lease_key;

/* In holders.c: how many holders there are, by the number of their process */
#define LAYOUT_HOLDERS_BY_PID	1024
extern atomic_t layout_holders_by_pid[LAYOUT_HOLDERS_BY_PID];

/* fcntl(2), in request.rs */
int fcntl_setlayout(unsigned int fd, struct file *file,
		    struct layout_lease __user *uarg);
int fcntl_getlayout(struct file *file, struct layout_lease __user *uarg);
int fcntl_setlease_layout(unsigned int fd, struct file *file, int type);

/* fs/locks.c */
void layout_lease_release(struct file *file);
void layout_lease_evict(struct inode *inode);
struct file_lock_context *locks_layout_context(struct inode *inode);
void locks_insert_layout(struct file_lease *fl);
void locks_delete_layout(struct file_lease *fl);
bool locks_leases_enabled(void);
int locks_lease_break_time(void);

/* Breakers */
bool __layout_inode_is_leased(struct inode *inode);
int __layout_break(struct inode *inode, loff_t start, loff_t last,
		   void (*wait)(struct inode *inode));
int __layout_break_two(struct inode *source, struct inode *dest);
bool __layout_op_again(struct layout_op *op, loff_t ret);
void __layout_op_end(struct layout_op *op, loff_t ret);
void __layout_op_waits(void);
void __layout_revoke(struct inode *inode, loff_t start, loff_t last);
void __layout_revoke_pagemap(const struct dev_pagemap *pgmap);

/* Consumers */
struct layout_attachment *
layout_lease_attach(struct file *file, u64 start, u64 last, bool write,
		    const struct layout_consumer_ops *ops, void *data);
void layout_lease_detach(struct layout_attachment *attachment);
bool layout_is_stable(struct inode *inode);
void layout_lease_refused(struct inode *inode, u64 start, u64 last,
			  const char *why);
int layout_pin_begin(void);
void layout_pin_end(int section);

static inline bool layout_leases_exist(void)
{
	return static_branch_unlikely(&layout_lease_key.key);
}

/**
 * layout_leases_held - may the current process hold leases?
 *
 * Whoever registers memory that is no file's is not made to look for files then.
 *
 * Return: false if it holds none. Others share its place in the table.
 */
static inline bool layout_leases_held(void)
{
	return layout_leases_exist() &&
		atomic_read(&layout_holders_by_pid[current->tgid %
						   LAYOUT_HOLDERS_BY_PID]);
}

/**
 * layout_inode_is_leased - look for leases that a change of the layout would take
 * @inode: the inode
 *
 * Stable while invalidate_lock is held exclusively: nobody is granted one then.
 *
 * Context: Process context, may sleep.
 * Return: whether there is one.
 */
static inline bool layout_inode_is_leased(struct inode *inode)
{
	return layout_leases_exist() && __layout_inode_is_leased(inode);
}

/**
 * layout_op_needed - can an operation meet leases?
 * @inode: of the file that the VFS was asked to change
 *
 * There are none on a file that is not on DAX, and only stacked filesystems change
 * others than that. Asked by what is so short that layout_op_begin() and
 * layout_op_end() would count. Whoever met leases without them would still wait, but
 * with locks held, as layout_break() says.
 *
 * Return: false if it cannot.
 */
static inline bool layout_op_needed(const struct inode *inode)
{
	return IS_DAX(inode) || inode->i_sb->s_stack_depth;
}

/**
 * layout_op_begin - an operation that may change layouts begins
 * @op: on the stack of the caller
 * @flags: LAYOUT_OP_*
 *
 * The caller holds no lock, no write access and no freeze protection that others
 * could miss, when it calls layout_op_again() at the latest::
 *
 *	layout_op_begin(&op, 0);
 *	do {
 *		ret = lock everything, check, change, unlock;
 *	} while (layout_op_again(&op, ret));
 *	return layout_op_end(&op, ret);
 *
 * This sets all that is read, so declare @op __uninitialized: compilers that zero
 * what is on the stack would clear some 170 bytes in each open(2).
 *
 * Costs a few instructions, also if nobody ever leases anything: a first lease
 * may come while the operation waits for a lock.
 */
static inline void layout_op_begin(struct layout_op *op, unsigned int flags)
{
	op->outer = current->layout_op;
	op->flags = flags;
	op->deadline = 0;
	op->later = false;
	op->again = false;
	op->used = 0;
	op->error = 0;
	current->layout_op = op;
}

/**
 * layout_op_again - wait for lease holders, if the operation has met any
 * @op: the operation
 * @ret: what it returned, negative for an error
 *
 * Context: Process context, no locks held. Sleeps interruptibly until the holders
 *	have let go, at most until the grace period is over and the devices have
 *	stopped.
 * Return: true: do it again.
 */
static inline bool layout_op_again(struct layout_op *op, loff_t ret)
{
	return unlikely(op->again) && __layout_op_again(op, ret);
}

/**
 * layout_op_end - the operation is over, and its locks are dropped
 * @op: the operation
 * @ret: what it returned
 *
 * Context: Process context, may sleep.
 * Return: @ret, or why the wait failed: -ERESTARTSYS, or -EWOULDBLOCK with
 *	LAYOUT_OP_NONBLOCK. The holders keep their grace period then.
 */
static inline loff_t layout_op_end(struct layout_op *op, loff_t ret)
{
	current->layout_op = op->outer;
	if (unlikely(op->used))
		__layout_op_end(op, ret);
	return op->error ?: ret;
}

/* For dax_break_layout(), whose caller may have none. */
static inline void layout_op_begin_locked(struct layout_op *op)
{
	if (!current->layout_op)
		layout_op_begin(op, LAYOUT_OP_LOCKED);
}

/* Returns whether that began @op: nobody above can drop all locks. */
static inline bool layout_op_is_locked(const struct layout_op *op)
{
	return current->layout_op == op;
}

static inline void layout_op_end_locked(struct layout_op *op, int error)
{
	if (layout_op_is_locked(op))
		layout_op_end(op, error);
}

/**
 * layout_op_waits - the caller is about to wait for a lease of another kind
 *
 * The grace period of the operation begins, so that it does not wait for one
 * after the other.
 */
static inline void layout_op_waits(void)
{
	if (current->layout_op)
		__layout_op_waits();
}

/**
 * layout_break - blocks of a file are about to be freed, moved or unmapped
 * @inode: the inode
 * @start: first byte concerned
 * @last: last byte concerned, inclusive; LLONG_MAX reaches to infinity
 * @wait: schedule() with the lock dropped that page faults need
 *
 * Asks the holders of all leases that overlap to let go, and puts the break on
 * record until the whole operation is over: nothing there is granted or attached
 * until then. Leases of the caller itself are taken back at once and without a
 * signal. Call it when the operation cannot be refused any more, through
 * dax_break_layout().
 *
 * Context: Process context, invalidate_lock of @inode held exclusively, which
 *	excludes first leases. Does not sleep for holders, but for a caller who
 *	has no layout_op, in @wait.
 * Return: 0: nothing is attached. -EWOULDBLOCK: back out, nothing being changed;
 *	the caller of the filesystem comes again. -EOPNOTSUPP: LAYOUT_OP_YIELD.
 *	-ERESTARTSYS from @wait, or without it.
 */
static inline int layout_break(struct inode *inode, loff_t start, loff_t last,
			       void (*wait)(struct inode *inode))
{
	if (!layout_leases_exist())
		return 0;
	return __layout_break(inode, start, last, wait);
}

/**
 * layout_break_later - put off waiting for the users of pages, if that is possible
 * @inode1: an inode
 * @inode2: another one, or the same
 *
 * If there are leases, layout_break_two() asks their holders when all else was
 * checked, and then has the caller come again. So what leases pin need not be
 * waited for yet, and what is checked now need not hold.
 *
 * Context: Process context, invalidate_lock of both held exclusively.
 * Return: whether it is put off.
 */
static inline bool layout_break_later(struct inode *inode1,
				      struct inode *inode2)
{
	struct layout_op *op = current->layout_op;

	if (!op || (!layout_inode_is_leased(inode1) &&
		    !layout_inode_is_leased(inode2)))
		return false;
	op->later = true;
	return true;
}

/**
 * layout_break_two - blocks are about to be shared or exchanged
 * @source: an inode, all of it; of a clone, the one that is not written to
 * @dest: the other inode, or the same
 *
 * As layout_break(), for both before either is waited for. If any lease was in
 * the way the caller has to come again, and then meets none.
 *
 * Context: Process context, invalidate_lock of both held exclusively.
 * Return: 0: nobody holds a lease on either. -EWOULDBLOCK, -EOPNOTSUPP: as
 *	layout_break().
 */
static inline int layout_break_two(struct inode *source, struct inode *dest)
{
	if (!layout_leases_exist() &&
	    likely(!current->layout_op || !current->layout_op->later))
		return 0;
	return __layout_break_two(source, dest);
}

/**
 * layout_revoke - take pages of a file back from everybody, now
 * @inode: the inode
 * @start: first byte
 * @last: last byte, inclusive; LLONG_MAX reaches to infinity
 *
 * For memory that is no good any more. No grace period, no failure: returns
 * when the devices have stopped their accesses and nothing is attached.
 *
 * Context: Process context, sleeps uninterruptibly. Filesystem locks and DAX
 *	entry locks may be held.
 */
static inline void layout_revoke(struct inode *inode, loff_t start, loff_t last)
{
	if (layout_leases_exist())
		__layout_revoke(inode, start, last);
}

/**
 * layout_revoke_pagemap - take back what is attached of a device's memory
 * @pgmap: the memory, whose reference count is killed already, so that nothing
 *	is attached to it anew
 *
 * Context: Process context, sleeps uninterruptibly.
 */
static inline void layout_revoke_pagemap(const struct dev_pagemap *pgmap)
{
	if (layout_leases_exist())
		__layout_revoke_pagemap(pgmap);
}

#else /* !CONFIG_LAYOUT_LEASE_HOOKS */

static inline bool layout_leases_exist(void)
{
	return false;
}

static inline bool layout_leases_held(void)
{
	return false;
}

static inline bool layout_inode_is_leased(struct inode *inode)
{
	return false;
}

static inline int fcntl_setlayout(unsigned int fd, struct file *file,
				  struct layout_lease __user *uarg)
{
	return -EINVAL;
}

static inline int fcntl_getlayout(struct file *file,
				  struct layout_lease __user *uarg)
{
	return -EINVAL;
}

static inline int fcntl_setlease_layout(unsigned int fd, struct file *file,
					int type)
{
	return -EINVAL;
}

static inline bool layout_op_needed(const struct inode *inode)
{
	return false;
}

static inline void layout_op_begin(struct layout_op *op, unsigned int flags)
{
}

static inline bool layout_op_again(struct layout_op *op, loff_t ret)
{
	return false;
}

static inline loff_t layout_op_end(struct layout_op *op, loff_t ret)
{
	return ret;
}

static inline void layout_op_waits(void)
{
}

static inline void layout_op_begin_locked(struct layout_op *op)
{
}

static inline bool layout_op_is_locked(const struct layout_op *op)
{
	return false;
}

static inline void layout_op_end_locked(struct layout_op *op, int error)
{
}

static inline int layout_break(struct inode *inode, loff_t start, loff_t last,
			       void (*wait)(struct inode *inode))
{
	return 0;
}

static inline bool layout_break_later(struct inode *inode1,
				      struct inode *inode2)
{
	return false;
}

static inline int layout_break_two(struct inode *source, struct inode *dest)
{
	return 0;
}

static inline void layout_revoke(struct inode *inode, loff_t start, loff_t last)
{
}

static inline void layout_revoke_pagemap(const struct dev_pagemap *pgmap)
{
}

#endif /* CONFIG_LAYOUT_LEASE_HOOKS */

#endif /* _LINUX_LAYOUT_LEASE_H */
