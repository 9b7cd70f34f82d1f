/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Layout leases: a recallable right to pin the blocks of a DAX file.
 *
 * Three parties meet here, none of which calls another one directly:
 *
 *  - breakers (VFS, DAX, filesystems) bracket an operation that frees, moves or
 *    shares blocks with layout_break_begin() and layout_break_end();
 *  - consumers (RDMA memory regions) attach pinned pages to a lease and give
 *    the operations that take the pages back;
 *  - the provider (layout_lease.ko) keeps leases, attachments and breaks of
 *    each inode in its index and decides.
 *
 * See Documentation/filesystems/layout-leases.rst.
 */
#ifndef _LINUX_LAYOUT_LEASE_H
#define _LINUX_LAYOUT_LEASE_H

#include <linux/compiler.h>
#include <linux/fcntl.h>
#include <linux/jump_label.h>
#include <linux/jump_label_ratelimit.h>
#include <linux/list.h>
#include <linux/types.h>

struct dev_pagemap;
struct file;
struct file_lease;
struct file_lock_context;
struct inode;
struct layout_anchor;
struct layout_attachment;
struct module;
struct seq_file;

/* The breaker does not wait: -EWOULDBLOCK while something is attached. */
#define LAYOUT_BREAK_NONBLOCK	0x1
/* No grace period for anybody. */
#define LAYOUT_BREAK_NOW	0x2
/* A signal does not end the wait. */
#define LAYOUT_BREAK_UNINTERRUPTIBLE	0x4

/**
 * struct layout_break - one break, on the stack of the breaker
 * @node: on the list of breaks of @index, protected by the index lock
 * @index: the provider's index, with a reference; NULL: nothing to end
 * @start: first byte, rounded down to the largest DAX entry
 * @last: last byte, inclusive, rounded up likewise
 * @flags: LAYOUT_BREAK_*
 * @pending: attachments that overlap; written under the index lock
 * @inode: whose layout changes
 * @backstop: of layout_break_begin_locked(): among the breaks with locks held
 *
 * From begin to end overlapping grants and attachments fail with -EAGAIN, so
 * that @pending can only fall. Brackets do not exclude each other.
 */
struct layout_break {
	struct list_head node;
	void *index;
	u64 start;
	u64 last;
	unsigned int flags;
	unsigned long pending;
	struct inode *inode;
	struct hlist_node backstop;
};

/**
 * struct layout_consumer_ops - how to take pages back from a consumer
 * @begin: stop new accesses; may sleep on a mutex, never waits for the device
 * @finish: wait for old accesses; may sleep. Non-zero: the provider warns,
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

/**
 * struct layout_lease_ops - what the provider implements
 * @owner: the provider's module, held during each call and by each anchor
 * @index_get: take a reference to an index; called under flc_lock
 * @index_put: drop a reference to an index
 * @set: grant, upgrade or downgrade; consumes the anchor in any case
 * @unset: F_UNLCK
 * @get: F_GETLAYOUT; fills type, state, remaining_ms, start and len
 * @show: the leases of an open file, a line each, for /proc/layout_leases
 * @bury: the holder of an open file may have died during a break: if so, take
 *	back at once what breaks wait for
 * @visit: does the walk with this number meet the inode for the first time?
 *	(again, if another walk met it in between)
 * @release: the last reference of an open file that has an anchor is gone
 * @break_begin: start a break and count what is attached in brk->pending
 * @break_end: end it and drop brk->index
 * @attach: attach to leases of the current process that cover [start, last],
 *	through a file that is open for writing if @write; breaks meet it in the
 *	range rounded outward to @unit
 * @detach: remove an attachment; waits for a call into the consumer
 *
 * All may sleep except @index_get. None is called under flc_lock.
 */
struct layout_lease_ops {
	struct module *owner;
	void (*index_get)(void *index);
	void (*index_put)(void *index);
	int (*set)(const struct layout_lease_ops *ops, struct file *file,
		   struct layout_anchor *anchor, const struct layout_lease *arg);
	int (*unset)(void *index, struct file *file,
		     const struct layout_lease *arg);
	void (*get)(void *index, struct file *file, struct layout_lease *arg);
	void (*show)(void *index, struct file *file, struct seq_file *m);
	void (*bury)(void *index, struct file *file);
	bool (*visit)(void *index, u64 walk);
	void (*release)(void *index, struct file *file);
	void (*break_begin)(struct layout_break *brk);
	void (*break_end)(struct layout_break *brk);
	struct layout_attachment *(*attach)(void *index, u64 start, u64 last,
					    u64 unit, bool write,
					    const struct layout_consumer_ops *ops,
					    void *data);
	void (*detach)(struct layout_attachment *attachment);
};

