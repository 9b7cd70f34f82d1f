// SPDX-License-Identifier: GPL-2.0

//! Layout leases, for those who pin pages under them.
//!
//! A layout lease lets a process pin the blocks of a DAX file, until somebody changes the layout of
//! the file and the kernel takes the pages back. A [`Consumer`] pins pages, for example of an RDMA
//! memory region, and gives them back when a lease is broken; an [`Attachment`] ties them to a
//! lease.
//!
//! C header: [`include/linux/layout_lease.h`](srctree/include/linux/layout_lease.h)

use crate::{
    bindings,
    error::{
        from_err_ptr,
        from_result, //
    },
    fs::File,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::ForeignOwnable,
};
use core::{
    marker::PhantomData,
    ops::RangeInclusive, //
};

/// How to take pages back from whoever attached them to a lease.
///
/// A break of many attachments calls all [`begin`](Self::begin), then all
/// [`finish`](Self::finish), then all [`unpin`](Self::unpin), so that waiting for the device costs
/// one wait. Calls for one attachment never overlap.
///
/// # Context
///
/// All three run in a worker that holds no locks, and may sleep. They must not fault user memory,
/// take `mmap_lock` or enter a filesystem.
pub trait Consumer: Sized + Send + Sync + 'static {
    /// Stops new accesses; never waits for the device. May be called again after a failed
    /// [`finish`](Self::finish).
    fn begin(&self);

    /// Waits for old accesses. On an error the caller warns, backs off and calls it again.
    fn finish(&self) -> Result;

    /// Unpins the pages, unless that was done.
    fn unpin(this: ArcBorrow<'_, Self>);
}

/// A consumer's claim on a range of a file.
///
/// It keeps the open file that holds the lease, hence inode and mount, until the pages are taken
/// back. Dropping it waits for a call into the [`Consumer`], and none is made afterwards; the
/// pages must be unpinned before. One that is forgotten keeps the consumer for ever.
///
/// # Invariants
///
/// `attachment` came from `layout_lease_attach()`, with the operations of `T` and with `consumer`,
/// which came from [`ForeignOwnable::into_foreign`] of an [`Arc<T>`].
pub struct Attachment<T: Consumer> {
    attachment: *mut bindings::layout_attachment,
    consumer: *mut c_void,
    _consumer: PhantomData<Arc<T>>,
}

// SAFETY: An attachment may be detached from any thread, and so may an `Arc` of a `Consumer` be
// dropped.
unsafe impl<T: Consumer> Send for Attachment<T> {}
// SAFETY: Nothing can be done with a shared attachment.
unsafe impl<T: Consumer> Sync for Attachment<T> {}

impl<T: Consumer> Attachment<T> {
    const OPS: bindings::layout_consumer_ops = bindings::layout_consumer_ops {
        begin: Some(Self::begin),
        finish: Some(Self::finish),
        unpin: Some(Self::unpin),
    };

    /// Attaches a range of bytes of `file` to a lease of the current process; `write`: they will be
    /// written to.
    ///
    /// Call it before the pages are pinned. `consumer` may be called from now on.
    ///
    /// # Errors
    ///
    /// * [`EOPNOTSUPP`]: this process holds no lease on the file, or the blocks of the file may
    ///   move without notice.
    /// * [`EPERM`]: it holds some, but they do not cover the range.
    /// * [`EACCES`]: they do, but through an open file that is not open for writing.
    /// * [`EAGAIN`]: a break is under way there, or a lease there was taken back.
    /// * [`EINVAL`]: the range is empty.
    /// * [`ENOMEM`].
    ///
    /// # Context
    ///
    /// May sleep, as a page fault does; `mmap_lock` may be held.
    pub fn new(
        file: &File,
        range: RangeInclusive<u64>,
        write: bool,
        consumer: Arc<T>,
    ) -> Result<Self> {
        if range.is_empty() {
            return Err(EINVAL);
        }
        let (start, last) = range.into_inner();
        let consumer = consumer.into_foreign();
        // SAFETY: `file` is valid for the call, the operations are constant, and we own `consumer`
        // until the attachment is gone, if we get one.
        let attachment = from_err_ptr(unsafe {
            bindings::layout_lease_attach(file.as_ptr(), start, last, write, &Self::OPS, consumer)
        })
        .inspect_err(|_| {
            // SAFETY: It came from `into_foreign` above, and nothing is attached.
            drop(unsafe { Arc::<T>::from_foreign(consumer) })
        })?;
        // INVARIANT: Both are as they must be.
        Ok(Self {
            attachment,
            consumer,
            _consumer: PhantomData,
        })
    }

    /// # Safety
    ///
    /// `data` is the consumer of an attachment that is not detached for `'a`.
    unsafe fn consumer<'a>(data: *mut c_void) -> ArcBorrow<'a, T> {
        // SAFETY: It came from `into_foreign`, and is owned until the attachment is detached.
        unsafe { Arc::<T>::borrow(data) }
    }

    /// # Safety
    ///
    /// `data` is the consumer of an attachment that is not detached during the call.
    unsafe extern "C" fn begin(data: *mut c_void) {
        // SAFETY: It is not detached during this call.
        unsafe { Self::consumer(data) }.begin();
    }

    /// # Safety
    ///
    /// As for [`Self::begin`].
    unsafe extern "C" fn finish(data: *mut c_void) -> c_int {
        // SAFETY: It is not detached during this call.
        let consumer = unsafe { Self::consumer(data) };
        from_result(|| consumer.finish().map(|()| 0))
    }

    /// # Safety
    ///
    /// As for [`Self::begin`].
    unsafe extern "C" fn unpin(data: *mut c_void) {
        // SAFETY: It is not detached during this call.
        T::unpin(unsafe { Self::consumer(data) });
    }
}

impl<T: Consumer> Drop for Attachment<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it was attached, and this is its last use.
        unsafe { bindings::layout_lease_detach(self.attachment) };
        // SAFETY: By the type invariant it came from `into_foreign`. The consumer is not called any
        // more, so nobody borrows it.
        drop(unsafe { Arc::<T>::from_foreign(self.consumer) });
    }
}
