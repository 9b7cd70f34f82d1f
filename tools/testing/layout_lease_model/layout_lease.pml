/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Layout leases: one file, one range, its holders, breakers, device, worker and
 * module. See README.rst; "functions" says which transition is which function.
 *
 * What the kernel does under one mutex without sleeping is one atomic step here,
 * which takes and drops that mutex. Only a statement that blocks ends the
 * atomicity, with the mutex held. Steps that the comments call "inside" are part
 * of such a step of the caller.
 */

#ifndef HOLDERS
#define HOLDERS		2	/* processes with an open file and an MR each: 1 or 2 */
#endif
#ifndef BREAKERS
#define BREAKERS	2	/* truncate and the like */
#endif
#ifndef SEIZERS
#define SEIZERS		0	/* a break and no more */
#endif
#ifndef CONTEXTS
#define CONTEXTS		2	/* that exist at a time */
#endif
#ifndef ROUNDS
#define ROUNDS		1	/* leases that a holder takes; 0: for ever; with WAITS it waits */
#endif
#ifndef FAILS
#define FAILS		1	/* how often the device refuses to stop, for each MR */
#endif

#define NONE		7

/* A name for each property, to be found in the output; never true. */
hidden byte I1_pinned_only_while_attached, I2_reachable_only_while_pinned;
hidden byte I2_nothing_pinned_while_the_layout_changes;
hidden byte no_call_of_the_driver_after_it_has_revoked;
hidden byte a_context_that_goes_is_empty, a_lease_is_released_from_its_context;
hidden byte the_module_goes_unused;

hidden byte k, x;		/* of loops inside of steps */
hidden byte found;

/*
 * The mutexes. Order: context lock, claim, inner.
 */
bool context_lock[CONTEXTS];	/* LeaseContext::inner */
bool claim_lock[HOLDERS];	/* Attached::claim */
bool inner_lock[HOLDERS];	/* MrLease::inner */

#define lock(l)		!(l) -> l = true
#define unlock(l)	l = false

/*
 * The context of the inode. Leases and attachments are by holder, with the context
 * that they are in.
 */
byte published = NONE;		/* flc_layout_context */
byte context_ref[CONTEXTS];	/* Arc<LeaseContext> */
bool retired[CONTEXTS];
bool timer[CONTEXTS];		/* the delayed work is queued, and owns a reference */
bool expiring[CONTEXTS];	/* something attached has a deadline, or had one */
bool running[CONTEXTS];		/* the worker runs */
bool early;			/* it has come before the deadline, which is once enough */

mtype = { NO_LEASE, GRANTED, BREAKING, REVOKED };
mtype lease[HOLDERS] = NO_LEASE;
byte lease_in[HOLDERS] = NONE;

byte file_ref[HOLDERS] = 1;	/* of the open file: descriptor, calls, attachments */
bool descriptor[HOLDERS] = true;

/* struct layout_break: one for each breaker */
#define BREAKS		(BREAKERS + SEIZERS)
bool on_record[BREAKS];
byte break_in[BREAKS] = NONE;
byte pending[BREAKS];

/*
 * Attached: the attachment of an MR
 */
mtype = { NOTHING, QUIESCED, UNPINNED, FAILED };
byte attached_in[HOLDERS] = NONE;
bool attached[HOLDERS];		/* in the tree of the context */
bool in_batch[HOLDERS];
bool handle[HOLDERS];		/* the Attachment of the consumer */
bool deadline[HOLDERS];		/* is set, and comes at any time */
bool consumer[HOLDERS];		/* Claim::consumer */
bool keeps_file[HOLDERS];	/* Claim::file */
mtype progress[HOLDERS] = NOTHING; /* Claim::progress */
byte failures[HOLDERS];

byte waits_on[HOLDERS] = NONE;	/* sleeps on LeaseContext::changed of this context */

/*
 * MrLease, and what driver and device do with the MR
 */
