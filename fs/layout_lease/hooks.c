// SPDX-License-Identifier: GPL-2.0
/*
 * Layout leases, the part that is always built in: the way to layout_lease.ko,
 * and what needs no lease.
 *
 * The module publishes its operations under RCU. Its calls sleep, so a caller
 * takes a module reference inside the RCU section and drops it here, after the
 * call returned: a module that dropped its own last reference would return into
 * text that is gone. A holder owns one reference more, so that the module stays
 * while a lease exists. The worker of the module may drop that one, since
 * destroying its workqueue waits for the worker.
 */
#include <linux/atomic.h>
#include <linux/bug.h>
#include <linux/capability.h>
#include <linux/cleanup.h>
#include <linux/err.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kmod.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/layout_lease.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/security.h>
#include <linux/sysctl.h>
#include <linux/workqueue.h>

#define CREATE_TRACE_POINTS
#include <trace/events/layout_lease.h>

#include "internal.h"

DEFINE_STATIC_KEY_DEFERRED_FALSE(layout_lease_key, HZ);
EXPORT_SYMBOL_GPL(layout_lease_key);

struct workqueue_struct *layout_lease_wq;
EXPORT_SYMBOL_GPL(layout_lease_wq);

static const struct layout_lease_ops __rcu *provider;
static DEFINE_MUTEX(provider_lock);

const struct layout_lease_ops *layout_provider_get(void)
{
	const struct layout_lease_ops *ops;

	rcu_read_lock();
	ops = rcu_dereference(provider);
	if (ops && !try_module_get(ops->owner))
		ops = NULL;
	rcu_read_unlock();
	return ops;
}

void layout_provider_put(const struct layout_lease_ops *ops)
{
	module_put(ops->owner);
}

/* The operations, for somebody who holds a reference to the module. */
const struct layout_lease_ops *layout_provider_held(void)
{
	guard(rcu)();
	return rcu_dereference(provider);
}

/* Publish the operations, and make the queue. -EBUSY: there are some already. */
int layout_lease_register(const struct layout_lease_ops *ops)
{
	guard(mutex)(&provider_lock);
	if (rcu_access_pointer(provider))
		return -EBUSY;
	layout_lease_wq = alloc_workqueue("layout_lease",
					  WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!layout_lease_wq)
		return -ENOMEM;
	rcu_assign_pointer(provider, ops);
	return 0;
}
EXPORT_SYMBOL_GPL(layout_lease_register);

/*
 * The module exits: it has no reference, hence there is no lease and no delayed
 * work. The worker that dropped the last one is waited for.
 */
void layout_lease_unregister(void)
{
	guard(mutex)(&provider_lock);
	RCU_INIT_POINTER(provider, NULL);
	synchronize_rcu();
	destroy_workqueue(layout_lease_wq);
}
EXPORT_SYMBOL_GPL(layout_lease_unregister);

struct layout_context layout_context_find(struct inode *inode)
{
	struct file_lock_context *ctx = locks_inode_context(inode);
	struct layout_context found = {
		.ops = ctx ? layout_provider_get() : NULL,
	};

	if (!found.ops)
		return found;
	spin_lock(&ctx->flc_lock);
	found.context = ctx->flc_layout_context;
	if (found.context)
		found.ops->context_get(found.context);
	spin_unlock(&ctx->flc_lock);
	if (!found.context)
		layout_provider_put(found.ops);
	return found;
}

void layout_context_put(struct layout_context *found)
{
	if (!found->context)
		return;
	found->ops->context_put(found->context);
	layout_provider_put(found->ops);
}

/*
 * Make @context the one of the inode, unless it has one, which is returned with
 * a reference. NULL: @context is the one now, and its reference is ours. With
 * NULL for @context it is only looked up.
 */
void *layout_context_publish(struct inode *inode, void *context)
{
	struct file_lock_context *ctx = locks_layout_context(inode);
	void *present;

	if (!ctx)
		return ERR_PTR(-ENOMEM);
	guard(spinlock)(&ctx->flc_lock);
	present = ctx->flc_layout_context;
	if (present)
		layout_provider_held()->context_get(present);
	else
		WRITE_ONCE(ctx->flc_layout_context, context);
	return present;
}
EXPORT_SYMBOL_GPL(layout_context_publish);

/* Returns the context, and the reference that the publication held. */
void *layout_context_unpublish(struct inode *inode)
{
	struct file_lock_context *ctx = locks_inode_context(inode);
	void *context;

	guard(spinlock)(&ctx->flc_lock);
	context = ctx->flc_layout_context;
	WRITE_ONCE(ctx->flc_layout_context, NULL);
	return context;
}
EXPORT_SYMBOL_GPL(layout_context_unpublish);

