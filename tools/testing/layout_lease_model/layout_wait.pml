/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Layout leases: a lease of another process that is waited for, LAYOUT_LEASE_WAIT. There
 * are two files, each with a context that stays, and processes that have a lease on one of
 * them and wait for another one. See README.rst; breaks that are waited for are in
 * layout_lease.pml.
 *
 * What the kernel does under the context lock without sleeping is one atomic step here,
 * but for LeaseContext::wait(), since a process dies without that lock.
 */

#ifndef PROCESSES
#define PROCESSES	2
#endif
/*
 * MUTUAL: each has a file for itself, and wants the one of the other.
 * UPGRADE: they share a file, and each wants it for itself.
 * READERS: one has a file for itself, and shares it then, as the others want.
 * Else they want the same file, share it or not, and let go of it in some way.
 */

#define FILES		2
#define NONE		7

/* A name for each property, to be found in the output; never true. */
hidden byte W1_no_leases_that_conflict, W2_who_is_told_has_what_he_had;

hidden byte k, x;		/* of loops inside of steps */

mtype = { NO_LEASE, SHARED, EXCLUSIVE };
mtype lease[4 * FILES] = NO_LEASE;
bool watched[4 * FILES];	/* HOLDER_WATCHED, and in the wait queue of the process */
#define AT(p, f)	((p) * FILES + (f))
bool dead[PROCESSES];
bool reap_work;			/* is queued */
bool context_lock[FILES];		/* LeaseContext::inner */
byte waits_on[PROCESSES] = NONE; /* sleeps on LeaseContext::changed of this file */
bool over[PROCESSES];		/* one grace period after the call; comes at any time */
byte finished;

#define CONFLICT(one, two)	((one) == EXCLUSIVE && (two) != NO_LEASE || \
				 (two) == EXCLUSIVE && (one) != NO_LEASE)

/* LeaseContext::wake_and_retire(): who sleeps there wakes up. */
inline notify_all(f)
{
	d_step {
		for (k : 0 .. PROCESSES - 1) {
			if
			:: waits_on[k] == f -> waits_on[k] = NONE
			:: else
			fi
		}
	}
}

/* Inner::blocked(), inside: by whom */
inline blocked(p, f, kind, by)
{
	by = NONE;
	for (k : 0 .. PROCESSES - 1) {
		if
		:: k != p && CONFLICT(lease[AT(k, f)], kind) -> by = k
		:: else
		fi
	}
}

/* layout_holder_unlink(), inside */
inline forget(p, f)
{
	lease[AT(p, f)] = NO_LEASE;
	watched[AT(p, f)] = false
}

/*
 * try_grant(): LeaseContext::make_way(), Inner::find_dead(), which takes what the dead have; then
 * LeaseContext::grant()
 */
inline try_grant(p, f, kind, by)
{
	d_step {
		!context_lock[f];
		for (x : 0 .. PROCESSES - 1) {
			if
			:: x != p && dead[x] -> forget(x, f)
			:: else
			fi
		}
	}
	notify_all(f);
#ifdef NO_KEEPING
	lease[AT(p, f)] = NO_LEASE;
#endif
#ifdef NO_LOCK_UNTIL_GRANTED
	d_step { blocked(p, f, kind, by) }
#endif
	d_step {
		!context_lock[f];
#ifndef NO_LOCK_UNTIL_GRANTED
		blocked(p, f, kind, by);
#endif
		if
		:: by == NONE -> lease[AT(p, f)] = kind
		:: else
		fi
	}
#ifndef NO_WAKE_BY_GRANT
	notify_all(f)
#endif
}

/* layout_holder_watch(), layout_holder_is_dead() */
inline watch(q, f)
{
	watched[AT(q, f)] = true;
#ifndef NO_SECOND_LOOK
	if
	:: dead[q] -> reap_work = true
	:: else
	fi
#endif
}

