// SPDX-License-Identifier: GPL-2.0

//! Changing one's mind about delayed work.

use super::{
    DelayedWork,
    HasDelayedWork,
    Queue,
    Work,
    WorkItem, //
};
use crate::{
    bindings,
    container_of,
    sync::Arc,
    time::Jiffies, //
};

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
    /// `delay` is in jiffies from now. Work that runs at the moment runs once more. The timer
    /// points at the queue, which therefore must be one that nobody destroys.
    ///
    /// Context: any.
    ///
    /// C: `mod_delayed_work_on()`.
    pub fn modify_delayed<T, const ID: u64>(&'static self, item: Arc<T>, delay: Jiffies)
    where
        T: HasDelayedWork<T, ID> + WorkItem<ID, Pointer = Arc<T>> + Send + Sync + 'static,
    {
        let dwork = raw_delayed_work(&item);
        let item = Arc::into_raw(item);
        // SAFETY: `self` is valid for ever, and `dwork` until the `Arc` that we leaked is dropped,
        // which `run` does.
        let pending = unsafe {
            bindings::mod_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as ffi::c_int,
                self.0.get(),
                dwork,
                delay,
            )
        };
        if pending {
            // SAFETY: Pending work owned an `Arc` already, which `run` takes. So nobody takes the
            // one that we leaked above.
            drop(unsafe { Arc::from_raw(item) });
        }
    }
}

impl<T, const ID: u64> DelayedWork<T, ID>
where
    T: HasDelayedWork<T, ID> + WorkItem<ID, Pointer = Arc<T>>,
{
    /// Cancels delayed work that has not started, and gives back what the queue owned.
    ///
    /// Work that has started goes on, and [`None`] is returned.
    ///
    /// Context: any.
    ///
    /// C: `cancel_delayed_work()`.
    pub fn cancel(item: &Arc<T>) -> Option<Arc<T>> {
        // SAFETY: The item, hence its work, is valid and was initialised.
        let pending = unsafe { bindings::cancel_delayed_work(raw_delayed_work(item)) };
        // SAFETY: Pending work owned an `Arc`, which came from `Arc::into_raw`. Now that it does
        // not run, nobody else takes that.
        pending.then(|| unsafe { Arc::from_raw(Arc::as_ptr(item)) })
    }
}

#[cfg(CONFIG_LAYOUT_LEASE_KUNIT_TEST)]
#[macros::kunit_tests(rust_kernel_workqueue_delayed)]
mod tests {
    use super::*;
    use crate::{
        prelude::*,
        sync::Completion,
        workqueue::{
            self,
            impl_has_delayed_work,
            new_delayed_work, //
        },
    };

    const LONG: Jiffies = 1 << 30;

    #[pin_data]
    struct Item {
        #[pin]
        work: DelayedWork<Item>,
        #[pin]
        ran: Completion,
    }

    impl_has_delayed_work! {
        impl HasDelayedWork<Self> for Item { self.work }
    }

    impl WorkItem for Item {
        type Pointer = Arc<Item>;

        fn run(this: Arc<Item>) {
            this.ran.complete_all();
        }
    }

    fn item() -> Result<Arc<Item>> {
        let init = pin_init!(Item {
            work <- new_delayed_work!("Item::work"),
            ran <- Completion::new(),
        });
        Arc::pin_init(init, GFP_KERNEL)
    }

    fn is_unique(item: Arc<Item>) -> bool {
        Arc::into_unique_or_drop(item).is_some()
    }

    #[test]
    fn idle() -> Result {
        let item = item()?;
        assert!(DelayedWork::cancel(&item).is_none());
        assert!(is_unique(item));
        Ok(())
    }

    #[test]
    fn cancel_gives_back() -> Result {
        let item = item()?;
        workqueue::system().modify_delayed(item.clone(), LONG);
        // One reference for each that was given, none for the second time.
        workqueue::system().modify_delayed(item.clone(), LONG);
        let queued = DelayedWork::cancel(&item).ok_or(ENOENT)?;
        assert!(Arc::ptr_eq(&queued, &item));
        assert!(DelayedWork::cancel(&item).is_none());
        drop(queued);
        assert!(is_unique(item));
        Ok(())
    }

    #[test]
    fn modify_shortens() -> Result {
        let item = item()?;
        assert!(workqueue::system()
            .enqueue_delayed(item.clone(), LONG)
            .is_ok());
        workqueue::system().modify_delayed(item.clone(), 0);
        item.ran.wait_for_completion();
        assert!(DelayedWork::cancel(&item).is_none());
        Ok(())
    }
}
