// SPDX-License-Identifier: GPL-2.0

//! The leases of one inode: grant, release, attach, detach.
//!
//! How a lease is broken is in `breaker.rs`.

use crate::{
    attachment::{
        Attached,
        Node, //
    },
    lease::{
        Kind,
        Lease,
        Owner,
        State, //
    },
    promise::Promises,
    range::Range, //
};
use core::mem::MaybeUninit;
use kernel::{
    alloc::Flags,
    fs::{
        layout_lease::{
            self,
            Argument,
            BreakList,
            ConsumerRef,
            FileId,
            Home,
            Retired,
            LAYOUT_LEASE_REVOKE, //
        },
        File, //
    },
    interval_tree::{
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
        Mutex,
        UniqueArc, //
    },
    workqueue::{
        self,
        DelayedWork, //
    },
};

/// Leases and attachments are in two trees each: that of the inode, and that of the open file.
pub(crate) const OF_INODE: usize = 0;
pub(crate) const OF_HOLDER: usize = 1;

/// A lease in the index, where its range is.
pub(crate) type LeaseNode = IntervalNode<Lease, 2>;

/// Leases, attachments and breaks of one inode.
///
/// Published while it holds a lease, a break or a promise, then retired; whoever finds a retired one
/// looks again.
///
/// # Locks
///
/// `inner` is the index lock. Order: i_rwsem, mmap_lock, pagefault protection of the superblock,
/// invalidate_lock, index lock, then `Attached::claim`, or file_rwsem and flc_lock. Under it nothing
/// copies to or from user space, allocates with reclaim, calls a consumer or puts a file. Two index
/// locks are never held at once.
#[pin_data]
pub(crate) struct Index {
    pub(crate) home: Home,
    #[pin]
    pub(crate) inner: Mutex<Inner>,
    /// An attachment is gone.
    #[pin]
    pub(crate) changed: CondVar,
    /// Revokes what is overdue, see `breaker.rs`.
    #[pin]
    pub(crate) worker: DelayedWork<Index>,
    /// The last walk over all open files with leases that met one of this inode.
    pub(crate) visited: Atomic<u64>,
}

/// An open file that holds leases: at least one, which nobody else's are looked at to find.
struct Holder {
    owner: Arc<Owner>,
    /// Its leases, which never overlap.
    leases: IntervalTree<Lease, 2, OF_HOLDER>,
    /// The bytes that are attached through it.
    attached: IntervalTree<Attached, 2, OF_HOLDER>,
}

/// What the index lock protects.
pub(crate) struct Inner {
    pub(crate) retired: bool,
    holders: RBTree<FileId, Holder>,
    leases: IntervalTree<Lease, 2, OF_INODE>,
    pub(crate) attached: IntervalTree<Attached, 2, OF_INODE>,
    pub(crate) breaks: BreakList,
    pub(crate) promises: Promises,
    /// Where attachments have deadlines.
    pub(crate) doomed: Option<Range>,
    /// Of breaks and revocations, so that a holder is told once of each.
    pub(crate) serial: u64,
}

impl Index {
    pub(crate) fn new(home: Home) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                home,
                inner <- new_mutex!(
                    Inner {
                        retired: false,
                        holders: RBTree::new(),
                        leases: IntervalTree::default(),
                        attached: IntervalTree::default(),
                        breaks: BreakList::new(),
                        promises: Promises::new(),
                        doomed: None,
                        serial: 0,
                    },
                    "layout_lease::Index"
                ),
                changed <- new_condvar!("layout_lease::Index::changed"),
                worker <- workqueue::new_delayed_work!("layout_lease::Index::worker"),
                visited: Atomic::new(0),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Takes back what dead holders have that are in the way of a lease, and waits for it.
    pub(crate) fn make_way(this: &Arc<Self>, fresh: &Owner, arg: &Argument) -> Result {
        let range = Range::from_argument(arg);
        loop {
            let inner = this.inner.lock();
            let present = inner.owner(fresh.anchor.file_id());
            let Some(dead) = inner.find_dead(present, &range) else {
                return Ok(());
            };
            drop(inner);
            Self::take_back(this, &dead, &Range::ALL)?.forget_owner(&dead);
            this.retire_if_empty();
        }
    }

