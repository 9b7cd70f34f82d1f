// SPDX-License-Identifier: GPL-2.0

//! How a lease is broken. Change `tools/testing/layout_lease_model/layout_lease.pml` with it.
//!
//! ```text
//! break_begin   leases in the range: Granted -> Breaking, holders are signalled, attachments get
//!               a deadline; the break goes on record, so that nothing new is granted or attached
//!      |
//!   (wait)      hooks.c sleeps until no attachment is left in the range
//!      |        meanwhile: holders detach -> settle()
//!      |                   deadline -> worker: revoke, quiesce, unpin -> settle()
//! break_end     the break goes off the record
//! ```
//!
//! A breaker that does not wait to the end (a signal, `O_NONBLOCK`) changes nothing for the holders:
//! their deadline stands, and the worker keeps it.

use crate::{
    attachment::{
        bytes_of,
        Batch,
        Node,
        Outcome, //
    },
    index::{
        range_of,
        Index,
        Inner,
        LeaseNode,
        Spares, //
    },
    lease::{
        Owner,
        State, //
    },
    range::Range,
    QUEUE, //
};
use kernel::{
    fs::layout_lease::{
        now_ms,
        Break,
        BreakEnd,
        FileId,
        Hold,
        Reason,
        Retired, //
    },
    prelude::*,
    sync::{
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Arc, //
    },
    time::{
        msecs_to_jiffies,
        Instant,
        Monotonic, //
    },
    workqueue::{
        impl_has_delayed_work,
        WorkItem, //
    },
};

/// A device that does not stop is asked again after 2^n times this, up to [`BACKOFF_MAX_MS`].
const BACKOFF_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 30_000;

impl Index {
    /// Starts a break, see the top of this file.
    ///
    /// # Safety
    ///
    /// `brk` stays in place until [`Self::break_end`].
    pub(crate) unsafe fn break_begin(this: &Arc<Self>, brk: &Break) -> Result<(), Retired> {
        let range = range_of_break(brk);
        let now = now_ms();
        let deadline = brk.deadline();
        // The holder's own change needs no notice, and a dead holder cannot let go.
        let deadline_for = |owner: &Owner| match owner.anchor.is_current() {
            true => (now, true),
            false if owner.anchor.is_dead() => (now, false),
            false => (deadline, false),
        };

        let mut inner = this.inner.lock();
        if inner.retired {
            return Err(Retired);
        }
        inner.serial += 1;
        let serial = inner.serial;

        let mut met = false;
        let mut pending = 0;
        let mut doomed = inner.doomed;
        for attached in inner.attached_in(&range) {
            let (deadline, quiet) = deadline_for(&attached.owner);
            attached.expire(deadline, quiet);
            doomed = Some(hull(doomed, &range_of(&attached)));
            pending += 1;
        }
        inner.doomed = doomed;

        // Whoever is in an earlier break sees it, too, if this one has the shorter grace period.
        for (part, lease) in inner.leases_in(&range) {
            if inner.state_of(&part, &lease) == State::Breaking {
                met = true;
                let (deadline, _) = deadline_for(&lease.owner);
                lease.set_deadline(deadline.min(lease.deadline()));
            }
        }

        let mut at = inner.first_lease(&range);
        while let Some(node) = inner.next_lease(&mut at, &range) {
            if node.state() != State::Granted {
                continue;
            }
            met = true;
            let part = inner.split(node, &range);
            let whole = range_of(&part);
            let (deadline, quiet) = deadline_for(&part.owner);
            if !range.contains(&whole) {
                inner.doom(&part.owner, &whole, deadline, quiet, false);
            }
            let attached = inner.has_attached(&part.owner, &whole);
            part.set_deadline(deadline);
            part.set_state(part.state().broken(attached));
            if !quiet {
                part.owner.tell(serial, Reason::Break);
            }
        }

        // SAFETY: It is new, and the caller keeps it in place.
        unsafe { inner.breaks.begin(brk, pending, met) };
        this.schedule(&inner);
        Ok(())
    }

