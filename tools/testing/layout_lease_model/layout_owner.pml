/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Layout leases: one open file that processes share, whose holder has died while
 * an MR stays attached. Who is its next holder? See README.rst.
 *
 * All of this is under the context lock, which is dropped only to sleep in
 * take_back. A process has an owner of the same number.
 */

#define NONE		7
#define OWNERS		3
#define DEAD		0	/* the owner that was there first */

/* A name for each property, to be found in the output; never true. */
hidden byte a_lease_has_its_owner_in_the_context, a_file_that_goes_has_no_lease;

bool context_lock;		/* LeaseContext::inner */
byte in_map = NONE;		/* Inner::owners, of this file */
bool lease[OWNERS];		/* in the tree, and the holder is linked to the file */
bool attached[OWNERS];
bool deadline[OWNERS];
bool waits_changed[OWNERS];	/* sleeps on LeaseContext::changed */
byte file_ref = 2;		/* a descriptor in each process that lives */

#define lock(l)		!(l) -> l = true
#define unlock(l)	l = false

/* Inner::forget(), inside of a step under the context lock */
inline forget_owner(o)
{
	lease[o] = false;
#ifndef NO_OWNER_CHECK
	if
	:: in_map == o -> in_map = NONE
	:: else
	fi
#else
	in_map = NONE
#endif
}

/* LeaseContext::revoke_and_wait(): returns with the context lock held */
inline take_back(me, o)
{
	do
	:: atomic {
		lock(context_lock);
		if
		:: attached[o] ->
			deadline[o] = true;
			waits_changed[me] = true;
			unlock(context_lock)
		:: else -> break
		fi
	   }
		!waits_changed[me]
	od
}

/* LeaseContext::make_way(), Inner::find_dead() */
inline make_way(me, present)
{
	do
	:: atomic {
		lock(context_lock);
		present = in_map;
		unlock(context_lock);
		if
		:: present == DEAD
		:: else -> break
		fi
	   }
		take_back(me, present);
		atomic { forget_owner(present); unlock(context_lock) }
	od
}

/* LeaseContext::grant(), after what may have to wait for a device */
inline set_lease(me, present)
{
	make_way(me, present);
	atomic {
		lock(context_lock);
		if
		:: in_map == NONE || in_map == me -> in_map = me; lease[me] = true
		/* EBUSY; EAGAIN if he has died since then */
		:: else
		fi;
		unlock(context_lock)
	}
}

/* LeaseContext::unlock() with LAYOUT_LEASE_REVOKE */
inline unset_lease(me, present)
{
	atomic {
		lock(context_lock);
		present = in_map;
		if
		:: present != NONE && present != me && present != DEAD ->
			present = NONE
		:: else
		fi;
		unlock(context_lock)
	}
	if
	:: present != NONE ->
		take_back(me, present);
		atomic { forget_owner(present); unlock(context_lock) }
	:: else
	fi
}

proctype Process(byte me)
{
	byte present;

	if
	:: true -> set_lease(me, present)
	:: true -> unset_lease(me, present); set_lease(me, present)
	fi;
	if
	:: true -> unset_lease(me, present)
	:: true
	fi;
	file_ref--
}

/* LeaseContext::revoke_overdue(): takes back, settles, notifies */
proctype Worker()
{
	byte o;

end:	do
	:: d_step {
		attached[DEAD] && deadline[DEAD] && !context_lock ->
		attached[DEAD] = false;
		for (o : 0 .. OWNERS - 1) {
			waits_changed[o] = false
		}
	   }
	od
}

/* LeaseContext::release(), of the last reference; then the file is freed. */
proctype Release()
{
	file_ref == 0;
	atomic {
		if
		:: in_map != NONE -> forget_owner(in_map)
		:: else
		fi;
		assert(!(lease[0] || lease[1] || lease[2]) || a_file_that_goes_has_no_lease)
	}
}

#define IS_LOST(o)	(lease[o] && in_map != o)

/* Looks at each state. */
proctype Monitor()
{
end:	do
	:: d_step {
		!context_lock && (IS_LOST(0) || IS_LOST(1) || IS_LOST(2)) ->
		assert(a_lease_has_its_owner_in_the_context)
	   }
	od
}

init {
	atomic {
		lease[DEAD] = true;
		in_map = DEAD;
		if
		:: attached[DEAD] = true
		:: skip
		fi;
		run Monitor();
		run Worker();
		run Release();
		run Process(1);
		run Process(2)
	}
}