    /// Grants a lease, or changes its kind, atomically. Changes of the layout are excluded meanwhile
    /// (`layout_lease::ChangesExcluded`).
    pub(crate) fn grant(
        this: &Arc<Self>,
        fresh: &Arc<Owner>,
        arg: &Argument,
    ) -> Result<Result, Retired> {
        let result = this.try_grant(fresh, arg);
        // Whatever went wrong, an index that holds nothing does not stay.
        this.retire_if_empty();
        result
    }

    fn try_grant(&self, fresh: &Arc<Owner>, arg: &Argument) -> Result<Result, Retired> {
        let range = Range::from_argument(arg);
        let kind = Kind::from_type(arg.type_);
        let (Ok(mut spares), Ok(entry)) = (
            Spares::new(),
            RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT),
        ) else {
            return Ok(Err(ENOMEM));
        };
        let mut inner = self.inner.lock();
        if inner.retired {
            return Err(Retired);
        }

        let present = inner.owner(fresh.anchor.file_id()).cloned();
        if let Some(owner) = &present {
            // One open file has one holder (invariant I4), as long as that one lives.
            if !owner.anchor.is_current() && !owner.anchor.is_dead() {
                return Ok(Err(EBUSY));
            }
        }
        // It has died since `make_way`.
        if inner.find_dead(present.as_ref(), &range).is_some() {
            return Ok(Err(EAGAIN));
        }

