/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Layout leases: the barrier between a decision of a filesystem and its commit.
 * One or two files, their holders, the operations that change their layout, and who
 * only has a page in a pipe. See README.rst; "functions" says which transition is
 * which function.
 *
 * What layout_lease.pml has in detail is short here: a consumer is pinned or is not,
 * and the device stops at once. What the kernel does under the context lock, which
 * nobody sleeps with, is one atomic step.
 */

#ifndef INODES
#define INODES		1	/* that each operation changes: 1 or 2 */
#endif
#ifndef HOLDERS
#define HOLDERS		1	/* 1 or 2; the second one has the second file, if there is one */
#endif
#ifndef OPERATIONS
#define OPERATIONS	1	/* that wait with no lock held, and come again */
#endif
#ifndef BACKSTOPS
#define BACKSTOPS	0	/* that have no layout_op, and wait inside */
#endif
#ifndef TRIERS
#define TRIERS		0	/* that do not wait */
#endif
#ifndef ROUNDS
#define ROUNDS		0	/* leases that a holder takes; 0: for ever */
#endif
#ifndef PIPES
#define PIPES		0	/* how often a page of the first file is in a pipe */
#endif

#define NONE		7
#define OPS		(OPERATIONS + BACKSTOPS + TRIERS)

/* A name for each property, to be found in the output; never true. */
hidden byte J1_nothing_published_during_a_change, J1_nothing_granted_during_a_change;
hidden byte J1_nothing_attached_during_a_change, J1_nothing_in_the_way_of_a_change;
hidden byte J1_pinned_is_what_the_file_has;
hidden byte J2_what_is_refused_breaks_nothing;
hidden byte J3_nobody_waits_for_holders_with_locks;
hidden byte J4_one_grace_period, J4_each_try_makes_progress;
hidden byte a_break_is_where_grants_look, a_promise_ends, a_context_that_is_empty_goes;

#ifdef ONLY_PINS
#define J1(what)	skip	/* Is it harmless? */
#else
#define J1(what)	assert(what)
#endif

hidden byte k, x;		/* of loops inside of steps */
hidden byte seen;

/*
 * The filesystem. A second operation waits for the first at i_rwsem; who waits for
 * invalidate_lock exclusively is passed by nobody.
 */
byte i_rwsem[INODES] = NONE;	/* by which operation */
byte inval[INODES] = NONE;	/* invalidate_lock, exclusively: by which operation */
byte inval_shared[INODES];
bool inval_queued[INODES];
bool mapped[INODES] = true;	/* a page table has the page, which is a reference */
bool in_pipe[INODES];		/* the page has a reference that is no pin of a lease */
byte layout[INODES];		/* which blocks the file has: changed so many times */
bool shared[INODES];		/* its blocks are copy-on-write: not layout_stable */
bool changing[INODES];		/* from the decision to the commit */

/*
 * The context of an inode: which one it is, and whether it is published. Who found
 * another one has found one that is retired meanwhile. (The one after the next is
 * the same again, as if it was found a moment later.)
 */
bool published[INODES];
bool context[INODES];
bool promise[INODES];		/* of a breaker that did not wait */

mtype = { NO_LEASE, GRANTED, BREAKING, REVOKED };
mtype lease[HOLDERS] = NO_LEASE;
bool attached[HOLDERS];
byte met[HOLDERS];		/* by which operations: a bit for each */
byte pinned[HOLDERS];		/* 1 + the layout whose blocks are pinned; 0: none */
bool key[HOLDERS];		/* a device can use what is pinned */

/*
 * struct layout_op, and its breaks: one for each inode
 */
mtype = { OUTSIDE, INSIDE, NOT };
mtype = { UNSET, SET, PASSED };
mtype deadline[OPS] = UNSET;
byte graces[OPS];		/* that came while it was under way */
bool on_record[OPS * INODES];
byte break_in[OPS * INODES];
bool grown[OPS];		/* its range has grown to that of the second holder */
bool broke[OPS];		/* has taken or broken a lease */
bool comes_again;		/* a trier that was told to, and will soon */
byte ops_done;

