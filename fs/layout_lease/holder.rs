// SPDX-License-Identifier: GPL-2.0

//! Open files that hold leases.

use crate::{
    attachment::Attached,
    context::{
        Inner,
        LeaseContext,
        OF_HOLDER, //
    },
    lease::{
        Kind,
        Lease, //
    },
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::from_err_ptr,
    fs::File,
    interval_tree::IntervalTree,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        aref::ARef,
        Arc,
        LockedBy, //
    },
};

/// Identity of an open file; never dereferenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId(usize);

impl FileId {
    pub(crate) fn new(file: *mut bindings::file) -> Self {
        Self(file as usize)
    }
}

/// Why a holder is signalled.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A break begins: let go.
    Break = bindings::POLL_MSG as i32,
    /// What was attached has been revoked.
    Revoked = bindings::POLL_HUP as i32,
}

/// What the rest of the kernel sees of a holder, see `holders.c`.
///
/// While it is linked, its open file is valid: the last `fput()` unlinks it first, for which it
/// needs the exclusive reference that [`Self::unlink`] takes.
///
/// # Invariants
///
/// `holder` is a valid holder that we own. `linked` says whether it is linked.
pub(crate) struct RawHolder {
    holder: NonNull<bindings::layout_holder>,
    linked: bool,
}

// SAFETY: The functions of a holder may be called by any thread.
unsafe impl Send for RawHolder {}
// SAFETY: With a shared reference only what never changes is read; or, while it is linked, which
// needs an exclusive one to change, what is valid because of that.
unsafe impl Sync for RawHolder {}

impl RawHolder {
    /// # Safety
    ///
    /// `holder` is a holder that is not linked, and belongs to the caller, who gives it away.
    pub(crate) unsafe fn from_raw(holder: NonNull<bindings::layout_holder>) -> Self {
        Self {
            holder,
            linked: false,
        }
    }

    /// Returns whether the current process is the holder.
    pub(crate) fn is_current(&self) -> bool {
        // SAFETY: By the type invariant it is valid.
        unsafe { bindings::layout_holder_is_current(self.holder.as_ptr()) }
    }

    /// Returns whether every thread of the process has exited.
    pub(crate) fn is_dead(&self) -> bool {
        // SAFETY: By the type invariant it is valid.
        unsafe { bindings::layout_holder_is_dead(self.holder.as_ptr()) }
    }

    /// Counts some more leases against the user who took them, or none of them: [`ENOLCK`].
    pub(crate) fn charge(&self, more: usize) -> Result {
        // SAFETY: By the type invariant it is valid.
        match unsafe { bindings::layout_holder_charge(self.holder.as_ptr(), more) } {
            true => Ok(()),
            false => Err(ENOLCK),
        }
    }

    /// Undoes [`Self::charge`].
    pub(crate) fn uncharge(&self, less: usize) {
        // SAFETY: By the type invariant it is valid.
        unsafe { bindings::layout_holder_uncharge(self.holder.as_ptr(), less) };
    }

    /// Takes the eventfd over that came with a lease, if one did: `new` was made for a lease
    /// through an open file of which this is the holder. Under the context lock, as are those who
    /// count in it.
    pub(crate) fn take_event(&mut self, new: &mut RawHolder) {
        // SAFETY: By the type invariant both are valid, and we have exclusive references to them.
        unsafe { bindings::layout_holder_take_event(self.holder.as_ptr(), new.holder.as_ptr()) };
    }

    /// Shows it in `/proc/locks`, or changes its kind there.
    ///
    /// # Safety
    ///
    /// The caller has a reference to the open file, and keeps it until it has dropped the lock
    /// under which [`Self::unlink`] is called.
    pub(crate) unsafe fn link(&mut self, kind: Kind) {
        // SAFETY: It is valid, and so is its open file. That one stays so after the caller's
        // reference is gone, since the last `fput()` finds the holder linked.
        unsafe { bindings::layout_holder_link(self.holder.as_ptr(), kind.to_type().into()) };
        // INVARIANT: It is linked.
        self.linked = true;
    }

    /// Undoes [`Self::link`].
    pub(crate) fn unlink(&mut self) {
        if core::mem::take(&mut self.linked) {
            // SAFETY: It was linked, and from here on `linked` says that it is not.
            unsafe { bindings::layout_holder_unlink(self.holder.as_ptr()) };
        }
    }

    /// Shows in `/proc/locks` whether leases of it are being broken, if it is linked.
    fn set_breaking(&mut self, breaking: bool) {
        if self.linked {
            // SAFETY: It is linked, so that its file is valid.
            unsafe { bindings::layout_holder_set_breaking(self.holder.as_ptr(), breaking) };
        }
    }

