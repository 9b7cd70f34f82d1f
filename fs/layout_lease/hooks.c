// SPDX-License-Identifier: GPL-2.0
/*
 * Layout leases, the part that is always built in: system calls, the static
 * key, and the way to a provider that may be a module.
 *
 * The provider publishes its operations under RCU. Its calls sleep, so a caller
 * takes a module reference inside the RCU section and drops it here, after the
 * call returned: a module that dropped its own last reference would return into
 * text that is gone. An anchor owns one reference more, so that the module stays
 * while a lease exists. The worker of the provider may drop that one, since
 * destroying its workqueue waits for the worker.
 */
#include <linux/atomic.h>
#include <linux/bug.h>
#include <linux/capability.h>
#include <linux/cleanup.h>
#include <linux/dax.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/init.h>
#include <linux/kmod.h>
#include <linux/ktime.h>
#include <linux/layout_lease.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/security.h>
#include <linux/srcu.h>
#include <linux/sysctl.h>
#include <linux/uaccess.h>
#include <linux/wait_bit.h>

#define CREATE_TRACE_POINTS
#include <trace/events/layout_lease.h>

#include "internal.h"

DEFINE_STATIC_KEY_DEFERRED_FALSE(layout_lease_key, HZ);
EXPORT_SYMBOL_GPL(layout_lease_key);

static const struct layout_lease_ops __rcu *provider;
static DEFINE_MUTEX(provider_lock);

static const struct layout_lease_ops *provider_get(void)
{
	const struct layout_lease_ops *ops;

	rcu_read_lock();
	ops = rcu_dereference(provider);
	if (ops && !try_module_get(ops->owner))
		ops = NULL;
	rcu_read_unlock();
	return ops;
}

static void provider_put(const struct layout_lease_ops *ops)
{
	module_put(ops->owner);
}

/**
 * layout_lease_register - publish the provider
 * @ops: its operations; they stay valid until unregistered
 *
 * Context: Process context, may sleep.
 * Return: 0, or -EBUSY: there is one already.
 */
int layout_lease_register(const struct layout_lease_ops *ops)
{
	guard(mutex)(&provider_lock);
	if (rcu_access_pointer(provider))
		return -EBUSY;
	rcu_assign_pointer(provider, ops);
	return 0;
}
EXPORT_SYMBOL_GPL(layout_lease_register);

/**
 * layout_lease_unregister - withdraw the provider
 * @ops: what was registered
 *
 * Context: Process context, waits for an RCU grace period. For a module only
 *	from its exit function, so that no reference is left.
 */
void layout_lease_unregister(const struct layout_lease_ops *ops)
{
	scoped_guard(mutex, &provider_lock) {
		WARN_ON_ONCE(rcu_access_pointer(provider) != ops);
		RCU_INIT_POINTER(provider, NULL);
	}
	synchronize_rcu();
}
EXPORT_SYMBOL_GPL(layout_lease_unregister);

/**
 * layout_lease_index_get - find the index of an inode
 * @ops: the provider's operations
 * @inode: the inode
 *
 * Return: the index with a reference, or NULL if it has none.
 */
void *layout_lease_index_get(const struct layout_lease_ops *ops,
			     struct inode *inode)
{
	struct file_lock_context *ctx = locks_inode_context(inode);
	void *index;

	if (!ctx)
		return NULL;
	guard(spinlock)(&ctx->flc_lock);
	index = ctx->flc_layout_index;
	if (index)
		ops->index_get(index);
	return index;
}
EXPORT_SYMBOL_GPL(layout_lease_index_get);

struct layout_index layout_index_find(struct inode *inode)
{
	struct layout_index found = { .ops = provider_get() };

	if (!found.ops)
		return found;
	found.index = layout_lease_index_get(found.ops, inode);
	if (!found.index)
		provider_put(found.ops);
	return found;
}

void layout_index_put(struct layout_index *found)
{
	if (!found->index)
		return;
	found->ops->index_put(found->index);
	provider_put(found->ops);
}

