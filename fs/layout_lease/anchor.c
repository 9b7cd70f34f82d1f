// SPDX-License-Identifier: GPL-2.0
/*
 * The anchor: what the rest of the kernel sees of the layout leases that one
 * open file holds, whom to signal, who pays, and /proc/layout_leases.
 */
#include <linux/bug.h>
#include <linux/cred.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/file_ref.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kdev_t.h>
#include <linux/layout_lease.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/poll.h>
#include <linux/proc_fs.h>
#include <linux/ratelimit.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <trace/events/layout_lease.h>

#include "internal.h"

/*
 * Those that are linked, by a number, so that a walk can sleep at each of them.
 * Its lock is taken inside the index locks.
 */
static DEFINE_XARRAY_ALLOC1(anchors);

/* The holder was told of a break, and its death would end the grace period. */
#define ANCHOR_TOLD	XA_MARK_1

/**
 * struct layout_anchor - ties leases to an open file and a process
 * @lease: entry in /proc/locks and in the fdinfo of the file
 * @fown: the holder (thread group) as target of signals
 * @death: waits for the death of the holder, from the first break on
 * @ops: the provider, whose module it holds
 * @ucounts: the user who pays for the leases
 * @id: in the array of all anchors
 * @fd: what the holder called the file when it took the lease, for si_fd
 *
 * The file is not owned. It is valid while the anchor is linked, because the
 * last fput() has the provider unlink it first.
 */
struct layout_anchor {
	struct file_lease lease;
	struct fown_struct fown;
	struct wait_queue_entry death;
	const struct layout_lease_ops *ops;
	struct ucounts *ucounts;
	u32 id;
	int fd;
};

/*
 * The first anchor from *id on, as its open file with a reference. What is
 * attached keeps its file, so a file that is being released has nothing
 * attached.
 */
struct file *layout_next_leased_file(unsigned long *id)
{
	struct layout_anchor *anchor;
	struct file *file = NULL;

	xa_lock(&anchors);
	for (anchor = xa_find(&anchors, id, ULONG_MAX, XA_PRESENT); anchor;
	     anchor = xa_find_after(&anchors, id, ULONG_MAX, XA_PRESENT)) {
		file = anchor->lease.c.flc_file;
		if (file_ref_get(&file->f_ref))
			break;
	}
	xa_unlock(&anchors);
	return anchor ? file : NULL;
}

/*
 * The same for holders that were told of a break and have died; *id is behind
 * it then. Once for each anchor: a break that comes later finds it dead.
 */
static struct file *next_file_of_dead(unsigned long *id)
{
	struct layout_anchor *anchor;
	struct file *file = NULL;

	do {
		xa_lock(&anchors);
		anchor = xa_find(&anchors, id, ULONG_MAX, ANCHOR_TOLD);
		if (anchor && layout_anchor_is_dead(anchor)) {
			__xa_clear_mark(&anchors, *id, ANCHOR_TOLD);
			file = layout_anchor_get_file(anchor);
		}
		xa_unlock(&anchors);
		++*id;
		cond_resched();
	} while (anchor && !file);
	return file;
}

/* Some holder that was told of a break has died. */
static void bury_holders(struct work_struct *work)
{
	unsigned long id = 0;
	struct file *file;

	while ((file = next_file_of_dead(&id))) {
		scoped_class(layout_index, found, file_inode(file))
			if (found.index)
				found.ops->bury(found.index, file);
		fput(file);
	}
}

static DECLARE_WORK(bury_work, bury_holders);

/* Under the lock of the wait queue, with interrupts off. */
static int holder_dies(struct wait_queue_entry *wait, unsigned int mode,
		       int flags, void *key)
{
	schedule_work(&bury_work);
	return 0;
}

struct layout_anchor *layout_anchor_alloc(const struct layout_lease_ops *ops,
					  struct file *file, int fd)
{
	struct layout_anchor *anchor = kzalloc_obj(*anchor, GFP_KERNEL_ACCOUNT);

