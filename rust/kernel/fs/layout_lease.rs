// SPDX-License-Identifier: GPL-2.0

//! Layout leases.
//!
//! A layout lease lets a process pin the blocks of a DAX file, until somebody changes the layout of
//! the file and the kernel takes the pages back. Two kinds of code use this module, and neither
//! links against the other:
//!
//! * a [`Provider`] keeps the leases of each inode and decides; there is one, `layout_lease.ko`;
//! * a [`Consumer`] pins pages, and gives them back when a lease is broken, for example an RDMA
//!   memory region.
//!
//! Between them stands `fs/layout_lease/hooks.c`, which is always built in.
//!
//! C header: [`include/linux/layout_lease.h`](srctree/include/linux/layout_lease.h)

use crate::{
    bindings,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    fs::File,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        aref::ARef,
        Arc,
        ArcBorrow, //
    },
    types::{
        ForeignOwnable,
        Opaque, //
    },
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

pub use bindings::{
    layout_lease as Argument,
    LAYOUT_LEASE_BREAKING,
    LAYOUT_LEASE_GRANTED,
    LAYOUT_LEASE_REVOKE,
    LAYOUT_LEASE_REVOKED, //
};

/// Lock types as in `fcntl(2)`.
pub mod kind {
    use crate::bindings;

    /// A shared lease.
    pub const F_RDLCK: u16 = bindings::F_RDLCK as u16;
    /// An exclusive lease.
    pub const F_WRLCK: u16 = bindings::F_WRLCK as u16;
}

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
pub trait Consumer: Send + Sync + 'static {
    /// Stops new accesses; never waits for the device. May be called again after a failed
    /// [`finish`](Self::finish).
    fn begin(&self);

    /// Waits for old accesses. On an error the provider warns, backs off and calls it again.
    fn finish(&self) -> Result;

    /// Unpins the pages, unless that was done.
    fn unpin(&self);
}

/// A consumer's claim on a range of a file.
///
/// It keeps the open file that holds the lease, hence inode and mount, until the pages are taken
/// back. Dropping it waits for a call into the [`Consumer`], and none is made afterwards; the
/// pages must be unpinned before.
///
/// # Invariants
///
/// `ptr` came from `layout_lease_attach()`.
pub struct Attachment<T: Consumer> {
    ptr: NonNull<bindings::layout_attachment>,
    _consumer: PhantomData<fn(&T)>,
}

// SAFETY: An attachment may be detached from any thread.
unsafe impl<T: Consumer> Send for Attachment<T> {}
// SAFETY: Nothing can be done with a shared attachment.
unsafe impl<T: Consumer> Sync for Attachment<T> {}

impl<T: Consumer> Attachment<T> {
    /// Attaches the bytes `[start, last]` of `file` to a lease of the current process; `write`: they
    /// will be written to.
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
    /// * [`ENOMEM`].
    ///
    /// # Context
    ///
    /// May sleep, as a page fault does; `mmap_lock` may be held.
    ///
    /// # Safety
    ///
    /// `consumer` stays valid until the attachment is dropped.
    pub unsafe fn new(
        file: &File,
        start: u64,
        last: u64,
        write: bool,
        consumer: *const T,
    ) -> Result<Self> {
        // SAFETY: `file` is valid for the call, the operations are static, and the caller promises
        // that `consumer` outlives the attachment.
        let ptr = from_err_ptr(unsafe {
            bindings::layout_lease_attach(
                file.as_ptr(),
                start,
                last,
                write,
                &Self::OPS,
                consumer.cast_mut().cast(),
            )
        })?;
        // INVARIANT: It came from `layout_lease_attach()`.
        Ok(Self {
            ptr: NonNull::new(ptr).ok_or(ENOMEM)?,
            _consumer: PhantomData,
        })
    }

    const OPS: bindings::layout_consumer_ops = bindings::layout_consumer_ops {
        begin: Some(Self::begin_callback),
        finish: Some(Self::finish_callback),
        unpin: Some(Self::unpin_callback),
    };