    /// Counts in its eventfd, and signals the process, if it is linked.
    pub(crate) fn notify(&self, reason: Reason) {
        if self.linked {
            // SAFETY: It is linked, so that its file is valid.
            unsafe { bindings::layout_holder_notify(self.holder.as_ptr(), reason as c_int) };
        }
    }

    /// Somebody waits for a lease of it: has waiters of the context woken when the process dies, if
    /// it is linked.
    pub(crate) fn watch(&mut self) {
        if self.linked {
            // SAFETY: It is linked, so that its file is valid.
            unsafe { bindings::layout_holder_watch(self.holder.as_ptr()) };
        }
    }

    /// Names the process in the log: a device does not stop.
    pub(crate) fn warn(&self) {
        if self.linked {
            // SAFETY: It is linked, so that its file is valid.
            unsafe { bindings::layout_holder_warn(self.holder.as_ptr()) };
        }
    }

    /// Prints process and file, the beginning of a line of `/proc/layout_leases`. Returns `false`,
    /// with nothing printed, if the reader must not see it.
    pub(crate) fn show(&self, m: &SeqFile) -> bool {
        let m = core::ptr::from_ref(m).cast_mut().cast();
        // SAFETY: If it is linked, its file is valid. A `SeqFile` is a `seq_file`; ours is of
        // procfs, since nobody else calls `ops::show`.
        self.linked && unsafe { bindings::layout_holder_show(self.holder.as_ptr(), m) }
    }

    /// Takes a reference to the open file. [`EACCES`] if it is not open for writing and shall be;
    /// [`ENOENT`] if it is about to be released.
    pub(crate) fn get_file(&self, write: bool) -> Result<ARef<File>> {
        if !self.linked {
            return Err(ENOENT);
        }
        // SAFETY: It is linked, so that its file is valid.
        let file = unsafe { bindings::layout_holder_get_file(self.holder.as_ptr(), write) };
        let file = NonNull::new(from_err_ptr(file)?).ok_or(ENOENT)?;
        // SAFETY: The C function gave us a reference. It is only dropped, so that the file
        // position, which the process may be using, does not matter.
        Ok(unsafe { ARef::from_raw(file.cast()) })
    }
}

impl Drop for RawHolder {
    fn drop(&mut self) {
        // One that is linked is leaked: others see it.
        if !self.linked {
            // SAFETY: It is valid and not linked, and this is its last use.
            unsafe { bindings::layout_holder_free(self.holder.as_ptr()) };
        }
    }
}

/// An open file through which a process holds leases.
///
/// Of all processes that share an open file one is the holder (invariant I4). Leases and
/// attachments own it, too, so that the process can be notified when they are revoked. The context
/// finds it while it holds a lease.
pub(crate) struct Holder {
    pub(crate) file: FileId,
    pub(crate) context: Arc<LeaseContext>,
    state: LockedBy<HolderState, Inner>,
}

/// What the context lock protects of a holder.
pub(crate) struct HolderState {
    pub(crate) raw: RawHolder,
    /// Its leases, which never overlap.
    pub(crate) leases: IntervalTree<Lease, 2, OF_HOLDER>,
    /// The bytes that are attached through it.
    pub(crate) attached: IntervalTree<Attached, 2, OF_HOLDER>,
    /// How many of these have a deadline.
    expiring: usize,
    /// Serial of the break of which the process was notified last.
    notified: u64,
}

impl Holder {
    pub(crate) fn new(context: &Arc<LeaseContext>, file: FileId, raw: RawHolder) -> Self {
        let state = HolderState {
            raw,
            leases: IntervalTree::default(),
            attached: IntervalTree::default(),
            expiring: 0,
            notified: 0,
        };
        Self {
            file,
            context: context.clone(),
            state: LockedBy::new(&context.inner, state),
        }
    }

    pub(crate) fn state<'a>(&'a self, inner: &'a Inner) -> &'a HolderState {
        self.state.access(inner)
    }

    pub(crate) fn state_mut<'a>(&'a self, inner: &'a mut Inner) -> &'a mut HolderState {
        self.state.access_mut(inner)
    }

    pub(crate) fn is_current(&self, inner: &Inner) -> bool {
        self.state(inner).raw.is_current()
    }

    pub(crate) fn is_dead(&self, inner: &Inner) -> bool {
        self.state(inner).raw.is_dead()
    }
}

impl HolderState {
    /// An attachment has got a deadline, or one that had is gone.
    pub(crate) fn count_expiring(&mut self, more: usize, less: usize) {
        let before = self.expiring;
        self.expiring = (before + more).saturating_sub(less);
        if (before == 0) != (self.expiring == 0) {
            self.raw.set_breaking(before == 0);
        }
    }

    /// Signals the process once for each `serial`.
    pub(crate) fn notify(&mut self, serial: u64, reason: Reason) {
        if self.notified != serial {
            self.notified = serial;
            self.raw.notify(reason);
        }
    }
}
