// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB

//! Memory regions on DAX files: a consumer of layout leases.
//!
//! One [`MrLease`] belongs to one `ib_umem` that has pages of DAX files, and is attached to the
//! leases that cover them. A break of any of these revokes the whole memory region, once; from the
//! others it detaches then by itself, since nothing is pinned there any more.
//!
//! `ib_umem` is an opaque pointer here. How pages are pinned is in `umem_lease.c`. Change
//! `tools/testing/layout_lease_model/layout_lease.pml` with it.

use core::{
    mem,
    ptr, //
};
use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    fs::{
        layout_lease::{
            Attachment,
            Consumer, //
        },
        File, //
    },
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            AtomicFlag,
            Relaxed, //
        },
        lock::Guard,
        Arc,
        ArcBorrow,
        Mutex, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        Queue,
        Work,
        WorkItem, //
    },
};

const __LOG_PREFIX: &[u8] = b"ib_core\0";

/// What the driver gave to take the memory region back.
///
/// # Invariants
///
/// `ops` and `mr` are what it gave to `mr_lease_set_revoke_locked()`, and it keeps them until the
/// region is revoked or released. The states [`State::Armed`] and [`State::Revoking`], which end
/// with that, own this.
#[derive(Clone, Copy)]
struct Driver {
    ops: bindings::ib_umem_revoke_ops,
    mr: *mut bindings::ib_mr,
}

/// ```text
/// Private ---set_revoke---> Armed ---begin---> Revoking ---finish---> Stopped ---unpin---> Revoked
///    |                                                                   ^
///    +---------------------------- begin --------------------------------+
/// ```
///
/// Breaks take these steps, and so does the driver that deregisters, whoever comes first. A step
/// that fails is taken again: there is no state in which nobody can revoke.
///
/// `mr_lease_release()` goes to `Revoked` from any of them.
enum State {
    /// Only the registering thread knows the pages, which may block in a fault for as long as
    /// user space likes. The core unpins alone.
    Private,
    /// The device may access the pages.
    Armed(Driver),
    /// The device has been told to stop.
    Revoking(Driver),
    /// The device does not access the pages any more, or never did.
    Stopped,
    /// The pages are unpinned.
    Revoked,
}

impl State {
    /// What user space is told.
    fn name(&self) -> &'static CStr {
        match self {
            State::Private | State::Armed(_) => c"leased",
            State::Revoking(_) | State::Stopped => c"revoking",
            State::Revoked => c"revoked",
        }
    }
}

/// What the mutex of an [`MrLease`] protects, and the scatter list of the umem besides.
struct Inner {
    state: State,
    /// The pages are mapped for DMA.
    mapped: bool,
}

// SAFETY: The driver's pointers may be used from any thread, see `ib_umem_revoke_ops`.
unsafe impl Send for Inner {}

/// Ties the pages of a umem to the leases that cover them.
///
/// Lock order: `inner`, what the driver takes in its operations. No call into layout leases is made
/// with `inner` held; `attachments` is outside of all locks of layout leases, and no [`Consumer`]
/// function takes it.
///
/// The umem owns it, and so do its attachments, and [`Self::detacher`] while that is queued.
///
/// # Invariants
///
/// `umem` is valid until `mr_lease_release()` has returned, and only used while anything is
/// attached or pinned, of which nothing is left then.
#[pin_data]
struct MrLease {
    umem: *mut bindings::ib_umem,
    #[pin]
    inner: Mutex<Inner>,
    /// [`State::name`], for readers who must not wait for a device: `inner` is held while the
    /// driver is called.
    name: Atomic<*const c_char>,
    #[pin]
    attachments: Mutex<KVVec<Attachment<MrLease>>>,
    /// There is more than one attachment.
    several: AtomicFlag,
    /// Detaches once the pages are unpinned.
    #[pin]
    detacher: Work<MrLease>,
}

// SAFETY: `umem` is only used with `inner` held, by any thread.
unsafe impl Send for MrLease {}
// SAFETY: As for `Send`; with a shared reference, too, `umem` is only used with `inner` held.
unsafe impl Sync for MrLease {}

impl Driver {
    fn begin(&self) {
        if let Some(begin) = self.ops.begin {
            // SAFETY: By the type invariant the driver, of which this is the MR, keeps the
            // region.
            unsafe { begin(self.mr) };
        }
    }

    fn finish(&self) -> Result {
        // SAFETY: By the type invariant the driver, of which this is the MR, keeps the region.
        let finish = |finish: unsafe extern "C" fn(_) -> _| unsafe { finish(self.mr) };
        to_result(self.ops.finish.map_or(0, finish))
    }
}

impl MrLease {
    /// A step of a revocation. The other steps do not change the name.
    fn set_state(&self, inner: &mut Inner, state: State) {
        self.name.store(state.name().as_char_ptr(), Relaxed);
        inner.state = state;
    }