    /// # Safety
    ///
    /// Called by a provider, with the consumer that `new` was given.
    unsafe extern "C" fn begin_callback(data: *mut c_void) {
        // SAFETY: `data` is the consumer given to `new`, valid until the attachment is dropped.
        unsafe { &*data.cast::<T>() }.begin();
    }

    /// # Safety
    ///
    /// Called by a provider, with the consumer that `new` was given.
    unsafe extern "C" fn finish_callback(data: *mut c_void) -> c_int {
        // SAFETY: As in `begin_callback`.
        let consumer = unsafe { &*data.cast::<T>() };
        from_result(|| consumer.finish().map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by a provider, with the consumer that `new` was given.
    unsafe extern "C" fn unpin_callback(data: *mut c_void) {
        // SAFETY: As in `begin_callback`.
        unsafe { &*data.cast::<T>() }.unpin();
    }
}

impl<T: Consumer> Drop for Attachment<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, and this is the last use.
        unsafe { bindings::layout_lease_detach(self.ptr.as_ptr()) };
    }
}

/// A consumer as the provider sees it.
///
/// # Invariants
///
/// `ops` and `data` are what a consumer gave to `layout_lease_attach()`, and the attachment is not
/// yet detached.
pub struct ConsumerRef {
    ops: NonNull<bindings::layout_consumer_ops>,
    data: *mut c_void,
}

// SAFETY: A `Consumer` is `Send` and `Sync`.
unsafe impl Send for ConsumerRef {}
// SAFETY: A `Consumer` is `Send` and `Sync`.
unsafe impl Sync for ConsumerRef {}

impl ConsumerRef {
    /// Stops new accesses, see [`Consumer::begin`].
    pub fn begin(&self) {
        // SAFETY: By the type invariant.
        if let Some(begin) = unsafe { self.ops.as_ref() }.begin {
            // SAFETY: By the type invariant.
            unsafe { begin(self.data) };
        }
    }

    /// Waits for old accesses, see [`Consumer::finish`].
    pub fn finish(&self) -> Result {
        // SAFETY: By the type invariant.
        match unsafe { self.ops.as_ref() }.finish {
            // SAFETY: By the type invariant.
            Some(finish) => to_result(unsafe { finish(self.data) }),
            None => Ok(()),
        }
    }

    /// Unpins the pages, see [`Consumer::unpin`].
    pub fn unpin(&self) {
        // SAFETY: By the type invariant.
        if let Some(unpin) = unsafe { self.ops.as_ref() }.unpin {
            // SAFETY: By the type invariant.
            unsafe { unpin(self.data) };
        }
    }
}

/// Why a holder is signalled.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A break begins: let go.
    Break = bindings::POLL_MSG as i32,
    /// What was attached has been revoked.
    Revoked = bindings::POLL_HUP as i32,
}

/// Identity of an open file; never dereferenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(usize);

/// What ties leases to an open file and to the process that holds them.
///
/// # Invariants
///
/// `ptr` is an anchor that we own. While it is linked, its file is valid memory: the last
/// `fput()` calls [`Provider::release`], which unlinks it.
pub struct Anchor {
    ptr: NonNull<bindings::layout_anchor>,
}

// SAFETY: The functions on anchors may be called from any thread.
unsafe impl Send for Anchor {}
// SAFETY: Changes are made under the index lock, see the methods.
unsafe impl Sync for Anchor {}

impl Anchor {
    /// The open file.
    pub fn file_id(&self) -> FileId {
        // SAFETY: By the type invariant.
        FileId(unsafe { bindings::layout_anchor_file(self.ptr.as_ptr()) } as usize)
    }