/*
 * Breaks by the filesystem, with its locks held, whether they have found an
 * index or not. They sleep until pages are idle, and nothing may be attached
 * meanwhile: an index has them on record; and as long as there is one, no new
 * index appears, neither the first one nor after the last one was withdrawn.
 */
static struct backstops {
	spinlock_t lock;
	struct hlist_head breaks;
} backstops[64] = {
	[0 ... 63] = { .lock = __SPIN_LOCK_UNLOCKED(backstops.lock) },
};

static struct backstops *backstops_of(const struct inode *inode)
{
	return &backstops[hash_ptr(inode, ilog2(ARRAY_SIZE(backstops)))];
}

static bool backstop_is_under_way(const struct inode *inode)
{
	struct backstops *backstops = backstops_of(inode);
	struct layout_break *brk;

	guard(spinlock)(&backstops->lock);
	hlist_for_each_entry(brk, &backstops->breaks, backstop)
		if (brk->inode == inode)
			return true;
	return false;
}

static void backstop_add(struct layout_break *brk)
{
	struct backstops *backstops = backstops_of(brk->inode);

	guard(spinlock)(&backstops->lock);
	hlist_add_head(&brk->backstop, &backstops->breaks);
}

static void backstop_del(struct layout_break *brk)
{
	guard(spinlock)(&backstops_of(brk->inode)->lock);
	hlist_del(&brk->backstop);
}

/**
 * layout_lease_index_publish - make an index the one of its inode
 * @ops: the provider's operations
 * @inode: the inode
 * @index: the index; takes over a reference on success
 *
 * Context: Process context, may sleep.
 * Return: NULL on success, the present index with a reference if there is one,
 *	or an ERR_PTR(): -ENOMEM; -EAGAIN: the layout is being changed.
 */
void *layout_lease_index_publish(const struct layout_lease_ops *ops,
				 struct inode *inode, void *index)
{
	struct file_lock_context *ctx = locks_layout_context(inode);
	void *present;

	if (!ctx)
		return ERR_PTR(-ENOMEM);
	guard(spinlock)(&ctx->flc_lock);
	present = ctx->flc_layout_index;
	if (present) {
		ops->index_get(present);
		return present;
	}
	/* A backstop that is not seen after this sees the index. */
	WRITE_ONCE(ctx->flc_layout_index, index);
	if (backstop_is_under_way(inode)) {
		WRITE_ONCE(ctx->flc_layout_index, NULL);
		return ERR_PTR(-EAGAIN);
	}
	return NULL;
}
EXPORT_SYMBOL_GPL(layout_lease_index_publish);

/**
 * layout_lease_index_unpublish - the index of an inode has become empty
 * @inode: the inode; its index must be published
 *
 * The caller owns the reference that the publication held.
 */
void layout_lease_index_unpublish(struct inode *inode)
{
	struct file_lock_context *ctx = locks_inode_context(inode);

	guard(spinlock)(&ctx->flc_lock);
	WRITE_ONCE(ctx->flc_layout_index, NULL);
}
EXPORT_SYMBOL_GPL(layout_lease_index_unpublish);

/*
 * fs.layout-lease-break-time: seconds that a holder has to let go. 0: revoke at
 * once. -1: fs.lease-break-time, whose values <= 0, which mean for ever there,
 * count as its default, because a layout change never waits for ever.
 */
#define DEFAULT_BREAK_TIME 45

static int layout_lease_break_time = -1;

/**
 * layout_lease_now_ms - the clock of deadlines
 *
 * Return: milliseconds since boot, not counting suspend.
 */
u64 layout_lease_now_ms(void)
{
	return ktime_to_ms(ktime_get());
}
EXPORT_SYMBOL_GPL(layout_lease_now_ms);

/**
 * layout_lease_grace_ms - how long may a holder take to let go?
 *
 * Return: milliseconds.
 */
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
EXPORT_SYMBOL_GPL(layout_lease_grace_ms);

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

/*
 * System calls
 */

/* Of the F_SETLAYOUT that comes first, and only that: load the provider. */
static const struct layout_lease_ops *provider_get_or_load(void)
{
	const struct layout_lease_ops *ops = provider_get();

	if (!ops && !request_module("layout_lease"))
		ops = provider_get();
	return ops;
}

