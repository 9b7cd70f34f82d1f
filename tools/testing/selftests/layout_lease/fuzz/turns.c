// SPDX-License-Identifier: GPL-2.0
/*
 * Processes that take turns, so that the model knows what each call must answer.
 */
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "errors.h"
#include "files.h"
#include "memory.h"
#include "model.h"
#include "run.h"

/* A seizure when there is room for few leases: who comes first is not told. */
static bool is_ambiguous(const struct request *r)
{
	return world->limit != NO_LIMIT && r->arg.type == F_UNLCK &&
		r->arg.flags & (LAYOUT_LEASE_SEIZE | LAYOUT_LEASE_SEIZE_FS);
}

static void do_request(void)
{
	struct layout_lease arg, is = {};
	struct request r;
	struct errors set;
	int ret, expected;

	do {
		random_request(&r, false);
	} while (is_ambiguous(&r));
	arg = r.arg;
	set = deserved_errors(&r);
	ret = send_request(&r);
	count_answer(ret);
	if (is_empty(&set)) {
		expected = model_call(&r, &arg);
		if (ret != expected)
			complain("%s: %s instead of %s", describe(&r),
				 strerror(ret), strerror(expected));
	} else if (!has_error(&set, ret)) {
		complain("%s: %s, which the request does not deserve",
			 describe(&r), strerror(ret));
	}
	if (r.cmd != F_SETLEASE && r.where <= PAGE_END)
		read_argument(&r, &is);
	if (r.cmd != F_SETLEASE && !memory_is(&r, &arg))
		complain("%s: wrong memory, expected type %#x, state %d, %u ms, range %#llx+%#llx: type %#x, state %d, %u ms, range %#llx+%#llx",
			 describe(&r), arg.type, arg.state, arg.remaining_ms,
			 (unsigned long long)arg.start,
			 (unsigned long long)arg.len,
			 is.type, is.state, is.remaining_ms,
			 (unsigned long long)is.start,
			 (unsigned long long)is.len);
}

/* Are all leases of this process, and of all, what they must be? */
static void check_all(void)
{
	long leases = ll_proc_leases(), expected;
	struct layout_lease want, is;
	unsigned int i;
	int slot;

	expected = model_count(true) + model_count(false);
	if (leases != expected)
		complain("call %ld: /proc/layout_leases has %ld leases instead of %ld",
			 world->calls, leases, expected);
	for (slot = 0; slot < SLOTS; slot++) {
		const struct desc *d;

		if (me.desc[slot] < 0)
			continue;
		d = &world->desc[me.desc[slot]];
		for (i = 0; is_dax(d->file) && i < END; i++) {
			ll_getlayout(me.fd[slot], points[i],
				     points[i + 1] - points[i], &is);
			want = is;
			want.start = points[i];
			want.len = points[i + 1] - points[i];
			model_query(d, i, i + 1, &want);
			if (memcmp(&want, &is, sizeof(is)))
				complain("call %ld: a lease is not what it was",
					 world->calls);
		}
	}
}

static bool is_over(void)
{
	return report->failed || world->calls >= world->total;
}

static void act(bool may_fork);

/* A child inherits all open files and no lease. */
static void do_fork(void)
{
	int serial = ++world->serial, status, n = 1 + dice(64);
	pid_t pid;

	world->live[PROCS] = serial;
	inherit_slots(1);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		me.serial = serial;
		while (n-- && !is_over())
			act(false);
		give_slots_up();
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		complain("a child ended with status %#x", status);
	world->live[PROCS] = 0;
}

static void act(bool may_fork)
{
	int slot = dice(SLOTS);

	switch (dice(48)) {
	case 0:
	case 1:
	case 2:
		do_open(slot);
		return;
	case 3:
		do_close(slot);
		return;
	case 4:
		do_dup(dice(SLOTS), slot);
		return;
	case 5:
		do_plain_lease(slot);
		return;
	case 6:
		do_signal(slot);
		return;
	case 7:
		if (once_in(4))
			do_change(slot);
		return;
	case 8:
		if (once_in(4))
			do_limit();
		return;
	case 9:
		if (may_fork && once_in(16))
			do_fork();
		return;
	}
	do_request();
	if (++world->calls % 2048 == 0)
		check_all();
}

/* A pipe for each process: who reads from his has the turn. */
static int turn[PROCS][2];

int make_turns(void)
{
	int i;

	for (i = 0; i < PROCS; i++) {
		world->live[i] = i + 1;
		if (pipe(turn[i]))
			return -errno;
	}
	world->serial = PROCS;
	return 0;
}

void give_turn(int to)
{
	if (write(turn[to][1], "", 1) != 1)
		complain("cannot pass the turn on");
}

void take_turns(int index)
{
	char byte;
	int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	me.serial = index + 1;
	me.privileged = index != UNPRIVILEGED;
	if (!me.privileged && ll_drop_privileges())
		_exit(1);
	while (!is_over() && read(turn[index][0], &byte, 1) == 1) {
		do {
			if (!is_over())
				act(true);
		} while (!is_over() && !once_in(16));
		if (!is_over())
			give_turn(dice(PROCS));
	}
	for (i = 0; i < PROCS; i++)
		give_turn(i);
	_exit(0);
}
