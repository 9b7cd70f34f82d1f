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
#include <linux/init.h>
#include <linux/kmod.h>
#include <linux/jiffies.h>
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

/* The provider of somebody who holds a reference to its module. */
static const struct layout_lease_ops *provider_held(void)
{
	guard(rcu)();
	return rcu_dereference(provider);
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

/**
 * layout_lease_index_publish - make an index the one of its inode
 * @ops: the provider's operations
 * @inode: the inode
 * @index: the index; takes over a reference on success
 *
 * Context: Process context, changes of the layout excluded.
 * Return: NULL on success, the present index with a reference if there is one,
 *	or ERR_PTR(-ENOMEM).
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
	if (present)
		ops->index_get(present);
	else
		WRITE_ONCE(ctx->flc_layout_index, index);
	return present;
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
 * Breakers
 */

/* The unit of DAX mappings, hence of what an attachment pins. */
#define BREAK_ALIGN (IS_ENABLED(CONFIG_FS_DAX_PMD) ? (u64)PMD_SIZE : PAGE_SIZE)

/* What break_record() has met: leases; and what is attached to them. */
#define BREAK_MET	0x1
#define BREAK_PENDING	0x2

/* Both spellings of infinity are U64_MAX here, as for leases. */
static u64 break_first(loff_t start)
{
	return round_down((u64)start, BREAK_ALIGN);
}

static u64 break_last(loff_t last)
{
	return last == LLONG_MAX ? U64_MAX : (u64)last | (BREAK_ALIGN - 1);
}

/* No lease and no break, most likely, without a look at the provider. */
static bool layout_has_index(struct inode *inode)
{
	struct file_lock_context *ctx = locks_inode_context(inode);

	return ctx && READ_ONCE(ctx->flc_layout_index);
}

bool __layout_inode_is_leased(struct inode *inode)
{
	if (!layout_has_index(inode))
		return false;

	CLASS(layout_index, found)(inode);

	return found.index && found.ops->is_leased(found.index, 0, U64_MAX);
}
EXPORT_SYMBOL_GPL(__layout_inode_is_leased);

/* Put a break on record. False: there is nothing to break. */
static bool break_start(struct layout_break *brk, struct inode *inode,
			u64 start, u64 last, u64 deadline, unsigned int flags)
{
	struct layout_index found = layout_index_find(inode);

	/* break_end() puts both. */
	brk->index = found.index;
	if (!found.index)
		return false;
	brk->inode = inode;
	brk->start = start;
	brk->last = last;
	brk->deadline = deadline;
	/* Withdrawn, since it held nothing. */
	if (!found.ops->break_begin(brk)) {
		layout_index_put(&found);
		return false;
	}
	trace_layout_lease_break(inode, start, last, flags,
				 READ_ONCE(brk->pending));
	return true;
}

static void break_end(struct layout_break *brk, unsigned int how)
{
	const struct layout_lease_ops *ops = provider_held();

	ops->break_end(brk, how);
	provider_put(ops);
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

	if (!layout_has_index(inode) ||
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

	if (!layout_has_index(inode))
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

/**
 * layout_is_stable - do the blocks of a file stay in place until somebody asks?
 * @inode: the inode
 *
 * A lease that nobody would break is not granted, and nothing is pinned under one
 * that nobody breaks any more.
 */
bool layout_is_stable(struct inode *inode)
{
	const struct super_operations *sop = inode->i_sb->s_op;

	return IS_DAX(inode) && sop->layout_stable &&
	       sop->layout_stable(inode);
}
EXPORT_SYMBOL_GPL(layout_is_stable);

/**
 * layout_lease_exclude_changes - keep the layout of a file as it is
 * @inode: the inode
 *
 * Each change of a layout holds invalidate_lock exclusively from its decision to
 * its commit. Under it shared, a lease is granted and memory attached to blocks
 * that nobody is about to move.
 *
 * Context: Process context, sleeps interruptibly.
 * Return: 0; -ERESTARTSYS; -EOPNOTSUPP: the filesystem does not promise that the
 *	blocks stay where they are.
 */
int layout_lease_exclude_changes(struct inode *inode)
{
	struct rw_semaphore *lock = &inode->i_mapping->invalidate_lock;

	if (down_read_interruptible(lock))
		return -ERESTARTSYS;
	if (layout_is_stable(inode))
		return 0;
	up_read(lock);
	return -EOPNOTSUPP;
}
EXPORT_SYMBOL_GPL(layout_lease_exclude_changes);

/**
 * layout_lease_allow_changes - undo layout_lease_exclude_changes()
 * @inode: the inode
 */
void layout_lease_allow_changes(struct inode *inode)
{
	filemap_invalidate_unlock_shared(inode->i_mapping);
}
EXPORT_SYMBOL_GPL(layout_lease_allow_changes);

/**
 * layout_lease_hold - keep the provider and the static key, as a lease does
 *
 * Return: true: call layout_lease_unhold(). False: it is being unloaded.
 */
bool layout_lease_hold(void)
{
	if (!provider_get())
		return false;
	static_branch_deferred_inc(&layout_lease_key);
	return true;
}
EXPORT_SYMBOL_GPL(layout_lease_hold);

/**
 * layout_lease_unhold - undo layout_lease_hold()
 *
 * May drop the last reference, see the top of this file.
 */
void layout_lease_unhold(void)
{
	static_branch_slow_dec_deferred(&layout_lease_key);
	provider_put(provider_held());
}
EXPORT_SYMBOL_GPL(layout_lease_unhold);

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
	return break_now(inode, start, last, TASK_INTERRUPTIBLE);
}

/* For who may write the file, and will soon: start the break, do not wait. */
static int start_break(struct file *file, loff_t start, loff_t last)
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
	loff_t last;
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
	last = arg->len ? arg->start + arg->len - 1 : LLONG_MAX;
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
			return seize(file_inode(file), arg->start, last);
		case LAYOUT_LEASE_BREAK:
			return start_break(file, arg->start, last);
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

/* Before the lock context of an inode is freed. */
void layout_lease_evict(struct inode *inode)
{
	CLASS(layout_index, found)(inode);

	/* No open file, no lease: only a promise to a breaker keeps an index. */
	if (found.index)
		found.ops->evict(found.index);
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
		return attachment;
	/* As a page fault: changes of the layout are excluded. */
	filemap_invalidate_lock_shared(inode->i_mapping);
	scoped_class(layout_index, found, inode)
		if (found.index)
			attachment = found.ops->attach(found.index, start, last,
						       BREAK_ALIGN, write,
						       layout_is_stable(inode),
						       ops, data);
	filemap_invalidate_unlock_shared(inode->i_mapping);
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
