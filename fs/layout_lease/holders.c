// SPDX-License-Identifier: GPL-2.0
/*
 * A holder is an open file through which a process holds layout leases: what
 * the rest of the kernel sees of it, whom to signal, who pays, and
 * /proc/layout_leases.
 */
#include <linux/bug.h>
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/eventfd.h>
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
 * Its lock is taken inside the context locks.
 */
static DEFINE_XARRAY_ALLOC1(holders);

atomic_t layout_holders_by_pid[LAYOUT_HOLDERS_BY_PID];
EXPORT_SYMBOL_GPL(layout_holders_by_pid);

/* Somebody waits for the process, and its death would end that: a break, or a lease. */
#define HOLDER_WATCHED	XA_MARK_1

/**
 * struct layout_holder - an open file through which a process holds leases
 * @lease: entry in /proc/locks and in the fdinfo of the file
 * @fown: the process (thread group) as target of signals
 * @death: waits for the death of the process, as soon as somebody waits for it
 * @ops: of the module, which it keeps
 * @ucounts: the user who pays for the leases
 * @id: in the array of all holders
 * @fd: what the process called the file when it took the lease, for si_fd
 * @event: counts breaks and revocations, or NULL; protected by the context lock
 * @event_given: of a new holder: @event is what came with the lease
 *
 * The file is not owned. It is valid while the holder is linked, because the
 * last fput() calls layout_lease_release(), which unlinks it first.
 *
 * What is said to be "linked" below is called under the context lock.
 */
struct layout_holder {
	struct file_lease lease;
	struct fown_struct fown;
	struct wait_queue_entry death;
	const struct layout_lease_ops *ops;
	struct ucounts *ucounts;
	u32 id;
	int fd;
	struct eventfd_ctx *event;
	bool event_given;
};

static atomic_t *by_pid(const struct layout_holder *holder)
{
	return &layout_holders_by_pid[holder->lease.c.flc_pid %
				      LAYOUT_HOLDERS_BY_PID];
}

/* A reference to the open file, unless its last one is gone: it is released then. */
static struct file *get_file_of(const struct layout_holder *holder)
{
	struct file *file = holder->lease.c.flc_file;

	return file_ref_get(&file->f_ref) ? file : NULL;
}

/*
 * The open file of the first holder from *id on, with a reference. What is
 * attached keeps its file, so a file that is being released has nothing
 * attached.
 */
struct file *layout_next_leased_file(unsigned long *id)
{
	struct layout_holder *holder;
	struct file *file = NULL;

	xa_lock(&holders);
	for (holder = xa_find(&holders, id, ULONG_MAX, XA_PRESENT); holder;
	     holder = xa_find_after(&holders, id, ULONG_MAX, XA_PRESENT)) {
		file = get_file_of(holder);
		if (file)
			break;
	}
	xa_unlock(&holders);
	return file;
}

/* Is the current process the holder? */
bool layout_holder_is_current(const struct layout_holder *holder)
{
	return holder->fown.pid == task_tgid(current);
}
EXPORT_SYMBOL_GPL(layout_holder_is_current);

/* Has every thread of the process exited? True for a zombie that nobody waits for. */
bool layout_holder_is_dead(const struct layout_holder *holder)
{
	struct task_struct *task;

	guard(rcu)();
	task = pid_task(holder->fown.pid, PIDTYPE_TGID);
	return !task || !atomic_read(&task->signal->live);
}
EXPORT_SYMBOL_GPL(layout_holder_is_dead);

/*
 * Like layout_next_leased_file(), for processes that died after somebody began
 * to wait for them. Advances *id past the one it returns. Returns each once:
 * later breaks check for a dead process themselves.
 */
static struct file *next_file_of_dead(unsigned long *id)
{
	struct layout_holder *holder;
	struct file *file = NULL;

