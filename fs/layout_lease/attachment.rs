// SPDX-License-Identifier: GPL-2.0

//! Memory that is attached to leases.

use crate::{
    index::{
        Index,
        OF_HOLDER, //
    },
    lease::Owner,
    range::Range, //
};
use kernel::{
    fs::{
        layout_lease::ConsumerRef,
        File, //
    },
    interval_tree::IntervalNode,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            AtomicFlag,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
};

/// An attachment in the index: in the tree of the inode with the range that breaks meet, in that of
/// the open file with what the consumer asked for, which leases cover.
pub(crate) type Node = IntervalNode<Attached, 2>;

/// What the consumer asked for.
pub(crate) fn bytes_of(node: &Node) -> Range {
    Range::from_interval(node.interval::<OF_HOLDER>())
}

/// No break has set a deadline.
const NEVER: u64 = u64::MAX;

/// Pinned memory, for example of an RDMA memory region.
///
/// The consumer owns it through the handle that `attach` returned; the index owns it while its
/// pages count as pinned.
///
/// The atomic fields are written under the index lock only. Lock order: index lock, then `claim`.
/// `claim` is held while the consumer is called, hence a consumer takes no index lock.
#[pin_data]
pub(crate) struct Attached {
    pub(crate) index: Arc<Index>,
    pub(crate) owner: Arc<Owner>,
    /// When it is revoked, or [`NEVER`].
    deadline: Atomic<u64>,
    /// The holder does it itself and need not be told.
    quiet: AtomicFlag,
    #[pin]
    claim: Mutex<Claim>,
}

struct Claim {
    /// [`None`]: detached.
    consumer: Option<ConsumerRef>,
    /// Keeps the open file, hence the lease, the inode and the mount (invariant I5).
    file: Option<ARef<File>>,
    progress: Progress,
    /// Failed attempts to quiesce the device.
    failures: u32,
    /// The next one in a [`Batch`].
    next: Option<Arc<Node>>,
}

/// How far a revocation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing was done, or nothing that counts.
    None,
    /// The device does not access the pages any more.
    Quiesced,
    /// The pages are unpinned.
    Unpinned,
    /// The device does not stop: try again.
    Failed,
}

impl Attached {
    pub(crate) fn new(
        index: Arc<Index>,
        owner: Arc<Owner>,
        consumer: ConsumerRef,
        file: ARef<File>,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            index,
            owner,
            deadline: Atomic::new(NEVER),
            quiet: AtomicFlag::new(false),
            claim <- new_mutex!(
                Claim {
                    consumer: Some(consumer),
                    file: Some(file),
                    progress: Progress::None,
                    failures: 0,
                    next: None,
                },
                "Attached::claim"
            ),
        }? Error)
    }

    /// Sets a deadline unless there is an earlier one. Under the index lock.
    ///
    /// `quiet`: the holder does it itself and need not be told.
    pub(crate) fn expire(&self, deadline: u64, quiet: bool) {
        if deadline < self.deadline.load(Relaxed) {
            self.deadline.store(deadline, Relaxed);
            self.quiet.store(quiet, Relaxed);
        }
    }

    /// Sets the deadline to try again. Under the index lock.
    pub(crate) fn retry_at(&self, deadline: u64) {
        self.deadline.store(deadline, Relaxed);
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        Some(self.deadline.load(Relaxed)).filter(|deadline| *deadline != NEVER)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Relaxed)
    }

    /// The consumer calls no more and is called no more. Returns the file, for the caller to put.
    ///
    /// Waits for a call into the consumer. Not under the index lock.
    pub(crate) fn detach(&self) -> Option<ARef<File>> {
        let mut claim = self.claim.lock();
        claim.consumer = None;
        claim.file.take()
    }
}

/// Attachments that are revoked together.
///
/// A list through [`Claim::next`], since a break must not fail for want of memory. Only the worker
/// of an index makes batches, one at a time.
pub(crate) struct Batch {
    first: Option<Arc<Node>>,
}

/// What became of an attachment in a batch.
pub(crate) enum Outcome {
    /// Unpinned; the file is for the caller to put.
    Unpinned(Option<ARef<File>>),
    /// The consumer has unpinned and detached it meanwhile.
    Detached,
    /// The device did not stop; this many times by now.
    Failed(u32),
}

impl Batch {
    pub(crate) const fn new() -> Self {
        Self { first: None }
    }

    /// Adds an attachment, which must be in no batch. Under the index lock.
    pub(crate) fn push(&mut self, node: Arc<Node>) {
        let mut claim = node.claim.lock();
        claim.progress = Progress::None;
        claim.next = self.first.take();
        drop(claim);
        self.first = Some(node);
    }

    /// Takes the pages back: revokes, quiesces, unpins, in this order (invariant I2), each step for
    /// all before the next one, so that the device is waited for once.
    ///
    /// Not under the index lock.
    pub(crate) fn revoke(&self) {
        self.for_each(|claim| {
            if let Some(consumer) = &claim.consumer {
                consumer.begin();
            }
        });
        self.for_each(|claim| {
            if let Some(consumer) = &claim.consumer {
                match consumer.finish() {
                    Ok(()) => claim.progress = Progress::Quiesced,
                    Err(_) => {
                        claim.failures += 1;
                        claim.progress = Progress::Failed;
                    }
                }
            }
        });
        self.for_each(|claim| {
            if let (Progress::Quiesced, Some(consumer)) = (claim.progress, &claim.consumer) {
                consumer.unpin();
                claim.progress = Progress::Unpinned;
            }
        });
    }

    /// Takes one out, and tells what became of it.
    pub(crate) fn pop(&mut self) -> Option<(Arc<Node>, Outcome)> {
        let node = self.first.take()?;
        let mut claim = node.claim.lock();
        self.first = claim.next.take();
        let outcome = match claim.progress {
            Progress::Unpinned => Outcome::Unpinned(claim.file.take()),
            _ if claim.consumer.is_none() => Outcome::Detached,
            _ => Outcome::Failed(claim.failures),
        };
        drop(claim);
        Some((node, outcome))
    }

    fn for_each(&self, mut f: impl FnMut(&mut Claim)) {
        let mut next = self.first.clone();
        while let Some(node) = next {
            let mut claim = node.claim.lock();
            f(&mut claim);
            next = claim.next.clone();
        }
    }
}