	if (!anchor)
		return NULL;
	anchor->ucounts = alloc_ucounts(current_user_ns(), current_euid());
	if (!anchor->ucounts)
		goto free;
	/* A place in the array, empty until it is linked. */
	if (xa_alloc(&anchors, &anchor->id, NULL, xa_limit_31b,
		     GFP_KERNEL_ACCOUNT))
		goto put_ucounts;
	locks_init_lease(&anchor->lease);
	anchor->lease.c.flc_flags = FL_LAYOUT;
	anchor->lease.c.flc_file = file;
	anchor->lease.c.flc_owner = file;
	anchor->lease.c.flc_pid = current->tgid;
	rwlock_init(&anchor->fown.lock);
	anchor->fown.file = file;
	anchor->fown.pid = get_pid(task_tgid(current));
	anchor->fown.pid_type = PIDTYPE_TGID;
	/*
	 * As in f_setown(): who dropped privileges since still is told, who
	 * gained some is not, since others who have the open file choose the
	 * signal and the time.
	 */
	anchor->fown.uid = current_uid();
	anchor->fown.euid = current_euid();
	init_waitqueue_func_entry(&anchor->death, holder_dies);
	INIT_LIST_HEAD(&anchor->death.entry);
	anchor->fd = fd;
	anchor->ops = ops;
	__module_get(ops->owner);
	static_branch_deferred_inc(&layout_lease_key);
	return anchor;

put_ucounts:
	put_ucounts(anchor->ucounts);
free:
	kfree(anchor);
	return NULL;
}

/**
 * layout_anchor_free - free an anchor that is not linked
 * @anchor: the anchor
 *
 * Drops a module reference of the provider, see the top of hooks.c.
 */
void layout_anchor_free(struct layout_anchor *anchor)
{
	struct module *owner = anchor->ops->owner;

	xa_erase(&anchors, anchor->id);
	put_pid(anchor->fown.pid);
	put_ucounts(anchor->ucounts);
	kfree(anchor);
	static_branch_slow_dec_deferred(&layout_lease_key);
	module_put(owner);
}
EXPORT_SYMBOL_GPL(layout_anchor_free);

/**
 * layout_anchor_link - show an anchor in /proc/locks, or change its type there
 * @anchor: the anchor
 * @type: F_RDLCK or F_WRLCK
 *
 * Context: Process context, under the index lock. The caller holds the file.
 */
void layout_anchor_link(struct layout_anchor *anchor, int type)
{
	anchor->lease.c.flc_type = type;
	if (!list_empty(&anchor->lease.c.flc_list))
		return;
	locks_insert_layout(&anchor->lease);
	/* The place was allocated with the anchor. */
	xa_store(&anchors, anchor->id, anchor, GFP_NOWAIT);
}
EXPORT_SYMBOL_GPL(layout_anchor_link);

/**
 * layout_anchor_unlink - the open file holds no lease any more
 * @anchor: the anchor, linked
 *
 * Context: Process context, under the index lock.
 */
void layout_anchor_unlink(struct layout_anchor *anchor)
{
	if (!list_empty(&anchor->death.entry))
		remove_wait_queue(&anchor->fown.pid->wait_pidfd,
				  &anchor->death);
	/* The place stays ours until the anchor is freed. */
	xa_store(&anchors, anchor->id, NULL, GFP_NOWAIT);
	locks_delete_layout(&anchor->lease);
}
EXPORT_SYMBOL_GPL(layout_anchor_unlink);

/**
 * layout_anchor_charge - count a lease against the user who took it
 * @anchor: the anchor
 *
 * Context: Process context, under the index lock. Allocates nothing, since the
 *	anchor holds what is counted in.
 * Return: false: the user has /proc/sys/user/max_layout_leases already.
 */
bool layout_anchor_charge(struct layout_anchor *anchor)
{
	struct ucounts *ucounts = anchor->ucounts;

	return inc_ucount(ucounts->ns, ucounts->uid, UCOUNT_LAYOUT_LEASES);
}
EXPORT_SYMBOL_GPL(layout_anchor_charge);

/**
 * layout_anchor_uncharge - undo layout_anchor_charge()
 * @anchor: the anchor
 */
void layout_anchor_uncharge(struct layout_anchor *anchor)
{
	dec_ucount(anchor->ucounts, UCOUNT_LAYOUT_LEASES);
}
EXPORT_SYMBOL_GPL(layout_anchor_uncharge);

