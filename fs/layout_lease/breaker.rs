// SPDX-License-Identifier: GPL-2.0

//! How a lease is broken. Change `tools/testing/layout_lease_model/layout_lease.pml` with it.
//!
//! Who breaks it, and how a truncate comes here, is at the top of `break.c`.
//!
//! ```text
//! break_begin   leases in the range: Granted -> Breaking, holders are signalled, attachments get
//!               a deadline; the break goes on record, so that nothing new is granted or attached
//!      |
//!   (wait)      break.c sleeps until no attachment is left in the range
//!      |        meanwhile: holders detach -> complete()
//!      |                   deadline -> worker: revoke, quiesce, unpin -> complete()
//! break_end     the break goes off the record
//! ```
//!
//! A breaker that does not wait to the end (a signal, `O_NONBLOCK`) changes nothing for the
//! holders: their deadline stands, and the worker keeps it.

use crate::{
    attachment::{
        bytes_of,
        Batch,
        Node,
        Outcome, //
    },
    breaks::{
        Break,
        BreakEnd, //
    },
    context::{
        now_ms,
        range_of,
        Expiring,
        Inner,
        LeaseContext,
        LeaseNode,
        Prealloc,
        Retired, //
    },
    holder::{
        FileId,
        Holder,
        Reason, //
    },
    lease::State,
    promise::Hold,
    range::Range, //
};
use kernel::{
    bindings,
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
        Jiffies,
        Monotonic, //
    },
    workqueue::{
        impl_has_delayed_work,
        Queue,
        WorkItem, //
    },
};

/// A device that does not stop is asked again after 2^n times this, up to [`BACKOFF_MAX_MS`].
const BACKOFF_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 30_000;

/// Shorter timers are as precise as the clock, see the beginning of `kernel/time/timer.c`.
const PRECISE_JIFFIES: Jiffies = 64;

impl LeaseContext {
    /// Starts a break, see the top of this file.
    pub(crate) fn break_begin(this: &Arc<Self>, brk: Break) -> Result<(), Retired> {
        let (range, deadline, now) = (brk.range(), brk.deadline(), now_ms());
        let mut inner = this.inner.lock();
        if inner.retired {
            return Err(Retired);
        }
        inner.serial += 1;
        let serial = inner.serial;

        let mut met = false;
        let mut pending = 0;
        let mut attached = inner.attached.cursor(range.interval());
        while let Some(node) = attached.next(&inner.attached) {
            let (deadline, no_signal) = inner.deadline_for(&node.holder, now, deadline);
            inner.set_deadline(&node, deadline, no_signal);
            pending += 1;
        }

        let mut leases = inner.walk_leases(&range);
        while let Some(node) = leases.next(&inner.leases) {
            let (deadline, no_signal) = inner.deadline_for(&node.holder, now, deadline);
            match inner.state_of(&range_of(&node), &node) {
                // If an earlier break already covers a lease, this one may shorten its deadline;
                // F_GETLAYOUT must report the shorter one.
                State::Breaking => {
                    met = true;
                    let status = node.status_mut(&mut inner);
                    status.deadline = deadline.min(status.deadline);
                }
                State::Granted => {
                    met = true;
                    inner.break_lease(node, &range, deadline, no_signal, serial);
                }
                State::Revoked => {}
            }
        }

        inner.breaks.begin(brk, pending, met);
        this.schedule(&inner);
        Ok(())
    }

    /// Ends a break, if it is one of this context.
    pub(crate) fn break_end(this: &Arc<Self>, brk: *mut bindings::layout_break, how: BreakEnd) {
        // Not under the context lock.
        let hold = (how == BreakEnd::Promised).then(Hold::new).flatten();
        let mut inner = this.inner.lock();
        if let Some(range) = inner.breaks.end(brk) {
            if let Some(hold) = hold {
                inner.promises.make(range, now_ms(), hold);
                inner.complete_promises();
                this.schedule(&inner);
            }
            if how == BreakEnd::Done {
                inner.promises.keep(&range);
            }
        }
        drop(inner);
        this.wake_and_retire();
    }