mtype = { PRIVATE, ARMED, REVOKING, STOPPED, MR_REVOKED };
mtype = { NO_ACCESS, ACCESS, ACCESSED };
mtype mr[HOLDERS] = PRIVATE;	/* Inner::state */
bool pinning[HOLDERS];		/* see HOLE_PIN_WINDOW */
bool loose_pin[HOLDERS];	/* pages are pinned, and not yet in the scatter list */
bool listed_pin[HOLDERS];	/* pages are pinned, and in the scatter list */
bool driver[HOLDERS];		/* what the callbacks of the driver use is there */
bool key[HOLDERS];		/* is valid: the device may begin to access pages */
mtype device[HOLDERS] = NO_ACCESS;

/*
 * The filesystem
 */
bool fs_lock;			/* invalidate_lock, exclusively: of breakers */
byte fs_shared;			/* the same, shared: of those who lease and attach */
bool mapped = true;		/* a page table has the page, which is a reference */
bool changing;			/* blocks are freed, moved or shared */
byte breakers_done;

#if HOLDERS == 1
#define ANY(what)	(what(0))
#define ANY_IN(i, what)	(what(i, 0))
#else
#define ANY(what)	(what(0) || what(1))
#define ANY_IN(i, what)	(what(i, 0) || what(i, 1))
#endif

/*
 * exclude_changes(), allow_changes(). Page faults are one
 * step, and so only look at fs_lock. layout_barrier.pml has more of this.
 */
#if BREAKERS == 0
#define exclude_changes() skip
#define allow_changes()	skip
#else
#define exclude_changes() atomic { !fs_lock -> fs_shared++ }
#define allow_changes()	fs_shared--
#endif

#define IS_PINNED(m)	(loose_pin[m] || listed_pin[m])
#define HAS_LEASE(i, m)	(lease_in[m] == i)
#define HAS_ATTACHED(i, m) (attached[m] && attached_in[m] == i)
#define HAS_DEADLINE(i, m) (HAS_ATTACHED(i, m) && deadline[m])
#define IS_REVOKED(m)	(mr[m] != PRIVATE && mr[m] != ARMED)

/*
 * The module
 */
#ifdef UNLOAD
mtype = { LIVE, GOING, GONE };
mtype module = LIVE;
byte module_ref;
byte in_code;			/* calls into the module */

/* layout_provider_get(), and the call that follows it */
inline provider_get(ok)
{
	d_step {
		ok = (module == LIVE);
		if
		:: ok -> module_ref++; in_code++
		:: else
		fi
	}
}

/* the return from the call, and layout_provider_put(), which is built in */
inline provider_put()
{
	in_code--;
	module_ref--
}

/* layout_holder_alloc(), layout_holder_free(), inside: a holder keeps the module. */
#ifdef NO_MODULE_PIN
#define holder_get()	skip
#define holder_put()	skip
#else
#define holder_get()	module_ref++
#define holder_put()	module_ref--
#endif
#else
#define provider_get(ok) ok = true
#define provider_put()	skip
#define holder_get()	skip
#define holder_put()	skip
#endif

/*
 * Finding a context
 */
#ifdef KEEP_CONTEXT
/* Then a call is one step. */
#define CALL	atomic
/* There is one from the beginning, for ever: for runs that are about pages. */
#define context_get(i)		i = 0
#define context_get_or_new(i)	i = 0
#define context_ref_get(i)	skip
#define context_drop(i)		skip
#define context_put(i)		i = NONE
#else
#define CALL
#define context_ref_get(i)	context_ref[i]++

/* layout_context_find(), context_get() */
inline context_get(i)
{
	d_step {
		i = published;
		if
		:: i != NONE -> context_ref[i]++
		:: else
		fi
	}
}

/*
 * LeaseContext::of(), layout_context_publish(): find it, or publish a new
 * one, which nobody has seen before. NONE: no memory.
 */
inline context_get_or_new(i)
{
	d_step {
		i = published;
		if
		:: i != NONE -> context_ref[i]++
		:: else ->
			for (k : 0 .. CONTEXTS - 1) {
				if
				:: i == NONE && context_ref[k] == 0 -> i = k
				:: else
				fi
			}
			if
			:: i != NONE -> context_ref[i] = 2; published = i
			:: else
			fi
		fi
	}
}