/* The name of the holder, "-" if it is gone. */
static void holder_name(const struct layout_anchor *anchor, char *comm)
{
	struct task_struct *task;

	guard(rcu)();
	task = pid_task(anchor->fown.pid, PIDTYPE_TGID);
	if (task)
		strscpy_pad(comm, task->comm, TASK_COMM_LEN);
	else
		strscpy_pad(comm, "-", TASK_COMM_LEN);
}

/* From now on the death of the holder is noticed. */
static void watch_holder(struct layout_anchor *anchor)
{
	if (list_empty(&anchor->death.entry))
		add_wait_queue(&anchor->fown.pid->wait_pidfd, &anchor->death);
	xa_set_mark(&anchors, anchor->id, ANCHOR_TOLD);
	/* Or it has died already. */
	if (layout_anchor_is_dead(anchor))
		schedule_work(&bury_work);
}

/**
 * layout_anchor_signal - tell the holder
 * @anchor: the anchor, linked
 * @reason: POLL_MSG: a break begins, POLL_HUP: something was revoked
 *
 * Sends SIGIO or what F_SETSIG of the file says, always to the holder: neither
 * F_SETOWN nor the release of a plain lease redirects or silences it. The log
 * hears of what was revoked.
 *
 * Context: Process context, under the index lock.
 */
void layout_anchor_signal(struct layout_anchor *anchor, int reason)
{
	struct inode *inode = file_inode(anchor->fown.file);
	struct fown_struct *fown = file_f_owner(anchor->fown.file);
	char comm[TASK_COMM_LEN];

	/* With a number, even the default one, the signal carries siginfo. */
	anchor->fown.signum = (fown ? READ_ONCE(fown->signum) : 0) ?: SIGIO;
	trace_layout_lease_signal(inode, pid_nr(anchor->fown.pid),
				  anchor->fown.signum, reason);
	send_sigio(&anchor->fown, anchor->fd, reason);
	if (reason == POLL_MSG) {
		watch_holder(anchor);
		return;
	}
	holder_name(anchor, comm);
	pr_notice_ratelimited("layout lease: memory of %s (%d) on file %02x:%02x:%llu was revoked\n",
			      comm, pid_nr(anchor->fown.pid),
			      MAJOR(inode->i_sb->s_dev),
			      MINOR(inode->i_sb->s_dev), inode->i_ino);
}
EXPORT_SYMBOL_GPL(layout_anchor_signal);

/**
 * layout_anchor_warn - tell the log that a device does not stop
 * @anchor: the anchor, linked
 *
 * Context: Process context, under the index lock.
 */
void layout_anchor_warn(const struct layout_anchor *anchor)
{
	struct inode *inode = file_inode(anchor->fown.file);
	char comm[TASK_COMM_LEN];

	holder_name(anchor, comm);
	pr_warn_ratelimited("layout lease: a device does not stop its accesses to memory of %s (%d) on file %02x:%02x:%llu, will ask again\n",
			    comm, pid_nr(anchor->fown.pid),
			    MAJOR(inode->i_sb->s_dev),
			    MINOR(inode->i_sb->s_dev), inode->i_ino);
}
EXPORT_SYMBOL_GPL(layout_anchor_warn);

/**
 * layout_anchor_is_current - is the current process the holder?
 * @anchor: the anchor
 */
bool layout_anchor_is_current(const struct layout_anchor *anchor)
{
	return anchor->fown.pid == task_tgid(current);
}
EXPORT_SYMBOL_GPL(layout_anchor_is_current);

/**
 * layout_anchor_same_holder - do two open files have one holder?
 * @a: an anchor
 * @b: another anchor
 */
bool layout_anchor_same_holder(const struct layout_anchor *a,
			       const struct layout_anchor *b)
{
	return a->fown.pid == b->fown.pid;
}
EXPORT_SYMBOL_GPL(layout_anchor_same_holder);

/**
 * layout_anchor_is_dead - has every thread of the holder exited?
 * @anchor: the anchor
 *
 * True for a zombie that nobody has waited for.
 */
bool layout_anchor_is_dead(const struct layout_anchor *anchor)
{
	struct task_struct *task;

	guard(rcu)();
	task = pid_task(anchor->fown.pid, PIDTYPE_TGID);
	return !task || !atomic_read(&task->signal->live);
}
EXPORT_SYMBOL_GPL(layout_anchor_is_dead);

/**
 * layout_anchor_is_writable - is the open file open for writing?
 * @anchor: the anchor, linked; the caller holds the index lock
 */