/* A lease that nobody would break is not granted. */
static bool layout_is_stable(struct inode *inode)
{
	const struct super_operations *sop = inode->i_sb->s_op;

	return IS_DAX(inode) && sop->layout_stable && sop->layout_stable(inode);
}

/*
 * A breaker that does not wait comes again. As long as a grace period, it must
 * not find that the holders have let go and leased anew.
 */
static void embargo(struct inode *inode, u64 until)
{
	struct file_lock_context *ctx = locks_inode_context(inode);

	if (ctx && READ_ONCE(ctx->flc_layout_embargo) != until)
		WRITE_ONCE(ctx->flc_layout_embargo, until);
}

static bool is_under_embargo(struct inode *inode)
{
	struct file_lock_context *ctx = locks_inode_context(inode);

	return ctx && layout_lease_now_ms() < READ_ONCE(ctx->flc_layout_embargo);
}

static int do_set_lease(unsigned int fd, struct file *file,
			const struct layout_lease *arg)
{
	struct inode *inode = file_inode(file);
	vfsuid_t vfsuid = i_uid_into_vfsuid(file_mnt_idmap(file), inode);
	const struct layout_lease_ops *ops;
	struct layout_anchor *anchor;
	int error;

	if (!vfsuid_eq_kuid(vfsuid, current_fsuid()) && !capable(CAP_LEASE))
		return -EACCES;
	if (arg->type == F_WRLCK && !(file->f_mode & FMODE_WRITE))
		return -EACCES;
	error = security_file_lock(file, arg->type);
	if (error)
		return error;
	if (!locks_leases_enabled())
		return -EINVAL;
	if (!layout_is_stable(inode))
		return -EOPNOTSUPP;
	if (is_under_embargo(inode))
		return -EAGAIN;

	ops = provider_get_or_load();
	if (!ops)
		return -EOPNOTSUPP;
	anchor = layout_anchor_alloc(ops, file, fd);
	error = anchor ? ops->set(ops, file, anchor, arg) : -ENOMEM;
	provider_put(ops);
	return error;
}

static int set_lease(unsigned int fd, struct file *file,
		     const struct layout_lease *arg)
{
	int error = do_set_lease(fd, file, arg);

	if (error)
		trace_layout_lease_deny(file_inode(file), arg, error);
	else
		trace_layout_lease_grant(file_inode(file), arg, 0);
	return error;
}

static int unset_lease(struct file *file, const struct layout_lease *arg)
{
	CLASS(layout_index, found)(file_inode(file));
	int error;

	if (!found.index)
		return 0;
	error = found.ops->unset(found.index, file, arg);
	trace_layout_lease_release(file_inode(file), arg, error);
	return error;
}

/* Take the range from all holders, without a grace period. */
static int seize(struct inode *inode, loff_t start, loff_t last)
{
	struct layout_break brk;
	int error;

	error = layout_break_begin(&brk, inode, start, last, LAYOUT_BREAK_NOW);
	if (!error)
		layout_break_end(&brk);
	return error;
}

/* Of walks over all open files with leases. */
static atomic64_t walks;

/*
 * One break of an inode is enough, however many open files of it a walk meets.
 * An inode without an index has nothing to break any more.
 */
static bool layout_first_visit(struct inode *inode, u64 walk)
{
	CLASS(layout_index, found)(inode);

	return found.index && found.ops->visit(found.index, walk);
}

/* All files, also those that have no name and no descriptor any more. */
static int seize_filesystem(const struct super_block *sb)
{
	u64 walk = atomic64_inc_return(&walks);
	struct file *file;
	unsigned long id;
	int error = 0;

	for (id = 0; !error && (file = layout_next_leased_file(&id)); id++) {
		if (file_inode(file)->i_sb == sb &&
		    layout_first_visit(file_inode(file), walk))
			error = seize(file_inode(file), 0, LLONG_MAX);
		fput(file);
	}
	return error;
}