#define HOME(h)		((h) % INODES)
#define ON_RECORD(t, i)	on_record[(t) * INODES + (i)]
#define BREAK_IN(t, i)	break_in[(t) * INODES + (i)]
#define BIT(t)		(1 << (t))

/* BESIDE: the lease of the second holder is not in the range of the operation, at
 * first. What is attached to it is: the same entry of DAX has both. */
#ifdef BESIDE
#define IN_RANGE(t, h)	((h) == 0 || grown[t])
#define IS_BESIDE	true
#else
#define IN_RANGE(t, h)	true
#define IS_BESIDE	false
#endif

#if HOLDERS == 1
#define ANY_OF(i, what)	(HOME(0) == (i) && what(0))
#define ANY(what)	(what(0))
#else
#define ANY_OF(i, what)	((HOME(0) == (i) && what(0)) || (HOME(1) == (i) && what(1)))
#define ANY(what)	(what(0) || what(1))
#endif
#ifdef NO_ATTACH_PROMISE
#define PROMISED(h, all) (!(all) && ((h) == 0 || !IS_BESIDE))
#else
#define PROMISED(h, all) ((all) || (h) == 0 || !IS_BESIDE)
#endif
#define HAS_LEASE(h)	(lease[h] != NO_LEASE)
#define IS_ATTACHED(h)	(attached[h])
#define IS_PINNED(h)	(pinned[h] != 0)
#if INODES == 1
#define ANY_INODE(what)	(what(0))
#else
#define ANY_INODE(what)	(what(0) || what(1))
#endif
#define IS_BUSY(i)	(in_pipe[i] || ANY_OF(i, IS_PINNED))
#define IN_PIPE(i)	(in_pipe[i])
#define IS_USED(i)	(IS_BUSY(i) || mapped[i])

/* layout_break::pending: what it has met in its context and is attached still */
#define PENDING_AT(t, h) (attached[h] && (met[h] & BIT(t)) && ON_RECORD(t, HOME(h)) && \
			  BREAK_IN(t, HOME(h)) == context[HOME(h)])
#if HOLDERS == 1
#define PENDING(t)	(PENDING_AT(t, 0))
#else
#define PENDING(t)	(PENDING_AT(t, 0) || PENDING_AT(t, 1))
#endif

/*
 * Inside of steps under the context lock
 */

/* Breaks::overlaps(); "all": with all that a holder would pin, not the lease only */
inline overlaps(h, all)
{
	seen = false;
	for (k : 0 .. OPS - 1) {
		seen = seen || (ON_RECORD(k, HOME(h)) &&
				BREAK_IN(k, HOME(h)) == context[HOME(h)] &&
				(all || IN_RANGE(k, h)))
	}
#ifdef NO_BREAK_RECORD
	seen = false;
#endif
#ifndef NO_PROMISE
	seen = seen || (promise[HOME(h)] && PROMISED(h, all))
#endif
}

/* LeaseContext::retire_if_empty(), layout_context_unpublish() */
inline retire_if_empty(i)
{
	seen = promise[i] || ANY_OF(i, HAS_LEASE);
	for (k : 0 .. OPS - 1) {
		seen = seen || (ON_RECORD(k, i) && BREAK_IN(k, i) == context[i])
	}
	if
	:: published[i] && !seen -> published[i] = false
	:: else
	fi
}

/* Inner::complete() */
inline settle(h)
{
	attached[h] = false;
	key[h] = false;
	pinned[h] = 0;
	met[h] = 0;
	if
	:: lease[h] == BREAKING -> lease[h] = REVOKED
	:: else
	fi
}

/*
 * The holder
 */

/* exclude_changes(), allow_changes() */
#define lock_shared(i)	atomic { inval[i] == NONE && !inval_queued[i] -> inval_shared[i]++ }
#define unlock_shared(i) inval_shared[i]--

