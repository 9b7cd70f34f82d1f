// SPDX-License-Identifier: GPL-2.0

//! Work queues that belong to somebody.

use super::{
    HasDelayedWork,
    Queue,
    Work,
    WorkItem, //
};
use crate::{
    bindings,
    container_of,
    error::{
        code::ENOMEM,
        Result, //
    },
    fmt,
    prelude::*,
    sync::Arc,
    time::Jiffies, //
};
use core::{
    ops::Deref,
    ptr::NonNull, //
};

/// A work queue that is destroyed when this value is dropped.
///
/// A module that queues work on a queue of the system can be unloaded while the work runs, or
/// before. On a queue of its own it cannot: dropping the queue waits until all work that is queued
/// or runs has finished. It does not wait for delayed work whose time has not come, so cancel that
/// first ([`cancel_delayed`]).
///
/// # Invariants
///
/// `wq` came from `alloc_workqueue()` and is not yet destroyed.
///
/// # Examples
///
/// ```
/// use kernel::workqueue::OwnedQueue;
///
/// let queue = OwnedQueue::new_unbound(c"example")?;
/// queue.try_spawn(GFP_KERNEL, || pr_info!("before the drop returns\n"))?;
/// drop(queue);
/// # Ok::<(), Error>(())
/// ```
pub struct OwnedQueue {
    wq: NonNull<bindings::workqueue_struct>,
}

// SAFETY: The C work queue may be used from any thread.
unsafe impl Send for OwnedQueue {}
// SAFETY: The C work queue may be used from any thread.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// Allocates a queue whose work is bound to no CPU and runs concurrently.
    ///
    /// The queue can make progress when memory is short (`WQ_MEM_RECLAIM`).
    ///
    /// Context: may sleep.
    pub fn new_unbound(name: &'static CStr) -> Result<Self> {
        // SAFETY: The format takes one string, which is static.
        let wq = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr(),
                bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags_WQ_MEM_RECLAIM,
                0,
                name.as_char_ptr(),
            )
        };
        // INVARIANT: As above.
        Ok(Self {
            wq: NonNull::new(wq).ok_or(ENOMEM)?,
        })
    }
}

impl Deref for OwnedQueue {
    type Target = Queue;

    #[inline]
    fn deref(&self) -> &Queue {
        // SAFETY: By the type invariant the queue is valid as long as `self`.
        unsafe { Queue::from_raw(self.wq.as_ptr()) }
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; this is the last use.
        unsafe { bindings::destroy_workqueue(self.wq.as_ptr()) };
    }
}

impl fmt::Debug for OwnedQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedQueue").finish_non_exhaustive()
    }
}

/// The C `delayed_work` of an item.
fn raw_delayed_work<T, const ID: u64>(item: &Arc<T>) -> *mut bindings::delayed_work
where
    T: HasDelayedWork<T, ID>,
{
    // SAFETY: An `Arc` points at a valid value.
    let work = unsafe { T::raw_get_work(Arc::as_ptr(item).cast_mut()) };
    // SAFETY: `raw_get_work` returns a pointer to a valid value.
    let work = unsafe { Work::raw_get(work) };
    // SAFETY: By the safety requirement of `HasDelayedWork` it is the field of a `delayed_work`.
    unsafe { container_of!(work, bindings::delayed_work, work) }
}

impl Queue {
    /// Queues delayed work, or changes the delay of work that is queued already.
    ///
    /// `delay` is in jiffies from now. Work that runs at the moment runs once more.
    ///
    /// Context: any.
    ///
    /// C: `mod_delayed_work_on()`.
    pub fn modify_delayed<T, const ID: u64>(&self, item: Arc<T>, delay: Jiffies)
    where
        T: HasDelayedWork<T, ID> + WorkItem<ID, Pointer = Arc<T>> + Send + Sync + 'static,
    {
        let dwork = raw_delayed_work(&item);
        let item = Arc::into_raw(item);
        // SAFETY: `self` and `dwork` are valid. If the work was not pending, the queue owns the
        // `Arc` that we leaked until `run` takes it.
        let pending = unsafe {
            bindings::mod_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as ffi::c_int,
                self.0.get(),
                dwork,
                delay,
            )
        };
        if pending {
            // The `Arc` of the pending work is the one that `run` takes.
            //
            // SAFETY: We leaked it above and nobody took it.
            drop(unsafe { Arc::from_raw(item) });
        }
    }
}

/// Cancels delayed work that has not started, and gives back what the queue owned.
///
/// Work that has started goes on, and [`None`] is returned.
///
/// Context: any.
///
/// C: `cancel_delayed_work()`.
pub fn cancel_delayed<T, const ID: u64>(item: &Arc<T>) -> Option<Arc<T>>
where
    T: HasDelayedWork<T, ID> + WorkItem<ID, Pointer = Arc<T>>,
{
    // SAFETY: The work is valid. It was initialised with the item.
    if unsafe { bindings::cancel_delayed_work(raw_delayed_work(item)) } {
        // SAFETY: The work was pending, hence the queue owned an `Arc` that came from
        // `Arc::into_raw`, which nobody else takes any more.
        Some(unsafe { Arc::from_raw(Arc::as_ptr(item)) })
    } else {
        None
    }
}
