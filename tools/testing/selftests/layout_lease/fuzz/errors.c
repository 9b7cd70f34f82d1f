// SPDX-License-Identifier: GPL-2.0
/*
 * The errors that a request deserves.
 */
#include "errors.h"

static void add(struct errors *set, int error)
{
	set->bits[error / 64] |= 1ULL << error % 64;
}

bool has_error(const struct errors *set, int error)
{
	return error >= 0 && error < 64 * (int)ARRAY_SIZE(set->bits) &&
		set->bits[error / 64] >> error % 64 & 1;
}

bool is_empty(const struct errors *set)
{
	return !set->bits[0] && !set->bits[1] && !set->bits[2];
}

/* What a request deserves that is wrong in itself, whoever holds leases. */
static void wrong_lease(const struct request *r, const struct desc *d,
			struct errors *set)
{
	bool mine = me.privileged || d->file == DAX_NOBODY;

	if (!mine)
		add(set, EACCES);
	if (r->arg.type == F_WRLCK && !d->writable)
		add(set, EACCES);
	if (!is_dax(d->file))
		add(set, EOPNOTSUPP);
	if (r->arg.flags)
		add(set, EINVAL);
}

static void wrong_unlock(const struct request *r, struct errors *set)
{
	switch (r->arg.flags) {
	case LAYOUT_LEASE_SEIZE:
	case LAYOUT_LEASE_SEIZE_FS:
		if (!me.privileged)
			add(set, EPERM);
		return;
	case 0:
	case LAYOUT_LEASE_REVOKE:
		return;
	default:
		add(set, EINVAL);
	}
}

static void wrong_set(const struct request *r, const struct desc *d,
		      struct errors *set)
{
	if (seizes_fs(r)) {
		if (r->arg.start || r->arg.len)
			add(set, EINVAL);
	} else if (!is_regular(d->file) || r->bad_range) {
		add(set, EINVAL);
	}
	if (r->other_type)
		add(set, EINVAL);
	else if (r->arg.type == F_UNLCK)
		wrong_unlock(r, set);
	else if (r->arg.type == F_RDLCK || r->arg.type == F_WRLCK)
		wrong_lease(r, d, set);
	else
		add(set, EINVAL);
}

/* false: nothing of the struct has reached the kernel. */
static bool wrong_memory(const struct request *r, struct errors *set)
{
	if (r->where >= NO_ACCESS ||
	    (r->where == CROSSING && r->len < sizeof(r->arg.size)))
		add(set, EFAULT);
	else if (r->arg.size < LAYOUT_LEASE_SIZE_VER0)
		add(set, EINVAL);
	else if (r->arg.size > ll_pg)
		add(set, E2BIG);
	else if (r->where == CROSSING)
		add(set, EFAULT);
	else if (r->bad_tail)
		add(set, E2BIG);
	return is_empty(set);
}

struct errors deserved_errors(const struct request *r)
{
	struct errors set = {};
	const struct desc *d;

	if (me.desc[r->slot] < 0 ||
	    world->desc[me.desc[r->slot]].file == PATH_ONLY) {
		add(&set, EBADF);
		return set;
	}
	d = &world->desc[me.desc[r->slot]];
	if (r->cmd != F_SETLEASE && !wrong_memory(r, &set))
		return set;
	if (r->cmd != F_GETLAYOUT) {
		wrong_set(r, d, &set);
		return set;
	}
	if (r->arg.flags & ~(LAYOUT_LEASE_BROKEN | LAYOUT_LEASE_NEXT) ||
	    r->bad_range || !is_regular(d->file))
		add(&set, EINVAL);
	else if (r->where == READ_ONLY)
		add(&set, EFAULT);
	return set;
}

struct errors possible_errors(const struct request *r)
{
	struct errors set = {};

	add(&set, 0);
	if (r->cmd == F_GETLAYOUT)
		return set;
	if (r->arg.type != F_UNLCK)
		add(&set, EAGAIN);
	if (r->arg.type != F_UNLCK || !(r->arg.flags & LAYOUT_LEASE_SEIZE))
		add(&set, EBUSY);
	return set;
}