    /// Is the current process the holder?
    pub fn is_current(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::layout_anchor_is_current(self.ptr.as_ptr()) }
    }

    /// Do both belong to one process?
    pub fn same_holder(&self, other: &Anchor) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::layout_anchor_same_holder(self.ptr.as_ptr(), other.ptr.as_ptr()) }
    }

    /// Has every thread of the holder exited?
    pub fn is_dead(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::layout_anchor_is_dead(self.ptr.as_ptr()) }
    }

    /// Is the open file open for writing? Only while the anchor is linked.
    pub fn is_writable(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::layout_anchor_is_writable(self.ptr.as_ptr()) }
    }

    /// Shows the anchor in `/proc/locks`, or changes its type there.
    ///
    /// Call it under the index lock, in a call that has a reference to the file.
    pub fn link(&self, kind: u16) {
        // SAFETY: By the type invariant.
        unsafe { bindings::layout_anchor_link(self.ptr.as_ptr(), kind.into()) };
    }

    /// Undoes [`link`](Self::link), under the index lock.
    pub fn unlink(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::layout_anchor_unlink(self.ptr.as_ptr()) };
    }

    /// Signals the holder.
    ///
    /// # Safety
    ///
    /// The anchor is linked, and the caller holds the lock under which it gets unlinked.
    pub unsafe fn signal(&self, reason: Reason) {
        // SAFETY: The anchor is linked, so that its file is valid.
        unsafe { bindings::layout_anchor_signal(self.ptr.as_ptr(), reason as c_int) };
    }

    /// Tells the log whose memory a device still accesses.
    ///
    /// # Safety
    ///
    /// The anchor is linked, and the caller holds the lock under which it gets unlinked.
    pub unsafe fn warn(&self) {
        // SAFETY: The anchor is linked, so that its file is valid.
        unsafe { bindings::layout_anchor_warn(self.ptr.as_ptr()) };
    }

    /// Counts a lease against the user who took it; [`ENOLCK`] if that one has too many.
    ///
    /// Context: under the index lock; allocates nothing.
    pub fn charge(&self) -> Result {
        // SAFETY: By the type invariant.
        match unsafe { bindings::layout_anchor_charge(self.ptr.as_ptr()) } {
            true => Ok(()),
            false => Err(ENOLCK),
        }
    }

    /// Undoes one [`charge`](Self::charge).
    pub fn uncharge(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::layout_anchor_uncharge(self.ptr.as_ptr()) };
    }

    /// Prints holder and file, the beginning of a line of `/proc/layout_leases`. Prints nothing and
    /// returns `false` if the reader must not see the holder.
    ///
    /// # Safety
    ///
    /// The anchor is linked, and the caller holds the lock under which it gets unlinked.
    pub unsafe fn show(&self, m: &SeqFile) -> bool {
        let m = core::ptr::from_ref(m).cast_mut().cast();
        // SAFETY: The anchor is linked, so that its file is valid. A `SeqFile` is a `seq_file`.
        unsafe { bindings::layout_anchor_show(self.ptr.as_ptr(), m) }
    }

    /// Takes a reference to the open file, unless it is being released.
    ///
    /// # Safety
    ///
    /// The anchor is linked, and the caller holds the lock under which it gets unlinked.
    pub unsafe fn get_file(&self) -> Option<ARef<File>> {
        // SAFETY: The anchor is linked, so that its file is valid.
        let file = unsafe { bindings::layout_anchor_get_file(self.ptr.as_ptr()) };
        // SAFETY: The C function gave us a reference. Nobody uses the file position through it.
        NonNull::new(file).map(|file| unsafe { ARef::from_raw(file.cast()) })
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, and this is the last use.
        unsafe { bindings::layout_anchor_free(self.ptr.as_ptr()) };
    }
}

/// One break, on the stack of the breaker.
///
/// # Invariants
///
/// Between [`Provider::break_begin`] and [`Provider::break_end`] it stays in place.
#[repr(transparent)]
pub struct Break(Opaque<bindings::layout_break>);

impl Break {
    /// First byte, rounded down to the unit of DAX mappings.
    pub fn start(&self) -> u64 {
        // SAFETY: Set before the provider sees the break, and never changed.
        unsafe { (*self.0.get()).start }
    }

    /// Last byte, inclusive, rounded up likewise.
    pub fn last(&self) -> u64 {
        // SAFETY: As in `start`.
        unsafe { (*self.0.get()).last }
    }

    /// By when holders have let go, on the clock of [`now_ms`].
    pub fn deadline(&self) -> u64 {
        // SAFETY: As in `start`.
        unsafe { (*self.0.get()).deadline }
    }
}

