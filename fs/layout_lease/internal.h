/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between the files of layout leases that are always built in.
 */
#ifndef LAYOUT_LEASE_INTERNAL_H
#define LAYOUT_LEASE_INTERNAL_H

#include <linux/cleanup.h>

struct file;
struct inode;
struct layout_anchor;
struct layout_lease_ops;

/*
 * hooks.c: the index of an inode with a reference, or NULL, and the provider,
 * whose module stays meanwhile.
 */
struct layout_index {
	const struct layout_lease_ops *ops;
	void *index;
};

struct layout_index layout_index_find(struct inode *inode);
void layout_index_put(struct layout_index *found);
DEFINE_CLASS(layout_index, struct layout_index, layout_index_put(&_T),
	     layout_index_find(inode), struct inode *inode)

/* anchor.c */
struct layout_anchor *layout_anchor_alloc(const struct layout_lease_ops *ops,
					  struct file *file, int fd);
struct file *layout_next_leased_file(unsigned long *id);

#endif /* LAYOUT_LEASE_INTERNAL_H */