/* LeaseContext::of(), layout_context_publish(); then LeaseContext::grant() */
inline grant(h, found, ok)
{
#ifndef NO_GRANT_LOCK
	lock_shared(HOME(h));
#endif
	ok = !shared[HOME(h)];
	do
	:: ok ->
		d_step {
			if
			:: published[HOME(h)]
			:: else ->
				J1(!changing[HOME(h)] || J1_nothing_published_during_a_change);
				published[HOME(h)] = true;
				context[HOME(h)] = !context[HOME(h)]
			fi;
			found = context[HOME(h)]
		}
		atomic {
			if
			/* Look again. */
			:: !published[HOME(h)] || found != context[HOME(h)]
			:: published[HOME(h)] && found == context[HOME(h)] ->
				overlaps(h, false);
				if
				:: seen -> ok = false
				:: !seen ->
					J1(!changing[HOME(h)] ||
					   J1_nothing_granted_during_a_change);
					lease[h] = GRANTED;
					found = NONE
				/* no memory */
				:: !seen -> ok = false
				fi;
#ifndef NO_RETIRE
				if
				:: !ok -> retire_if_empty(HOME(h))
				:: else
				fi
#endif
			fi
		}
		if
		:: !ok || found == NONE -> break
		:: else
		fi
	:: !ok -> break
	od;
	found = NONE;
#ifndef NO_GRANT_LOCK
	unlock_shared(HOME(h))
#endif
}

/* layout_lease_attach(), LeaseContext::attach(), Inner::find_covering() */
inline attach(h, found, ok)
{
#ifndef NO_ATTACH_LOCK
	lock_shared(HOME(h));
#endif
	ok = !shared[HOME(h)];
	if
	:: ok ->
		d_step {
			overlaps(h, true);
			ok = !seen && published[HOME(h)] && lease[h] == GRANTED;
			if
			:: ok ->
				J1(!changing[HOME(h)] ||
				   J1_nothing_attached_during_a_change);
				attached[h] = true
			:: else
			fi
		}
	:: else
	fi;
#ifndef NO_ATTACH_LOCK
	unlock_shared(HOME(h))
#endif
}

/* layout_lease_detach(), LeaseContext::detach() */
inline detach(h)
{
	d_step { settle(h) }
}

/* layout_unset_lease(), LeaseContext::unlock() */
inline unset_lease(h)
{
	d_step {
		if
		:: lease[h] != NO_LEASE -> lease[h] = NO_LEASE; retire_if_empty(HOME(h))
		:: else
		fi
	}
}

/*
 * umem_lease_pin(), pin_piece(): a page that is not mapped takes a fault, under
 * invalidate_lock shared. What was revoked meanwhile is not pinned. Then the
 * filesystem is asked again.
 */
inline pin(h, ok)
{
	atomic {
		mapped[HOME(h)] || !(inval[HOME(h)] != NONE || inval_queued[HOME(h)]) ->
		mapped[HOME(h)] = true;
		ok = attached[h];
		if
		:: ok -> pinned[h] = 1 + layout[HOME(h)]
		:: else
		fi
	}
#ifndef NO_STABLE_AGAIN
	ok = ok && !shared[HOME(h)];
#endif
	/* The key becomes valid, unless the memory was revoked meanwhile. */
	d_step {
		ok = ok && attached[h];
		if
		:: ok -> key[h] = true
		:: else -> settle(h)
		fi
	}
}

proctype Holder(byte h)
{
	byte found = NONE, round;
	bool ok;

	do
	:: ROUNDS == 0 || round < ROUNDS ->
		grant(h, found, ok);
		if
		:: ok ->
			attach(h, found, ok);
			if
			:: ok -> pin(h, ok)
			:: else
			fi
		:: else
		fi;
		ok = false;
		if
		:: true ->
			/* until it is taken back, if it ever is */
end_silent:		!attached[h]
		:: detach(h)
		fi;
		if
		:: unset_lease(h)
		:: true
		fi;
#if ROUNDS > 0
		round++
#endif
	:: else -> break
	od;
	/* close */
	unset_lease(h)
}

