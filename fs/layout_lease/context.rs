// SPDX-License-Identifier: GPL-2.0

//! The leases of one inode: grant, release, attach, detach.
//!
//! How a lease is broken is in `breaker.rs`.

use crate::{
    attachment::{
        Attached,
        ConsumerRef,
        Node, //
    },
    breaks::Breaks,
    holder::{
        FileId,
        Holder,
        RawHolder, //
    },
    lease::{
        Kind,
        Lease,
        State, //
    },
    promise::Promises,
    range::Range, //
};
use core::{
    mem::MaybeUninit,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    alloc::Flags,
    bindings,
    error::from_err_ptr,
    fs::File,
    interval_tree::{
        Cursor,
        IntervalNode,
        IntervalTree, //
    },
    new_condvar,
    new_mutex, //
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    seq_file::{
        seq_print,
        SeqFile, //
    },
    sync::{
        aref::ARef,
        atomic::Atomic,
        Arc,
        ArcBorrow,
        CondVar,
        CondVarTimeoutResult,
        Mutex,
        UniqueArc, //
    },
    time::msecs_to_jiffies,
    types::ForeignOwnable,
    workqueue::{
        self,
        DelayedWork, //
    },
};

/// The clock of deadlines: milliseconds since boot.
pub(crate) fn now_ms() -> u64 {
    // SAFETY: It reads the monotonic clock, which anybody may do.
    unsafe { bindings::layout_lease_now_ms() }
}

/// Leases and attachments are in two trees each: that of the inode, and that of the open file.
pub(crate) const OF_INODE: usize = 0;
pub(crate) const OF_HOLDER: usize = 1;

/// A lease in the context, where its range is.
pub(crate) type LeaseNode = IntervalNode<Lease, 2>;

/// Leases, attachments and breaks of one inode.
///
/// Published while it holds a lease, a break or a promise, then retired; whoever finds a retired
/// one looks again.
///
/// # Locks
///
/// `inner` is the context lock. Order: i_rwsem, mmap_lock, pagefault protection of the superblock,
/// invalidate_lock, context lock, then `Attached::claim`, or file_rwsem and flc_lock. Under it
/// nothing copies to or from user space, allocates with reclaim, calls a consumer or puts a file.
/// Two context locks are never held at once.
#[pin_data]
pub(crate) struct LeaseContext {
    inode: Inode,
    #[pin]
    pub(crate) inner: Mutex<Inner>,
    /// An attachment, a lease, a break or a promise is gone, or a process that somebody waits for.
    #[pin]
    pub(crate) changed: CondVar,
    /// Revokes what is overdue, see `breaker.rs`.
    #[pin]
    pub(crate) worker: DelayedWork<LeaseContext>,
    /// The last walk over all open files with leases that met one of this inode.
    pub(crate) visited: Atomic<u64>,
}

/// The inode of a context, which is valid while the context is published: `evict` ends that.
struct Inode(NonNull<bindings::inode>);

// SAFETY: It is only passed to a function that any thread may call.
unsafe impl Send for Inode {}
// SAFETY: As for `Send`.
unsafe impl Sync for Inode {}

/// What the context lock protects.
pub(crate) struct Inner {
    pub(crate) retired: bool,
    pub(crate) holders: RBTree<FileId, Arc<Holder>>,
    pub(crate) leases: IntervalTree<Lease, 2, OF_INODE>,
    /// How many of these are exclusive.
    exclusive: usize,
    pub(crate) attached: IntervalTree<Attached, 2, OF_INODE>,
    pub(crate) breaks: Breaks,
    pub(crate) promises: Promises,
    /// Attachments that have a deadline, or had one.
    pub(crate) expiring: Option<Expiring>,
    /// Of breaks and revocations, so that a holder is notified once of each.
    pub(crate) serial: u64,
}

/// Bounds of the deadlines of attachments, so that nobody but the worker looks at all of them.
#[derive(Clone, Copy)]
pub(crate) struct Expiring {
    /// Hull of the ranges of those that have one.
    pub(crate) range: Range,
    /// No deadline is earlier.
    pub(crate) first: u64,
}