	do {
		xa_lock(&holders);
		holder = xa_find(&holders, id, ULONG_MAX, HOLDER_WATCHED);
		if (holder && layout_holder_is_dead(holder)) {
			__xa_clear_mark(&holders, *id, HOLDER_WATCHED);
			file = get_file_of(holder);
		}
		xa_unlock(&holders);
		++*id;
		cond_resched();
	} while (holder && !file);
	return file;
}

/* Some process that somebody waits for has died. */
static void reap_holders(struct work_struct *work)
{
	unsigned long id = 0;
	struct file *file;

	while ((file = next_file_of_dead(&id))) {
		scoped_class(layout_context, found, file_inode(file))
			if (found.context)
				found.ops->reap(found.context, file);
		fput(file);
	}
}

static DECLARE_WORK(reap_work, reap_holders);

/* Under the lock of the wait queue, with interrupts off. */
static int holder_dies(struct wait_queue_entry *wait, unsigned int mode,
		       int flags, void *key)
{
	schedule_work(&reap_work);
	return 0;
}

/* @event_fd: an eventfd of the current process, or LAYOUT_EVENT_*. */
struct layout_holder *layout_holder_alloc(const struct layout_lease_ops *ops,
					  struct file *file, int fd,
					  int event_fd)
{
	struct layout_holder *holder = kzalloc_obj(*holder, GFP_KERNEL_ACCOUNT);
	int error = -ENOMEM;

	if (!holder)
		return ERR_PTR(error);
	holder->event_given = event_fd != LAYOUT_EVENT_KEEP;
	if (event_fd >= 0) {
		holder->event = eventfd_ctx_fdget(event_fd);
		if (IS_ERR(holder->event)) {
			error = PTR_ERR(holder->event);
			goto free;
		}
	}
	holder->ucounts = alloc_ucounts(current_user_ns(), current_euid());
	if (!holder->ucounts)
		goto put_event;
	/* A place in the array, empty until it is linked. */
	if (xa_alloc(&holders, &holder->id, NULL, xa_limit_31b,
		     GFP_KERNEL_ACCOUNT))
		goto put_ucounts;
	locks_init_lease(&holder->lease);
	holder->lease.c.flc_flags = FL_LAYOUT;
	holder->lease.c.flc_file = file;
	holder->lease.c.flc_owner = file;
	holder->lease.c.flc_pid = current->tgid;
	rwlock_init(&holder->fown.lock);
	holder->fown.file = file;
	holder->fown.pid = get_pid(task_tgid(current));
	holder->fown.pid_type = PIDTYPE_TGID;
	/*
	 * As in f_setown(): who dropped privileges since still is notified, who
	 * gained some is not, since others who have the open file choose the
	 * signal and the time.
	 */
	holder->fown.uid = current_uid();
	holder->fown.euid = current_euid();
	init_waitqueue_func_entry(&holder->death, holder_dies);
	INIT_LIST_HEAD(&holder->death.entry);
	holder->fd = fd;
	holder->ops = ops;
	__module_get(ops->owner);
	atomic_inc(by_pid(holder));
	static_branch_deferred_inc(&layout_lease_key);
	return holder;

put_ucounts:
	put_ucounts(holder->ucounts);
put_event:
	if (holder->event)
		eventfd_ctx_put(holder->event);
free:
	kfree(holder);
	return ERR_PTR(error);
}

/* Not linked. Drops a reference to the module, see the top of hooks.c. */
void layout_holder_free(struct layout_holder *holder)
{
	struct module *owner = holder->ops->owner;

	atomic_dec(by_pid(holder));
	xa_erase(&holders, holder->id);
	put_pid(holder->fown.pid);
	put_ucounts(holder->ucounts);
	if (holder->event)
		eventfd_ctx_put(holder->event);
	kfree(holder);
	static_branch_slow_dec_deferred(&layout_lease_key);
	module_put(owner);
}
EXPORT_SYMBOL_GPL(layout_holder_free);

/*
 * Under the context lock. A lease was granted through an open file that has a
 * holder already; @from is the new one that is not needed, but its eventfd is.
 */