#ifdef CONFIG_LAYOUT_LEASE_HOOKS

extern struct static_key_false_deferred layout_lease_key;

/* fcntl(2) */
int fcntl_setlayout(unsigned int fd, struct file *file,
		    struct layout_lease __user *uarg);
int fcntl_getlayout(struct file *file, struct layout_lease __user *uarg);
int fcntl_setlease_layout(unsigned int fd, struct file *file, int type);

/* fs/locks.c */
void layout_lease_release(struct file *file);
struct file_lock_context *locks_layout_context(struct inode *inode);
void locks_insert_layout(struct file_lease *fl);
void locks_delete_layout(struct file_lease *fl);
bool locks_leases_enabled(void);
int locks_lease_break_time(void);

/* Breakers */
bool __layout_inode_is_leased(const struct inode *inode);
int __layout_break_begin(struct layout_break *brk, struct inode *inode,
			 loff_t start, loff_t last, unsigned int flags);
int layout_break_begin_locked(struct layout_break *brk, struct inode *inode,
			      loff_t start, loff_t last,
			      void (*wait)(struct inode *inode));
void layout_break_end_locked(struct layout_break *brk);
int __layout_break_begin_two(struct layout_break *brk1, struct inode *inode1,
			     struct layout_break *brk2, struct inode *inode2);
int __layout_break_begin_truncate(struct layout_break *brk,
				  struct inode *inode, loff_t length,
				  unsigned int flags);
void __layout_break_end(struct layout_break *brk);
void __layout_revoke(struct inode *inode, loff_t start, loff_t last);
void __layout_revoke_pagemap(const struct dev_pagemap *pgmap);

/* Consumers */
struct layout_attachment *
layout_lease_attach(struct file *file, u64 start, u64 last, bool write,
		    const struct layout_consumer_ops *ops, void *data);
void layout_lease_detach(struct layout_attachment *attachment);
int layout_pin_begin(void);
void layout_pin_end(int section);

/* Provider */
int layout_lease_register(const struct layout_lease_ops *ops);
void layout_lease_unregister(const struct layout_lease_ops *ops);
void *layout_lease_index_get(const struct layout_lease_ops *ops,
			     struct inode *inode);
void *layout_lease_index_publish(const struct layout_lease_ops *ops,
				 struct inode *inode, void *index);
void layout_lease_index_unpublish(struct inode *inode);
u64 layout_lease_now_ms(void);
u64 layout_lease_grace_ms(void);
void layout_lease_revoked(const struct inode *inode, unsigned long count,
			  u64 bytes, u64 us);
void layout_break_settled(struct layout_break *brk);
void layout_anchor_link(struct layout_anchor *anchor, int type);
void layout_anchor_unlink(struct layout_anchor *anchor);
void layout_anchor_free(struct layout_anchor *anchor);
void layout_anchor_signal(struct layout_anchor *anchor, int reason);
void layout_anchor_warn(const struct layout_anchor *anchor);
bool layout_anchor_is_current(const struct layout_anchor *anchor);
bool layout_anchor_same_holder(const struct layout_anchor *a,
			       const struct layout_anchor *b);
bool layout_anchor_is_dead(const struct layout_anchor *anchor);
bool layout_anchor_is_writable(const struct layout_anchor *anchor);
bool layout_anchor_charge(struct layout_anchor *anchor);
void layout_anchor_uncharge(struct layout_anchor *anchor);
bool layout_anchor_show(const struct layout_anchor *anchor, struct seq_file *m);
struct file *layout_anchor_file(const struct layout_anchor *anchor);
struct file *layout_anchor_get_file(const struct layout_anchor *anchor);

static inline bool layout_leases_exist(void)
{
	return static_branch_unlikely(&layout_lease_key.key);
}

/**
 * layout_inode_is_leased - does anybody hold a layout lease on a file?
 * @inode: the inode
 *
 * For operations that can do without changing the layout. Not a promise: a lease
 * may come or go at any time.
 */
static inline bool layout_inode_is_leased(const struct inode *inode)
{
	return layout_leases_exist() && __layout_inode_is_leased(inode);
}

