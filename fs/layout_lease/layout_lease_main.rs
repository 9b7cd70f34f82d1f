// SPDX-License-Identifier: GPL-2.0

//! Layout leases: who holds what, and how it is taken back.
//!
//! A process that holds a layout lease on a range of a DAX file may keep the blocks of that range
//! pinned, for example in an RDMA memory region. Whoever changes the layout of the file breaks the
//! lease: the holder is signalled, and what it does not give up in time is revoked. Nothing waits
//! for ever, and nothing touches a block that the file no longer owns.
//!
//! Always built in:
//!
//! * `request.rs`: arguments of system calls;
//! * `hooks.c`: the way into this module;
//! * `break.c`: **whoever changes a layout, and where it waits**;
//! * `holders.c`: signals, `/proc/locks`, `/proc/layout_leases`.
//!
//! This module:
//!
//! * `ops.rs`: the way in;
//! * `lease.rs`: what a lease is, and its life;
//! * `holder.rs`: open files that hold leases;
//! * `attachment.rs`: memory that is attached to leases, and how it is taken back;
//! * `context.rs`: grant, release, attach and detach; **locks are described there**;
//! * `breaker.rs`: **how a lease is broken**;
//! * `breaks.rs`: breaks on record;
//! * `promise.rs`: what is kept free for a breaker who does not wait.
//!
//! See `Documentation/filesystems/layout-leases.rst`.

use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

mod attachment;
mod breaker;
mod breaks;
mod context;
mod holder;
mod lease;
mod ops;
mod promise;
mod range;

module! {
    type: LayoutLease,
    name: "layout_lease",
    authors: ["The layout lease developers"],
    description: "Recallable pins of the blocks of DAX files",
    license: "GPL",
}

struct LayoutLease(());

impl kernel::Module for LayoutLease {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: The operations are constant, do what `struct layout_lease_ops` says, and are
        // unregistered before their text goes.
        to_result(unsafe { bindings::layout_lease_register(&ops::OPS) })?;
        Ok(Self(()))
    }
}

impl Drop for LayoutLease {
    fn drop(&mut self) {
        // SAFETY: They were registered. This is the exit function of the module, so nobody has a
        // reference to it.
        unsafe { bindings::layout_lease_unregister() };
    }
}