/* wait_for_lease(), LeaseContext::wait() */
inline wait_for_lease(p, f, kind, by, told)
{
	d_step { !context_lock[f]; context_lock[f] = true }
	do
	:: true ->
		d_step {
			blocked(p, f, kind, by);
			if
			:: by != NONE && dead[by] -> by = NONE
			:: else
			fi
		}
		if
		:: by == NONE -> break
		:: else
		fi;
#ifndef NO_WATCH
		watch(by, f);
#endif
		if
		:: over[p] -> told = true; break
		:: else
		fi;
#ifdef NO_LOCK_UNTIL_ASLEEP
		context_lock[f] = false;
		waits_on[p] = f;
#else
		d_step { waits_on[p] = f; context_lock[f] = false }
#endif
		d_step { waits_on[p] == NONE || over[p]; waits_on[p] = NONE }
		d_step { !context_lock[f]; context_lock[f] = true }
	od;
	context_lock[f] = false
}

/* layout_unset_lease(), LeaseContext::unlock(); as well layout_lease_release(), LeaseContext::release() */
inline unset_lease(p, f)
{
	d_step { !context_lock[f]; forget(p, f) }
#ifndef NO_WAKE
	notify_all(f)
#endif
}

proctype Process(byte p)
{
	byte has, wants, by = NONE;
	mtype kind = EXCLUSIVE, had;
	bool told;

#if defined(MUTUAL)
	has = p;
	wants = 1 - p;
#elif defined(READERS)
	kind = (p == 0 -> EXCLUSIVE : SHARED);
#elif !defined(UPGRADE)
	if
	:: kind = SHARED
	:: true
	fi;
#endif
	had = lease[AT(p, has)];
	/* grant() */
	do
	:: true ->
		try_grant(p, wants, kind, by);
		if
		:: by == NONE -> break
		:: else -> wait_for_lease(p, wants, kind, by, told)
		fi;
		if
		:: told -> break
		:: else
		fi
	od;
	assert(!told || lease[AT(p, has)] == had || W2_who_is_told_has_what_he_had);
	finished++;

	if
#if defined(MUTUAL) || defined(UPGRADE)
	:: true			/* for ever, with what it has */
#elif defined(READERS)
	:: try_grant(p, wants, SHARED, by)
#endif
#ifndef READERS
	:: unset_lease(p, wants)
	:: d_step {
		/* It dies; its open file, which others have too, does not go: holder_dies() */
		dead[p] = true;
		if
		:: watched[AT(p, 0)] || watched[AT(p, 1)] -> reap_work = true
		:: else
		fi
	   }
#endif
	fi
}

/* reap_holders(), LeaseContext::reap() */
proctype Reaper()
{
	byte p, f;

end:	do
	:: reap_work ->
		reap_work = false;
		for (p : 0 .. PROCESSES - 1) {
			for (f : 0 .. FILES - 1) {
				if
				:: d_step { watched[AT(p, f)] && dead[p] ->
					    watched[AT(p, f)] = false }
#ifndef NO_REAP_LOCK
					!context_lock[f];
#endif
					notify_all(f)
				:: else
				fi
			}
		}
	od
}

#ifndef NO_LIMIT
proctype Clock(byte p)
{
	over[p] = true
}
#endif

/* Looks at each state. */
proctype Monitor()
{
#define BAD(f)	(!dead[0] && !dead[1] && CONFLICT(lease[AT(0, f)], lease[AT(1, f)]))
end:	d_step { BAD(0) || BAD(1) -> assert(W1_no_leases_that_conflict) }
}

init {
	atomic {
		byte n;

#if defined(MUTUAL)
		lease[AT(0, 0)] = EXCLUSIVE;
		lease[AT(1, 1)] = EXCLUSIVE;
#elif defined(UPGRADE)
		lease[AT(0, 0)] = SHARED;
		lease[AT(1, 0)] = SHARED;
#elif defined(READERS)
		lease[AT(0, 0)] = EXCLUSIVE;
#endif
		run Monitor();
		run Reaper();
		for (n : 0 .. PROCESSES - 1) {
			run Process(n);
#ifndef NO_LIMIT
			run Clock(n)
#endif
		}
	}
}

#ifdef LIVENESS
/* Under weak fairness: nobody waits for ever, nor tries again for ever. */
ltl W3_each_wait_ends { <> (finished == PROCESSES) }
#endif