    /// Ends a break.
    ///
    /// # Safety
    ///
    /// `brk` was given to [`Self::break_begin`] of this index.
    pub(crate) unsafe fn break_end(this: &Arc<Self>, brk: &Break, how: BreakEnd) {
        let range = range_of_break(brk);
        // Not under the index lock.
        let hold = (how == BreakEnd::Promised).then(Hold::new).flatten();
        let mut inner = this.inner.lock();
        // SAFETY: By the caller it is on the list.
        unsafe { inner.breaks.end(brk) };
        if let Some(hold) = hold {
            inner.promises.make(range, now_ms(), hold);
            inner.settle_promises();
            this.schedule(&inner);
        }
        if how == BreakEnd::Done {
            inner.promises.keep(&range);
        }
        drop(inner);
        this.retire_if_empty();
    }

    /// Revokes, at once, what a holder has attached through an open file, and waits for it.
    pub(crate) fn take_back<'a>(
        this: &'a Arc<Self>,
        owner: &Arc<Owner>,
        range: &Range,
    ) -> Result<Guard<'a, Inner, MutexBackend>> {
        let mut inner = this.inner.lock();
        let mut fresh = false;
        while inner.has_attached(owner, range) {
            inner.doom(owner, range, now_ms(), true, fresh);
            // A device that does not stop has other deadlines from now on.
            fresh = true;
            this.schedule(&inner);
            if this.changed.wait_interruptible(&mut inner) {
                return Err(ERESTARTSYS);
            }
        }
        Ok(inner)
    }

    /// The holder of an open file may have died during a break: then what breaks wait for has no
    /// grace period any more.
    pub(crate) fn bury(this: &Arc<Self>, file: FileId) {
        let inner = this.inner.lock();
        let Some(owner) = inner.owner(file).filter(|owner| owner.anchor.is_dead()) else {
            return;
        };
        let now = now_ms();
        let mut waited_for = false;
        for attached in inner.attached_by(owner, &Range::ALL) {
            if attached.deadline().is_some() {
                attached.expire(now, false);
                waited_for = true;
            }
        }
        if !waited_for {
            return;
        }
        for (_, lease) in inner.leases_of(owner, &Range::ALL) {
            if lease.state() == State::Breaking {
                lease.set_deadline(now);
            }
        }
        this.run_worker_at(now);
    }

    /// Runs the worker when the earliest deadline has come, or a promise has ended.
    pub(crate) fn schedule(self: &Arc<Self>, inner: &Inner) {
        let first = inner.doomed.and_then(|doomed| {
            let attached = inner.attached_in(&doomed);
            attached.filter_map(|a| a.deadline()).min()
        });
        let ends = inner.promises.first_end();
        if let Some(time) = [first, ends].into_iter().flatten().min() {
            self.run_worker_at(time);
        }
    }

    /// Forgets promises that have ended.
    fn expire_promises(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        inner.promises.expire(now_ms());
        self.schedule(&inner);
        drop(inner);
        self.retire_if_empty();
    }

    fn run_worker_at(self: &Arc<Self>, deadline: u64) {
        let delay = deadline.saturating_sub(now_ms());
        if let Some(queue) = QUEUE.lock().as_ref() {
            queue.modify_delayed(
                self.clone(),
                // More than a signed int is infinity there; the worker looks again.
                msecs_to_jiffies(delay.min(i32::MAX as u64) as u32),
            );
        }
    }

    /// Revokes what is overdue. Only the worker calls it, hence one at a time for each index.
    fn revoke_overdue(self: &Arc<Self>) {
        let mut batch = Batch::new();
        let inner = self.inner.lock();
        let now = now_ms();
        if let Some(doomed) = inner.doomed {
            for attached in inner.attached_in(&doomed) {
                if attached.deadline().is_some_and(|deadline| deadline <= now) {
                    batch.push(attached.into());
                }
            }
        }
        drop(inner);

        let start = Instant::<Monotonic>::now();
        batch.revoke();
        let took = start.elapsed().as_micros_ceil();

        let mut inner = self.inner.lock();
        inner.serial += 1;
        let serial = inner.serial;
        let (mut count, mut bytes) = (0, 0);
        let mut warned = false;
        while let Some((node, outcome)) = batch.pop() {
            match outcome {
                Outcome::Unpinned(file) => {
                    if !node.is_quiet() {
                        node.owner.tell(serial, Reason::Revoked);
                    }
                    inner.settle(&node);
                    if file.is_some() {
                        count += 1;
                        bytes += bytes_of(&node).len();
                    }
                    // Only queues the last put of the file.
                    drop(file);
                }
                Outcome::Detached => inner.settle(&node),
                Outcome::Failed(failures) => {
                    let backoff = BACKOFF_MS << failures.min(16);
                    // Once for all of them, and backed off.
                    if !warned {
                        node.owner.warn();
                        warned = true;
                    }
                    node.retry_at(now_ms() + backoff.min(BACKOFF_MAX_MS));
                }
            }
        }
        if count > 0 {
            // SAFETY: What still had its file had not been settled, so the index was not retired
            // before we locked it.
            unsafe { self.home.revoked(count, bytes, took as u64) };
        }
        inner.forget_deadlines();
        self.schedule(&inner);
        drop(inner);
        self.changed.notify_all();
    }
}