/// How a break ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakEnd {
    /// The layout was changed.
    Done,
    /// It was not, and the breaker will come again. The range is kept free for it, and with it the
    /// provider.
    Promised,
    /// It was not, and will not be.
    GivenUp,
}

/// Keeps the provider's module, and those who change layouts asking it, when no lease does.
#[must_use]
pub struct Hold(());

impl Hold {
    /// [`None`] if the provider is being unloaded.
    ///
    /// Context: may sleep; not under the index lock.
    pub fn new() -> Option<Self> {
        // SAFETY: It may be called from process context at any time; we give it back in `drop`.
        unsafe { bindings::layout_lease_hold() }.then_some(Self(()))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: `new` took what this gives back.
        unsafe { bindings::layout_lease_unhold() };
    }
}

/// Keeps the layout of a file as it is, until it is dropped.
///
/// Each change of a layout holds the `invalidate_lock` of the inode exclusively, from its decision to
/// its commit. This holds it shared.
///
/// # Invariants
///
/// We hold the `invalidate_lock` of the inode, which is valid.
#[must_use]
pub struct ChangesExcluded(NonNull<bindings::inode>);

impl ChangesExcluded {
    /// Waits for a change that is under way, interruptibly.
    ///
    /// # Errors
    ///
    /// [`ERESTARTSYS`]; [`EOPNOTSUPP`] if the filesystem does not keep the blocks in place.
    ///
    /// # Safety
    ///
    /// The inode stays valid until this is dropped.
    unsafe fn new(inode: NonNull<bindings::inode>) -> Result<Self> {
        // SAFETY: By the caller.
        to_result(unsafe { bindings::layout_lease_exclude_changes(inode.as_ptr()) })?;
        // INVARIANT: It locked it.
        Ok(Self(inode))
    }
}

impl Drop for ChangesExcluded {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::layout_lease_allow_changes(self.0.as_ptr()) };
    }
}

/// The breaks under way on one inode.
///
/// # Invariants
///
/// Each node of `list` is a `layout_break` between [`Self::begin`] and [`Self::end`].
pub struct BreakList {
    first: Option<NonNull<bindings::layout_break>>,
}

// SAFETY: The breaks may be looked at from any thread that has access to the list.
unsafe impl Send for BreakList {}

impl BreakList {
    /// An empty list.
    pub const fn new() -> Self {
        Self { first: None }
    }

    /// Is no break under way?
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Puts a break on the list, waiting for `pending` attachments; it has `met` leases.
    ///
    /// # Safety
    ///
    /// `brk` is on no list, and stays in place until [`Self::end`].
    pub unsafe fn begin(&mut self, brk: &Break, pending: usize, met: bool) {
        let brk = brk.0.get();
        // SAFETY: The caller gives us the break; the fields that we write belong to the provider.
        unsafe {
            (*brk).node.prev = core::ptr::null_mut();
            (*brk).node.next = self
                .first
                .map_or(core::ptr::null_mut(), |p| p.as_ptr().cast());
            (*brk).pending = pending;
            (*brk).met = met;
        }
        if let Some(first) = self.first {
            // SAFETY: By the type invariant.
            unsafe { (*first.as_ptr()).node.prev = brk.cast() };
        }
        // INVARIANT: The break has begun.
        self.first = NonNull::new(brk);
    }

    /// Takes a break off the list.
    ///
    /// # Safety
    ///
    /// `brk` is on this list.
    pub unsafe fn end(&mut self, brk: &Break) {
        // SAFETY: By the type invariant.
        let node = unsafe { (*brk.0.get()).node };
        let (next, prev) = (
            NonNull::new(node.next.cast::<bindings::layout_break>()),
            NonNull::new(node.prev.cast::<bindings::layout_break>()),
        );
        if let Some(next) = next {
            // SAFETY: By the type invariant.
            unsafe { (*next.as_ptr()).node.prev = node.prev };
        }
        match prev {
            // SAFETY: By the type invariant.
            Some(prev) => unsafe { (*prev.as_ptr()).node.next = node.next },
            None => self.first = next,
        }
    }