/* Check what does not need a lease, an inode or the provider. */
static int check_arg(struct file *file, const struct layout_lease *arg)
{
	u64 end;

	if (!S_ISREG(file_inode(file)->i_mode))
		return -EINVAL;
	if (arg->start > LLONG_MAX ||
	    check_add_overflow(arg->start, arg->len, &end) ||
	    end > (u64)LLONG_MAX + 1)
		return -EINVAL;
	return 0;
}

static int do_setlayout(unsigned int fd, struct file *file,
			const struct layout_lease *arg)
{
	int error;

	/* A directory will do. */
	if (arg->type == F_UNLCK && arg->flags == LAYOUT_LEASE_SEIZE_FS) {
		if (arg->start || arg->len)
			return -EINVAL;
		if (!capable(CAP_SYS_ADMIN))
			return -EPERM;
		return seize_filesystem(file_inode(file)->i_sb);
	}
	error = check_arg(file, arg);
	if (error)
		return error;
	switch (arg->type) {
	case F_RDLCK:
	case F_WRLCK:
		if (arg->flags)
			return -EINVAL;
		return set_lease(fd, file, arg);
	case F_UNLCK:
		switch (arg->flags) {
		case 0:
		case LAYOUT_LEASE_REVOKE:
			return unset_lease(file, arg);
		case LAYOUT_LEASE_SEIZE:
			if (!capable(CAP_SYS_ADMIN))
				return -EPERM;
			return seize(file_inode(file), arg->start, arg->len ?
				     arg->start + arg->len - 1 : LLONG_MAX);
		}
	}
	return -EINVAL;
}

static int copy_arg(struct layout_lease *arg, struct layout_lease __user *uarg)
{
	u32 size;
	int error;

	BUILD_BUG_ON(sizeof(*arg) != LAYOUT_LEASE_SIZE_VER0);
	if (get_user(size, &uarg->size))
		return -EFAULT;
	if (size < LAYOUT_LEASE_SIZE_VER0)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	error = copy_struct_from_user(arg, sizeof(*arg), uarg, size);
	arg->size = size;
	return error;
}

/* F_SETLAYOUT */
int fcntl_setlayout(unsigned int fd, struct file *file,
		    struct layout_lease __user *uarg)
{
	struct layout_lease arg;
	int error = copy_arg(&arg, uarg);

	return error ?: do_setlayout(fd, file, &arg);
}

/* F_SETLEASE with F_LAYOUT | type: the whole file */
int fcntl_setlease_layout(unsigned int fd, struct file *file, int type)
{
	struct layout_lease arg = { .size = sizeof(arg), .type = type };

	if (type != arg.type)
		return -EINVAL;
	return do_setlayout(fd, file, &arg);
}

/* F_GETLAYOUT */
int fcntl_getlayout(struct file *file, struct layout_lease __user *uarg)
{
	struct layout_lease arg;
	int error;

	error = copy_arg(&arg, uarg);
	if (error)
		return error;
	if (arg.flags)
		return -EINVAL;
	error = check_arg(file, &arg);
	if (error)
		return error;

	arg.type = F_UNLCK;
	arg.state = LAYOUT_LEASE_NONE;
	arg.remaining_ms = 0;
	scoped_class(layout_index, found, file_inode(file))
		if (found.index)
			found.ops->get(found.index, file, &arg);
	return copy_struct_to_user(uarg, arg.size, &arg, sizeof(arg), NULL);
}

/* The last reference of an open file that has an anchor is gone. */
void layout_lease_release(struct file *file)
{
	CLASS(layout_index, found)(file_inode(file));

	/* Another process may have buried a dead holder meanwhile. */
	if (!found.index)
		return;
	trace_layout_lease_close(file_inode(file));
	found.ops->release(found.index, file);
}

/*
 * Breakers
 */

bool __layout_inode_is_leased(const struct inode *inode)
{
	struct file_lock_context *ctx = locks_inode_context(inode);

	return ctx && READ_ONCE(ctx->flc_layout_index);
}
EXPORT_SYMBOL_GPL(__layout_inode_is_leased);

/* The unit of DAX mappings, hence of what an attachment pins. */
#define BREAK_ALIGN (IS_ENABLED(CONFIG_FS_DAX_PMD) ? (u64)PMD_SIZE : PAGE_SIZE)