        let owner = present.unwrap_or_else(|| {
            let holder = Holder {
                owner: fresh.clone(),
                leases: IntervalTree::default(),
                attached: IntervalTree::default(),
            };
            let entry = entry.into_node(fresh.anchor.file_id(), holder);
            inner.holders.insert(entry);
            fresh.clone()
        });
        let result = inner
            .check_grant(&owner, &range, kind)
            .and_then(|()| inner.replace(&owner, &range, Some(kind), &mut spares));
        match result {
            Ok(()) => owner.link(kind),
            Err(_) => inner.forget_without_leases(&owner),
        }
        Ok(result)
    }

    /// Returns whether there are leases in a range that were not taken back.
    pub(crate) fn is_leased(&self, range: &Range) -> bool {
        let inner = self.inner.lock();
        let mut leases = inner.leases_in(range);
        leases.any(|(part, lease)| inner.state_of(&part, &lease).is_live())
    }

    /// `F_UNLCK`.
    pub(crate) fn unlock(this: &Arc<Self>, file: FileId, arg: &Argument) -> Result {
        let range = Range::from_argument(arg);
        let mut spares = Spares::new()?;
        let mut inner = this.inner.lock();
        let Some(owner) = inner.owner(file).cloned() else {
            return Ok(());
        };
        if !owner.anchor.is_current() && !owner.anchor.is_dead() {
            return Err(EBUSY);
        }
        if inner.has_attached(&owner, &range) {
            if arg.flags & LAYOUT_LEASE_REVOKE == 0 {
                return Err(EBUSY);
            }
            // Nothing is revoked in vain.
            let (before, after) = inner.count(&owner, &range, None);
            owner.charge(after.saturating_sub(before))?;
            owner.uncharge(after.saturating_sub(before));
            drop(inner);
            inner = Self::take_back(this, &owner, &range)?;
        }
        inner.replace(&owner, &range, None, &mut spares)?;
        inner.forget_without_leases(&owner);
        drop(inner);
        this.retire_if_empty();
        Ok(())
    }

    /// `F_GETLAYOUT`: the first lease of an open file in a range.
    pub(crate) fn query(&self, file: FileId, arg: &mut Argument) {
        let range = Range::from_argument(arg);
        let inner = self.inner.lock();
        let Some(owner) = inner.owner(file) else {
            return;
        };
        let Some((range, lease)) = inner.leases_of(owner, &range).next() else {
            return;
        };
        arg.type_ = lease.kind.to_type();
        let state = inner.state_of(&range, &lease);
        arg.state = state as u16;
        arg.start = range.start;
        arg.len = range.argument_len();
        if state == State::Breaking {
            let left = lease.deadline().saturating_sub(layout_lease::now_ms());
            arg.remaining_ms = left.try_into().unwrap_or(u32::MAX);
        }
    }

    /// The leases of an open file, a line each, for `/proc/layout_leases`.
    pub(crate) fn show(&self, file: FileId, m: &SeqFile) {
        let inner = self.inner.lock();
        let Some(owner) = inner.owner(file) else {
            return;
        };
        let now = layout_lease::now_ms();
        for (range, lease) in inner.leases_of(owner, &Range::ALL) {
            // SAFETY: An owner in the index is linked, and we hold the index lock.
            if !unsafe { owner.anchor.show(m) } {
                return;
            }
            let state = inner.state_of(&range, &lease);
            let (kind, name) = (lease.kind.name(), state.name());
            seq_print!(m, "{kind:<9} {name:<9} {:<18} ", range.start);
            match range.last {
                u64::MAX => seq_print!(m, "{:<18}", "EOF"),
                last => seq_print!(m, "{last:<18}"),
            }
            seq_print!(m, " {:<8} ", inner.attached_by(owner, &range).count());
            match state {
                State::Breaking => seq_print!(m, "{}\n", lease.deadline().saturating_sub(now)),
                _ => seq_print!(m, "-\n"),
            }
        }
    }

    /// The last reference of an open file is gone, hence nothing is attached through it.
    pub(crate) fn release(this: &Arc<Self>, file: FileId) {
        let mut inner = this.inner.lock();
        if let Some(owner) = inner.owner(file).cloned() {
            inner.forget_owner(&owner);
        }
        drop(inner);
        this.retire_if_empty();
    }

    /// Attaches memory to the leases of the current process that cover `bytes`.
    pub(crate) fn attach(
        this: &Arc<Self>,
        bytes: Range,
        unit: u64,
        write: bool,
        stable: bool,
        consumer: ConsumerRef,
    ) -> Result<Arc<Node>> {
        let pinned = bytes.round_out(unit);
        let memory = UniqueArc::<Node>::new_uninit(GFP_KERNEL_ACCOUNT)?;
        let mut inner = this.inner.lock();
        let (owner, file) = inner.cover(&bytes, write)?;
        if !stable {
            drop(inner);
            drop(file);
            return Err(EOPNOTSUPP);
        }
        // A lease may have been granted beside a break that meets the same DAX mapping, or beside
        // what is kept free for one.
        inner.promises.expire(layout_lease::now_ms());
        if inner.breaks.overlaps(pinned.start, pinned.last) || inner.promises.overlaps(&pinned) {
            drop(inner);
            drop(file);
            return Err(EAGAIN);
        }
        let attached = Attached::new(this.clone(), owner, consumer, file);
        let node = memory.pin_init_with(IntervalNode::pin_init::<Error>(
            [pinned.interval(), bytes.interval()],
            attached,
        ))?;
        let node: Arc<Node> = node.into();
        inner.insert_attached(&node);
        Ok(node)
    }

    /// The consumer has unpinned the pages.
    pub(crate) fn detach(node: Arc<Node>) {
        // From here on the consumer is not called.
        let file = node.detach();
        let index = node.index.clone();
        let mut inner = index.inner.lock();
        inner.settle(&node);
        index.schedule(&inner);
        drop(inner);
        index.changed.notify_all();
        // Unpinned first, then put: this may evict an inode, which waits for its pages.
        drop(file);
    }

    /// Withdraws an index that holds nothing any more.
    pub(crate) fn retire_if_empty(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        if inner.retired
            || !inner.holders.is_empty()
            || !inner.breaks.is_empty()
            || !inner.promises.is_empty()
        {
            return;
        }
        inner.retired = true;
        // SAFETY: It was published before anybody could find it, and `retired` says that this is
        // done once.
        unsafe { layout_lease::retire(self.home, self.as_arc_borrow()) };
        drop(inner);
        // What the queue owns would keep the module until the deadline.
        drop(workqueue::cancel_delayed(self));
    }
}