/* context_put(), inside; the second one for a variable that had the reference */
inline context_drop(i)
{
	context_ref[i]--;
	if
	:: context_ref[i] == 0 ->
		assert(!(ANY_IN(i, HAS_LEASE) || ANY_IN(i, HAS_ATTACHED) || timer[i]) ||
		       a_context_that_goes_is_empty);
		retired[i] = false
	:: else
	fi
}

inline context_put(i)
{
	context_drop(i);
	i = NONE
}
#endif

/*
 * Inside of steps under the context lock
 */

/* Breaks::overlaps() */
inline overlaps(i)
{
	found = false;
	for (k : 0 .. BREAKS - 1) {
		found = found || (on_record[k] && break_in[k] == i)
	}
}

/*
 * LeaseContext::schedule(): the worker runs when the earliest deadline has come, also
 * if what had it is gone.
 */
inline schedule(i)
{
	if
	:: expiring[i] && !timer[i] -> timer[i] = true; context_ref_get(i)
	:: else
	fi
}

/* Inner::complete(), Breaks::detached(); the state that Inner::state_of() says then */
inline settle(m)
{
	if
	:: attached[m] ->
		attached[m] = false;
		for (k : 0 .. BREAKS - 1) {
			if
			:: on_record[k] && break_in[k] == attached_in[m] && pending[k] ->
				pending[k]--
			:: else
			fi
		}
		if
		:: lease[m] == BREAKING -> lease[m] = REVOKED
		:: else
		fi
	:: else
	fi
}

/* An attachment goes when neither consumer nor context nor batch have it. */
inline node_put(m)
{
	if
	:: !handle[m] && !attached[m] && !in_batch[m] && attached_in[m] != NONE ->
		holder_put();
		context_drop(attached_in[m]);
		attached_in[m] = NONE;
		deadline[m] = false;
		progress[m] = NOTHING
	:: else
	fi
}

/* Inner::forget() */
inline forget_owner(h)
{
	lease[h] = NO_LEASE;
	lease_in[h] = NONE;
	holder_put()
}

/* The sleepers on LeaseContext::changed wake up, inside. */
inline notify_all(i)
{
	for (k : 0 .. HOLDERS - 1) {
		if
		:: waits_on[k] == i -> waits_on[k] = NONE
		:: else
		fi
	}
}

/* The first half of LeaseContext::wake_and_retire(): something may be gone that somebody waits for. */
#if defined(WAITS) && !defined(NO_WAKE)
#define wake(i)		atomic { notify_all(i) };
#else
#define wake(i)
#endif

#ifdef KEEP_CONTEXT
#define retire_if_empty(i)	wake(i) i = NONE
#else
/*
 * LeaseContext::wake_and_retire(), LeaseContext::retire_if_empty(), layout_context_unpublish(),
 * DelayedWork::cancel(); then the caller drops its reference.
 */
inline retire_if_empty(i)
{
	wake(i)
	atomic {
		lock(context_lock[i]);
		overlaps(i);
		if
		:: retired[i] || found || ANY_IN(i, HAS_LEASE) ->
			unlock(context_lock[i]);
			context_put(i)
		:: else ->
			retired[i] = true;
#ifndef NO_FORGET
			expiring[i] = false;
#endif
			published = NONE;
			context_ref[i]--;
			unlock(context_lock[i])
		fi
	}
	if
	:: i != NONE ->
		d_step {
#ifndef NO_CANCEL
			if
			:: timer[i] -> timer[i] = false; context_drop(i)
			:: else
			fi;
#endif
			context_drop(i);
			i = NONE
		}
	:: else
	fi
}
#endif

/*
 * The holder: system calls
 */

/* do_set_lease(), set(), LeaseContext::grant(), Inner::blocked() */
inline set_lease(h, i, ok, done)
{
CALL {
	provider_get(ok);
	if
	:: ok ->
		exclude_changes();
		done = false;
		do
		:: !done ->
			context_get_or_new(i);
			if
			:: i == NONE -> done = true; ok = false
			:: else ->
				atomic {
					lock(context_lock[i]);
					overlaps(i);
#ifdef NO_BREAK_RECORD
					found = false;
#endif
					if
#ifndef NO_RETIRED_CHECK
					:: retired[i]
#endif
					:: else ->
						done = true;
						if
						:: found || lease[h] == BREAKING ->
							ok = false
						:: else ->
							if
							:: lease_in[h] == NONE -> holder_get()
							:: else
							fi;
							lease[h] = GRANTED;
							lease_in[h] = i
						fi
					fi;
					unlock(context_lock[i])
				}
				if
				:: done -> retire_if_empty(i)
				:: else -> d_step { context_put(i) }
				fi
			fi
		:: else -> done = false; break
		od;
		allow_changes();
		provider_put()
	:: else
	fi
}
}