/* Put a break on record. False: there is nothing to break. */
static bool break_start(struct layout_break *brk, struct inode *inode,
			loff_t start, loff_t last, unsigned int flags)
{
	struct layout_index found = layout_index_find(inode);

	/* __layout_break_end() puts both. */
	brk->index = found.index;
	if (!found.index)
		return false;
	brk->inode = inode;
	/* Both spellings of infinity are U64_MAX here, as for leases. */
	brk->start = round_down((u64)start, BREAK_ALIGN);
	brk->last = last == LLONG_MAX ? U64_MAX : (u64)last | (BREAK_ALIGN - 1);
	brk->flags = flags;
	found.ops->break_begin(brk);
	trace_layout_lease_break(inode, brk->start, brk->last, flags,
				 READ_ONCE(brk->pending));
	return true;
}

/* Wait until nothing is attached any more. On an error the break goes on. */
static int break_wait(struct layout_break *brk,
		      void (*wait)(struct inode *inode))
{
	unsigned int state = brk->flags & LAYOUT_BREAK_UNINTERRUPTIBLE ?
		TASK_UNINTERRUPTIBLE : TASK_INTERRUPTIBLE;
	u64 begun = layout_lease_now_ms();
	int error;

	if (!READ_ONCE(brk->pending))
		return 0;
	if (brk->flags & LAYOUT_BREAK_NONBLOCK) {
		embargo(brk->inode, begun + layout_lease_grace_ms());
		error = -EWOULDBLOCK;
	} else {
		error = ___wait_var_event(&brk->pending,
					  !READ_ONCE(brk->pending), state, 0, 0,
					  wait ? wait(brk->inode) : schedule());
	}
	trace_layout_lease_break_waited(brk->inode, brk->start, brk->last,
					layout_lease_now_ms() - begun, error);
	return error;
}

int __layout_break_begin(struct layout_break *brk, struct inode *inode,
			 loff_t start, loff_t last, unsigned int flags)
{
	int error = 0;

	if (break_start(brk, inode, start, last, flags))
		error = break_wait(brk, NULL);
	if (error)
		__layout_break_end(brk);
	else if (flags & LAYOUT_BREAK_NONBLOCK)
		/* Whoever was asked to come again has come. */
		embargo(inode, 0);
	return error;
}
EXPORT_SYMBOL_GPL(__layout_break_begin);

/**
 * layout_break_begin_locked - the same for dax_break_layout()
 * @brk: token of the caller, on its stack
 * @inode: the inode
 * @start: first byte concerned
 * @last: last byte concerned, inclusive
 * @wait: schedule() with the lock dropped that page faults need, or NULL: do
 *	not wait
 *
 * Nothing is attached to the range from the return of this until
 * layout_break_end_locked(), even if nobody holds a lease yet; so this does not
 * ask the static key first.
 *
 * Context: Process context, may sleep through @wait, interruptible.
 * Return: 0, or -ERESTARTSYS.
 */
int layout_break_begin_locked(struct layout_break *brk, struct inode *inode,
			      loff_t start, loff_t last,
			      void (*wait)(struct inode *inode))
{
	int error;

	brk->index = NULL;
	brk->inode = inode;
	backstop_add(brk);
	if (!layout_leases_exist() ||
	    !break_start(brk, inode, start, last,
			 wait ? 0 : LAYOUT_BREAK_NONBLOCK))
		return 0;
	error = break_wait(brk, wait);
	if (error)
		layout_break_end_locked(brk);
	return error == -EWOULDBLOCK ? -ERESTARTSYS : error;
}

/**
 * layout_break_end_locked - undo layout_break_begin_locked()
 * @brk: token of a successful one
 *
 * Context: Process context, may sleep.
 */
void layout_break_end_locked(struct layout_break *brk)
{
	layout_break_end(brk);
	backstop_del(brk);
}

int __layout_break_begin_truncate(struct layout_break *brk,
				  struct inode *inode, loff_t length,
				  unsigned int flags)
{
	loff_t size = i_size_read(inode);

	if (length < size)
		return layout_break_begin(brk, inode, length, LLONG_MAX, flags);
	if (length > size && !PAGE_ALIGNED(size))
		return layout_break_begin(brk, inode, size - 1, size - 1, flags);
	return 0;
}
EXPORT_SYMBOL_GPL(__layout_break_begin_truncate);