/* LeaseContext::revoke_overdue(): when the deadline of an operation that met it has come */
#define IS_OVERDUE(t, h) (t < OPS && (met[h] & BIT(t)) && deadline[t] == PASSED)
proctype Worker(byte h)
{
end:	do
	:: d_step {
		attached[h] && (IS_OVERDUE(0, h)
#if OPS > 1
				|| IS_OVERDUE(1, h)
#endif
#if OPS > 2
				|| IS_OVERDUE(2, h)
#endif
			       ) -> settle(h)
	   }
	od
}

/* It comes at any time after it was set. */
proctype Clock(byte t)
{
end:	do
	:: d_step {
		deadline[t] == SET ->
		deadline[t] = PASSED;
		graces[t]++;
		assert(graces[t] <= 1 || t >= OPERATIONS + BACKSTOPS || J4_one_grace_period)
	   }
	od
}

#if defined(NO_PROMISE_END)
#define MAY_END		false
#elif defined(LIVENESS)
#define MAY_END		!comes_again
#else
#define MAY_END		true
#endif

#if TRIERS > 0
/*
 * A promise is kept until nothing is attached, and then as long as whoever it was
 * made to needs to come, if he does.
 */
proctype Promise()
{
end:	do
	:: d_step {
		promise[0] && !ANY_OF(0, IS_ATTACHED) && MAY_END ->
		promise[0] = false;
		retire_if_empty(0)
	   }
	od
}
#endif

#if PIPES > 0
/* Faults a page in, and has a reference to it that nobody can take. */
proctype Pipe()
{
	byte n;

	do
	:: n < PIPES ->
		if
		:: atomic {
			mapped[0] || !(inval[0] != NONE || inval_queued[0]) ->
			mapped[0] = true;
			in_pipe[0] = true
		   }
			in_pipe[0] = false
		:: true
		fi;
		n++
	:: else -> break
	od
}
#endif

/*
 * The operation
 */

inline lock_inval()
{
	atomic {
		for (i : 0 .. INODES - 1) {
			inval_queued[i] = true;
			inval[i] == NONE && !inval_shared[i] -> inval[i] = t;
			inval_queued[i] = false
		}
	}
}

#define unlock_inval()	d_step { for (x : 0 .. INODES - 1) { inval[x] = NONE } }

inline drop_locks()
{
	d_step {
		live = false;
		for (x : 0 .. INODES - 1) {
			if
			:: inval[x] == t -> inval[x] = NONE
			:: else
			fi;
			if
			:: i_rwsem[x] == t -> i_rwsem[x] = NONE
			:: else
			fi
		}
	}
}

/*
 * layout_break(), layout_break_two(), break_record(), break_start(),
 * LeaseContext::break_begin(), Breaks::begin(): a context that was retired since it was
 * found is looked for again. A break that is on record already stays.
 */
inline break_begin(t, i)
{
	do
	:: found = (published[i] -> context[i] : NONE);
		if
		:: found == NONE || (ON_RECORD(t, i) && !grown[t]) -> found = NONE; break
		:: else
		fi;
		d_step {
			if
#ifndef NO_RETIRED_CHECK
			:: !published[i] || found != context[i]
#endif
			:: else ->
				for (k : 0 .. HOLDERS - 1) {
					if
					:: HOME(k) == i && found == context[i] && published[i] ->
						if
						:: attached[k] ->
							live = true;
							met[k] = met[k] | BIT(t)
						:: else
						fi;
						if
						:: lease[k] == GRANTED && IN_RANGE(t, k) ->
							live = true;
							broke[t] = true;
							lease[k] = (attached[k] -> BREAKING : REVOKED)
						:: else
						fi
					:: else
					fi
				}
				ON_RECORD(t, i) = true;
				BREAK_IN(t, i) = found;
				found = NONE;
				if
#ifndef NO_ONE_DEADLINE
				:: deadline[t] == UNSET && live -> deadline[t] = SET
#else
				:: live -> deadline[t] = SET
#endif
				:: else
				fi;
				assert(published[i] || a_break_is_where_grants_look)
			fi
		}
		if
		:: found == NONE -> break
		:: else
		fi
	od
}