impl Inner {
    /// An attachment is gone: its pages are unpinned.
    ///
    /// Wakes the breakers who wait for it. The break of a lease is over when nothing is attached to
    /// it any more, see [`Self::state_of`].
    pub(crate) fn settle(&mut self, node: &Arc<Node>) {
        if self.remove_attached(node) {
            let range = range_of(node);
            self.breaks.settle(range.start, range.last);
            self.settle_promises();
        }
    }

    /// Breakers who do not wait have their time from when nothing is attached any more.
    fn settle_promises(&mut self) {
        if !self.promises.is_empty() {
            let attached = &self.attached;
            self.promises.settle(now_ms(), |range| {
                let (start, last) = range.interval();
                attached.overlapping(start, last).next().is_some()
            });
        }
    }

    /// Gives a deadline to what a holder has attached in a range through an open file; `fresh`: only
    /// to what has none yet.
    fn doom(&mut self, owner: &Arc<Owner>, range: &Range, deadline: u64, quiet: bool, fresh: bool) {
        let mut doomed = self.doomed;
        for attached in self.attached_by(owner, range) {
            if !(fresh && attached.deadline().is_some()) {
                attached.expire(deadline, quiet);
                doomed = Some(hull(doomed, &range_of(&attached)));
            }
        }
        self.doomed = doomed;
    }

    /// Splits a lease, so that a break takes only a part of it. If memory is short, or if the user
    /// has too many leases, the break takes all of it, since a breaker never fails because of a
    /// lease.
    fn split(&mut self, node: Arc<LeaseNode>, range: &Range) -> Arc<LeaseNode> {
        let whole = range_of(&node);
        let rest = whole.without(range);
        let more = rest.iter().flatten().count();
        if more == 0 || node.owner.charge(more).is_err() {
            return node;
        }
        let Ok(mut spares) = Spares::nowait() else {
            node.owner.uncharge(more);
            return node;
        };
        let common = whole.common(range);
        self.remove_lease(&node);
        for part in rest.iter().flatten() {
            self.insert_lease(&mut spares, part, node.piece());
        }
        self.insert_lease(&mut spares, &common, node.piece())
            .unwrap_or(node)
    }

    /// Forgets where deadlines were, once there are none.
    fn forget_deadlines(&mut self) {
        if let Some(doomed) = self.doomed {
            if self.attached_in(&doomed).all(|a| a.deadline().is_none()) {
                self.doomed = None;
            }
        }
    }
}

fn range_of_break(brk: &Break) -> Range {
    Range {
        start: brk.start(),
        last: brk.last(),
    }
}

fn hull(doomed: Option<Range>, range: &Range) -> Range {
    doomed.map_or(*range, |doomed| doomed.hull(range))
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Index { self.worker }
}

impl WorkItem for Index {
    type Pointer = Arc<Index>;

    fn run(this: Arc<Index>) {
        this.revoke_overdue();
        this.expire_promises();
    }
}