impl Index {
    /// The inode goes away, with no lease and no break left.
    pub(crate) fn evict(this: &Arc<Self>) {
        this.inner.lock().promises.clear();
        this.retire_if_empty();
    }
}

impl Inner {
    /// Who holds leases through an open file.
    pub(crate) fn owner(&self, file: FileId) -> Option<&Arc<Owner>> {
        self.holders.get(&file).map(|holder| &holder.owner)
    }

    /// The entry of an owner, unless that was forgotten meanwhile.
    fn holder(&self, owner: &Owner) -> Option<&Holder> {
        self.holders
            .get(&owner.anchor.file_id())
            .filter(|holder| core::ptr::eq(&*holder.owner, owner))
    }

    /// As [`Self::holder`].
    fn holder_mut(&mut self, owner: &Owner) -> Option<&mut Holder> {
        self.holders
            .get_mut(&owner.anchor.file_id())
            .filter(|holder| core::ptr::eq(&*holder.owner, owner))
    }

    /// The leases that overlap a range.
    pub(crate) fn leases_in(
        &self,
        range: &Range,
    ) -> impl Iterator<Item = (Range, ArcBorrow<'_, LeaseNode>)> {
        let (start, last) = range.interval();
        self.leases
            .overlapping(start, last)
            .map(|lease| (range_of(&lease), lease))
    }

    /// Those of an open file.
    pub(crate) fn leases_of(
        &self,
        owner: &Owner,
        range: &Range,
    ) -> impl Iterator<Item = (Range, ArcBorrow<'_, LeaseNode>)> {
        let (start, last) = range.interval();
        self.holder(owner)
            .into_iter()
            .flat_map(move |holder| holder.leases.overlapping(start, last))
            .map(|lease| (range_of(&lease), lease))
    }

    /// Starts a walk over the leases that overlap a range, see [`Self::next_lease`].
    pub(crate) fn first_lease(&self, range: &Range) -> Option<Arc<LeaseNode>> {
        let (start, last) = range.interval();
        self.leases.find(start, last, |_| true)
    }

    /// The next lease of a walk on which leases may be removed, split and added, in one pass: the
    /// one after it is found first. Parts of a split lease that overlap the range come up again.
    pub(crate) fn next_lease(
        &self,
        at: &mut Option<Arc<LeaseNode>>,
        range: &Range,
    ) -> Option<Arc<LeaseNode>> {
        let node = at.take()?;
        let (start, last) = range.interval();
        *at = self.leases.find_next(&node, start, last);
        Some(node)
    }

