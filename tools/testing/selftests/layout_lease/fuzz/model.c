// SPDX-License-Identifier: GPL-2.0
/*
 * The model of all leases.
 */
#include <string.h>

#include "model.h"

static bool is_alive(int serial)
{
	unsigned int i;

	for (i = 0; i < MAX_LIVE; i++)
		if (world->live[i] == serial)
			return true;
	return false;
}

/* Is there a lease that begins at piece i? */
static bool begins(const struct desc *d, unsigned int i)
{
	return d->piece[i].id && (!i || d->piece[i - 1].id != d->piece[i].id);
}

static unsigned int end_of(const struct desc *d, unsigned int i)
{
	__u32 id = d->piece[i].id;

	while (i < PIECES && d->piece[i].id == id)
		i++;
	return i;
}

static int count(const struct desc *d)
{
	unsigned int i;
	int n = 0;

	for (i = 0; i < PIECES; i++)
		n += begins(d, i);
	return n;
}

int model_count(bool nobody)
{
	int i, n = 0;

	for (i = 0; i < DESCS; i++)
		if (world->desc[i].holder && world->desc[i].nobody == nobody)
			n += count(&world->desc[i]);
	return n;
}

/* Room for some more leases? */
static bool can_charge(bool nobody, int more)
{
	return more <= 0 || model_count(nobody) + more <= world->limit;
}

void model_forget(struct desc *d)
{
	memset(d->piece, 0, sizeof(d->piece));
	d->holder = 0;
}

/* A lease there and one of this kind are not both shared; live: if it was not revoked. */
static bool conflicts(const struct desc *d, unsigned int lo, unsigned int hi,
		      int kind, bool live)
{
	for (; lo < hi; lo++)
		if (d->piece[lo].id &&
		    !(live && d->piece[lo].state == LAYOUT_LEASE_REVOKED) &&
		    (kind == F_WRLCK || d->piece[lo].kind == F_WRLCK))
			return true;
	return false;
}

/* Put a lease, or none (kind F_UNLCK), in the place of what is there. */
static void replace(struct desc *d, unsigned int lo, unsigned int hi, int kind,
		    int state)
{
	struct piece piece = {};
	unsigned int i;

	if (kind != F_UNLCK)
		piece = (struct piece){ ++world->id, kind, state };
	for (i = lo; i < hi; i++)
		d->piece[i] = piece;
}

static int model_grant(struct desc *d, unsigned int lo, unsigned int hi,
		       int kind)
{
	struct desc *other, after;

	if (d->holder && d->holder != me.serial && is_alive(d->holder))
		return EBUSY;
	if (d->holder && !is_alive(d->holder))
		model_forget(d);
	for (other = world->desc; other < world->desc + DESCS; other++)
		if (other->holder && other->file == d->file &&
		    !is_alive(other->holder) &&
		    conflicts(other, lo, hi, kind, false))
			model_forget(other);
	for (other = world->desc; other < world->desc + DESCS; other++)
		if (other->holder && other->file == d->file &&
		    other->holder != me.serial &&
		    conflicts(other, lo, hi, kind, true))
			return EAGAIN;
	after = *d;
	replace(&after, lo, hi, kind, LAYOUT_LEASE_GRANTED);
	if (!d->holder)
		after.nobody = !me.privileged;
	if (!can_charge(after.nobody, count(&after) - count(d)))
		return ENOLCK;
	after.holder = me.serial;
	*d = after;
	return 0;
}

static int model_unlock(struct desc *d, unsigned int lo, unsigned int hi)
{
	struct desc after = *d;

	if (!d->holder)
		return 0;
	if (d->holder != me.serial && is_alive(d->holder))
		return EBUSY;
	replace(&after, lo, hi, F_UNLCK, 0);
	if (!can_charge(d->nobody, count(&after) - count(d)))
		return ENOLCK;
	*d = after;
	if (!count(d))
		model_forget(d);
	return 0;
}

/* A break takes its range out of each lease, or all if there is no room. */
static void model_break_one(struct desc *d, unsigned int lo, unsigned int hi)
{
	unsigned int i, end, from, to;

	for (i = 0; i < PIECES; i = end) {
		end = end_of(d, i);
		if (d->piece[i].state != LAYOUT_LEASE_GRANTED || end <= lo ||
		    i >= hi)
			continue;
		from = lo > i ? lo : i;
		to = hi < end ? hi : end;
		if (!can_charge(d->nobody, (from > i) + (to < end))) {
			from = i;
			to = end;
		}
		replace(d, from, to, d->piece[i].kind, LAYOUT_LEASE_REVOKED);
	}
}

void model_break(enum file file, unsigned int lo, unsigned int hi)
{
	struct desc *d;

	lo = point(points[lo] & ~(MB2 - 1));
	if (hi >= END)
		hi = PIECES;
	else
		hi = point((points[hi] + MB2 - 1) & ~(MB2 - 1));
	for (d = world->desc; d < world->desc + DESCS; d++)
		if (d->holder && d->file == file)
			model_break_one(d, lo, hi);
}

void model_asked(const struct layout_lease *arg, unsigned int *lo,
		 unsigned int *hi)
{
	if (arg->flags & LAYOUT_LEASE_NEXT) {
		*lo = *hi;
		*hi = PIECES;
	}
}

void model_query(const struct desc *d, unsigned int lo, unsigned int hi,
		 struct layout_lease *arg)
{
	unsigned int i, end;

	model_asked(arg, &lo, &hi);

	arg->type = F_UNLCK;
	arg->state = LAYOUT_LEASE_NONE;
	arg->remaining_ms = 0;
	for (i = lo; i < hi; i++)
		if (d->piece[i].id &&
		    !(arg->flags & LAYOUT_LEASE_BROKEN &&
		      d->piece[i].state == LAYOUT_LEASE_GRANTED))
			break;
	if (i == hi)
		return;
	while (!begins(d, i))
		i--;
	end = end_of(d, i);
	arg->type = d->piece[i].kind;
	arg->state = d->piece[i].state;
	arg->start = points[i];
	arg->len = end == PIECES ? 0 : points[end] - points[i];
}

int model_call(const struct request *r, struct layout_lease *arg)
{
	struct desc *d = &world->desc[me.desc[r->slot]];

	if (r->cmd == F_GETLAYOUT) {
		model_query(d, r->lo, r->hi, arg);
		return 0;
	}
	if (r->arg.type != F_UNLCK)
		return model_grant(d, r->lo, r->hi, r->arg.type);
	switch (r->arg.flags) {
	case LAYOUT_LEASE_SEIZE:
		model_break(d->file, r->lo, r->hi);
		return 0;
	case LAYOUT_LEASE_SEIZE_FS:
		if (is_dax(d->file) || d->file == DIRECTORY) {
			model_break(DAX, 0, PIECES);
			model_break(DAX_NOBODY, 0, PIECES);
		}
		return 0;
	}
	return model_unlock(d, r->lo, r->hi);
}