/// What is in the way of a lease.
enum Blocked {
    /// A break, what is kept free for one, or a lease of the current process that is being broken.
    /// It ends by itself, since holders have deadlines.
    Break,
    /// A lease of another process, which may keep it for as long as it likes.
    Lease(Arc<Holder>),
}

/// A context was retired while the caller looked it up. Look again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Retired;

impl LeaseContext {
    fn new(inode: NonNull<bindings::inode>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                inode: Inode(inode),
                inner <- new_mutex!(
                    Inner {
                        retired: false,
                        holders: RBTree::new(),
                        leases: IntervalTree::default(),
                        exclusive: 0,
                        attached: IntervalTree::default(),
                        breaks: Breaks::new(),
                        promises: Promises::new(),
                        expiring: None,
                        serial: 0,
                    },
                    "layout_lease::LeaseContext"
                ),
                changed <- new_condvar!("layout_lease::LeaseContext::changed"),
                worker <- workqueue::new_delayed_work!("layout_lease::LeaseContext::worker"),
                visited: Atomic::new(0),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The context of an inode, which gets one if it has none.
    ///
    /// # Safety
    ///
    /// The inode is valid.
    pub(crate) unsafe fn of(inode: NonNull<bindings::inode>) -> Result<Arc<Self>> {
        // SAFETY: The inode is valid.
        if let Some(present) = unsafe { Self::publish(inode, None) }? {
            return Ok(present);
        }
        let new = Self::new(inode)?;
        // SAFETY: The inode is valid.
        let present = unsafe { Self::publish(inode, Some(new.clone())) }?;
        Ok(present.unwrap_or(new))
    }

    /// Makes a context the one of its inode, unless that has one, which is returned.
    ///
    /// # Safety
    ///
    /// The inode is valid.
    unsafe fn publish(
        inode: NonNull<bindings::inode>,
        new: Option<Arc<Self>>,
    ) -> Result<Option<Arc<Self>>> {
        let new = new.map_or(ptr::null_mut(), Arc::into_foreign);
        // SAFETY: The inode is valid.
        let present = unsafe { bindings::layout_context_publish(inode.as_ptr(), new) };
        if present.is_null() {
            return Ok(None);
        }
        if !new.is_null() {
            // SAFETY: It was not published, so the reference still is ours.
            drop(unsafe { Arc::<Self>::from_foreign(new) });
        }
        // SAFETY: If it is no error, it is a context, and we were given a reference.
        from_err_ptr(present).map(|present| Some(unsafe { Arc::from_foreign(present) }))
    }

    /// Takes back what dead holders have that is in the way of a lease, and waits for it. Returns
    /// whether the open file has a holder already.
    pub(crate) fn make_way(
        this: &Arc<Self>,
        file: FileId,
        range: &Range,
        kind: Kind,
    ) -> Result<bool> {
        loop {
            let inner = this.inner.lock();
            let Some(dead) = inner.find_dead(file, range, kind) else {
                return Ok(inner.holders.get(&file).is_some());
            };
            drop(inner);
            Self::revoke_and_wait(this, &dead, &Range::ALL)?.forget(&dead);
            this.wake_and_retire();
        }
    }

    /// Grants a lease, or changes its kind, atomically. Changes of the layout are excluded
    /// meanwhile, and the caller has a reference to the file.
    ///
    /// `raw` is taken if the open file has no holder yet ([`ESTALE`] if there is none); else that
    /// one takes over the eventfd.
    pub(crate) fn grant(
        this: &Arc<Self>,
        file: FileId,
        raw: &mut Option<RawHolder>,
        range: &Range,
        kind: Kind,
    ) -> Result<Result, Retired> {
        // Most leases take the place of none.
        let mut result = Self::try_grant(this, file, raw, range, kind, 1);
        if let Ok(Err(ENOBUFS)) = result {
            result = Self::try_grant(this, file, raw, range, kind, Prealloc::MOST);
        }
        // Whatever went wrong, a context that holds nothing does not stay. And a lease may be
        // shared now that was exclusive.
        this.wake_and_retire();
        result
    }

    /// [`ENOBUFS`]: it takes memory for more than `wanted` leases.
    fn try_grant(
        this: &Arc<Self>,
        file: FileId,
        raw: &mut Option<RawHolder>,
        range: &Range,
        kind: Kind,
        wanted: usize,
    ) -> Result<Result, Retired> {
        let place = match raw {
            Some(_) => HolderPlace::new().map(Some),
            None => Ok(None),
        };
        let prealloc = Prealloc::new(wanted, GFP_KERNEL_ACCOUNT);
        let (Ok(mut prealloc), Ok(place)) = (prealloc, place) else {
            return Ok(Err(ENOMEM));
        };
        let mut inner = this.inner.lock();
        if inner.retired {
            return Err(Retired);
        }

        let present = inner.holders.get(&file).cloned();
        if let Some(holder) = &present {
            // One open file has one holder (invariant I4), as long as that one lives.
            if !holder.is_current(&inner) && !holder.is_dead(&inner) {
                return Ok(Err(EBUSY));
            }
        }
        // It has died since `make_way`.
        if inner.find_dead(file, range, kind).is_some() {
            return Ok(Err(EAGAIN));
        }

        let holder = match present {
            Some(holder) => holder,
            None => {
                let (Some(raw), Some(place)) = (raw.take(), place) else {
                    return Ok(Err(ESTALE));
                };
                let holder: Arc<Holder> = place.memory.write(Holder::new(this, file, raw)).into();
                let entry = place.entry.into_node(file, holder.clone());
                inner.holders.insert(entry);
                holder
            }
        };
        let result = match inner.blocked(range, kind) {
            None => inner.replace(&holder, range, Some(kind), &mut prealloc),
            Some(_) => Err(EAGAIN),
        };
        match result {
            Ok(()) => {
                let present = &mut holder.state_mut(&mut inner).raw;
                if let Some(new) = raw {
                    present.take_event(new);
                }
                // SAFETY: The caller has a reference to the file, and we hold the context lock.
                unsafe { present.link(kind) };
            }
            Err(_) => inner.forget_without_leases(&holder),
        }
        Ok(result)
    }

    /// Sleeps until nothing is in the way of a lease of the current process any more, as far as is
    /// known here: try again. [`EAGAIN`]: at `until` a lease of another process still is;
    /// [`ERESTARTSYS`].
    ///
    /// What ends by itself is waited for without a limit of our own. A lease of another process has
    /// one, since that process may wait for a lease of ours.
    ///
    /// Process context. The caller holds no lock, and does not exclude changes of the layout:
    /// breaks are waited for.
    pub(crate) fn wait(this: &Arc<Self>, range: &Range, kind: Kind, until: u64) -> Result {
        let mut inner = this.inner.lock();
        while !inner.retired {
            let ms = match inner.blocked(range, kind) {
                None => break,
                Some(Blocked::Break) => i32::MAX as u64,
                // `make_way` takes it back.
                Some(Blocked::Lease(holder)) if holder.is_dead(&inner) => break,
                Some(Blocked::Lease(holder)) => {
                    holder.state_mut(&mut inner).raw.watch();
                    match until.saturating_sub(now_ms()) {
                        0 => return Err(EAGAIN),
                        left => left.min(i32::MAX as u64),
                    }
                }
            };
            let jiffies = msecs_to_jiffies(ms as u32);
            if let CondVarTimeoutResult::Signal { .. } =
                this.changed.wait_interruptible_timeout(&mut inner, jiffies)
            {
                return Err(ERESTARTSYS);
            }
        }
        Ok(())
    }

    /// Returns whether there are leases that were not taken back.
    pub(crate) fn is_leased(&self) -> bool {
        let inner = self.inner.lock();
        let mut leases = inner.leases_in(&Range::ALL);
        leases.any(|(part, lease)| inner.state_of(&part, &lease).is_live())
    }

    /// `F_UNLCK`; `revoke`: also what is attached.
    pub(crate) fn unlock(this: &Arc<Self>, file: FileId, range: &Range, revoke: bool) -> Result {
        // Most leases are returned as they were taken.
        match Self::try_unlock(this, file, range, revoke, 0) {
            Err(ENOBUFS) => Self::try_unlock(this, file, range, revoke, Prealloc::MOST),
            result => result,
        }
    }

    /// [`ENOBUFS`]: it takes memory for more than `wanted` leases.
    fn try_unlock(
        this: &Arc<Self>,
        file: FileId,
        range: &Range,
        revoke: bool,
        wanted: usize,
    ) -> Result {
        let mut prealloc = Prealloc::new(wanted, GFP_KERNEL_ACCOUNT)?;
        let mut inner = this.inner.lock();
        let Some(holder) = inner.holders.get(&file).cloned() else {
            return Ok(());
        };
        if !holder.is_current(&inner) && !holder.is_dead(&inner) {
            return Err(EBUSY);
        }
        if inner.has_attached(&holder, range) {
            if !revoke {
                return Err(EBUSY);
            }
            // Nothing is revoked in vain.
            let (before, after) = inner.count(&holder, range, None);
            if after > prealloc.len() {
                return Err(ENOBUFS);
            }
            let more = after.saturating_sub(before);
            let raw = &holder.state(&inner).raw;
            raw.charge(more)?;
            raw.uncharge(more);
            drop(inner);
            inner = Self::revoke_and_wait(this, &holder, range)?;
        }
        inner.replace(&holder, range, None, &mut prealloc)?;
        inner.forget_without_leases(&holder);
        drop(inner);
        this.wake_and_retire();
        Ok(())
    }

    /// `F_GETLAYOUT`: fills in the first lease of an open file in a range, if there is one;
    /// `broken`: the first one that is being broken, or was revoked.
    pub(crate) fn query(
        &self,
        file: FileId,
        range: &Range,
        broken: bool,
        out: &mut bindings::layout_lease,
    ) {
        let inner = self.inner.lock();
        let Some(holder) = inner.holders.get(&file) else {
            return;
        };
        let mut leases = inner.leases_of(holder, range);
        let found =
            leases.find(|(part, lease)| !broken || inner.state_of(part, lease) != State::Granted);
        let Some((range, lease)) = found else {
            return;
        };
        let state = inner.state_of(&range, &lease);
        out.type_ = lease.kind.to_type();
        out.state = state as u16;
        out.generation = lease.generation;
        out.start = range.start;
        out.len = match range.last {
            u64::MAX => 0,
            last => last - range.start + 1,
        };
        if state == State::Breaking {
            let left = lease.status(&inner).deadline.saturating_sub(now_ms());
            out.remaining_ms = left.try_into().unwrap_or(u32::MAX);
        }
    }

    /// The leases of an open file, a line each, for `/proc/layout_leases`.
    pub(crate) fn show(&self, file: FileId, m: &SeqFile) {
        let inner = self.inner.lock();
        let Some(holder) = inner.holders.get(&file) else {
            return;
        };
        let now = now_ms();
        for (range, lease) in inner.leases_of(holder, &Range::ALL) {
            if !holder.state(&inner).raw.show(m) {
                return;
            }
            let state = inner.state_of(&range, &lease);
            let (kind, name) = (lease.kind.name(), state.name());
            seq_print!(m, "{kind:<9} {name:<9} {:<18} ", range.start);
            match range.last {
                u64::MAX => seq_print!(m, "{:<18}", "EOF"),
                last => seq_print!(m, "{last:<18}"),
            }
            seq_print!(m, " {:<8} ", inner.attached_by(holder, &range).count());
            match state {
                State::Breaking => {
                    let deadline = lease.status(&inner).deadline;
                    seq_print!(m, "{}\n", deadline.saturating_sub(now));
                }
                _ => seq_print!(m, "-\n"),
            }
        }
    }

    /// The last reference of an open file is gone, hence nothing is attached through it.
    pub(crate) fn release(this: &Arc<Self>, file: FileId) {
        let mut inner = this.inner.lock();
        if let Some(holder) = inner.holders.get(&file).cloned() {
            inner.forget(&holder);
        }
        drop(inner);
        this.wake_and_retire();
    }

    /// Attaches memory to the leases of the current process that cover `bytes`. It is mapped from
    /// `file`.
    pub(crate) fn attach(
        this: &Arc<Self>,
        file: FileId,
        bytes: Range,
        unit: u64,
        write: bool,
        stable: bool,
        consumer: ConsumerRef,
    ) -> Result<Arc<Node>> {
        let pinned = bytes.round_out(unit);
        let memory = UniqueArc::<Node>::new_uninit(GFP_KERNEL_ACCOUNT)?;
        let mut inner = this.inner.lock();
        let (holder, file) = inner.find_covering(file, &bytes, write)?;
        if !stable {
            drop(inner);
            drop(file);
            return Err(EOPNOTSUPP);
        }
        // A lease may have been granted beside a break that meets the same DAX mapping, or beside
        // what is kept free for one.
        if inner.breaks.overlaps(&pinned) || inner.promises.overlaps(&pinned, now_ms()) {
            drop(inner);
            drop(file);
            return Err(EAGAIN);
        }
        let attached = Attached::new(holder, consumer, file);
        let intervals = [pinned.interval(), bytes.interval()];
        let node = memory.pin_init_with(IntervalNode::pin_init(intervals, attached))?;
        let node = Arc::from(node);
        inner.insert_attached(&node);
        Ok(node)
    }

    /// The consumer has unpinned the pages.
    pub(crate) fn detach(node: Arc<Node>) {
        // From here on the consumer is not called.
        let file = node.detach();
        let context = node.holder.context.clone();
        let mut inner = context.inner.lock();
        inner.complete(&node);
        // What is kept free for somebody may have its time from now on.
        if !inner.promises.is_empty() {
            context.schedule(&inner);
        }
        drop(inner);
        context.changed.notify_all();
        // Unpinned first, then put: this may evict an inode, which waits for its pages.
        drop(file);
    }

    /// Something may be gone: wakes who waits for it, and withdraws a context that holds nothing
    /// any more.
    ///
    /// Not under the context lock.
    pub(crate) fn wake_and_retire(self: &Arc<Self>) {
        self.changed.notify_all();
        self.retire_if_empty();
    }

    fn retire_if_empty(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        if inner.retired
            || !inner.holders.is_empty()
            || !inner.breaks.is_empty()
            || !inner.promises.is_empty()
        {
            return;
        }
        inner.retired = true;
        // Nothing is attached: a worker that still runs arms no timer.
        inner.expiring = None;
        // SAFETY: It was published before anybody could find it, and is withdrawn only here, once.
        // So the inode is valid.
        let published = unsafe { bindings::layout_context_unpublish(self.inode.0.as_ptr()) };
        // SAFETY: The publication owned this reference, which is ours now.
        let published = unsafe { Arc::<Self>::from_foreign(published) };
        drop(inner);
        drop(published);
        // What the queue owns would keep the module until the deadline.
        drop(DelayedWork::cancel(self));
    }

    /// The inode goes away, with no lease and no break left.
    pub(crate) fn evict(this: &Arc<Self>) {
        this.inner.lock().promises.clear();
        this.wake_and_retire();
    }
}

impl Inner {
    /// The leases that overlap a range.
    pub(crate) fn leases_in(
        &self,
        range: &Range,
    ) -> impl Iterator<Item = (Range, ArcBorrow<'_, LeaseNode>)> {
        self.leases
            .overlapping(range.interval())
            .map(|lease| (range_of(&lease), lease))
    }