#ifdef WAITS
/*
 * grant() with LAYOUT_LEASE_WAIT: wait_for_lease(), LeaseContext::wait(), and again. Leases of
 * others are in nobody's way here: layout_wait.pml is about these.
 */
inline wait_for_lease(h, i, asleep)
{
#ifdef NO_ALLOW_CHANGES
	exclude_changes();
#endif
	d_step { context_get(i) }
	do
	:: i == NONE || retired[i] -> break
	:: else ->
		atomic {
			lock(context_lock[i]);
			overlaps(i);
			asleep = !retired[i] &&
				 (found || (HAS_LEASE(i, h) && lease[h] == BREAKING));
#ifndef NO_LOCK_UNTIL_ASLEEP
			waits_on[h] = (asleep -> i : NONE);
#endif
			unlock(context_lock[i])
		}
		if
		:: asleep ->
#ifdef NO_LOCK_UNTIL_ASLEEP
			waits_on[h] = i;
#endif
			waits_on[h] == NONE
		:: else -> break
		fi
	od;
	atomic {
		asleep = false;
		if
		:: i != NONE -> context_put(i)
		:: else
		fi
	}
#ifdef NO_ALLOW_CHANGES
	allow_changes()
#endif
}

inline take_lease(h, i, ok, tmp)
{
	do
	:: true ->
		set_lease(h, i, ok, tmp);
		if
		:: ok -> break
		:: else -> wait_for_lease(h, i, tmp)
		fi
	od
}
#else
#define take_lease(h, i, ok, tmp) set_lease(h, i, ok, tmp)
#endif

/*
 * layout_unset_lease(), LeaseContext::unlock(), LeaseContext::revoke_and_wait(); without "revoke" it fails
 * (EBUSY) if something is attached.
 */
inline unset_lease(h, i, ok, revoke, done)
{
CALL {
	provider_get(ok);
	if
	:: ok ->
		context_get(i);
		if
		:: i != NONE ->
			do
			:: !done ->
				atomic {
					lock(context_lock[i]);
					if
					:: HAS_LEASE(i, h) && HAS_ATTACHED(i, h) && revoke ->
						deadline[h] = true;
						expiring[i] = true;
						schedule(i);
						waits_on[h] = i
					:: HAS_LEASE(i, h) && HAS_ATTACHED(i, h) && !revoke ->
						done = true
					:: HAS_LEASE(i, h) && !HAS_ATTACHED(i, h) ->
						forget_owner(h);
						done = true
					:: !HAS_LEASE(i, h) -> done = true
					fi;
					unlock(context_lock[i])
				}
				waits_on[h] == NONE
			:: else -> done = false; break
			od;
			retire_if_empty(i)
		:: else
		fi;
		provider_put()
	:: else
	fi
}
}

/* The last fput: locks_remove_layout(), layout_lease_release(), LeaseContext::release() */
proctype Release(byte h)
{
	byte i = NONE;
	bool ok;

end:	file_ref[h] == 0;
CALL {
	if
	:: lease_in[h] != NONE ->
		provider_get(ok);
		context_get(i);
		assert((ok && i != NONE) || a_lease_is_released_from_its_context);
		atomic {
			lock(context_lock[i]);
			if
			:: lease_in[h] == i -> forget_owner(h)
			:: else
			fi;
			unlock(context_lock[i])
		}
		retire_if_empty(i);
		provider_put()
	:: else
	fi
}
}

/*
 * The consumer: a memory region
 */