int __layout_break_begin_two(struct layout_break *brk1, struct inode *inode1,
			     struct layout_break *brk2, struct inode *inode2)
{
	int error = 0;

	/* Both are on record before either is waited for, and stay there. */
	break_start(brk1, inode1, 0, LLONG_MAX, 0);
	break_start(brk2, inode2, 0, LLONG_MAX, 0);
	if (brk1->index)
		error = break_wait(brk1, NULL);
	if (brk2->index && !error)
		error = break_wait(brk2, NULL);
	if (error) {
		layout_break_end(brk2);
		layout_break_end(brk1);
	}
	return error;
}
EXPORT_SYMBOL_GPL(__layout_break_begin_two);

void __layout_break_end(struct layout_break *brk)
{
	const struct layout_lease_ops *ops;

	scoped_guard(rcu)
		ops = rcu_dereference(provider);
	/* brk owns a module reference, so the provider is still there. */
	ops->break_end(brk);
	brk->index = NULL;
	provider_put(ops);
}
EXPORT_SYMBOL_GPL(__layout_break_end);

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
	struct layout_break brk;

	/* Without an end of the wait there is no error. */
	if (!layout_break_begin(&brk, inode, start, last, LAYOUT_BREAK_NOW |
				LAYOUT_BREAK_UNINTERRUPTIBLE))
		layout_break_end(&brk);
}
EXPORT_SYMBOL_GPL(__layout_revoke);

void __layout_revoke_pagemap(const struct dev_pagemap *pgmap)
{
	u64 walk = atomic64_inc_return(&walks);
	struct file *file;
	unsigned long id;

	/* After this, what was pinned before is where a consumer unpins it. */
	synchronize_srcu(&pin_srcu);
	for (id = 0; (file = layout_next_leased_file(&id)); id++) {
		if (dax_mapping_uses_pagemap(file->f_mapping, pgmap) &&
		    layout_first_visit(file_inode(file), walk))
			layout_revoke(file_inode(file), 0, LLONG_MAX);
		fput(file);
	}
}

/**
 * layout_break_settled - nothing that overlaps a break is attached any more
 * @brk: the break, with pending == 0
 *
 * Context: Process context, under the index lock, which keeps @brk in place.
 */
void layout_break_settled(struct layout_break *brk)
{
	wake_up_var(&brk->pending);
}
EXPORT_SYMBOL_GPL(layout_break_settled);

/**
 * layout_lease_revoked - what was attached to a file was taken back
 * @inode: the inode
 * @count: how many attachments
 * @bytes: of how many bytes in all
 * @us: how long it took, in microseconds
 */
void layout_lease_revoked(const struct inode *inode, unsigned long count,
			  u64 bytes, u64 us)
{
	trace_layout_lease_revoke(inode, count, bytes >> PAGE_SHIFT, us);
}
EXPORT_SYMBOL_GPL(layout_lease_revoked);

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
 *	-EAGAIN: a break is under way there;
 *	-ENOMEM.
 */
struct layout_attachment *
layout_lease_attach(struct file *file, u64 start, u64 last, bool write,
		    const struct layout_consumer_ops *ops, void *data)
{
	struct layout_attachment *attachment = ERR_PTR(-EOPNOTSUPP);
	struct inode *inode = file_inode(file);

	if (!layout_leases_exist() || !layout_is_stable(inode))
		return attachment;
	scoped_class(layout_index, found, inode)
		if (found.index)
			attachment = found.ops->attach(found.index, start, last,
						       BREAK_ALIGN, write, ops,
						       data);
	trace_layout_lease_attach(inode, start, last,
				  PTR_ERR_OR_ZERO(attachment));
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
	const struct layout_lease_ops *ops = provider_get();

	/* The attachment holds the module through its anchor. */
	if (WARN_ON_ONCE(!ops))
		return;
	ops->detach(attachment);
	provider_put(ops);
}
EXPORT_SYMBOL_GPL(layout_lease_detach);