bool layout_anchor_is_writable(const struct layout_anchor *anchor)
{
	return anchor->lease.c.flc_file->f_mode & FMODE_WRITE;
}
EXPORT_SYMBOL_GPL(layout_anchor_is_writable);

/**
 * layout_anchor_file - identity of the open file
 * @anchor: the anchor
 *
 * Return: the file, not to be dereferenced.
 */
struct file *layout_anchor_file(const struct layout_anchor *anchor)
{
	return anchor->lease.c.flc_file;
}
EXPORT_SYMBOL_GPL(layout_anchor_file);

/**
 * layout_anchor_get_file - take a reference to the open file
 * @anchor: the anchor, linked; the caller holds the index lock
 *
 * Return: the file, or NULL: its last reference is gone and it will be released
 *	as soon as the caller drops the index lock.
 */
struct file *layout_anchor_get_file(const struct layout_anchor *anchor)
{
	struct file *file = anchor->lease.c.flc_file;

	return file_ref_get(&file->f_ref) ? file : NULL;
}
EXPORT_SYMBOL_GPL(layout_anchor_get_file);

/* Default of /proc/sys/user/max_layout_leases. */
#define LEASES_PER_USER	65536

static int __init layout_lease_limit_init(void)
{
	init_user_ns.ucount_max[UCOUNT_LAYOUT_LEASES] = LEASES_PER_USER;
	return 0;
}
fs_initcall(layout_lease_limit_init);

/*
 * /proc/layout_leases: who holds what, for everybody, as /proc/locks does. One
 * record for each open file; the position is the number of its anchor.
 */
static void *leases_start(struct seq_file *m, loff_t *pos)
{
	unsigned long id = *pos;
	struct file *file;

	if (!id)
		return SEQ_START_TOKEN;
	file = layout_next_leased_file(&id);
	*pos = id;
	return file;
}

static void leases_stop(struct seq_file *m, void *v)
{
	if (v && v != SEQ_START_TOKEN)
		fput(v);
}

static void *leases_next(struct seq_file *m, void *v, loff_t *pos)
{
	leases_stop(m, v);
	++*pos;
	return leases_start(m, pos);
}

static int leases_show(struct seq_file *m, void *v)
{
	if (v == SEQ_START_TOKEN) {
		seq_printf(m, "%8s %-16s %-20s %-9s %-9s %-18s %-18s %-8s %s\n",
			   "pid", "command", "file", "kind", "state", "start",
			   "last", "attached", "left_ms");
	} else {
		CLASS(layout_index, found)(file_inode(v));

		if (found.index)
			found.ops->show(found.index, v, m);
	}
	return 0;
}

static const struct seq_operations leases_seq_ops = {
	.start	= leases_start,
	.next	= leases_next,
	.stop	= leases_stop,
	.show	= leases_show,
};

/**
 * layout_anchor_show - print whose lease a line of /proc/layout_leases is of
 * @anchor: the anchor, linked
 * @m: the line
 *
 * Context: Process context, under the index lock.
 * Return: false, with nothing printed: the reader is in a pid namespace in which
 *	the holder is not.
 */
bool layout_anchor_show(const struct layout_anchor *anchor, struct seq_file *m)
{
	struct inode *inode = file_inode(anchor->lease.c.flc_file);
	pid_t pid = pid_nr_ns(anchor->fown.pid,
			      proc_pid_ns(file_inode(m->file)->i_sb));
	char comm[TASK_COMM_LEN];

	if (!pid)
		return false;
	holder_name(anchor, comm);
	seq_setwidth(m, 25);
	seq_printf(m, "%8d ", pid);
	seq_escape(m, comm, " \t\n\\");
	seq_pad(m, ' ');
	seq_setwidth(m, 20);
	seq_printf(m, "%02x:%02x:%llu", MAJOR(inode->i_sb->s_dev),
		   MINOR(inode->i_sb->s_dev), inode->i_ino);
	seq_pad(m, ' ');
	return true;
}
EXPORT_SYMBOL_GPL(layout_anchor_show);

static int __init layout_lease_proc_init(void)
{
	proc_create_seq("layout_leases", 0444, NULL, &leases_seq_ops);
	return 0;
}
fs_initcall(layout_lease_proc_init);