/* layout_lease_attach(), LeaseContext::attach(), Inner::find_covering(), mr_lease_attach() */
inline attach(h, i, ok)
{
CALL {
	exclude_changes();
	provider_get(ok);
	if
	:: ok ->
		context_get(i);
		if
		:: i == NONE -> ok = false
		:: else ->
			atomic {
				lock(context_lock[i]);
				overlaps(i);
#ifdef NO_BREAK_RECORD
				found = false;
#endif
				if
				:: !found && HAS_LEASE(i, h) && lease[h] == GRANTED &&
				   file_ref[h] > 0 ->
					file_ref[h]++;
					keeps_file[h] = true;
					consumer[h] = true;
					handle[h] = true;
					attached[h] = true;
					attached_in[h] = i;
					context_ref_get(i);
					holder_get()
				:: else -> ok = false
				fi;
				unlock(context_lock[i]);
				context_put(i)
			}
		fi;
		provider_put()
	:: else
	fi;
	allow_changes()
}
}

/* layout_lease_detach(), LeaseContext::detach(), Attached::detach() */
inline detach(h, ok, file)
{
	provider_get(ok);
	assert(ok || the_module_goes_unused);
	atomic {
		lock(claim_lock[h]);
		consumer[h] = false;
		file = keeps_file[h];
		keeps_file[h] = false;
		unlock(claim_lock[h])
	}
	atomic {
		lock(context_lock[attached_in[h]]);
		settle(h);
		unlock(context_lock[attached_in[h]])
	}
	d_step {
		notify_all(attached_in[h]);
		if
		:: file -> file_ref[h]--; file = false
		:: else
		fi;
		handle[h] = false;
		node_put(h);
		/* and the MrLease, which nobody sees any more */
		mr[h] = PRIVATE;
		failures[h] = 0;
		device[h] = NO_ACCESS
	}
	provider_put()
}

/* ib_umem_release(): umem_lease_release(), mr_lease_release(), mr_lease_free() */
inline umem_release(h, ok, tmp)
{
	atomic {
		lock(inner_lock[h]);
		listed_pin[h] = false;
		mr[h] = MR_REVOKED;
		unlock(inner_lock[h])
	}
	detach(h, ok, tmp)
}

/* umem_lease_pin(), pin_piece(): a page that is not mapped takes a fault */
inline pin(h, ok)
{
#ifndef HOLE_PIN_WINDOW
	atomic {
		lock(inner_lock[h]);
		ok = !IS_REVOKED(h);
		pinning[h] = ok;
		unlock(inner_lock[h])
	}
#endif
	if
	:: ok ->
		atomic { (mapped || !fs_lock) -> mapped = true; loose_pin[h] = true }
		/* umem_lease_lock(), mr_lease_lock(), into the scatter list, unlock */
		atomic {
			lock(inner_lock[h]);
			ok = !IS_REVOKED(h);
			if
			:: ok -> listed_pin[h] = true; loose_pin[h] = false
			:: else
			fi;
			unlock(inner_lock[h])
		}
		loose_pin[h] = false;
		pinning[h] = false
	:: else
	fi
}

/*
 * reg_user_mr of a driver: ib_umem_get_va_revocable_and_lock(),
 * umem_lease_attach(), mr_lease_alloc(), and ib_umem_set_revoke_locked()
 */
inline reg_mr(h, i, ok, tmp)
{
	/* Here, not in the kernel, the old one has to be gone. */
	attached_in[h] == NONE;
	attach(h, i, ok);
	if
	:: ok ->
		pin(h, ok);
		if
		:: ok ->
			atomic {
				lock(inner_lock[h]);
				ok = !IS_REVOKED(h);
				if
				:: ok -> driver[h] = true; key[h] = true; mr[h] = ARMED
				:: else
				fi;
				unlock(inner_lock[h])
			}
		:: else
		fi;
		if
		:: ok
		:: else -> umem_release(h, ok, tmp); ok = false
		fi
	:: else
	fi
}

/*
 * dereg_mr of a driver: ib_umem_revoke(), mr_lease_revoke(). Its caller gets an
 * error of the device, and tries again.
 */
