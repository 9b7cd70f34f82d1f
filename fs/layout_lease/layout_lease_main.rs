// SPDX-License-Identifier: GPL-2.0

//! Layout leases: the provider.
//!
//! A process that holds a layout lease on a range of a DAX file may keep the blocks of that range
//! pinned, for example in an RDMA memory region. Whoever changes the layout of the file breaks the
//! lease: the holder is signalled, and what it does not give up in time is revoked. Nothing waits
//! for ever, and nothing touches a block that the file no longer owns.
//!
//! * `lease.rs`: what a lease is, and its life;
//! * `attachment.rs`: memory that is attached to leases, and how it is taken back;
//! * `index.rs`: grant, release, attach and detach; **locks are described there**;
//! * `breaker.rs`: **how a lease is broken**;
//! * `promise.rs`: what is kept free for a breaker who does not wait;
//! * `hooks.c`, built in: system calls, and the sleep of the breaker;
//! * `anchor.c`, built in: who holds leases, signals, `/proc/layout_leases`.
//!
//! See `Documentation/filesystems/layout-leases.rst`.

use kernel::{
    fs::layout_lease::{
        Anchor,
        Argument,
        Break,
        BreakEnd,
        ConsumerRef,
        FileId,
        Home,
        Provider,
        Registration,
        Retired, //
    },
    prelude::*,
    seq_file::SeqFile,
    sync::{
        atomic::Relaxed,
        global_lock,
        Arc,
        ArcBorrow, //
    },
    workqueue::OwnedQueue, //
};

mod attachment;
mod breaker;
mod index;
mod lease;
mod promise;
mod range;

use index::Index;

module! {
    type: LayoutLease,
    name: "layout_lease",
    authors: ["The layout lease developers"],
    description: "Recallable pins of the blocks of DAX files",
    license: "GPL",
}

global_lock! {
    // SAFETY: Initialised in the module initialiser, before the provider is registered.
    unsafe(uninit) static QUEUE: Mutex<Option<OwnedQueue>> = None;
}

struct LayoutLease {
    registration: Option<Registration<Index>>,
}

impl kernel::Module for LayoutLease {
    fn init(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: Called once, before anything else.
        unsafe { QUEUE.init() };
        *QUEUE.lock() = Some(OwnedQueue::new_unbound(c"layout_lease")?);
        Ok(Self {
            registration: Some(Registration::new(module)?),
        })
    }
}

impl Drop for LayoutLease {
    fn drop(&mut self) {
        // First nobody finds the provider any more. No lease is left, hence no delayed work; then
        // the worker that dropped the last one is waited for.
        self.registration = None;
        let queue = QUEUE.lock().take();
        drop(queue);
    }
}

impl Provider for Index {
    type Owner = Arc<lease::Owner>;
    type Attachment = Arc<attachment::Node>;

    fn new(home: Home) -> Result<Arc<Self>> {
        Index::new(home)
    }

    fn owner(anchor: Anchor) -> Result<Self::Owner> {
        lease::Owner::new(anchor)
    }

    fn make_way(this: ArcBorrow<'_, Self>, owner: &Self::Owner, arg: &Argument) -> Result {
        Index::make_way(&this.into(), owner, arg)
    }

    fn set(
        this: ArcBorrow<'_, Self>,
        owner: &Self::Owner,
        arg: &Argument,
    ) -> Result<Result, Retired> {
        Index::grant(&this.into(), owner, arg)
    }

    fn unset(this: ArcBorrow<'_, Self>, file: FileId, arg: &Argument) -> Result {
        Index::unlock(&this.into(), file, arg)
    }

    fn get(this: ArcBorrow<'_, Self>, file: FileId, arg: &mut Argument) {
        this.query(file, arg);
    }

    fn show(this: ArcBorrow<'_, Self>, file: FileId, m: &SeqFile) {
        this.show(file, m);
    }

    fn bury(this: ArcBorrow<'_, Self>, file: FileId) {
        Index::bury(&this.into(), file);
    }

    fn visit(this: ArcBorrow<'_, Self>, walk: u64) -> bool {
        this.visited.xchg(walk, Relaxed) != walk
    }

    fn release(this: ArcBorrow<'_, Self>, file: FileId) {
        Index::release(&this.into(), file);
    }

    fn is_leased(this: ArcBorrow<'_, Self>, start: u64, last: u64) -> bool {
        this.is_leased(&range::Range { start, last })
    }

    unsafe fn break_begin(this: ArcBorrow<'_, Self>, brk: &Break) -> Result<(), Retired> {
        // SAFETY: By the caller.
        unsafe { Index::break_begin(&this.into(), brk) }
    }

    unsafe fn break_end(this: ArcBorrow<'_, Self>, brk: &Break, how: BreakEnd) {
        // SAFETY: By the caller.
        unsafe { Index::break_end(&this.into(), brk, how) };
    }

    fn evict(this: ArcBorrow<'_, Self>) {
        Index::evict(&this.into());
    }

    fn attach(
        this: ArcBorrow<'_, Self>,
        start: u64,
        last: u64,
        unit: u64,
        write: bool,
        stable: bool,
        consumer: ConsumerRef,
    ) -> Result<Self::Attachment> {
        let bytes = range::Range { start, last };
        Index::attach(&this.into(), bytes, unit, write, stable, consumer)
    }

    fn detach(attachment: Self::Attachment) {
        Index::detach(attachment);
    }
}