    /// Stops new accesses, unless that was done.
    fn begin_locked(&self, inner: &mut Inner) {
        match inner.state {
            State::Private => self.set_state(inner, State::Stopped),
            State::Armed(driver) => {
                driver.begin();
                self.set_state(inner, State::Revoking(driver));
            }
            // Once is enough.
            State::Revoking(_) | State::Stopped | State::Revoked => {}
        }
    }

    /// Waits for old accesses, unless that was done.
    fn finish_locked(&self, inner: &mut Inner) -> Result {
        if let State::Revoking(driver) = inner.state {
            driver.finish().inspect_err(|error| {
                // SAFETY: The umem is valid, since its pages are pinned.
                unsafe { bindings::umem_lease_warn(self.umem, error.to_errno()) }
            })?;
            self.set_state(inner, State::Stopped);
        }
        Ok(())
    }

    /// Unpins the pages, unless that was done. No device accesses them any more.
    fn unpin_locked(&self, inner: &mut Inner) {
        if !matches!(inner.state, State::Revoked) {
            // SAFETY: The umem is valid, nobody accesses the pages, and this is done once.
            unsafe { bindings::umem_unpin(self.umem, inner.mapped.into()) };
            self.set_state(inner, State::Revoked);
        }
    }

    /// All of a revocation.
    fn revoke_locked(&self, inner: &mut Inner) -> Result {
        self.begin_locked(inner);
        self.finish_locked(inner)?;
        self.unpin_locked(inner);
        Ok(())
    }

    /// Waits for calls that are under way, after which there are none. Not from within one.
    fn detach(&self) {
        let mut attachments = self.attachments.lock();
        drop(mem::take(&mut *attachments));
    }
}

impl_has_work! {
    impl HasWork<Self> for MrLease { self.detacher }
}

impl WorkItem for MrLease {
    type Pointer = Arc<MrLease>;

    fn run(this: Arc<MrLease>) {
        this.detach();
    }
}

impl Consumer for MrLease {
    fn begin(&self) {
        self.begin_locked(&mut self.inner.lock());
    }

    fn finish(&self) -> Result {
        self.finish_locked(&mut self.inner.lock())
    }

    fn unpin(this: ArcBorrow<'_, Self>) {
        this.unpin_locked(&mut this.inner.lock());
        if this.several.load(Relaxed) {
            // SAFETY: `ib_core` makes its queue before, and destroys it after all devices.
            let queue = unsafe { Queue::from_raw(bindings::ib_wq) };
            // It may be queued already.
            let _ = queue.enqueue(Arc::from(this));
        }
    }
}

/// Makes the lease side of a umem that gets pages of DAX files. `NULL` if there is no memory.
///
/// # Safety
///
/// `umem` stays valid until `mr_lease_free()`.
#[export]
pub unsafe extern "C" fn mr_lease_alloc(umem: *mut bindings::ib_umem) -> *mut bindings::mr_lease {
    let lease = Arc::pin_init(
        pin_init!(MrLease {
            umem,
            inner <- new_mutex!(
                Inner {
                    state: State::Private,
                    mapped: false,
                },
                "MrLease::inner"
            ),
            name: Atomic::new(State::Private.name().as_char_ptr()),
            attachments <- new_mutex!(KVVec::new(), "MrLease::attachments"),
            several: AtomicFlag::new(false),
            detacher <- new_work!("MrLease::detacher"),
        }),
        GFP_KERNEL_ACCOUNT,
    );
    match lease {
        Ok(lease) => Arc::into_raw(lease).cast_mut().cast(),
        Err(_) => ptr::null_mut(),
    }
}

/// Borrows the lease of a umem.
///
/// # Safety
///
/// `lease` came from [`mr_lease_alloc`] and is not freed for `'a`.
unsafe fn borrow<'a>(lease: *mut bindings::mr_lease) -> &'a MrLease {
    // SAFETY: It came from `Arc::into_raw`, whose reference is not dropped before it is freed.
    unsafe { &*lease.cast::<MrLease>() }
}

/// Attaches the bytes `[start, last]` of a file, before their pages are pinned. `write`: the device
/// will write to them.
///
/// # Safety
///
/// `lease` came from [`mr_lease_alloc`], and `file` is valid.
#[export]
pub unsafe extern "C" fn mr_lease_attach(
    lease: *mut bindings::mr_lease,
    file: *mut bindings::file,
    start: u64,
    last: u64,
    write: bool,
) -> c_int {
    from_result(|| {
        // SAFETY: It came from `Arc::into_raw`, and is not freed during the call.
        let lease = unsafe { ArcBorrow::from_raw(lease.cast::<MrLease>()) };
        // SAFETY: The file is valid during the call, and its position is not used.
        let file = unsafe { File::from_raw_file(file) };
        let mut attachments = lease.attachments.lock();
        attachments.reserve(1, GFP_KERNEL_ACCOUNT)?;
        // `mr_lease_release()` drops it, so that this is no circle for ever.
        let attachment = Attachment::new(file, start..=last, write, lease.into())?;
        attachments.push(attachment, GFP_KERNEL_ACCOUNT)?;
        lease.several.store(attachments.len() > 1, Relaxed);
        Ok(0)
    })
}