inline dereg_mr(h, ok, tmp)
{
	do
	:: mr[h] == MR_REVOKED -> break
	:: else ->
		atomic {
#ifndef NO_REVOKE_LOCK
			lock(inner_lock[h]);
#endif
			if
			:: mr[h] == ARMED -> key[h] = false; mr[h] = REVOKING
			:: else
			fi;
			if
			:: mr[h] == REVOKING && failures[h] < FAILS -> failures[h]++
			:: true ->
				if
				:: mr[h] == REVOKING -> device[h] != ACCESS
				:: else
				fi;
				listed_pin[h] = false;
				mr[h] = MR_REVOKED
			fi;
#ifndef NO_REVOKE_LOCK
			unlock(inner_lock[h])
#endif
		}
	od;
	driver[h] = false;
	umem_release(h, ok, tmp)
}

proctype Holder(byte h)
{
	byte i = NONE, round;
	bool ok, tmp;

	do
	:: ROUNDS == 0 || round < ROUNDS ->
		take_lease(h, i, ok, tmp);
		if
		:: ok -> reg_mr(h, i, ok, tmp)
		:: else
		fi;
#ifdef WAITS
		/* Anew, with what is registered being broken. */
		if
		:: ok -> take_lease(h, i, ok, tmp)
		:: true
		fi;
#endif
		if
#ifndef UNLOAD
#if ROUNDS > 0
		:: true -> goto idle	/* for ever, with what it has */
#endif
#endif
		:: ok -> dereg_mr(h, ok, tmp)
		:: !ok
		fi;
		if
		:: true -> unset_lease(h, i, ok, false, tmp)
		:: true
		fi;
#if ROUNDS > 0
		round++
#endif
	:: else -> break
	od;
	/* close */
	atomic { descriptor[h] = false; file_ref[h]-- }
idle:	skip
}

/* Another thread of the holder: F_UNLCK with LAYOUT_LEASE_REVOKE, at any time. */
proctype Unlocker(byte h)
{
	byte i = NONE;
	bool ok, tmp;

	if
	:: true ->
		if
		:: d_step { descriptor[h] -> file_ref[h]++ }
			unset_lease(h, i, ok, true, tmp);
			file_ref[h]--
		:: !descriptor[h]
		fi
	:: true
	fi
}

/*
 * The device
 */

/* It checks the key and begins in one read section of RCU, as rxe and siw do. */
proctype Device(byte m)
{
end:	do
	:: d_step { key[m] && device[m] == NO_ACCESS -> device[m] = ACCESS }
	:: device[m] == ACCESS -> device[m] = ACCESSED
	od
}

/*
 * The worker
 */

/* Consumer::begin() of MrLease, Driver::begin() */
inline mr_begin(m)
{
	lock(inner_lock[m]);
	if
	:: mr[m] == PRIVATE -> mr[m] = STOPPED
	:: mr[m] == ARMED ->
		assert(driver[m] || no_call_of_the_driver_after_it_has_revoked);
		key[m] = false;
		mr[m] = REVOKING
	:: else
	fi;
	unlock(inner_lock[m])
}

/* Consumer::finish() of MrLease, Driver::finish(): waits, or fails. */
inline mr_finish(m)
{
	lock(inner_lock[m]);
	progress[m] = QUIESCED;
	if
	:: mr[m] == REVOKING ->
		if
		:: failures[m] < FAILS -> failures[m]++; progress[m] = FAILED
		:: true ->
#ifndef NO_QUIESCE
			device[m] != ACCESS;
#endif
			assert(driver[m] || no_call_of_the_driver_after_it_has_revoked);
			mr[m] = STOPPED
		fi
	:: else
	fi;
	unlock(inner_lock[m])
}

/* Consumer::unpin() of MrLease, umem_lease_unpin() */
inline mr_unpin(m)
{
	!pinning[m];
	lock(inner_lock[m]);
	listed_pin[m] = false;
	mr[m] = MR_REVOKED;
	progress[m] = UNPINNED;
	unlock(inner_lock[m])
}

#define IN_BATCH(m)	(in_batch[m] && attached_in[m] == i)

/* A step of Batch::revoke() for one attachment; ConsumerRef */
#define call(m, guard, step)					\
	atomic { \
		if \
		:: IN_BATCH(m) -> \
			lock(claim_lock[m]); \
			if \
			:: consumer[m] && guard(m) -> step(m) \
			:: else \
			fi; \
			unlock(claim_lock[m]) \
		:: else \
		fi \
	}