/*
 * fs.layout-lease-break-time: seconds that a holder has to let go. 0: revoke at
 * once. -1: fs.lease-break-time, whose values <= 0, which mean for ever there,
 * count as its default, because a layout change never waits for ever.
 */
#define DEFAULT_BREAK_TIME 45

static int layout_lease_break_time = -1;

/* The clock of deadlines: milliseconds since boot, not counting suspend. */
u64 layout_lease_now_ms(void)
{
	return ktime_to_ms(ktime_get());
}
EXPORT_SYMBOL_GPL(layout_lease_now_ms);

/* How long a holder may take to let go. */
u64 layout_lease_grace_ms(void)
{
	int seconds = READ_ONCE(layout_lease_break_time);

	if (seconds < 0) {
		seconds = locks_lease_break_time();
		if (seconds <= 0)
			seconds = DEFAULT_BREAK_TIME;
	}
	return (u64)seconds * MSEC_PER_SEC;
}

/*
 * The number of a grant: larger than that of any grant before. It is counted
 * here, since neither a context nor the module lives as long as a program
 * remembers one.
 */
u64 layout_lease_new_generation(void)
{
	static atomic64_t last;

	return atomic64_inc_return(&last);
}
EXPORT_SYMBOL_GPL(layout_lease_new_generation);

#ifdef CONFIG_SYSCTL
static const struct ctl_table layout_lease_sysctls[] = {
	{
		.procname	= "layout-lease-break-time",
		.data		= &layout_lease_break_time,
		.maxlen		= sizeof(int),
		.mode		= 0644,
		.proc_handler	= proc_dointvec_minmax,
		.extra1		= SYSCTL_NEG_ONE,
		.extra2		= SYSCTL_INT_MAX,
	},
};

static int __init layout_lease_sysctl_init(void)
{
	register_sysctl_init("fs", layout_lease_sysctls);
	return 0;
}
fs_initcall(layout_lease_sysctl_init);
#endif

/* For a promise to a breaker: keep the module and the static key, as a lease does. */
bool layout_lease_hold(void)
{
	if (!layout_provider_get())
		return false;
	static_branch_deferred_inc(&layout_lease_key);
	return true;
}
EXPORT_SYMBOL_GPL(layout_lease_hold);

void layout_lease_unhold(void)
{
	static_branch_slow_dec_deferred(&layout_lease_key);
	layout_provider_put(layout_provider_held());
}
EXPORT_SYMBOL_GPL(layout_lease_unhold);

/**
 * layout_is_stable - ask the filesystem whether the blocks of a file stay in place
 * @inode: the inode
 *
 * A lease that nobody would break is not granted, and nothing is pinned under one
 * that nobody breaks any more.
 *
 * Return: whether they do until leases are broken.
 */
bool layout_is_stable(struct inode *inode)
{
	const struct super_operations *sop = inode->i_sb->s_op;

	return IS_DAX(inode) && sop->layout_stable &&
	       sop->layout_stable(inode);
}
EXPORT_SYMBOL_GPL(layout_is_stable);

/* Why they do not, as a word. */
static const char *why_unstable(const struct inode *inode)
{
	if (!IS_DAX(inode))
		return "not-dax";
	if (!inode->i_sb->s_op->layout_stable)
		return "filesystem";
	/* It was reflinked, or the filesystem is shut down. */
	return "blocks-move";
}

/* Why nothing can be attached that is -EOPNOTSUPP, as a word. */
static const char *why_refused(struct inode *inode)
{
	if (!layout_is_stable(inode))
		return why_unstable(inode);
	return layout_inode_is_leased(inode) ? "other-process" : "no-lease";
}

/**
 * layout_lease_refused - tell the tracepoint why something is -EOPNOTSUPP
 * @inode: the file
 * @start: first byte
 * @last: last byte, inclusive
 * @why: as a word; NULL: nothing can be attached by the current process
 *
 * The error itself has to be the same for all of them: libraries fall back to
 * something else on it.
 */
void layout_lease_refused(struct inode *inode, u64 start, u64 last,
			  const char *why)
{
	if (trace_layout_lease_refuse_enabled())
		trace_layout_lease_refuse(inode, start, last,
					  why ?: why_refused(inode));
}
EXPORT_SYMBOL_GPL(layout_lease_refused);

/*
 * Keep the layout of a file as it is. Each change holds invalidate_lock exclusively
 * from its decision to its commit. Under it shared, a lease is granted and memory
 * attached to blocks that nobody is about to move.
 */
