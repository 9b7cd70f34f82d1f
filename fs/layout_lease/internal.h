/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between the files of layout leases that are always built in, and layout_lease.ko.
 */
#ifndef LAYOUT_LEASE_INTERNAL_H
#define LAYOUT_LEASE_INTERNAL_H

#include <linux/cleanup.h>
#include <linux/layout_lease.h>

struct file;
struct inode;
struct layout_holder;
struct module;
struct seq_file;
struct workqueue_struct;

/**
 * struct layout_lease_ops - what layout_lease.ko implements, in ops.rs
 * @owner: the module, held during each call and by each holder
 * @context_get: take a reference to a context; called under flc_lock
 * @context_put: drop a reference to a context
 * @make_way: take back what dead holders have that is in the way of a lease; 1:
 *	the open file has a holder already
 * @set: grant, upgrade or downgrade, while changes of the layout are excluded;
 *	consumes the holder in any case; without one, -ESTALE: the open file has
 *	none
 * @wait: sleep, interruptibly, until nothing is in the way of a lease of the current
 *	process; -EAGAIN: a lease of another process still is at the time @until
 * @unset: F_UNLCK; with @revoke also what is attached
 * @get: F_GETLAYOUT; fills in the first lease in the range, if there is one; with
 *	@broken the first one that is not granted any more
 * @show: the leases of an open file, a line each, for /proc/layout_leases
 * @reap: the process of an open file may have died during a break: if so, take
 *	back at once what breaks wait for
 * @first_visit: does the walk with this number meet the inode for the first time?
 *	(again, if another walk met it in between)
 * @release: the last reference of an open file that has a holder is gone
 * @is_leased: are there leases that were not taken back?
 * @break_begin: start a break, fill in brk->pending and brk->met; false: the
 *	context was withdrawn, since it held nothing
 * @break_end: end it as LAYOUT_BREAK_* says, and drop brk->context
 * @evict: the inode goes away; no lease is left
 * @attach: attach to leases of the current process that cover [start, last] of
 *	what is mapped from @file, through a file that is open for writing if
 *	@write, unless the filesystem does not keep the blocks in place (not
 *	@stable); breaks meet it in the range rounded outward to @unit
 * @detach: remove an attachment; waits for a call into the consumer
 *
 * All may sleep except @context_get. None is called under flc_lock.
 */
struct layout_lease_ops {
	struct module *owner;
	void (*context_get)(void *context);
	void (*context_put)(void *context);
	int (*make_way)(void *context, struct file *file, u64 start, u64 last,
			bool exclusive);
	int (*set)(struct file *file, struct layout_holder *holder, u64 start,
		   u64 last, bool exclusive);
	int (*wait)(void *context, u64 start, u64 last, bool exclusive,
		    u64 until);
	int (*unset)(void *context, struct file *file, u64 start, u64 last,
		     bool revoke);
	void (*get)(void *context, struct file *file, u64 start, u64 last,
		    bool broken, struct layout_lease *lease);
	void (*show)(void *context, struct file *file, struct seq_file *m);
	void (*reap)(void *context, struct file *file);
	bool (*first_visit)(void *context, u64 walk);
	void (*release)(void *context, struct file *file);
	bool (*is_leased)(void *context);
	bool (*break_begin)(struct layout_break *brk);
	void (*break_end)(struct layout_break *brk, unsigned int how);
	void (*evict)(void *context);
	struct layout_attachment *(*attach)(void *context, struct file *file,
					    u64 start, u64 last, u64 unit,
					    bool write, bool stable,
					    const struct layout_consumer_ops *ops,
					    void *data);
	void (*detach)(struct layout_attachment *attachment);
};

/*
 * How a break ends: the layout was changed; or not, and the breaker will come
 * again, for whom the range is kept free for a while; or neither.
 */
#define LAYOUT_BREAK_DONE	0x1
#define LAYOUT_BREAK_PROMISE	0x2

/* The unit of DAX mappings, hence of what an attachment pins. */
#define LAYOUT_BREAK_ALIGN \
	(IS_ENABLED(CONFIG_FS_DAX_PMD) ? (u64)PMD_SIZE : PAGE_SIZE)

/* hooks.c */
extern struct workqueue_struct *layout_lease_wq;
int layout_lease_register(const struct layout_lease_ops *ops);
void layout_lease_unregister(void);
const struct layout_lease_ops *layout_provider_get(void);
const struct layout_lease_ops *layout_provider_held(void);
void layout_provider_put(const struct layout_lease_ops *ops);
void *layout_context_publish(struct inode *inode, void *context);
void *layout_context_unpublish(struct inode *inode);
bool layout_lease_hold(void);
void layout_lease_unhold(void);
u64 layout_lease_now_ms(void);
u64 layout_lease_grace_ms(void);
u64 layout_lease_new_generation(void);
void layout_lease_revoked(const struct file *file, unsigned long count,
			  u64 bytes, u64 us);

/* For request.rs, in hooks.c and break.c */
int layout_set_lease(struct file *file, int fd, u64 start, u64 last, int type,
		     int event_fd, bool wait);
int layout_unset_lease(struct file *file, u64 start, u64 last, bool revoke);
void layout_get_lease(struct file *file, u64 start, u64 last, bool broken,
		      struct layout_lease *lease);
int layout_seize(struct file *file, loff_t start, loff_t last);
int layout_seize_filesystem(const struct file *of);
int layout_start_break(struct file *file, loff_t start, loff_t last);

/* break.c */
void layout_break_detached(struct layout_break *brk);

/* In the place of an eventfd: none any more; or the one that was given before. */
#define LAYOUT_EVENT_NONE	-1
#define LAYOUT_EVENT_KEEP	-2

/* holders.c */
struct layout_holder *layout_holder_alloc(const struct layout_lease_ops *ops,
					  struct file *file, int fd,
					  int event_fd);
void layout_holder_free(struct layout_holder *holder);
void layout_holder_take_event(struct layout_holder *holder,
			      struct layout_holder *from);
void layout_holder_link(struct layout_holder *holder, int type);
void layout_holder_unlink(struct layout_holder *holder);
void layout_holder_set_breaking(struct layout_holder *holder, bool breaking);
bool layout_holder_charge(struct layout_holder *holder, unsigned long more);
void layout_holder_uncharge(struct layout_holder *holder, unsigned long less);
void layout_holder_notify(struct layout_holder *holder, int reason);
void layout_holder_watch(struct layout_holder *holder);
void layout_holder_warn(const struct layout_holder *holder);
bool layout_holder_is_current(const struct layout_holder *holder);
bool layout_holder_is_dead(const struct layout_holder *holder);
bool layout_holder_show(const struct layout_holder *holder, struct seq_file *m);
struct file *layout_holder_get_file(const struct layout_holder *holder,
				    bool write);
struct file *layout_next_leased_file(unsigned long *id);

/*
 * The context of an inode with a reference, or NULL, and the operations, whose
 * module stays meanwhile.
 */
struct layout_context {
	const struct layout_lease_ops *ops;
	void *context;
};

struct layout_context layout_context_find(struct inode *inode);
void layout_context_put(struct layout_context *found);
DEFINE_CLASS(layout_context, struct layout_context, layout_context_put(&_T),
	     layout_context_find(inode), struct inode *inode)

#endif /* LAYOUT_LEASE_INTERNAL_H */