#if HOLDERS == 1
#define for_each(guard, step)	call(0, guard, step)
#else
#define for_each(guard, step)	call(0, guard, step); call(1, guard, step)
#endif
#define ALWAYS(m)	true
#define IS_QUIESCED(m)	(progress[m] == QUIESCED)

/*
 * LeaseContext::revoke_overdue(), Batch::push(), Batch::pop(): when a deadline has come,
 * which may be any of those that are set, and others with it. LeaseContext::reap() only
 * makes one come earlier.
 */
proctype Worker(byte i)
{
end:	do
	:: d_step { timer[i] -> timer[i] = false; running[i] = true }
		atomic {
			lock(context_lock[i]);
			if
			:: HAS_DEADLINE(i, 0) -> in_batch[0] = true
#if HOLDERS > 1
			:: HAS_DEADLINE(i, 1) -> in_batch[1] = true
			:: HAS_DEADLINE(i, 0) && HAS_DEADLINE(i, 1) ->
				in_batch[0] = true;
				in_batch[1] = true
#endif
			:: !ANY_IN(i, HAS_DEADLINE)
			/* It has come early, and looks again. */
			:: expiring[i] && !early -> early = true; schedule(i)
			fi;
			unlock(context_lock[i])
		}
		for_each(ALWAYS, mr_begin);
		for_each(ALWAYS, mr_finish);
		for_each(IS_QUIESCED, mr_unpin);
		atomic {
			lock(context_lock[i]);
			for (x : 0 .. HOLDERS - 1) {
				if
				:: IN_BATCH(x) ->
					if
					:: progress[x] == UNPINNED ->
						settle(x);
						if
						:: keeps_file[x] ->
							keeps_file[x] = false;
							file_ref[x]--
						:: else
						fi
					:: progress[x] == FAILED && consumer[x] ->
						deadline[x] = true
					:: else -> deadline[x] = false
					fi;
					in_batch[x] = false;
					node_put(x)
				:: else
				fi
			}
			/* Inner::look_for_deadlines() */
			expiring[i] = ANY_IN(i, HAS_DEADLINE);
#ifndef NO_RETRY
			schedule(i);
#endif
			unlock(context_lock[i])
		}
		d_step { notify_all(i); context_drop(i); running[i] = false }
	od
}

/*
 * Breakers
 */

/* What a break finds in its context, inside. */
inline meet(t)
{
	for (k : 0 .. HOLDERS - 1) {
		if
		:: HAS_ATTACHED(break_in[t], k) ->
			pending[t]++;
			expiring[break_in[t]] = true;
			deadline[k] = true
		:: else
		fi;
		if
		:: HAS_LEASE(break_in[t], k) && lease[k] == GRANTED &&
		   HAS_ATTACHED(break_in[t], k) ->
			lease[k] = BREAKING
		:: HAS_LEASE(break_in[t], k) && lease[k] == GRANTED &&
		   !HAS_ATTACHED(break_in[t], k) ->
			lease[k] = REVOKED
		:: else
		fi
	}
}

/*
 * break_start(), LeaseContext::break_begin(), Breaks::begin(). A context that was retired
 * since it was found is looked for again.
 */
inline break_begin(t, ok)
{
CALL {
	provider_get(ok);
	if
	:: ok ->
		ok = false;
		do
		:: !ok ->
			context_get(break_in[t]);
			if
			:: break_in[t] == NONE -> ok = true; provider_put()
			:: else ->
				atomic {
					lock(context_lock[break_in[t]]);
					if
					:: !retired[break_in[t]] ->
						meet(t);
						on_record[t] = true;
						ok = true;
						schedule(break_in[t]);
						unlock(context_lock[break_in[t]])
					:: else ->
						unlock(context_lock[break_in[t]]);
						context_put(break_in[t])
					fi
				}
			fi
		:: else -> break
		od
	:: else
	fi
}
}

