/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between the files of layout leases that are always built in.
 */
#ifndef LAYOUT_LEASE_INTERNAL_H
#define LAYOUT_LEASE_INTERNAL_H

#include <linux/xarray.h>

struct file;
struct layout_anchor;
struct layout_lease_ops;

/* hooks.c: the provider with a reference to its module, or NULL. */
const struct layout_lease_ops *layout_provider_get(void);
void layout_provider_put(const struct layout_lease_ops *ops);

/* anchor.c */
struct layout_anchor *layout_anchor_alloc(const struct layout_lease_ops *ops,
					  struct file *file, int fd);
struct file *layout_next_leased_file(unsigned long *id, xa_mark_t filter);

#endif /* LAYOUT_LEASE_INTERNAL_H */