/**
 * layout_break_begin - an operation is about to change the layout of a file
 * @brk: token of the caller, on its stack
 * @inode: the inode whose blocks are freed, moved, shared or unmapped
 * @start: first byte concerned
 * @last: last byte concerned, inclusive; LLONG_MAX or -1 reach to infinity
 * @flags: LAYOUT_BREAK_*
 *
 * Signals the holders of all leases that overlap, and returns when nothing is
 * attached to the range any more: the holders let go, or the grace period is
 * over and their attachments were revoked. Leases of the caller itself are
 * taken back at once and without a signal.
 *
 * Call it before filesystem locks are taken and before a freeze is blocked.
 * Costs a disabled static branch while nobody holds a layout lease.
 *
 * Context: Process context, may sleep, interruptible.
 * Return: 0: call layout_break_end() when the operation is over.
 *	-EWOULDBLOCK with LAYOUT_BREAK_NONBLOCK, -ERESTARTSYS on a signal: the
 *	holders keep their grace period, and there is nothing to end.
 */
static inline int layout_break_begin(struct layout_break *brk,
				     struct inode *inode, loff_t start,
				     loff_t last, unsigned int flags)
{
	brk->index = NULL;
	if (!layout_leases_exist())
		return 0;
	return __layout_break_begin(brk, inode, start, last, flags);
}

/**
 * layout_break_begin_truncate - a file is about to get another size
 * @brk: token of the caller, on its stack
 * @inode: the inode
 * @length: its new size in bytes
 * @flags: LAYOUT_BREAK_*
 *
 * A smaller size takes blocks away from the new last one on, a larger one
 * zeroes the rest of the old last block. The size need not be locked: this is
 * for the wait outside the locks, the filesystem looks again.
 *
 * Context and return: as layout_break_begin().
 */
static inline int layout_break_begin_truncate(struct layout_break *brk,
					      struct inode *inode,
					      loff_t length, unsigned int flags)
{
	brk->index = NULL;
	if (!layout_leases_exist())
		return 0;
	return __layout_break_begin_truncate(brk, inode, length, flags);
}

/**
 * layout_break_begin_two - an operation shares or exchanges blocks of two files
 * @brk1: token of the caller, on its stack
 * @inode1: an inode, all of it
 * @brk2: another token
 * @inode2: the other inode, or the same
 *
 * The holders of both share one grace period.
 *
 * Context: Process context, may sleep, interruptible.
 * Return: 0: call layout_break_end() for both. -ERESTARTSYS: for none.
 */
static inline int layout_break_begin_two(struct layout_break *brk1,
					 struct inode *inode1,
					 struct layout_break *brk2,
					 struct inode *inode2)
{
	brk1->index = NULL;
	brk2->index = NULL;
	if (!layout_leases_exist())
		return 0;
	return __layout_break_begin_two(brk1, inode1, brk2, inode2);
}

/**
 * layout_break_end - the operation is over
 * @brk: token of a successful layout_break_begin()
 *
 * Context: Process context, may sleep.
 */
static inline void layout_break_end(struct layout_break *brk)
{
	if (brk->index)
		__layout_break_end(brk);
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

static inline bool layout_inode_is_leased(const struct inode *inode)
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

static inline int layout_break_begin(struct layout_break *brk,
				     struct inode *inode, loff_t start,
				     loff_t last, unsigned int flags)
{
	return 0;
}

static inline int layout_break_begin_two(struct layout_break *brk1,
					 struct inode *inode1,
					 struct layout_break *brk2,
					 struct inode *inode2)
{
	return 0;
}

static inline int layout_break_begin_locked(struct layout_break *brk,
					    struct inode *inode, loff_t start,
					    loff_t last,
					    void (*wait)(struct inode *inode))
{
	return 0;
}

static inline int layout_break_begin_truncate(struct layout_break *brk,
					      struct inode *inode,
					      loff_t length, unsigned int flags)
{
	return 0;
}

static inline void layout_break_end(struct layout_break *brk)
{
}

static inline void layout_break_end_locked(struct layout_break *brk)
{
}

static inline void layout_revoke(struct inode *inode, loff_t start, loff_t last)
{
}

static inline void layout_revoke_pagemap(const struct dev_pagemap *pgmap)
{
}

#endif /* CONFIG_LAYOUT_LEASE_HOOKS */

/**
 * layout_break_try - ask the holders to let go, and do not wait
 * @inode: the inode
 * @start: first byte
 * @last: last byte, inclusive
 *
 * For a caller that comes again, and then does what brackets itself.
 *
 * Context: Process context, may sleep, but not for the holders.
 * Return: 0, or -EWOULDBLOCK: something still is attached.
 */
static inline int layout_break_try(struct inode *inode, loff_t start,
				   loff_t last)
{
	struct layout_break brk;
	int error;

	error = layout_break_begin(&brk, inode, start, last,
				   LAYOUT_BREAK_NONBLOCK);
	if (!error)
		layout_break_end(&brk);
	return error;
}

#endif /* _LINUX_LAYOUT_LEASE_H */
