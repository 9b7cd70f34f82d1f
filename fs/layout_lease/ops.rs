// SPDX-License-Identifier: GPL-2.0

//! The way into the module: what `hooks.c` and its neighbours call.
//!
//! # Safety
//!
//! Each function is called as `struct layout_lease_ops` says. `context` came from
//! [`ForeignOwnable::into_foreign`] of an `Arc<LeaseContext>`, and the caller has a reference to
//! it. Pointers to files, breaks and output are valid during the call.

use crate::{
    attachment::{
        ConsumerRef,
        Node, //
    },
    breaks::{
        Break,
        BreakEnd, //
    },
    context::LeaseContext,
    holder::{
        FileId,
        RawHolder, //
    },
    lease::Kind,
    range::Range,
    LayoutLease, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::from_result,
    module::this_module,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        atomic::Relaxed,
        Arc, //
    },
    types::ForeignOwnable, //
};

pub(crate) const OPS: bindings::layout_lease_ops = bindings::layout_lease_ops {
    owner: this_module::<LayoutLease>().as_ptr(),
    context_get: Some(context_get),
    context_put: Some(context_put),
    make_way: Some(make_way),
    set: Some(set),
    wait: Some(wait),
    unset: Some(unset),
    get: Some(get),
    show: Some(show),
    reap: Some(reap),
    first_visit: Some(first_visit),
    release: Some(release),
    is_leased: Some(is_leased),
    break_begin: Some(break_begin),
    break_end: Some(break_end),
    evict: Some(evict),
    attach: Some(attach),
    detach: Some(detach),
};

unsafe extern "C" fn context_get(context: *mut c_void) {
    // SAFETY: The context is published, and `flc_lock` keeps it so: there is a reference.
    let context = unsafe { Arc::<LeaseContext>::borrow(context) };
    let _ = Arc::<LeaseContext>::from(context).into_foreign();
}

unsafe extern "C" fn context_put(context: *mut c_void) {
    // SAFETY: The caller gives its reference back.
    drop(unsafe { Arc::<LeaseContext>::from_foreign(context) });
}

/// Defines functions that are called with a context.
macro_rules! with_context {
    (
        $(fn $name:ident($context:ident $(, $arg:ident: $type:ty)*) $(-> $result:ty)? $body:block)*
    ) => {$(
        unsafe extern "C" fn $name(context: *mut c_void $(, $arg: $type)*) $(-> $result)? {
            // SAFETY: It came from `into_foreign`, and the caller's reference keeps it valid until
            // this has one of its own.
            let $context = unsafe { Arc::<LeaseContext>::borrow(context) };
            let $context = Arc::<LeaseContext>::from($context);
            $body
        }
    )*};
}

with_context! {
    fn make_way(
        context, file: *mut bindings::file, start: u64, last: u64, exclusive: bool
    ) -> c_int {
        let (file, range, kind) = (FileId::new(file), Range { start, last }, Kind::new(exclusive));
        from_result(|| LeaseContext::make_way(&context, file, &range, kind).map(c_int::from))
    }

    fn wait(context, start: u64, last: u64, exclusive: bool, until: u64) -> c_int {
        let (range, kind) = (Range { start, last }, Kind::new(exclusive));
        from_result(|| LeaseContext::wait(&context, &range, kind, until).map(|()| 0))
    }

    fn unset(
        context, file: *mut bindings::file, start: u64, last: u64, revoke: bool
    ) -> c_int {
        let range = Range { start, last };
        let file = FileId::new(file);
        from_result(|| LeaseContext::unlock(&context, file, &range, revoke).map(|()| 0))
    }

    fn get(
        context, file: *mut bindings::file, start: u64, last: u64, broken: bool,
        lease: *mut bindings::layout_lease
    ) {
        // SAFETY: Nobody else uses what the caller wants filled in.
        let lease = unsafe { &mut *lease };
        context.query(FileId::new(file), &Range { start, last }, broken, lease);
    }

    fn show(context, file: *mut bindings::file, m: *mut bindings::seq_file) {
        // SAFETY: It is valid during the call, and nobody else uses it.
        context.show(FileId::new(file), unsafe { SeqFile::from_raw(m) });
    }

    fn reap(context, file: *mut bindings::file) {
        LeaseContext::reap(&context, FileId::new(file));
    }

    fn first_visit(context, walk: u64) -> bool {
        context.visited.xchg(walk, Relaxed) != walk
    }

    fn release(context, file: *mut bindings::file) {
        LeaseContext::release(&context, FileId::new(file));
    }

    fn is_leased(context) -> bool {
        context.is_leased()
    }

    fn evict(context) {
        LeaseContext::evict(&context);
    }

    fn attach(
        context, file: *mut bindings::file, start: u64, last: u64, unit: u64, write: bool,
        stable: bool, ops: *const bindings::layout_consumer_ops, data: *mut c_void
    ) -> *mut bindings::layout_attachment {
        // SAFETY: The consumer keeps both until `detach`, which drops what we make of them here.
        let consumer = unsafe { ConsumerRef::new(ops, data) };
        let (file, bytes) = (FileId::new(file), Range { start, last });
        match LeaseContext::attach(&context, file, bytes, unit, write, stable, consumer) {
            Ok(node) => node.into_foreign().cast(),
            Err(error) => error.to_ptr(),
        }
    }
}

unsafe extern "C" fn set(
    file: *mut bindings::file,
    holder: *mut bindings::layout_holder,
    start: u64,
    last: u64,
    exclusive: bool,
) -> c_int {
    // SAFETY: If there is a holder the caller gives it to us, and it is not linked.
    let mut raw = NonNull::new(holder).map(|holder| unsafe { RawHolder::from_raw(holder) });
    let (range, kind) = (Range { start, last }, Kind::new(exclusive));
    from_result(|| loop {
        // SAFETY: The file is valid, and so is its inode, which never changes.
        let inode = NonNull::new(unsafe { (*file).f_inode }).ok_or(EINVAL)?;
        // SAFETY: The file keeps the inode valid during this call.
        let context = unsafe { LeaseContext::of(inode) }?;
        // If it was retired meanwhile there will be a new one.
        if let Ok(result) = LeaseContext::grant(&context, FileId::new(file), &mut raw, &range, kind)
        {
            return result.map(|()| 0);
        }
    })
}

unsafe extern "C" fn break_begin(brk: *mut bindings::layout_break) -> bool {
    // SAFETY: The break has a reference to its context, and stays in place until `break_end`.
    let (context, brk) = unsafe { (Arc::<LeaseContext>::borrow((*brk).context), Break::new(brk)) };
    LeaseContext::break_begin(&context.into(), brk).is_ok()
}

unsafe extern "C" fn break_end(brk: *mut bindings::layout_break, how: c_uint) {
    // SAFETY: The reference that the break had to its context is dropped with it.
    let context = unsafe { Arc::<LeaseContext>::from_foreign((*brk).context) };
    let how = match how {
        bindings::LAYOUT_BREAK_DONE => BreakEnd::Done,
        bindings::LAYOUT_BREAK_PROMISE => BreakEnd::Promised,
        _ => BreakEnd::GivenUp,
    };
    LeaseContext::break_end(&context, brk, how);
}

unsafe extern "C" fn detach(attachment: *mut bindings::layout_attachment) {
    // SAFETY: It came from `attach`, and the consumer does not use it any more.
    LeaseContext::detach(unsafe { Arc::<Node>::from_foreign(attachment.cast()) });
}