/// Locks the state, unless the memory region was revoked (`-EAGAIN`).
///
/// # Safety
///
/// `lease` came from [`mr_lease_alloc`]. On success the caller unlocks it.
#[export]
pub unsafe extern "C" fn mr_lease_lock(lease: *mut bindings::mr_lease) -> c_int {
    from_result(|| {
        // SAFETY: It came from `mr_lease_alloc`, and is not freed during the call.
        let inner = unsafe { borrow(lease) }.inner.lock();
        if !matches!(inner.state, State::Private | State::Armed(_)) {
            return Err(EAGAIN);
        }
        // `mr_lease_unlock()` unlocks it.
        mem::forget(inner);
        Ok(0)
    })
}

/// The guard of a mutex that `mr_lease_lock()` locked.
///
/// # Safety
///
/// The current thread holds it, and has no other guard.
unsafe fn locked<'a>(
    lease: *mut bindings::mr_lease,
) -> Guard<'a, Inner, kernel::sync::lock::mutex::MutexBackend> {
    // SAFETY: The current thread holds the mutex, and the guard that it got was forgotten.
    unsafe { Guard::new(&borrow(lease).inner, ()) }
}

/// Undoes `mr_lease_lock()`.
///
/// # Safety
///
/// The current thread has locked it.
#[export]
pub unsafe extern "C" fn mr_lease_unlock(lease: *mut bindings::mr_lease) {
    // SAFETY: The current thread has locked it, and has no guard of it.
    drop(unsafe { locked(lease) });
}

/// The pages are mapped for DMA.
///
/// # Safety
///
/// The current thread has locked it.
#[export]
pub unsafe extern "C" fn mr_lease_set_mapped_locked(lease: *mut bindings::mr_lease) {
    // SAFETY: The current thread has locked it, and has no guard of it.
    let mut inner = unsafe { locked(lease) };
    inner.mapped = true;
    mem::forget(inner);
}

/// The device can access the pages from now on.
///
/// # Safety
///
/// The current thread has locked it. `ops` is valid, and its functions may be called with `mr`
/// until `mr_lease_revoke()` returned 0, or until `mr_lease_release()`.
#[export]
pub unsafe extern "C" fn mr_lease_set_revoke_locked(
    lease: *mut bindings::mr_lease,
    ops: *const bindings::ib_umem_revoke_ops,
    mr: *mut bindings::ib_mr,
) {
    // SAFETY: The current thread has locked it, and has no guard of it.
    let mut inner = unsafe { locked(lease) };
    // SAFETY: The operations are valid.
    let ops = unsafe { *ops };
    // INVARIANT: The caller promises just that.
    inner.state = State::Armed(Driver { ops, mr });
    mem::forget(inner);
}

/// Revokes the memory region, unless that was done, and detaches from all leases.
///
/// On an error the device has not stopped, nothing is unpinned, and a break asks it again.
///
/// # Safety
///
/// `lease` came from [`mr_lease_alloc`], and the current thread has not locked it.
#[export]
pub unsafe extern "C" fn mr_lease_revoke(lease: *mut bindings::mr_lease) -> c_int {
    from_result(|| {
        // SAFETY: It came from `mr_lease_alloc`, and is not freed during the call.
        let lease = unsafe { borrow(lease) };
        lease.revoke_locked(&mut lease.inner.lock())?;
        lease.detach();
        Ok(0)
    })
}

/// Unpins the pages, unless that was done, and detaches from all leases: no device accesses the
/// pages any more. The driver is not called.
///
/// # Safety
///
/// `lease` came from [`mr_lease_alloc`] and is not freed meanwhile, the current thread has not
/// locked it, and no device accesses the pages any more.
#[export]
pub unsafe extern "C" fn mr_lease_release(lease: *mut bindings::mr_lease) {
    // SAFETY: It came from `mr_lease_alloc`, and is not freed during the call.
    let lease = unsafe { borrow(lease) };
    lease.unpin_locked(&mut lease.inner.lock());
    lease.detach();
}

/// What a revocation has done so far, as a word. Never waits.
///
/// # Safety
///
/// `lease` came from [`mr_lease_alloc`].
#[export]
pub unsafe extern "C" fn mr_lease_state(lease: *mut bindings::mr_lease) -> *const c_char {
    // SAFETY: It came from `mr_lease_alloc`, and is not freed during the call.
    unsafe { borrow(lease) }.name.load(Relaxed)
}

/// Frees it.
///
/// # Safety
///
/// `lease` came from [`mr_lease_alloc`], was released, and this is its last use.
#[export]
pub unsafe extern "C" fn mr_lease_free(lease: *mut bindings::mr_lease) {
    // SAFETY: It came from `Arc::into_raw`, and this is the reference of the umem. `detacher` has
    // one of its own while it is queued.
    drop(unsafe { Arc::from_raw(lease.cast::<MrLease>()) });
}