/* layout_op_end(), break_end(), LeaseContext::break_end(), Breaks::end() */
inline break_end(t, done, promises)
{
	d_step {
		for (x : 0 .. INODES - 1) {
			if
			:: ON_RECORD(t, x) ->
				ON_RECORD(t, x) = false;
				if
				:: promises -> promise[x] = true
#ifndef NO_PROMISE_DONE
				:: done -> promise[x] = false
#endif
				:: else
				fi;
				assert(!(done && promise[x]) || a_promise_ends);
				retire_if_empty(x)
			:: else
			fi
		}
	}
}

#if INODES == 1
#define IN_THE_WAY	PENDING(t)
#else
/* Any lease; what it broke is on record then, for both, and it comes again. */
#define IN_THE_WAY	(live || PENDING(t))
#endif
#define LIVE_IN(h)	(attached[h] || (lease[h] == GRANTED && IN_RANGE(t, h)))
/* An inode without a context has no record: its first lease is met at the next try. */
#ifdef BESIDE
#define TRIES		3
#else
#define TRIES		(INODES + 1)
#endif
#define HAS_LOCKS	(i_rwsem[0] == t || inval[0] == t)

/*
 * vfs_truncate() and others, layout_op_begin(), layout_op_again(), and what the
 * filesystem does in between, under its locks; dax_break_layout()
 */