    /// Does a break overlap `[start, last]`?
    pub fn overlaps(&self, start: u64, last: u64) -> bool {
        let mut found = false;
        self.for_each(start, last, |_| found = true);
        found
    }

    /// An attachment in `[start, last]` is gone. Wakes breakers for whom it was the last one.
    pub fn settle(&mut self, start: u64, last: u64) {
        self.for_each(start, last, |brk| {
            // SAFETY: By the type invariant. `pending` is only written here and in `begin`.
            let pending = unsafe { &raw mut (*brk).pending };
            // SAFETY: As above; the breaker reads it with READ_ONCE().
            unsafe { pending.write_volatile(pending.read().saturating_sub(1)) };
            // SAFETY: As above.
            if unsafe { pending.read() } == 0 {
                // SAFETY: The break is on the list, hence still in place.
                unsafe { bindings::layout_break_settled(brk) };
            }
        });
    }

    fn for_each(&self, start: u64, last: u64, mut f: impl FnMut(*mut bindings::layout_break)) {
        let mut next = self.first;
        while let Some(brk) = next {
            let ptr = brk.as_ptr();
            // SAFETY: By the type invariant.
            let brk = unsafe { brk.as_ref() };
            if brk.start <= last && brk.last >= start {
                f(ptr);
            }
            next = NonNull::new(brk.node.next.cast());
        }
    }
}

impl Default for BreakList {
    fn default() -> Self {
        Self::new()
    }
}

/// The inode of an index.
///
/// # Invariants
///
/// The inode is valid while the index is published: [`Provider::evict`] ends that.
#[derive(Clone, Copy)]
pub struct Home(NonNull<bindings::inode>);

impl Home {
    /// Reports that `count` attachments of `bytes` in all were taken back in `us` microseconds.
    ///
    /// # Safety
    ///
    /// The index is published.
    pub unsafe fn revoked(&self, count: usize, bytes: u64, us: u64) {
        // SAFETY: By the type invariant the inode is valid.
        unsafe { bindings::layout_lease_revoked(self.0.as_ptr(), count, bytes, us) };
    }
}

// SAFETY: The inode is only used for calls that any thread may make.
unsafe impl Send for Home {}
// SAFETY: As above.
unsafe impl Sync for Home {}

/// The clock of deadlines: milliseconds since boot.
pub fn now_ms() -> u64 {
    // SAFETY: Reads the monotonic clock.
    unsafe { bindings::layout_lease_now_ms() }
}

/// How long a holder may take to let go, in milliseconds.
pub fn grace_ms() -> u64 {
    // SAFETY: Reads a sysctl.
    unsafe { bindings::layout_lease_grace_ms() }
}

/// The index of an inode was retired while the caller looked it up. Try again.
#[derive(Debug, PartialEq, Eq)]
pub struct Retired;