    /// Revokes, at once, what a holder has attached through an open file, and waits for it.
    pub(crate) fn revoke_and_wait<'a>(
        this: &'a Arc<Self>,
        holder: &Arc<Holder>,
        range: &Range,
    ) -> Result<Guard<'a, Inner, MutexBackend>> {
        let mut inner = this.inner.lock();
        let mut only_new = false;
        while inner.has_attached(holder, range) {
            inner.set_deadlines(holder, range, now_ms(), true, only_new);
            // A device that does not stop has other deadlines from now on.
            only_new = true;
            this.schedule(&inner);
            if this.changed.wait_interruptible(&mut inner) {
                return Err(ERESTARTSYS);
            }
        }
        Ok(inner)
    }

    /// The process of an open file may have died while somebody waits for it: then what breaks wait
    /// for has no grace period any more.
    pub(crate) fn reap(this: &Arc<Self>, file: FileId) {
        let mut inner = this.inner.lock();
        let Some(holder) = inner
            .holders
            .get(&file)
            .filter(|holder| holder.is_dead(&inner))
            .cloned()
        else {
            return;
        };
        // Who waits for a lease of it may take it.
        this.changed.notify_all();
        let now = now_ms();
        let mut waited_for = false;
        let mut attached = holder.state(&inner).attached.cursor(Range::ALL.interval());
        while let Some(node) = attached.next(&holder.state(&inner).attached) {
            if node.expiry(&inner).deadline.is_some() {
                inner.set_deadline(&node, now, false);
                waited_for = true;
            }
        }
        if !waited_for {
            return;
        }
        let mut leases = holder.state(&inner).leases.cursor(Range::ALL.interval());
        while let Some(node) = leases.next(&holder.state(&inner).leases) {
            if node.status(&inner).state == State::Breaking {
                node.status_mut(&mut inner).deadline = now;
            }
        }
        this.schedule(&inner);
    }

    /// Runs the worker when the earliest deadline has come, or a promise has ended.
    pub(crate) fn schedule(self: &Arc<Self>, inner: &Inner) {
        let expiry = inner.expiring.map(|expiring| expiring.first);
        let ends = inner.promises.first_end();
        if let Some(time) = [expiry, ends].into_iter().flatten().min() {
            self.run_worker_at(time);
        }
    }

    /// Forgets promises that have ended.
    fn expire_promises(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        inner.promises.expire(now_ms());
        self.schedule(&inner);
        drop(inner);
        self.wake_and_retire();
    }

    fn run_worker_at(self: &Arc<Self>, deadline: u64) {
        // SAFETY: The queue is there as long as the module, which is longer than any context.
        let queue = unsafe { Queue::from_raw(bindings::layout_lease_wq) };
        let left = deadline.saturating_sub(now_ms());
        // More than a signed int is infinity there; the worker looks again.
        let left = msecs_to_jiffies(left.min(i32::MAX as u64) as u32);
        // A timer is late by up to an eighth of its time, or by a tick if that is short. So it
        // comes as much early, and the worker looks again.
        let delay = match left {
            ..=1 => left,
            2..PRECISE_JIFFIES => left - 1,
            _ => left - left / 8,
        };
        queue.modify_delayed(self.clone(), delay);
    }

    /// Revokes what is overdue. Only the worker calls it, hence one at a time for each context.
    fn revoke_overdue(self: &Arc<Self>) {
        let mut batch = Batch::new();
        let mut inner = self.inner.lock();
        let now = now_ms();
        if let Some(Expiring { range, .. }) = inner.expiring.filter(|e| e.first <= now) {
            for node in inner.attached_in(&range) {
                if node.expiry(&inner).deadline.is_some_and(|time| time <= now) {
                    batch.push(node.into());
                }
            }
            if batch.is_empty() {
                inner.look_for_deadlines();
            }
        }
        if batch.is_empty() {
            self.schedule(&inner);
            return;
        }
        drop(inner);

        let start = Instant::<Monotonic>::now();
        batch.revoke();
        let took = start.elapsed().as_micros_ceil();

        let mut inner = self.inner.lock();
        inner.serial += 1;
        let serial = inner.serial;
        let (mut count, mut bytes) = (0, 0);
        let mut of = None;
        let mut warned = false;
        while let Some((node, outcome)) = batch.pop() {
            match outcome {
                Outcome::Unpinned(file) => {
                    if !node.expiry(&inner).no_signal {
                        node.holder
                            .state_mut(&mut inner)
                            .notify(serial, Reason::Revoked);
                    }
                    inner.complete(&node);
                    if file.is_some() {
                        count += 1;
                        bytes += bytes_of(&node).len();
                        // This only queues the last put of another one.
                        of = file;
                    }
                }
                Outcome::Detached => inner.complete(&node),
                Outcome::Failed(failures) => {
                    let backoff = BACKOFF_MS << failures.min(16);
                    // Once for all of them, and backed off.
                    if !warned {
                        node.holder.state(&inner).raw.warn();
                        warned = true;
                    }
                    let again = now_ms() + backoff.min(BACKOFF_MAX_MS);
                    node.expiry_mut(&mut inner).deadline = Some(again);
                }
            }
        }
        if let Some(file) = of {
            // SAFETY: We have a reference to the file.
            unsafe { bindings::layout_lease_revoked(file.as_ptr(), count, bytes, took as u64) };
        }
        inner.look_for_deadlines();
        self.schedule(&inner);
        drop(inner);
        self.changed.notify_all();
    }
}