    /// Those of an open file.
    pub(crate) fn leases_of<'a>(
        &'a self,
        holder: &'a Holder,
        range: &Range,
    ) -> impl Iterator<Item = (Range, ArcBorrow<'a, LeaseNode>)> {
        holder
            .state(self)
            .leases
            .overlapping(range.interval())
            .map(|lease| (range_of(&lease), lease))
    }

    /// Starts a walk over the leases that overlap a range, on which they may be removed, split and
    /// added. Parts of a split lease that overlap the range may come up again.
    pub(crate) fn walk_leases(&self, range: &Range) -> Cursor<Lease, 2, OF_INODE> {
        self.leases.cursor(range.interval())
    }

    /// The attachments that breaks of a range meet.
    pub(crate) fn attached_in(&self, range: &Range) -> impl Iterator<Item = ArcBorrow<'_, Node>> {
        self.attached.overlapping(range.interval())
    }

    /// The attachments through an open file of which any byte is in a range.
    pub(crate) fn attached_by<'a>(
        &'a self,
        holder: &'a Holder,
        range: &Range,
    ) -> impl Iterator<Item = ArcBorrow<'a, Node>> {
        holder.state(self).attached.overlapping(range.interval())
    }

    /// Returns whether a holder has attached any byte of a range through an open file.
    pub(crate) fn has_attached(&self, holder: &Holder, range: &Range) -> bool {
        self.attached_by(holder, range).next().is_some()
    }

    /// The state of a lease. A break of it is over when nothing is attached there any more.
    pub(crate) fn state_of(&self, range: &Range, lease: &Lease) -> State {
        match lease.status(self).state {
            State::Breaking if !self.has_attached(&lease.holder, range) => State::Revoked,
            state => state,
        }
    }

    /// Puts an attachment into the context. It is in no tree.
    fn insert_attached(&mut self, node: &Arc<Node>) {
        let of_holder = &mut node.holder.state_mut(self).attached;
        let _ = of_holder.insert(node.clone());
        let _ = self.attached.insert(node.clone());
    }

    /// Takes an attachment out of the context. Returns whether it was there.
    pub(crate) fn remove_attached(&mut self, node: &Arc<Node>) -> bool {
        let had_deadline = node.expiry(self).deadline.is_some();
        let of_holder = node.holder.state_mut(self);
        if of_holder.attached.remove(node) && had_deadline {
            of_holder.count_expiring(0, 1);
        }
        self.attached.remove(node)
    }

    /// Returns whether no lease can be in the way of one of this kind, whatever their ranges are.
    ///
    /// Many processes share a file; this keeps them from looking at each other.
    fn is_free_for(&self, kind: Kind) -> bool {
        // A lease is being broken as long as something attached to it has a deadline.
        kind == Kind::Shared && self.exclusive == 0 && self.expiring.is_none()
    }

    /// A holder that is dead and in the way of a lease: through the same open file, or in `range`.
    fn find_dead(&self, file: FileId, range: &Range, kind: Kind) -> Option<Arc<Holder>> {
        match self.holders.get(&file) {
            Some(holder) if holder.is_dead(self) => return Some(holder.clone()),
            // The lease will be refused, so nobody loses anything for it.
            Some(holder) if !holder.is_current(self) => return None,
            _ => {}
        }
        if self.is_free_for(kind) {
            return None;
        }
        self.leases_in(range)
            .find(|(_, lease)| kind.conflicts(lease.kind) && lease.holder.is_dead(self))
            .map(|(_, lease)| lease.holder.clone())
    }

    /// Returns what is in the way if the current process wants to get or change a lease on `range`.
    fn blocked(&self, range: &Range, kind: Kind) -> Option<Blocked> {
        if self.breaks.overlaps(range) || self.promises.overlaps(range, now_ms()) {
            return Some(Blocked::Break);
        }
        if self.is_free_for(kind) {
            return None;
        }
        self.leases_in(range).find_map(|(part, lease)| {
            let state = self.state_of(&part, &lease);
            if lease.holder.is_current(self) {
                // The broken part never becomes usable again.
                (state == State::Breaking).then_some(Blocked::Break)
            } else {
                let conflicts = state.is_live() && kind.conflicts(lease.kind);
                conflicts.then(|| Blocked::Lease(lease.holder.clone()))
            }
        })
    }

    /// Finds leases of the current process that cover a range, through one open file: for writable
    /// memory, through one that is open for writing.
    ///
    /// Looks at `file` first, so that nobody has to look at the leases of all others.
    fn find_covering(
        &self,
        file: FileId,
        range: &Range,
        write: bool,
    ) -> Result<(Arc<Holder>, ARef<File>)> {
        let of_file = self.holders.get(&file);
        if let Some(Ok(found)) = of_file.map(|holder| self.covering(holder, range, write)) {
            return Ok(found);
        }
        let first_byte = Range {
            start: range.start,
            last: range.start,
        };
        let mut error = EPERM;
        // Leases of one open file never overlap, so that each comes up once.
        for (_, lease) in self.leases_in(&first_byte) {
            match self.covering(&lease.holder, range, write) {
                Ok(found) => return Ok(found),
                Err(EPERM) => {}
                Err(other) => error = other,
            }
        }
        if error == EPERM && !self.current_holds_any() {
            return Err(EOPNOTSUPP);
        }
        Err(error)
    }

    /// A holder and its file, if leases of it cover a range and may be attached to.
    fn covering(
        &self,
        holder: &Arc<Holder>,
        range: &Range,
        write: bool,
    ) -> Result<(Arc<Holder>, ARef<File>)> {
        if !holder.is_current(self) || !self.covers(holder, range) {
            return Err(EPERM);
        }
        // What was recalled stays on record until the holder asks anew.
        let granted = |(part, lease): (Range, ArcBorrow<'_, LeaseNode>)| {
            self.state_of(&part, &lease) == State::Granted
        };
        if !self.leases_of(holder, range).all(granted) {
            return Err(EAGAIN);
        }
        match holder.state(self).raw.get_file(write) {
            Ok(file) => Ok((holder.clone(), file)),
            Err(EACCES) => Err(EACCES),
            // It is being released.
            Err(_) => Err(EPERM),
        }
    }

    /// Returns whether leases of an open file cover a range without a gap.
    fn covers(&self, holder: &Holder, range: &Range) -> bool {
        let mut next = range.start;
        for (part, _) in self.leases_of(holder, range) {
            if part.start > next {
                return false;
            }
            if part.last >= range.last {
                return true;
            }
            next = part.last + 1;
        }
        false
    }

    /// Returns whether the current process holds any lease on this inode.
    fn current_holds_any(&self) -> bool {
        self.leases_in(&Range::ALL).any(|(part, lease)| {
            lease.holder.is_current(self) && self.state_of(&part, &lease).is_live()
        })
    }

    /// Puts a lease of an open file that is in the context into it. It is charged already.
    pub(crate) fn insert_lease(
        &mut self,
        prealloc: &mut Prealloc,
        range: &Range,
        lease: Lease,
    ) -> Option<Arc<LeaseNode>> {
        let memory = prealloc.take()?;
        let node = IntervalNode::new([range.interval(), range.interval()], lease).ok()?;
        let node: Arc<LeaseNode> = memory.write(node).into();
        // A new node is in no tree.
        let of_holder = &mut node.holder.state_mut(self).leases;
        let _ = of_holder.insert(node.clone());
        let _ = self.leases.insert(node.clone());
        self.exclusive += usize::from(node.kind == Kind::Exclusive);
        Some(node)
    }

    /// Takes a lease out of the context.
    pub(crate) fn remove_lease(&mut self, node: &Arc<LeaseNode>) {
        node.holder.state_mut(self).leases.remove(node);
        if self.leases.remove(node) {
            self.exclusive -= usize::from(node.kind == Kind::Exclusive);
        }
    }

    /// How many leases an open file has in `range`, and how many there would be of them after
    /// [`Self::replace`].
    fn count(&self, holder: &Holder, range: &Range, kind: Option<Kind>) -> (usize, usize) {
        let mut count = (0, usize::from(kind.is_some()));
        for (part, _) in self.leases_of(holder, range) {
            count.0 += 1;
            count.1 += part.without(range).iter().flatten().count();
        }
        count
    }

    /// Puts a lease, or none, in the place of what an open file has in `range`. [`ENOLCK`] if the
    /// user has too many leases then, [`ENOBUFS`] if `prealloc` is not enough; nothing is changed
    /// in these cases.
    fn replace(
        &mut self,
        holder: &Arc<Holder>,
        range: &Range,
        kind: Option<Kind>,
        prealloc: &mut Prealloc,
    ) -> Result {
        let (before, after) = self.count(holder, range, kind);
        if after > prealloc.len() {
            return Err(ENOBUFS);
        }
        holder
            .state(self)
            .raw
            .charge(after.saturating_sub(before))?;
        let mut old = holder.state(self).leases.cursor(range.interval());
        while let Some(node) = old.next(&holder.state(self).leases) {
            self.remove_lease(&node);
            for rest in range_of(&node).without(range).iter().flatten() {
                self.insert_lease(prealloc, rest, node.clone_for_part(self));
            }
        }
        if let Some(kind) = kind {
            self.insert_lease(prealloc, range, Lease::new(holder, kind));
        }
        holder
            .state(self)
            .raw
            .uncharge(before.saturating_sub(after));
        Ok(())
    }

    /// An open file holds no leases any more.
    fn forget(&mut self, holder: &Arc<Holder>) {
        let mut old = holder.state(self).leases.cursor(Range::ALL.interval());
        while let Some(node) = old.next(&holder.state(self).leases) {
            self.remove_lease(&node);
            holder.state(self).raw.uncharge(1);
        }
        self.forget_without_leases(holder);
    }

    /// Nothing happens if it holds leases; or if it was forgotten before, since another holder may
    /// have taken its place.
    fn forget_without_leases(&mut self, holder: &Arc<Holder>) {
        let present = self.holders.get(&holder.file);
        if present.is_some_and(|present| Arc::ptr_eq(present, holder))
            && holder.state(self).leases.is_empty()
        {
            self.holders.remove(&holder.file);
            holder.state_mut(self).raw.unlink();
        }
    }
}