/* break_end(), LeaseContext::break_end(), Breaks::end() */
inline break_end(t)
{
CALL {
	if
	:: break_in[t] != NONE ->
		atomic {
			lock(context_lock[break_in[t]]);
			on_record[t] = false;
			pending[t] = 0;
			unlock(context_lock[break_in[t]])
		}
		retire_if_empty(break_in[t]);
		provider_put()
	:: else
	fi
}
}

/*
 * vfs_truncate() and others: layout_op_begin(), the operation under the locks of the
 * filesystem with dax_break_layout() in it, layout_op_again(), layout_op_end()
 */
proctype Breaker(byte b)
{
	bool ok;

again:	atomic { !fs_lock && !fs_shared -> fs_lock = true }
	/* layout_break(), break_record() */
ask:	if
	:: !on_record[b] -> break_begin(b, ok)
	:: else
	fi;
	if
	:: pending[b] != 0 ->
		unlock(fs_lock);
		/* __layout_op_again(), break_wait(): a signal may come. */
		if
		:: true -> pending[b] == 0
		:: pending[b] != 0 -> goto done
		fi;
		goto again
	:: else
	fi;
	/* dax_layout_busy_page_range() unmaps; wait_page_idle is for 0 references */
	d_step { mapped = false; ok = ANY(IS_PINNED) }
	if
	:: ok ->
		unlock(fs_lock);
		!(ANY(IS_PINNED) || mapped);
		atomic { !fs_lock && !fs_shared -> fs_lock = true }
		goto ask
	:: else
	fi;
	changing = true;
	changing = false;
	unlock(fs_lock);
done:	break_end(b);
	breakers_done++
}

#if SEIZERS > 0
/* layout_seize(), __layout_revoke(), break_now() */
proctype Seizer(byte t)
{
	bool ok;

	break_begin(t, ok);
	pending[t] == 0;
#ifdef KEEP_CONTEXT
	/* What it began on does not go, so that this is enough for a change, too. */
	changing = true;
	changing = false;
#endif
	break_end(t);
	breakers_done++
}
#endif

#ifdef UNLOAD
/* rmmod: LayoutLease::drop(), layout_lease_unregister() */
proctype Rmmod()
{
	d_step { module_ref == 0 -> module = GOING }
	/* The queue is destroyed, which waits for what runs, not for what is delayed. */
	!running[0] && !running[1];
	assert((in_code == 0 && !timer[0] && !timer[1] &&
		context_ref[0] == 0 && context_ref[1] == 0) || the_module_goes_unused);
	module = GONE
}
#endif

/* Looks at each state. */
#define BAD_I1(m)	(IS_PINNED(m) && \
			 !(attached[m] && lease_in[m] == attached_in[m] && \
			   (lease[m] == GRANTED || lease[m] == BREAKING)))
#define BAD_I2(m)	((key[m] || device[m] == ACCESS) && !listed_pin[m])
#define IS_REACHED(m)	(IS_PINNED(m) || key[m] || device[m] == ACCESS)

proctype Monitor()
{
end:	do
	:: d_step { ANY(BAD_I1) -> assert(I1_pinned_only_while_attached) }
	:: d_step { ANY(BAD_I2) -> assert(I2_reachable_only_while_pinned) }
	:: d_step { changing && ANY(IS_REACHED) ->
		    assert(I2_nothing_pinned_while_the_layout_changes) }
	od
}

init {
	atomic {
		byte n;

		run Monitor();
		for (n : 0 .. CONTEXTS - 1) {
			run Worker(n)
		}
		for (n : 0 .. HOLDERS - 1) {
			run Device(n);
			run Release(n);
			run Holder(n)
		}
#ifdef UNLOCKER
		run Unlocker(0);
#endif
		for (n : 0 .. BREAKERS - 1) {
			run Breaker(n)
		}
#if SEIZERS > 0
		for (n : BREAKERS .. BREAKS - 1) {
			run Seizer(n)
		}
#endif
#ifdef UNLOAD
		run Rmmod()
#endif
	}
}

#ifdef LIVENESS
/* Under weak fairness; I3: each break ends, whoever takes leases meanwhile. */
ltl I3_each_break_ends { <> (breakers_done == BREAKERS + SEIZERS) }
#endif