impl Inner {
    /// By when a holder has let go of what a break wants, and whether it is not signalled. Its own
    /// change needs no notice, and a dead process cannot let go.
    fn deadline_for(&self, holder: &Holder, now: u64, deadline: u64) -> (u64, bool) {
        match holder.is_current(self) {
            true => (now, true),
            false if holder.is_dead(self) => (now, false),
            false => (deadline, false),
        }
    }

    /// Breaks a lease that is granted, in a range.
    fn break_lease(
        &mut self,
        node: Arc<LeaseNode>,
        range: &Range,
        deadline: u64,
        no_signal: bool,
        serial: u64,
    ) {
        let part = self.split(node, range);
        let whole = range_of(&part);
        if !range.contains(&whole) {
            self.set_deadlines(&part.holder, &whole, deadline, no_signal, false);
        }
        let attached = self.has_attached(&part.holder, &whole);
        let status = part.status_mut(self);
        status.deadline = deadline;
        status.state = status.state.broken(attached);
        if !no_signal {
            part.holder.state_mut(self).notify(serial, Reason::Break);
        }
    }

    /// An attachment is gone: its pages are unpinned.
    ///
    /// Wakes the breakers who wait for it. The break of a lease is over when nothing is attached to
    /// it any more, see [`Self::state_of`].
    pub(crate) fn complete(&mut self, node: &Arc<Node>) {
        if self.remove_attached(node) {
            self.breaks.detached(&range_of(node));
            self.complete_promises();
        }
    }

    /// Breakers who do not wait have their time from when nothing is attached any more.
    fn complete_promises(&mut self) {
        if !self.promises.is_empty() {
            let attached = &self.attached;
            self.promises.complete(now_ms(), |range| {
                attached.overlapping(range.interval()).next().is_some()
            });
        }
    }

    /// Gives a deadline to an attachment, unless it has an earlier one.
    fn set_deadline(&mut self, node: &Node, deadline: u64, no_signal: bool) {
        if node.expiry(self).deadline.is_none() {
            node.holder.state_mut(self).count_expiring(1, 0);
        }
        node.expiry_mut(self).set(deadline, no_signal);
        self.expects(&range_of(node), deadline);
    }

    /// Something is attached in a range that has this deadline.
    fn expects(&mut self, range: &Range, deadline: u64) {
        let new = Expiring {
            range: *range,
            first: deadline,
        };
        self.expiring = Some(self.expiring.map_or(new, |old| Expiring {
            range: old.range.hull(range),
            first: old.first.min(deadline),
        }));
    }

    /// Gives a deadline to what a holder has attached in a range through an open file; `only_new`:
    /// not to what has one.
    fn set_deadlines(
        &mut self,
        holder: &Holder,
        range: &Range,
        deadline: u64,
        no_signal: bool,
        only_new: bool,
    ) {
        let mut attached = holder.state(self).attached.cursor(range.interval());
        while let Some(node) = attached.next(&holder.state(self).attached) {
            if !(only_new && node.expiry(self).deadline.is_some()) {
                self.set_deadline(&node, deadline, no_signal);
            }
        }
    }

    /// Splits a lease, so that a break takes only a part of it. If memory is short, or if the user
    /// has too many leases, the break takes all of it, since a breaker never fails because of a
    /// lease.
    fn split(&mut self, node: Arc<LeaseNode>, range: &Range) -> Arc<LeaseNode> {
        let whole = range_of(&node);
        let rest = whole.without(range);
        let more = rest.iter().flatten().count();
        let raw = &node.holder.state(self).raw;
        if more == 0 || raw.charge(more).is_err() {
            return node;
        }
        let Ok(mut prealloc) = Prealloc::new(more + 1, GFP_NOWAIT) else {
            raw.uncharge(more);
            return node;
        };
        let common = whole.common(range);
        self.remove_lease(&node);
        for part in rest.iter().flatten() {
            self.insert_lease(&mut prealloc, part, node.clone_for_part(self));
        }
        self.insert_lease(&mut prealloc, &common, node.clone_for_part(self))
            .unwrap_or(node)
    }

    /// Finds the earliest of the deadlines that are left.
    fn look_for_deadlines(&mut self) {
        if let Some(Expiring { range, .. }) = self.expiring {
            let left = self.attached_in(&range);
            let first = left.filter_map(|node| node.expiry(self).deadline).min();
            self.expiring = first.map(|first| Expiring { range, first });
        }
    }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for LeaseContext { self.worker }
}

impl WorkItem for LeaseContext {
    type Pointer = Arc<LeaseContext>;

    fn run(this: Arc<LeaseContext>) {
        this.revoke_overdue();
        this.expire_promises();
    }
}
