// SPDX-License-Identifier: GPL-2.0

//! What is kept free for a breaker who does not wait.
//!
//! Such a breaker is told `EWOULDBLOCK` and comes again. If holders could lease anew meanwhile it
//! would meet them each time. So its break leaves a promise: nothing is granted in the range until
//! the layout was changed there, or until the breaker has had its time.

use crate::range::Range;
use kernel::{
    bindings,
    prelude::*, //
};

/// Keeps the module, and those who change layouts asking it, when no lease does.
#[must_use]
pub(crate) struct Hold(());

impl Hold {
    /// [`None`] if the module is being unloaded. May sleep; not under the context lock.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: It may be called from process context at any time; `drop` gives it back.
        unsafe { bindings::layout_lease_hold() }.then_some(Self(()))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: `new` took what this gives back.
        unsafe { bindings::layout_lease_unhold() };
    }
}

/// Who polls comes again within about the time that it has waited so far, an NFS client within 15
/// seconds.
const LEAST_MS: u64 = 1_000;
const MOST_MS: u64 = 15_000;

/// More than so many become one.
const MOST_PROMISES: usize = 16;

struct Promise {
    range: Range,
    /// When the breaker came first.
    begun: u64,
    /// When it ends; [`None`]: something is attached to the range.
    until: Option<u64>,
    _hold: Hold,
}

/// The promises of an inode. Under the context lock.
pub(crate) struct Promises(KVec<Promise>);

impl Promises {
    pub(crate) const fn new() -> Self {
        Self(KVec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether something in a range is kept free still.
    pub(crate) fn overlaps(&self, range: &Range, now: u64) -> bool {
        self.0
            .iter()
            .any(|p| p.range.overlaps(range) && p.until.is_none_or(|until| until > now))
    }

    /// Keeps a range free from `now` on. If memory is short it is not.
    pub(crate) fn make(&mut self, range: Range, now: u64, hold: Hold) {
        let full = self.0.len() >= MOST_PROMISES;
        let known = self.0.iter_mut().find(|p| full || p.range == range);
        match known {
            Some(promise) => {
                promise.range = promise.range.hull(&range);
                promise.until = None;
            }
            None => {
                let promise = Promise {
                    range,
                    begun: now,
                    until: None,
                    _hold: hold,
                };
                let _ = self.0.push(promise, GFP_NOWAIT);
            }
        }
    }

    /// The layout of a range was changed.
    pub(crate) fn keep(&mut self, range: &Range) {
        self.0.retain(|promise| !range.contains(&promise.range));
    }

    /// The time of the breaker begins where nothing is attached any more.
    pub(crate) fn complete(&mut self, now: u64, is_attached: impl Fn(&Range) -> bool) {
        for promise in self.0.iter_mut() {
            if promise.until.is_none() && !is_attached(&promise.range) {
                let waited = now.saturating_sub(promise.begun);
                promise.until = Some(now + waited.clamp(LEAST_MS, MOST_MS));
            }
        }
    }

    /// Forgets those that have ended. Only the worker does, which wakes who waits for that.
    pub(crate) fn expire(&mut self, now: u64) {
        self.0.retain(|p| p.until.is_none_or(|until| until > now));
    }

    /// When the next one ends.
    pub(crate) fn first_end(&self) -> Option<u64> {
        self.0.iter().filter_map(|promise| promise.until).min()
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
