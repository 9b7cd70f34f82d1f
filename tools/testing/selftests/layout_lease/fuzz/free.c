// SPDX-License-Identifier: GPL-2.0
/*
 * Processes that do not take turns: what others do meanwhile is not known, only
 * what they may do.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "errors.h"
#include "files.h"
#include "memory.h"
#include "model.h"
#include "run.h"

/* May this be the answer to F_GETLAYOUT? */
static bool is_plausible(const struct request *r, const struct layout_lease *is)
{
	__u64 end = is->len ? is->start + is->len : ~0ULL;
	struct layout_lease want = r->arg;
	unsigned int lo = r->lo, hi = r->hi;

	model_asked(&r->arg, &lo, &hi);
	want.type = F_UNLCK;
	want.state = LAYOUT_LEASE_NONE;
	want.remaining_ms = 0;
	if (is->type == F_UNLCK)
		return !memcmp(is, &want, sizeof(want));
	want.type = is->type;
	want.state = is->state;
	want.start = is->start;
	want.len = is->len;
	want.generation = is->generation;
	return (is->type == F_RDLCK || is->type == F_WRLCK) &&
		/* Nothing is attached, so no break takes time. */
		(is->state == LAYOUT_LEASE_GRANTED ||
		 is->state == LAYOUT_LEASE_REVOKED) &&
		!memcmp(is, &want, sizeof(want)) &&
		point(is->start) < PIECES && (!is->len || point(end) < PIECES) &&
		lo < hi && (hi == PIECES || is->start < points[hi]) &&
		end > points[lo];
}

static void do_request(void)
{
	struct layout_lease answer;
	struct errors set, usual;
	struct request r, calm;
	int ret;

	/* The probes are on the same filesystem. */
	do {
		random_request(&r, true);
	} while (seizes_fs(&r));
	calm = r;
	if (r.where == RACING)
		calm.where = GOOD;
	set = deserved_errors(&calm);
	usual = possible_errors(&r);
	ret = send_request(&r);
	if (!has_error(is_empty(&set) ? &usual : &set, ret) &&
	    !(r.where == RACING && ret == EFAULT))
		complain("%s: %s without turns", describe(&r), strerror(ret));
	if (r.cmd == F_SETLEASE)
		return;
	answer = r.arg;
	if (r.cmd == F_GETLAYOUT && !ret) {
		read_argument(&r, &answer);
		if (!is_plausible(&r, &answer))
			complain("%s: implausible answer type %#x, state %d, %u ms, range %#llx+%#llx",
				 describe(&r), answer.type, answer.state,
				 answer.remaining_ms,
				 (unsigned long long)answer.start,
				 (unsigned long long)answer.len);
	}
	if (!memory_is(&r, &answer))
		complain("%s: wrong memory without turns", describe(&r));
}

/* A lease that nobody has to do with. */
static void check_probe(int fd)
{
	struct layout_lease is;

	if (ll_getlayout(fd, 0, 0, &is) || is.type != F_WRLCK ||
	    is.state != LAYOUT_LEASE_GRANTED || is.start != ll_pg ||
	    is.len != ll_pg || is.remaining_ms)
		complain("the lease of the probe has changed");
}

void run_free(__u64 seed, int index, long calls, bool die)
{
	char path[PATH_MAX];
	int probe, slot;
	long i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	me.privileged = index % PROCS != UNPRIVILEGED;
	/* What it opens itself, it knows alone. */
	if (leave_world(seeded(seed, index + 1)) ||
	    ll_mkfile(path, sizeof(path), getenv("DAX1"), 1, 0))
		_exit(1);
	probe = open(path, O_RDWR);
	unlink(path);
	if (ll_lease(probe, F_WRLCK, ll_pg, ll_pg) || map_arena() ||
	    (!me.privileged && ll_drop_privileges()) ||
	    race_start())
		_exit(2);
	if (die)
		calls = dice(calls);
	for (i = 0; i < calls && !report->failed; i++) {
		slot = dice(SLOTS);
		switch (dice(32)) {
		case 0:
			do_open(slot);
			break;
		case 1:
			do_close(slot);
			break;
		case 2:
			do_dup(dice(SLOTS), slot);
			break;
		case 3:
			do_signal(slot);
			break;
		case 4:
			if (once_in(4))
				do_change(slot);
			break;
		default:
			do_request();
		}
		if (i % 64 == 0)
			check_probe(probe);
	}
	__atomic_fetch_add(&report->calls, i, __ATOMIC_RELAXED);
	if (die)
		raise(SIGKILL);
	race_stop();
	_exit(0);
}