void layout_holder_take_event(struct layout_holder *holder,
			      struct layout_holder *from)
{
	if (from->event_given)
		swap(holder->event, from->event);
}
EXPORT_SYMBOL_GPL(layout_holder_take_event);

/*
 * Link it, so that /proc/locks shows it, or change the type there, which is F_RDLCK
 * or F_WRLCK. The caller has a reference to the file.
 */
void layout_holder_link(struct layout_holder *holder, int type)
{
	holder->lease.c.flc_type = type;
	if (!list_empty(&holder->lease.c.flc_list))
		return;
	locks_insert_layout(&holder->lease);
	/* The place was allocated with the holder. */
	xa_store(&holders, holder->id, holder, GFP_NOWAIT);
}
EXPORT_SYMBOL_GPL(layout_holder_link);

/* Linked; its open file holds no lease any more. */
void layout_holder_unlink(struct layout_holder *holder)
{
	if (!list_empty(&holder->death.entry))
		remove_wait_queue(&holder->fown.pid->wait_pidfd,
				  &holder->death);
	/* The place stays ours until the holder is freed. */
	xa_store(&holders, holder->id, NULL, GFP_NOWAIT);
	locks_delete_layout(&holder->lease);
}
EXPORT_SYMBOL_GPL(layout_holder_unlink);

/* Linked. What /proc/locks says, as of other leases: ACTIVE, or BREAKING. */
void layout_holder_set_breaking(struct layout_holder *holder, bool breaking)
{
	struct file_lock_core *flc = &holder->lease.c;

	guard(spinlock)(&locks_inode_context(file_inode(flc->flc_file))->flc_lock);
	if (breaking)
		flc->flc_flags |= FL_UNLOCK_PENDING;
	else
		flc->flc_flags &= ~FL_UNLOCK_PENDING;
}
EXPORT_SYMBOL_GPL(layout_holder_set_breaking);

/*
 * Count some more leases against the user who took them. False: the user has
 * /proc/sys/user/max_layout_leases already, and none is counted. Allocates nothing,
 * since the holder has what is counted in.
 */
bool layout_holder_charge(struct layout_holder *holder, unsigned long more)
{
	struct ucounts *ucounts = holder->ucounts;
	unsigned long n;

	for (n = 0; n < more; n++) {
		if (!inc_ucount(ucounts->ns, ucounts->uid,
				UCOUNT_LAYOUT_LEASES)) {
			layout_holder_uncharge(holder, n);
			return false;
		}
	}
	return true;
}
EXPORT_SYMBOL_GPL(layout_holder_charge);

void layout_holder_uncharge(struct layout_holder *holder, unsigned long less)
{
	while (less--)
		dec_ucount(holder->ucounts, UCOUNT_LAYOUT_LEASES);
}
EXPORT_SYMBOL_GPL(layout_holder_uncharge);

/* The name of the process, "-" if it is gone. */
static void holder_name(const struct layout_holder *holder, char *comm)
{
	struct task_struct *task;

	guard(rcu)();
	task = pid_task(holder->fown.pid, PIDTYPE_TGID);
	if (task)
		strscpy_pad(comm, task->comm, TASK_COMM_LEN);
	else
		strscpy_pad(comm, "-", TASK_COMM_LEN);
}

/* From now on the death of the process is noticed. */
static void watch_holder(struct layout_holder *holder)
{
	if (list_empty(&holder->death.entry))
		add_wait_queue(&holder->fown.pid->wait_pidfd, &holder->death);
	xa_set_mark(&holders, holder->id, HOLDER_WATCHED);
	/* Or it has died already. */
	if (layout_holder_is_dead(holder))
		schedule_work(&reap_work);
}

/* Linked. Somebody waits for a lease of it, who could have it if the process died. */
void layout_holder_watch(struct layout_holder *holder)
{
	watch_holder(holder);
}
EXPORT_SYMBOL_GPL(layout_holder_watch);

