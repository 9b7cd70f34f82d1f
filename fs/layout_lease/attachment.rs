// SPDX-License-Identifier: GPL-2.0

//! Memory that is attached to leases.

use crate::{
    context::{
        Inner,
        OF_HOLDER, //
    },
    holder::Holder,
    range::Range, //
};
use kernel::{
    bindings,
    error::to_result,
    fs::File,
    interval_tree::IntervalNode,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        LockedBy,
        Mutex, //
    },
};

/// How a consumer takes its pages back, see `struct layout_consumer_ops`.
///
/// # Invariants
///
/// `ops` and `data` are what a consumer gave to `layout_lease_attach()`, and the attachment is not
/// yet detached.
pub(crate) struct ConsumerRef {
    ops: bindings::layout_consumer_ops,
    data: *mut c_void,
}

// SAFETY: The operations may be called by any thread.
unsafe impl Send for ConsumerRef {}

impl ConsumerRef {
    /// # Safety
    ///
    /// Both are what a consumer gave to `layout_lease_attach()`; this is dropped before that of
    /// `layout_lease_detach()` returns.
    pub(crate) unsafe fn new(ops: *const bindings::layout_consumer_ops, data: *mut c_void) -> Self {
        // INVARIANT: The caller promises just that.
        Self {
            // SAFETY: What a consumer gives is valid.
            ops: unsafe { *ops },
            data,
        }
    }

    /// Stops new accesses.
    fn begin(&self) {
        if let Some(begin) = self.ops.begin {
            // SAFETY: By the type invariant the consumer, of which this is the data, is attached.
            unsafe { begin(self.data) };
        }
    }

    /// Waits for old accesses.
    fn finish(&self) -> Result {
        // SAFETY: By the type invariant the consumer, of which this is the data, is attached.
        let finish = |finish: unsafe extern "C" fn(_) -> _| unsafe { finish(self.data) };
        to_result(self.ops.finish.map_or(0, finish))
    }

    /// Unpins the pages, unless that was done.
    fn unpin(&self) {
        if let Some(unpin) = self.ops.unpin {
            // SAFETY: By the type invariant the consumer, of which this is the data, is attached.
            unsafe { unpin(self.data) };
        }
    }
}

/// An attachment in the context: in the tree of the inode with the range that breaks meet, in that
/// of the open file with what the consumer asked for, which leases cover.
pub(crate) type Node = IntervalNode<Attached, 2>;

/// What the consumer asked for.
pub(crate) fn bytes_of(node: &Node) -> Range {
    Range::from_interval(node.interval::<OF_HOLDER>())
}

/// Pinned memory, for example of an RDMA memory region.
///
/// The consumer owns it through the handle that `attach` returned; the context owns it while its
/// pages count as pinned.
///
/// Lock order: context lock, then `claim`, which is held while the consumer is called. Hence a
/// consumer takes no context lock.
#[pin_data]
pub(crate) struct Attached {
    pub(crate) holder: Arc<Holder>,
    expiry: LockedBy<Expiry, Inner>,
    #[pin]
    claim: Mutex<Claim>,
}

/// When an attachment is revoked.
pub(crate) struct Expiry {
    /// [`None`]: no break has set a deadline.
    pub(crate) deadline: Option<u64>,
    /// The process does it itself and need not be notified.
    pub(crate) no_signal: bool,
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
        holder: Arc<Holder>,
        consumer: ConsumerRef,
        file: ARef<File>,
    ) -> impl PinInit<Self, Error> {
        let expiry = Expiry {
            deadline: None,
            no_signal: false,
        };
        let expiry = LockedBy::new(&holder.context.inner, expiry);
        try_pin_init!(Self {
            holder,
            expiry,
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

    pub(crate) fn expiry<'a>(&'a self, inner: &'a Inner) -> &'a Expiry {
        self.expiry.access(inner)
    }

    pub(crate) fn expiry_mut<'a>(&'a self, inner: &'a mut Inner) -> &'a mut Expiry {
        self.expiry.access_mut(inner)
    }

    /// The consumer calls no more and is called no more. Returns the file, for the caller to put.
    ///
    /// Waits for a call into the consumer. Not under the context lock.
    pub(crate) fn detach(&self) -> Option<ARef<File>> {
        let mut claim = self.claim.lock();
        claim.consumer = None;
        claim.file.take()
    }
}

impl Expiry {
    /// Sets a deadline unless there is an earlier one.
    pub(crate) fn set(&mut self, deadline: u64, no_signal: bool) {
        if self.deadline.is_none_or(|earlier| deadline < earlier) {
            self.deadline = Some(deadline);
            self.no_signal = no_signal;
        }
    }
}

/// Attachments that are revoked together.
///
/// A list through [`Claim::next`], since a break must not fail for want of memory. Only the worker
/// of a context makes batches, one at a time.
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

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Adds an attachment, which must be in no batch. Under the context lock.
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
    /// Not under the context lock.
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