    /// The attachments that breaks of a range meet.
    pub(crate) fn attached_in(&self, range: &Range) -> impl Iterator<Item = ArcBorrow<'_, Node>> {
        let (start, last) = range.interval();
        self.attached.overlapping(start, last)
    }

    /// The attachments through an open file of which any byte is in a range.
    pub(crate) fn attached_by(
        &self,
        owner: &Owner,
        range: &Range,
    ) -> impl Iterator<Item = ArcBorrow<'_, Node>> {
        let (start, last) = range.interval();
        self.holder(owner)
            .into_iter()
            .flat_map(move |holder| holder.attached.overlapping(start, last))
    }

    /// Has a holder attached any byte of a range through an open file?
    pub(crate) fn has_attached(&self, owner: &Owner, range: &Range) -> bool {
        self.attached_by(owner, range).next().is_some()
    }

    /// The state of a lease. A break of it is over when nothing is attached there any more.
    pub(crate) fn state_of(&self, range: &Range, lease: &Lease) -> State {
        match lease.state() {
            State::Breaking if !self.has_attached(&lease.owner, range) => State::Revoked,
            state => state,
        }
    }

    /// Puts an attachment into the index. It is in no tree.
    fn insert_attached(&mut self, node: &Arc<Node>) {
        if let Some(holder) = self.holder_mut(&node.owner) {
            let _ = holder.attached.insert(node.clone());
        }
        let _ = self.attached.insert(node.clone());
    }

    /// Takes an attachment out of the index. Returns whether it was there.
    pub(crate) fn remove_attached(&mut self, node: &Arc<Node>) -> bool {
        if let Some(holder) = self.holder_mut(&node.owner) {
            holder.attached.remove(node);
        }
        self.attached.remove(node)
    }

    /// A holder that is dead and in the way of a lease: through the same open file, or in `range`.
    fn find_dead(&self, present: Option<&Arc<Owner>>, range: &Range) -> Option<Arc<Owner>> {
        if let Some(owner) = present.filter(|owner| owner.anchor.is_dead()) {
            return Some(owner.clone());
        }
        self.leases_in(range)
            .find(|(_, lease)| lease.owner.anchor.is_dead())
            .map(|(_, lease)| lease.owner.clone())
    }

    /// May `owner` get or change a lease on `range`?
    fn check_grant(&mut self, owner: &Arc<Owner>, range: &Range, kind: Kind) -> Result {
        self.promises.expire(layout_lease::now_ms());
        if self.breaks.overlaps(range.start, range.last) || self.promises.overlaps(range) {
            return Err(EAGAIN);
        }
        for (part, lease) in self.leases_in(range) {
            let state = self.state_of(&part, &lease);
            let refused = if lease.owner.anchor.same_holder(&owner.anchor) {
                // The broken part never becomes usable again.
                state == State::Breaking
            } else {
                state.is_live() && kind.conflicts(lease.kind)
            };
            if refused {
                return Err(EAGAIN);
            }
        }
        Ok(())
    }

    /// Finds leases of the current process that cover a range, through one open file: for writable
    /// memory, through one that is open for writing.
    ///
    /// One pass over all leases there, by ascending start.
    fn cover(&mut self, range: &Range, write: bool) -> Result<(Arc<Owner>, ARef<File>)> {
        self.serial += 1;
        let mut error = EPERM;
        for (part, lease) in self.leases_in(range) {
            let owner = &lease.owner;
            if !owner.anchor.is_current() {
                continue;
            }
            if !owner.cover.extend(self.serial, range, &part) {
                continue;
            }
            // What was recalled stays on record until the holder asks anew.
            if self.state_of(&part, &lease) != State::Granted {
                owner.cover.spoil();
            }
            if part.last < range.last {
                continue;
            }
            if owner.cover.is_spoiled() {
                error = EAGAIN;
            } else if write && !owner.anchor.is_writable() {
                error = EACCES;
            } else if let Some(file) =
                // SAFETY: An owner in the index is linked, and we hold the index lock.
                unsafe { owner.anchor.get_file() }
            {
                return Ok((owner.clone(), file));
            }
        }
        if error == EPERM && !self.current_holds_any() {
            return Err(EOPNOTSUPP);
        }
        Err(error)
    }

    /// Does the current process hold any lease on this inode?
    fn current_holds_any(&self) -> bool {
        self.leases_in(&Range::ALL).any(|(part, lease)| {
            lease.owner.anchor.is_current() && self.state_of(&part, &lease).is_live()
        })
    }

    /// Puts a lease of an open file that is in the index into it. It is charged already.
    pub(crate) fn insert_lease(
        &mut self,
        spares: &mut Spares,
        range: &Range,
        lease: Lease,
    ) -> Option<Arc<LeaseNode>> {
        let memory = spares.take()?;
        let node = memory.write(IntervalNode::new([range.interval(); 2], lease));
        let node: Arc<LeaseNode> = node.into();
        // A new node is in no tree.
        if let Some(holder) = self.holder_mut(&node.owner) {
            let _ = holder.leases.insert(node.clone());
        }
        let _ = self.leases.insert(node.clone());
        Some(node)
    }

    /// Takes a lease out of the index.
    pub(crate) fn remove_lease(&mut self, node: &Arc<LeaseNode>) {
        if let Some(holder) = self.holder_mut(&node.owner) {
            holder.leases.remove(node);
        }
        self.leases.remove(node);
    }

    /// A lease of an open file that overlaps a range.
    fn any_lease_of(&self, owner: &Owner, range: &Range) -> Option<Arc<LeaseNode>> {
        let (_, lease) = self.leases_of(owner, range).next()?;
        Some(lease.into())
    }

    /// How many leases an open file has in `range`, and how many there would be of them after
    /// [`Self::replace`].
    fn count(&self, owner: &Owner, range: &Range, kind: Option<Kind>) -> (usize, usize) {
        let mut count = (0, usize::from(kind.is_some()));
        for (part, _) in self.leases_of(owner, range) {
            count.0 += 1;
            count.1 += part.without(range).iter().flatten().count();
        }
        count
    }

    /// Puts a lease, or none, in the place of what an open file has in `range`. [`ENOLCK`] if the
    /// user has too many leases then; nothing is changed in this case.
    ///
    /// Leases of one open file never overlap, so that three spares are enough: for the new lease
    /// and for what remains of the first and of the last one.
    fn replace(
        &mut self,
        owner: &Arc<Owner>,
        range: &Range,
        kind: Option<Kind>,
        spares: &mut Spares,
    ) -> Result {
        let (before, after) = self.count(owner, range, kind);
        owner.charge(after.saturating_sub(before))?;
        while let Some(node) = self.any_lease_of(owner, range) {
            self.remove_lease(&node);
            for rest in range_of(&node).without(range).iter().flatten() {
                self.insert_lease(spares, rest, node.piece());
            }
        }
        if let Some(kind) = kind {
            let lease = Lease::new(owner.clone(), kind, State::Granted, 0);
            self.insert_lease(spares, range, lease);
        }
        owner.uncharge(before.saturating_sub(after));
        Ok(())
    }

    /// An open file holds no leases any more. Nothing happens if it was forgotten before, and
    /// another owner may have taken its place.
    fn forget_owner(&mut self, owner: &Arc<Owner>) {
        while let Some(node) = self.any_lease_of(owner, &Range::ALL) {
            self.remove_lease(&node);
            owner.uncharge(1);
        }
        self.forget_without_leases(owner);
    }

    /// Nothing happens if it holds leases.
    fn forget_without_leases(&mut self, owner: &Arc<Owner>) {
        if self
            .holder(owner)
            .is_some_and(|holder| holder.leases.is_empty())
        {
            self.holders.remove(&owner.anchor.file_id());
            owner.unlink();
        }
    }
}

/// The range of a lease, or the one in which breaks meet an attachment.
pub(crate) fn range_of<T>(node: &IntervalNode<T, 2>) -> Range {
    Range::from_interval(node.interval::<OF_INODE>())
}

/// Memory for leases, taken before the index lock: for a new one, and for what remains of the first
/// and of the last one that it replaces.
pub(crate) struct Spares([Option<UniqueArc<MaybeUninit<LeaseNode>>>; 3]);

impl Spares {
    fn new() -> Result<Self> {
        Self::with(GFP_KERNEL_ACCOUNT)
    }

    /// Under the index lock.
    pub(crate) fn nowait() -> Result<Self> {
        Self::with(GFP_NOWAIT)
    }

    fn with(flags: Flags) -> Result<Self> {
        Ok(Self([
            Some(UniqueArc::new_uninit(flags)?),
            Some(UniqueArc::new_uninit(flags)?),
            Some(UniqueArc::new_uninit(flags)?),
        ]))
    }

    fn take(&mut self) -> Option<UniqueArc<MaybeUninit<LeaseNode>>> {
        self.0.iter_mut().find_map(Option::take)
    }
}