/*
 * Linked. Counts in the eventfd that came with a lease, and sends what F_SETSIG of the
 * file says, or SIGIO if there is neither that nor an eventfd; always to the process
 * that holds the leases: neither F_SETOWN nor the release of a plain lease redirects
 * or silences it. @reason is POLL_MSG: a break begins; or POLL_HUP: something was
 * revoked, of which the log hears, too.
 */
void layout_holder_notify(struct layout_holder *holder, int reason)
{
	struct inode *inode = file_inode(holder->fown.file);
	struct fown_struct *fown = file_f_owner(holder->fown.file);
	char comm[TASK_COMM_LEN];

	/* With a number, even the default one, the signal carries siginfo. */
	holder->fown.signum = fown ? READ_ONCE(fown->signum) : 0;
	if (!holder->fown.signum && !holder->event)
		holder->fown.signum = SIGIO;
	trace_layout_lease_signal(inode, pid_nr(holder->fown.pid),
				  holder->fown.signum, reason);
	if (holder->event)
		eventfd_signal(holder->event);
	if (holder->fown.signum)
		send_sigio(&holder->fown, holder->fd, reason);
	if (reason == POLL_MSG) {
		watch_holder(holder);
		return;
	}
	holder_name(holder, comm);
	pr_notice_ratelimited("layout lease: memory of %s (%d) on file %02x:%02x:%llu was revoked\n",
			      comm, pid_nr(holder->fown.pid),
			      MAJOR(inode->i_sb->s_dev),
			      MINOR(inode->i_sb->s_dev), inode->i_ino);
}
EXPORT_SYMBOL_GPL(layout_holder_notify);

/* Linked. Tells the log that a device does not stop. */
void layout_holder_warn(const struct layout_holder *holder)
{
	struct inode *inode = file_inode(holder->fown.file);
	char comm[TASK_COMM_LEN];

	holder_name(holder, comm);
	pr_warn_ratelimited("layout lease: a device does not stop its accesses to memory of %s (%d) on file %02x:%02x:%llu, will ask again\n",
			    comm, pid_nr(holder->fown.pid),
			    MAJOR(inode->i_sb->s_dev),
			    MINOR(inode->i_sb->s_dev), inode->i_ino);
}
EXPORT_SYMBOL_GPL(layout_holder_warn);

/*
 * Linked. A reference to the open file; -EACCES: @write, and it is not open for
 * writing; -ENOENT: it will be released as soon as the context lock is dropped.
 */
struct file *layout_holder_get_file(const struct layout_holder *holder,
				    bool write)
{
	if (write && !(holder->lease.c.flc_file->f_mode & FMODE_WRITE))
		return ERR_PTR(-EACCES);
	return get_file_of(holder) ?: ERR_PTR(-ENOENT);
}
EXPORT_SYMBOL_GPL(layout_holder_get_file);

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
 * record for each open file; the position is the number of its holder.
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
		CLASS(layout_context, found)(file_inode(v));

		if (found.context)
			found.ops->show(found.context, v, m);
	}
	return 0;
}

static const struct seq_operations leases_seq_ops = {
	.start	= leases_start,
	.next	= leases_next,
	.stop	= leases_stop,
	.show	= leases_show,
};

/*
 * Linked. Prints whose lease a line of /proc/layout_leases is of. False, with
 * nothing printed: the reader is in a pid namespace in which the process is not.
 */
bool layout_holder_show(const struct layout_holder *holder, struct seq_file *m)
{
	struct inode *inode = file_inode(holder->lease.c.flc_file);
	pid_t pid = pid_nr_ns(holder->fown.pid,
			      proc_pid_ns(file_inode(m->file)->i_sb));
	char comm[TASK_COMM_LEN];

	if (!pid)
		return false;
	holder_name(holder, comm);
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
EXPORT_SYMBOL_GPL(layout_holder_show);

static int __init layout_lease_proc_init(void)
{
	proc_create_seq("layout_leases", 0444, NULL, &leases_seq_ops);
	return 0;
}
fs_initcall(layout_lease_proc_init);
