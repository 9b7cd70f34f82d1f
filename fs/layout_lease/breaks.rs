// SPDX-License-Identifier: GPL-2.0

//! Breaks on record. They lie in the `layout_op` of their breakers, so that none needs memory.

use crate::range::Range;
use core::{
    iter,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::bindings;

/// A break that begins or is on record.
///
/// # Invariants
///
/// It stays in place until `LeaseContext::break_end`. Its range and its deadline do not change.
pub(crate) struct Break(NonNull<bindings::layout_break>);

/// How a break ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakEnd {
    /// The layout was changed.
    Done,
    /// It was not, and the breaker will come again: the range is kept free.
    Promised,
    /// It was not, and will not be.
    GivenUp,
}

impl Break {
    /// # Safety
    ///
    /// `brk` is filled in, on no list, and stays in place until `LeaseContext::break_end`.
    pub(crate) unsafe fn new(brk: *mut bindings::layout_break) -> Self {
        // SAFETY: It is not `NULL`.
        Self(unsafe { NonNull::new_unchecked(brk) })
    }

    /// The range, rounded outward to the unit of DAX mappings.
    pub(crate) fn range(&self) -> Range {
        let brk = self.0.as_ptr();
        // SAFETY: By the type invariant it is in place, and these do not change.
        let (start, last) = unsafe { ((*brk).start, (*brk).last) };
        Range { start, last }
    }

    /// By when holders have let go.
    pub(crate) fn deadline(&self) -> u64 {
        // SAFETY: By the type invariant it is in place, and this does not change.
        unsafe { (*self.0.as_ptr()).deadline }
    }
}

/// The breaks under way on one inode.
///
/// # Invariants
///
/// A list through `next` of breaks from their [`Self::begin`] to their [`Self::end`], so that they
/// are in place. `next` and `met` are ours meanwhile, and so is `pending` but for those who read
/// it.
pub(crate) struct Breaks(*mut bindings::layout_break);

// SAFETY: Breaks may be changed by any thread that has exclusive access to the list.
unsafe impl Send for Breaks {}

impl Breaks {
    pub(crate) const fn new() -> Self {
        Self(ptr::null_mut())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_null()
    }

    /// Puts a break on the list, waiting for `pending` attachments; it has `met` leases.
    pub(crate) fn begin(&mut self, brk: Break, pending: usize, met: bool) {
        let brk = brk.0.as_ptr();
        // SAFETY: The break is in place, and ours from now on: its breaker does not look at it
        // before `break_begin` has returned.
        unsafe {
            (*brk).next = self.0;
            (*brk).pending = pending;
            (*brk).met = met;
        }
        // INVARIANT: It has begun.
        self.0 = brk;
    }

    /// Takes a break off the list and returns its range, if it is there.
    pub(crate) fn end(&mut self, brk: *mut bindings::layout_break) -> Option<Range> {
        let ended = self.iter().find(|found| found.0.as_ptr() == brk)?;
        // SAFETY: It is on the list, so `next` is ours.
        let next = unsafe { (*brk).next };
        let before = self
            .iter()
            .find(|before| Self::after(before).is_some_and(|after| after.0.as_ptr() == brk));
        match before {
            // SAFETY: It is on the list, so `next` is ours.
            Some(before) => unsafe { (*before.0.as_ptr()).next = next },
            None => self.0 = next,
        }
        Some(ended.range())
    }

    /// The next one of a break on the list.
    fn after(brk: &Break) -> Option<Break> {
        // SAFETY: It is on the list, so `next` is ours.
        NonNull::new(unsafe { (*brk.0.as_ptr()).next }).map(Break)
    }

    fn iter(&self) -> impl Iterator<Item = Break> + '_ {
        let mut at = NonNull::new(self.0).map(Break);
        iter::from_fn(move || {
            let brk = at.take()?;
            at = Self::after(&brk);
            Some(brk)
        })
    }

    pub(crate) fn overlaps(&self, range: &Range) -> bool {
        self.iter().any(|brk| brk.range().overlaps(range))
    }

    /// An attachment in a range is gone. Wakes breakers for whom it was the last one.
    pub(crate) fn detached(&mut self, range: &Range) {
        for brk in self.iter().filter(|brk| brk.range().overlaps(range)) {
            // SAFETY: It is on the list. It has waited for this attachment: what overlaps a break
            // was there when that began.
            unsafe { bindings::layout_break_detached(brk.0.as_ptr()) };
        }
    }
}