static int exclude_changes(struct inode *inode)
{
	struct rw_semaphore *lock = &inode->i_mapping->invalidate_lock;

	if (down_read_interruptible(lock))
		return -ERESTARTSYS;
	if (layout_is_stable(inode))
		return 0;
	up_read(lock);
	return -EOPNOTSUPP;
}

static void allow_changes(struct inode *inode)
{
	filemap_invalidate_unlock_shared(inode->i_mapping);
}

/*
 * What request.rs, which has parsed the arguments, asks for.
 */

/* The F_SETLAYOUT that comes first loads the module on demand; nothing else does. */
static const struct layout_lease_ops *provider_get_or_load(void)
{
	const struct layout_lease_ops *ops = layout_provider_get();

	if (!ops && !request_module("layout_lease"))
		ops = layout_provider_get();
	return ops;
}

static int try_grant(const struct layout_lease_ops *ops, struct file *file,
		     int fd, u64 start, u64 last, bool exclusive, int event_fd)
{
	struct inode *inode = file_inode(file);
	struct layout_holder *holder = NULL;
	int has_holder = 0;
	int error;

	/* This may wait for a device, hence before changes are excluded. */
	scoped_class(layout_context, found, inode)
		if (found.context)
			has_holder = ops->make_way(found.context, file, start,
						   last, exclusive);
	if (has_holder < 0)
		return has_holder;
	/* It brings the eventfd, too. */
	if (!has_holder || event_fd != LAYOUT_EVENT_KEEP) {
		holder = layout_holder_alloc(ops, file, fd, event_fd);
		if (IS_ERR(holder))
			return PTR_ERR(holder);
	}
	error = exclude_changes(inode);
	if (error) {
		if (holder)
			layout_holder_free(holder);
		return error;
	}
	error = ops->set(file, holder, start, last, exclusive);
	allow_changes(inode);
	return error;
}

/*
 * Sleep until it may be granted. Breaks end by themselves; a lease of another process
 * need not, and its holder may want one of ours: that is waited for until @until.
 * Changes are not excluded meanwhile, since breaks are waited for, and no lock is held.
 */
static int wait_for_lease(struct inode *inode, u64 start, u64 last,
			  bool exclusive, u64 until)
{
	CLASS(layout_context, found)(inode);

	/* Without a context there is nothing in the way. */
	if (!found.context)
		return 0;
	return found.ops->wait(found.context, start, last, exclusive, until);
}

static int grant(const struct layout_lease_ops *ops, struct file *file, int fd,
		 u64 start, u64 last, bool exclusive, int event_fd, bool wait)
{
	u64 until = layout_lease_now_ms() + layout_lease_grace_ms();
	int error;

	do {
		/* Again, if the holder went meanwhile. */
		do {
			error = try_grant(ops, file, fd, start, last, exclusive,
					  event_fd);
		} while (error == -ESTALE && !fatal_signal_pending(current));
		if (error != -EAGAIN || !wait)
			return error;
		error = wait_for_lease(file_inode(file), start, last, exclusive,
				       until);
	} while (!error);
	return error;
}

static int do_set_lease(struct file *file, int fd, u64 start, u64 last, int type,
			int event_fd, bool wait)
{
	struct inode *inode = file_inode(file);
	vfsuid_t vfsuid = i_uid_into_vfsuid(file_mnt_idmap(file), inode);
	const struct layout_lease_ops *ops;
	int error;

	if (!vfsuid_eq_kuid(vfsuid, current_fsuid()) && !capable(CAP_LEASE))
		return -EACCES;
	if (type == F_WRLCK && !(file->f_mode & FMODE_WRITE))
		return -EACCES;
	error = security_file_lock(file, type);
	if (error)
		return error;
	if (!locks_leases_enabled())
		return -EINVAL;
	if (!layout_is_stable(inode))
		return -EOPNOTSUPP;

	ops = provider_get_or_load();
	if (!ops)
		return -EOPNOTSUPP;
	error = grant(ops, file, fd, start, last, type == F_WRLCK, event_fd,
		      wait);
	layout_provider_put(ops);
	return error;
}

int layout_set_lease(struct file *file, int fd, u64 start, u64 last, int type,
		     int event_fd, bool wait)
{
	int error = do_set_lease(file, fd, start, last, type, event_fd, wait);
	struct inode *inode = file_inode(file);

	if (!error) {
		trace_layout_lease_grant(inode, type, start, last, 0, 0);
		return 0;
	}
	trace_layout_lease_deny(inode, type, start, last, 0, error);
	if (error == -EOPNOTSUPP && trace_layout_lease_refuse_enabled())
		layout_lease_refused(inode, start, last,
				     layout_is_stable(inode) ? "no-module" :
				     why_unstable(inode));
	return error;
}