/// Keeps leases, attachments and breaks of an inode.
///
/// The implementing type is the index of one inode. It is published when it is needed first, and
/// retired ([`retire`]) when it holds nothing any more; an inode that needs one again gets a new
/// one.
///
/// All methods may sleep and are called with a reference on the provider's module.
pub trait Provider: Sized + Send + Sync + 'static {
    /// Creates an empty index.
    fn new(home: Home) -> Result<Arc<Self>>;

    /// An open file that may get leases.
    type Owner;

    /// Prepares an open file for [`Self::set`].
    fn owner(anchor: Anchor) -> Result<Self::Owner>;

    /// Before [`Self::set`]: takes back what dead holders have that are in its way, and waits for it.
    fn make_way(this: ArcBorrow<'_, Self>, owner: &Self::Owner, arg: &Argument) -> Result;

    /// `F_SETLAYOUT` with `F_RDLCK` or `F_WRLCK`, while changes of the layout are excluded. Leaves
    /// `owner` alone if the open file has one already, and if the index is [`Retired`].
    fn set(
        this: ArcBorrow<'_, Self>,
        owner: &Self::Owner,
        arg: &Argument,
    ) -> Result<Result, Retired>;

    /// `F_SETLAYOUT` with `F_UNLCK`.
    fn unset(this: ArcBorrow<'_, Self>, file: FileId, arg: &Argument) -> Result;

    /// `F_GETLAYOUT`.
    fn get(this: ArcBorrow<'_, Self>, file: FileId, arg: &mut Argument);

    /// Prints the leases of an open file, a line each, for `/proc/layout_leases`.
    fn show(this: ArcBorrow<'_, Self>, file: FileId, m: &SeqFile);

    /// The holder of an open file may have died during a break. If so, takes back at once what
    /// breaks wait for.
    fn bury(this: ArcBorrow<'_, Self>, file: FileId);

    /// Does the walk with this number meet the inode for the first time? Also if another walk met
    /// it in between. Walks have numbers from 1 on.
    fn visit(this: ArcBorrow<'_, Self>, walk: u64) -> bool;

    /// The last reference to an open file is gone.
    fn release(this: ArcBorrow<'_, Self>, file: FileId);

    /// Returns whether there are leases in a range that were not taken back.
    fn is_leased(this: ArcBorrow<'_, Self>, start: u64, last: u64) -> bool;

    /// Starts a break, unless the index is [`Retired`].
    ///
    /// # Safety
    ///
    /// `brk` stays in place until [`Self::break_end`].
    unsafe fn break_begin(this: ArcBorrow<'_, Self>, brk: &Break) -> Result<(), Retired>;

    /// Ends a break.
    ///
    /// # Safety
    ///
    /// `brk` was given to [`Self::break_begin`] of this index.
    unsafe fn break_end(this: ArcBorrow<'_, Self>, brk: &Break, how: BreakEnd);

    /// The inode of the index goes away. No lease and no break is left.
    fn evict(this: ArcBorrow<'_, Self>);

    /// An attachment, as the consumer owns it.
    type Attachment: ForeignOwnable;

    /// Attaches `[start, last]`, which breaks meet rounded outward to `unit`, as writable memory or
    /// not, while changes of the layout are excluded. `stable`: the filesystem keeps the blocks in
    /// place.
    fn attach(
        this: ArcBorrow<'_, Self>,
        start: u64,
        last: u64,
        unit: u64,
        write: bool,
        stable: bool,
        consumer: ConsumerRef,
    ) -> Result<Self::Attachment>;

    /// Forgets an attachment. Drops its [`ConsumerRef`] before it returns.
    fn detach(attachment: Self::Attachment);
}

/// Withdraws the index of an inode, which holds nothing any more.
///
/// Call it once, under the lock that makes it empty for ever.
///
/// # Safety
///
/// `index` is published at `home`.
pub unsafe fn retire<P: Provider>(home: Home, index: ArcBorrow<'_, P>) {
    // SAFETY: The caller promises that the index is published, so the inode is valid.
    unsafe { bindings::layout_lease_index_unpublish(home.0.as_ptr()) };
    // SAFETY: The publication owned this reference, which is ours now.
    drop(unsafe { Arc::from_raw(&raw const *index) });
}

/// Makes a [`Provider`] the one of the kernel, until it is dropped.
///
/// Drop it from the exit function of a module only: it does not wait for calls under way, each of
/// which holds the module.
pub struct Registration<P: Provider> {
    ops: KBox<bindings::layout_lease_ops>,
    _provider: PhantomData<P>,
}

// SAFETY: `ops` is constant.
unsafe impl<P: Provider> Send for Registration<P> {}
// SAFETY: `ops` is constant.
unsafe impl<P: Provider> Sync for Registration<P> {}

impl<P: Provider> Registration<P> {
    /// Registers the provider. [`EBUSY`] if there is one.
    ///
    /// Context: may sleep.
    pub fn new(module: &'static ThisModule) -> Result<Self> {
        let ops = KBox::new(
            bindings::layout_lease_ops {
                owner: module.as_ptr(),
                index_get: Some(Self::index_get),
                index_put: Some(Self::index_put),
                set: Some(Self::set),
                unset: Some(Self::unset),
                get: Some(Self::get),
                show: Some(Self::show),
                bury: Some(Self::bury),
                visit: Some(Self::visit),
                release: Some(Self::release),
                is_leased: Some(Self::is_leased),
                break_begin: Some(Self::break_begin),
                break_end: Some(Self::break_end),
                evict: Some(Self::evict),
                attach: Some(Self::attach),
                detach: Some(Self::detach),
            },
            GFP_KERNEL,
        )?;
        // SAFETY: The operations stay valid until `drop` unregisters them.
        to_result(unsafe { bindings::layout_lease_register(&*ops) })?;
        Ok(Self {
            ops,
            _provider: PhantomData,
        })
    }

    /// Borrows an index that the C side holds a reference to.
    ///
    /// # Safety
    ///
    /// `index` came from `Arc::<P>::into_raw`, and a reference is held for `'a`.
    unsafe fn borrow<'a>(index: *mut c_void) -> ArcBorrow<'a, P> {
        // SAFETY: By the caller.
        unsafe { ArcBorrow::from_raw(index.cast::<P>()) }
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn index_get(index: *mut c_void) {
        // SAFETY: The index is published, so a reference is held.
        let index = Arc::from(unsafe { Self::borrow(index) });
        // The C side owns it now.
        let _ = Arc::into_raw(index);
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn index_put(index: *mut c_void) {
        // SAFETY: The C side gives back a reference.
        drop(unsafe { Arc::from_raw(index.cast::<P>()) });
    }

    /// Finds the index of an inode.
    fn find(
        ops: *const bindings::layout_lease_ops,
        inode: NonNull<bindings::inode>,
    ) -> Option<Arc<P>> {
        // SAFETY: The inode is valid, and `ops` are ours.
        let index = unsafe { bindings::layout_lease_index_get(ops, inode.as_ptr()) };
        // SAFETY: We were given a reference.
        (!index.is_null()).then(|| unsafe { Arc::from_raw(index.cast::<P>()) })
    }

    /// Finds the index of an inode, or makes one.
    fn index(
        ops: *const bindings::layout_lease_ops,
        inode: NonNull<bindings::inode>,
    ) -> Result<Arc<P>> {
        if let Some(index) = Self::find(ops, inode) {
            return Ok(index);
        }

        // INVARIANT: The index is withdrawn when the inode is evicted, if not before.
        let new = P::new(Home(inode))?;
        let publication = Arc::into_raw(new.clone()).cast_mut();
        // SAFETY: The inode is valid, and `ops` are ours.
        let present = unsafe {
            bindings::layout_lease_index_publish(ops, inode.as_ptr(), publication.cast())
        };
        if present.is_null() {
            return Ok(new);
        }
        // SAFETY: It was not published, so the reference still is ours.
        drop(unsafe { Arc::from_raw(publication) });
        // SAFETY: If it is no error, we were given a reference.
        from_err_ptr(present).map(|present| unsafe { Arc::from_raw(present.cast::<P>()) })
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn set(
        ops: *const bindings::layout_lease_ops,
        file: *mut bindings::file,
        anchor: *mut bindings::layout_anchor,
        arg: *const Argument,
    ) -> c_int {
        from_result(|| {
            // INVARIANT: The C side gives us the anchor.
            let owner = P::owner(Anchor {
                ptr: NonNull::new(anchor).ok_or(ENOMEM)?,
            })?;
            // SAFETY: The file is valid, and its inode never changes.
            let inode = NonNull::new(unsafe { (*file).f_inode }).ok_or(EINVAL)?;
            // SAFETY: `arg` is valid for the call.
            let arg = unsafe { &*arg };
            // This may wait for a device, hence before changes are excluded.
            if let Some(index) = Self::find(ops, inode) {
                P::make_way(index.as_arc_borrow(), &owner, arg)?;
            }
            // SAFETY: The file, hence its inode, is valid for the call.
            let _unchanged = unsafe { ChangesExcluded::new(inode) }?;
            loop {
                let index = Self::index(ops, inode)?;
                if let Ok(result) = P::set(index.as_arc_borrow(), &owner, arg) {
                    return result.map(|()| 0);
                }
            }
        })
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn unset(
        index: *mut c_void,
        file: *mut bindings::file,
        arg: *const Argument,
    ) -> c_int {
        // SAFETY: The C side holds a reference to the index, and `arg` is valid for the call.
        let (index, arg) = unsafe { (Self::borrow(index), &*arg) };
        from_result(|| P::unset(index, FileId(file as usize), arg).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn get(index: *mut c_void, file: *mut bindings::file, arg: *mut Argument) {
        // SAFETY: The C side holds a reference to the index, and `arg` is valid for the call.
        let (index, arg) = unsafe { (Self::borrow(index), &mut *arg) };
        P::get(index, FileId(file as usize), arg);
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn show(
        index: *mut c_void,
        file: *mut bindings::file,
        m: *mut bindings::seq_file,
    ) {
        // SAFETY: The C side holds a reference to the index, and `m` is valid for the call and
        // used by nobody else.
        let (index, m) = unsafe { (Self::borrow(index), SeqFile::from_raw(m)) };
        P::show(index, FileId(file as usize), m);
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn bury(index: *mut c_void, file: *mut bindings::file) {
        // SAFETY: The C side holds a reference to the index.
        P::bury(unsafe { Self::borrow(index) }, FileId(file as usize));
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn visit(index: *mut c_void, walk: u64) -> bool {
        // SAFETY: The C side holds a reference to the index.
        P::visit(unsafe { Self::borrow(index) }, walk)
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn release(index: *mut c_void, file: *mut bindings::file) {
        // SAFETY: The C side holds a reference to the index.
        P::release(unsafe { Self::borrow(index) }, FileId(file as usize));
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn is_leased(index: *mut c_void, start: u64, last: u64) -> bool {
        // SAFETY: The C side holds a reference to the index.
        P::is_leased(unsafe { Self::borrow(index) }, start, last)
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn break_begin(brk: *mut bindings::layout_break) -> bool {
        // SAFETY: The breaker holds a reference to the index, and keeps the break in place.
        unsafe { P::break_begin(Self::borrow((*brk).index), &*brk.cast::<Break>()).is_ok() }
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn break_end(brk: *mut bindings::layout_break, how: c_uint) {
        let how = match how {
            bindings::LAYOUT_BREAK_DONE => BreakEnd::Done,
            bindings::LAYOUT_BREAK_PROMISE => BreakEnd::Promised,
            _ => BreakEnd::GivenUp,
        };
        // SAFETY: The breaker holds a reference to the index.
        let index = unsafe { (*brk).index };
        // SAFETY: As above, and the break was begun on this index.
        unsafe { P::break_end(Self::borrow(index), &*brk.cast::<Break>(), how) };
        // SAFETY: The reference of the breaker is dropped with the break.
        unsafe { Self::index_put(index) };
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn evict(index: *mut c_void) {
        // SAFETY: The C side holds a reference to the index.
        P::evict(unsafe { Self::borrow(index) });
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn attach(
        index: *mut c_void,
        start: u64,
        last: u64,
        unit: u64,
        write: bool,
        stable: bool,
        ops: *const bindings::layout_consumer_ops,
        data: *mut c_void,
    ) -> *mut bindings::layout_attachment {
        let Some(ops) = NonNull::new(ops.cast_mut()) else {
            return EINVAL.to_ptr();
        };
        // INVARIANT: This is what the consumer gave, and the provider drops it in `detach`.
        let consumer = ConsumerRef { ops, data };
        // SAFETY: The C side holds a reference to the index.
        let index = unsafe { Self::borrow(index) };
        match P::attach(index, start, last, unit, write, stable, consumer) {
            Ok(attachment) => attachment.into_foreign().cast(),
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by `hooks.c`, as `struct layout_lease_ops` says.
    unsafe extern "C" fn detach(attachment: *mut bindings::layout_attachment) {
        // SAFETY: It came from `attach`, and the consumer does not use it any more.
        P::detach(unsafe { P::Attachment::from_foreign(attachment.cast()) });
    }
}

impl<P: Provider> Drop for Registration<P> {
    fn drop(&mut self) {
        // SAFETY: `new` registered them.
        unsafe { bindings::layout_lease_unregister(&*self.ops) };
    }
}