/// The range of a lease, or the one in which breaks meet an attachment.
pub(crate) fn range_of<T>(node: &IntervalNode<T, 2>) -> Range {
    Range::from_interval(node.interval::<OF_INODE>())
}

/// Memory for leases. Allocated before the context lock is taken, or without waiting.
pub(crate) struct Prealloc([Option<UniqueArc<MaybeUninit<LeaseNode>>>; Self::MOST]);

impl Prealloc {
    /// Leases of one open file never overlap, so that this is enough: for a new lease, and for what
    /// remains of the first and of the last one that it replaces.
    pub(crate) const MOST: usize = 3;

    pub(crate) fn new(wanted: usize, flags: Flags) -> Result<Self> {
        let mut leases = [const { None }; Self::MOST];
        for lease in leases.iter_mut().take(wanted) {
            *lease = Some(UniqueArc::new_uninit(flags)?);
        }
        Ok(Self(leases))
    }

    fn len(&self) -> usize {
        self.0.iter().flatten().count()
    }

    fn take(&mut self) -> Option<UniqueArc<MaybeUninit<LeaseNode>>> {
        self.0.iter_mut().find_map(Option::take)
    }
}

/// Memory for a holder in the context, allocated before the context lock is taken.
struct HolderPlace {
    memory: UniqueArc<MaybeUninit<Holder>>,
    entry: RBTreeNodeReservation<FileId, Arc<Holder>>,
}

impl HolderPlace {
    fn new() -> Result<Self> {
        Ok(Self {
            memory: UniqueArc::new_uninit(GFP_KERNEL_ACCOUNT)?,
            entry: RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?,
        })
    }
}