int layout_unset_lease(struct file *file, u64 start, u64 last, bool revoke)
{
	CLASS(layout_context, found)(file_inode(file));
	int error;

	if (!found.context)
		return 0;
	error = found.ops->unset(found.context, file, start, last, revoke);
	trace_layout_lease_release(file_inode(file), F_UNLCK, start, last,
				   revoke ? LAYOUT_LEASE_REVOKE : 0, error);
	return error;
}

void layout_get_lease(struct file *file, u64 start, u64 last, bool broken,
		      struct layout_lease *lease)
{
	CLASS(layout_context, found)(file_inode(file));

	if (found.context)
		found.ops->get(found.context, file, start, last, broken, lease);
}

/* So many attachments to a file were taken back, of so many bytes in all. */
void layout_lease_revoked(const struct file *file, unsigned long count,
			  u64 bytes, u64 us)
{
	trace_layout_lease_revoke(file_inode(file), count, bytes >> PAGE_SHIFT,
				  us);
}
EXPORT_SYMBOL_GPL(layout_lease_revoked);

/*
 * What fs/locks.c calls
 */

/* The last reference of an open file that has a holder is gone. */
void layout_lease_release(struct file *file)
{
	CLASS(layout_context, found)(file_inode(file));

	/* The leases of a dead holder go when another lease conflicts with them. */
	if (!found.context)
		return;
	trace_layout_lease_close(file_inode(file));
	found.ops->release(found.context, file);
}

/* Before the lock context of an inode is freed. */
void layout_lease_evict(struct inode *inode)
{
	CLASS(layout_context, found)(inode);

	/* No open file, no lease: only a promise to a breaker is left. */
	if (found.context)
		found.ops->evict(found.context);
}

/*
 * Consumers
 */

/**
 * layout_lease_attach - tie pages about to be pinned to a lease
 * @file: the file that the pages are mapped from
 * @start: first byte of the file
 * @last: last byte of the file, inclusive
 * @write: the pages will be written to
 * @ops: how to take them back
 * @data: for @ops
 *
 * Call it before the pages are pinned. @ops may be called from now on. The
 * attachment keeps the open file of the lease, hence inode and mount.
 *
 * Context: Process context of the holder, may sleep; mmap_lock may be held.
 * Return: the attachment, or an ERR_PTR():
 *	-EOPNOTSUPP: this process holds no lease on the file, or the blocks of
 *	the file may move without notice;
 *	-EPERM: it holds some, but they do not cover the range;
 *	-EACCES: @write, and they do, but through an open file that is not open
 *	for writing, so that nobody knows that this one is written to;
 *	-EAGAIN: a break is under way there, or a lease there was taken back
 *	since it was granted: ask for a new one;
 *	-ENOMEM.
 */
struct layout_attachment *
layout_lease_attach(struct file *file, u64 start, u64 last, bool write,
		    const struct layout_consumer_ops *ops, void *data)
{
	struct layout_attachment *attachment = ERR_PTR(-EOPNOTSUPP);
	struct inode *inode = file_inode(file);

	if (!layout_leases_exist())
		goto refused;
	/* As a page fault: changes of the layout are excluded. */
	filemap_invalidate_lock_shared(inode->i_mapping);
	scoped_class(layout_context, found, inode)
		if (found.context)
			attachment = found.ops->attach(found.context, file,
						       start, last,
						       LAYOUT_BREAK_ALIGN, write,
						       layout_is_stable(inode),
						       ops, data);
	filemap_invalidate_unlock_shared(inode->i_mapping);
	trace_layout_lease_attach(inode, start, last,
				  PTR_ERR_OR_ZERO(attachment));
	if (attachment != ERR_PTR(-EOPNOTSUPP))
		return attachment;
refused:
	layout_lease_refused(inode, start, last, NULL);
	return attachment;
}
EXPORT_SYMBOL_GPL(layout_lease_attach);

/**
 * layout_lease_detach - the pages are unpinned, forget the attachment
 * @attachment: what layout_lease_attach() returned
 *
 * Waits for a call into the consumer; none is made after it returned.
 *
 * Context: Process context, may sleep.
 */
void layout_lease_detach(struct layout_attachment *attachment)
{
	const struct layout_lease_ops *ops = layout_provider_get();

	/* The attachment holds the module through its holder. */
	if (WARN_ON_ONCE(!ops))
		return;
	ops->detach(attachment);
	layout_provider_put(ops);
}
EXPORT_SYMBOL_GPL(layout_lease_detach);