proctype Operation(byte t; mtype waits)
{
	byte i, found = NONE, tries;
	bool live, refused, done;

	/* Whether the filesystem will refuse it, which it finds out under its locks. */
	if
	:: true
	:: waits == OUTSIDE -> refused = true
	fi;
again:
	if
	:: waits == OUTSIDE ->
		tries++;
		assert(tries <= TRIES || J4_each_try_makes_progress)
	:: waits == NOT ->
		if
		/* layout_start_break(): no more than that, with no lock held. So it may look
		 * for a context again as long as that comes and goes. */
#ifndef LIVENESS
		:: true ->
			break_begin(t, 0);
			comes_again = true
			break_end(t, false, true)
#endif
		:: true
		fi
	:: else
	fi;
	atomic {
		for (i : 0 .. INODES - 1) {
			i_rwsem[i] == NONE -> i_rwsem[i] = t
		}
	}
	lock_inval();
#ifdef BESIDE
	if
	:: tries > 1 -> grown[t] = true
	:: true
	fi;
#endif
#ifndef NO_CHECKS_FIRST
	if
	:: refused -> goto out
	:: else
	fi;
#endif
ask:	live = false;
	break_begin(t, 0);
#if INODES > 1
	break_begin(t, 1);
#endif
	if
	:: waits == NOT -> comes_again = false
	:: else
	fi;
	if
	:: IN_THE_WAY && waits == INSIDE ->
		/* break_wait(): only the lock is dropped that page faults need. */
		unlock_inval();
		if
		:: true -> !PENDING(t); lock_inval(); goto ask
		/* a signal */
		:: PENDING(t) -> goto out
		fi
	:: IN_THE_WAY && waits == NOT ->
		drop_locks();
		atomic {
			break_end(t, false, true);
			if
			:: comes_again = true
			:: goto gone
			fi
		}
		/* Another operation, with a deadline of its own. */
		d_step {
			if
			:: !ANY(IS_ATTACHED) -> deadline[t] = UNSET
			:: else
			fi
		}
		goto again
	:: IN_THE_WAY && waits == OUTSIDE ->
#ifdef RECORD_ENDS_EARLY
		break_end(t, false, false);
#endif
#ifndef NO_BACK_OUT
		drop_locks();
#endif
		assert(!HAS_LOCKS || J3_nobody_waits_for_holders_with_locks);
		if
		:: true ->
			!PENDING(t);
#ifdef NO_BACK_OUT
			drop_locks();
#endif
			goto again
		/* a signal */
		:: PENDING(t) -> goto out
		fi
	:: else
	fi;
#ifdef NO_CHECKS_FIRST
	if
	:: refused -> goto out
	:: else
	fi;
#endif
	/* dax_layout_busy_page_range() unmaps. */
	d_step {
		for (x : 0 .. INODES - 1) {
			mapped[x] = false
		}
	}
	if
	:: ANY_INODE(IS_BUSY) ->
		unlock_inval();
		/*
		 * wait_page_idle: until there is no reference. Those of page tables, and
		 * of what was leased meanwhile, do not go: it looks again from time to
		 * time.
		 */
		if
		:: true ->
#ifdef NO_LOOK_AGAIN
			!ANY_INODE(IS_USED)
#else
			!ANY_INODE(IN_PIPE)
#endif
		/* a signal */
		:: true -> goto out
		fi;
		lock_inval();
#ifndef NO_ASK_AGAIN
		goto ask
#else
		d_step {
			for (x : 0 .. INODES - 1) {
				mapped[x] = false
			}
		}
		!ANY_INODE(IS_BUSY)
#endif
	:: else
	fi;
	d_step {
		J1(!(ANY(LIVE_IN)) || J1_nothing_in_the_way_of_a_change);
		for (x : 0 .. INODES - 1) {
			changing[x] = true
		}
	}
	/* of who has no layout_op, at the end of dax_break_layout() */
	if
	:: waits == INSIDE -> break_end(t, true, false)
	:: else
	fi;
	d_step {
		for (x : 0 .. INODES - 1) {
			layout[x] = (layout[x] + 1) % 3;
#ifdef SHARES
			shared[x] = true;
#endif
			changing[x] = false
		}
	}
	done = true;
out:	assert(!(refused && broke[t]) || J2_what_is_refused_breaks_nothing);
	drop_locks();
	break_end(t, done, false);
gone:	ops_done++
}

#define IS_OLD(h)	(pinned[h] && pinned[h] != 1 + layout[HOME(h)])
#define IS_SHARED(h)	(key[h] && shared[HOME(h)])

/* Looks at each state. */
proctype Monitor()
{
end:	do
	:: d_step { ANY(IS_OLD) || ANY(IS_SHARED) -> assert(J1_pinned_is_what_the_file_has) }
	od
}

#define IS_LEFT(i)	(published[i] && !ANY_OF(i, HAS_LEASE))

/* When nobody does anything any more. */
proctype Rest()
{
end:	timeout ->
	assert(!promise[0] || a_promise_ends);
	assert(!(ANY_INODE(IS_LEFT)) || a_context_that_is_empty_goes)
}

init {
	atomic {
		byte n;

		run Monitor();
		run Rest();
		for (n : 0 .. HOLDERS - 1) {
			run Worker(n);
			run Holder(n)
		}
		for (n : 0 .. OPS - 1) {
			run Clock(n)
		}
#if TRIERS > 0
		run Promise();
#endif
#if PIPES > 0
		run Pipe();
#endif
		for (n : 0 .. OPS - 1) {
			if
			:: n < OPERATIONS -> run Operation(n, OUTSIDE)
			:: n >= OPERATIONS && n < OPERATIONS + BACKSTOPS -> run Operation(n, INSIDE)
			:: else -> run Operation(n, NOT)
			fi
		}
	}
}

#ifdef LIVENESS
/* Under weak fairness: each operation ends, whoever leases anew meanwhile. */
ltl J4_each_operation_ends { <> (ops_done == OPS) }
#endif
