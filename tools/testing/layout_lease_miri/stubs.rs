// SPDX-License-Identifier: GPL-2.0

//! As much of the kernel crate as `interval_tree.rs` uses, on top of the standard library. See
//! `run`.

#![allow(dead_code, non_camel_case_types, unused_imports, unused_macros, clippy::all)]

/// Nothing is initialised in place here.
macro_rules! try_pin_init {
    ($($field:tt)*) => {
        ()
    };
}

macro_rules! pr_info {
    ($($arg:tt)*) => {
        print!($($arg)*)
    };
}

pub mod bindings {
    use std::ptr::null_mut;

    #[derive(Clone, Copy)]
    pub struct rb_node {
        prev: *mut interval_tree_node,
        next: *mut interval_tree_node,
    }

    #[derive(Clone, Copy)]
    pub struct interval_tree_node {
        pub rb: rb_node,
        pub start: usize,
        pub last: usize,
    }

    pub struct rb_root_cached {
        pub rb_leftmost: *mut interval_tree_node,
    }

    impl Default for interval_tree_node {
        fn default() -> Self {
            let (prev, next) = (null_mut(), null_mut());
            Self {
                rb: rb_node { prev, next },
                start: 0,
                last: 0,
            }
        }
    }

    impl Default for rb_root_cached {
        fn default() -> Self {
            Self {
                rb_leftmost: null_mut(),
            }
        }
    }

    pub unsafe fn interval_tree_insert(node: *mut interval_tree_node, root: *mut rb_root_cached) {
        unsafe {
            let (mut prev, mut next) = (null_mut(), (*root).rb_leftmost);
            while !next.is_null() && (*next).start <= (*node).start {
                (prev, next) = (next, (*next).rb.next);
            }
            (*node).rb = rb_node { prev, next };
            if !next.is_null() {
                (*next).rb.prev = node;
            }
            if prev.is_null() {
                (*root).rb_leftmost = node;
            } else {
                (*prev).rb.next = node;
            }
        }
    }

    pub unsafe fn interval_tree_remove(node: *mut interval_tree_node, root: *mut rb_root_cached) {
        unsafe {
            let rb_node { prev, next } = (*node).rb;
            if !next.is_null() {
                (*next).rb.prev = prev;
            }
            if prev.is_null() {
                (*root).rb_leftmost = next;
            } else {
                (*prev).rb.next = next;
            }
        }
    }

    unsafe fn find(
        mut node: *mut interval_tree_node,
        start: usize,
        last: usize,
    ) -> *mut interval_tree_node {
        unsafe {
            while !node.is_null() && ((*node).start > last || (*node).last < start) {
                node = (*node).rb.next;
            }
        }
        node
    }

    pub unsafe fn interval_tree_iter_first(
        root: *mut rb_root_cached,
        start: usize,
        last: usize,
    ) -> *mut interval_tree_node {
        unsafe { find((*root).rb_leftmost, start, last) }
    }

    pub unsafe fn interval_tree_iter_next(
        node: *mut interval_tree_node,
        start: usize,
        last: usize,
    ) -> *mut interval_tree_node {
        unsafe { find((*node).rb.next, start, last) }
    }
}

pub mod prelude {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Error(i32);
    pub const EINVAL: Error = Error(-22);
    pub const ENOENT: Error = Error(-2);
    pub const ENOMEM: Error = Error(-12);
    pub type Result<T = (), E = Error> = core::result::Result<T, E>;

    pub struct Flags;
    pub const GFP_KERNEL: Flags = Flags;

    pub trait PinInit<T, E> {}
    impl<T, E> PinInit<T, E> for () {}

    pub struct KVec<T>(Vec<T>);

    impl<T> KVec<T> {
        pub fn new() -> Self {
            Self(Vec::new())
        }

        pub fn push(&mut self, value: T, _: Flags) -> Result {
            self.0.push(value);
            Ok(())
        }

        pub fn remove(&mut self, at: usize) -> Result<T> {
            Ok(self.0.remove(at))
        }
    }

    impl<T> core::ops::Deref for KVec<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }
}

pub mod types {
    use std::{cell::UnsafeCell, marker::PhantomPinned};

    #[repr(transparent)]
    pub struct Opaque<T> {
        value: UnsafeCell<T>,
        _pin: PhantomPinned,
    }

    impl<T> Opaque<T> {
        pub fn new(value: T) -> Self {
            Self {
                value: UnsafeCell::new(value),
                _pin: PhantomPinned,
            }
        }

        pub fn get(&self) -> *mut T {
            self.value.get()
        }

        pub fn cast_into(this: *const Self) -> *mut T {
            this.cast_mut().cast()
        }
    }
}

pub mod sync {
    pub mod atomic {
        use std::sync::atomic::{AtomicU64, Ordering};

        pub struct Relaxed;
        pub struct Acquire;
        pub struct Release;

        impl From<Relaxed> for Ordering {
            fn from(_: Relaxed) -> Self {
                Ordering::Relaxed
            }
        }

        impl From<Acquire> for Ordering {
            fn from(_: Acquire) -> Self {
                Ordering::Acquire
            }
        }

        impl From<Release> for Ordering {
            fn from(_: Release) -> Self {
                Ordering::Release
            }
        }

        pub struct Atomic<T>(AtomicU64, std::marker::PhantomData<T>);

        impl Atomic<u64> {
            pub const fn new(value: u64) -> Self {
                Self(AtomicU64::new(value), std::marker::PhantomData)
            }

            pub fn load(&self, order: impl Into<Ordering>) -> u64 {
                self.0.load(order.into())
            }

            pub fn store(&self, value: u64, order: impl Into<Ordering>) {
                self.0.store(value, order.into());
            }

            pub fn fetch_add(&self, value: u64, order: impl Into<Ordering>) -> u64 {
                self.0.fetch_add(value, order.into())
            }

            // As in the kernel, an exchange that fails orders nothing.
            pub fn cmpxchg(
                &self,
                old: u64,
                new: u64,
                order: impl Into<Ordering>,
            ) -> Result<u64, u64> {
                self.0
                    .compare_exchange(old, new, order.into(), Ordering::Relaxed)
            }
        }
    }

    use crate::prelude::*;
    use std::{marker::PhantomData, ops::Deref, sync::Arc as StdArc};

    pub struct Arc<T>(StdArc<T>);

    impl<T> Arc<T> {
        pub fn new(value: T, _: Flags) -> Result<Self> {
            Ok(Self(StdArc::new(value)))
        }

        pub fn into_raw(self) -> *const T {
            StdArc::into_raw(self.0)
        }

        pub unsafe fn from_raw(ptr: *const T) -> Self {
            Self(unsafe { StdArc::from_raw(ptr) })
        }

        pub fn as_ptr(this: &Self) -> *const T {
            StdArc::as_ptr(&this.0)
        }

        pub fn into_unique_or_drop(self) -> Option<T> {
            StdArc::into_inner(self.0)
        }
    }

    impl<T> Clone for Arc<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    impl<T> Deref for Arc<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    #[derive(Clone, Copy)]
    pub struct ArcBorrow<'a, T>(*const T, PhantomData<&'a T>);

    impl<'a, T> ArcBorrow<'a, T> {
        pub unsafe fn from_raw(ptr: *const T) -> Self {
            Self(ptr, PhantomData)
        }
    }

    impl<T> Deref for ArcBorrow<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            unsafe { &*self.0 }
        }
    }

    impl<T> From<ArcBorrow<'_, T>> for Arc<T> {
        fn from(borrow: ArcBorrow<'_, T>) -> Self {
            unsafe {
                StdArc::increment_strong_count(borrow.0);
                Self::from_raw(borrow.0)
            }
        }
    }
}

pub mod interval_tree;

#[cfg(test)]
mod threads {
    use crate::{
        interval_tree::{IntervalNode, IntervalTree},
        prelude::*,
        sync::Arc,
    };
    use std::thread;

    fn tree_with(range: std::ops::RangeInclusive<usize>) -> IntervalTree<usize> {
        let mut tree = IntervalTree::new();
        let neighbour = Arc::new(IntervalNode::new([range], 0).unwrap(), GFP_KERNEL).unwrap();
        assert!(tree.insert(neighbour).is_ok());
        tree
    }

    /// One node, two trees, two threads: from one tree to the other, as soon as it is free.
    #[test]
    fn hand_over() {
        let node = Arc::new(IntervalNode::new([5..=9], 1).unwrap(), GFP_KERNEL).unwrap();
        let (mut one, mut other) = (tree_with(0..=3), tree_with(7..=8));
        assert!(one.insert(node.clone()).is_ok());
        let here = node.clone();
        let thread = thread::spawn(move || {
            assert!(one.remove(&here));
            one
        });
        while other.insert(node.clone()).is_err() {
            thread::yield_now();
        }
        let one = thread.join().unwrap();
        assert_eq!(one.overlapping(0..=9).count(), 1);
        assert_eq!(other.overlapping(0..=9).count(), 2);
    }

    /// Both try to have it.
    #[test]
    fn race() {
        let node = Arc::new(IntervalNode::new([5..=9], 1).unwrap(), GFP_KERNEL).unwrap();
        let threads: Vec<_> = (0..2)
            .map(|n| {
                let node = node.clone();
                thread::spawn(move || {
                    let mut tree = tree_with(n..=n);
                    let got = tree.insert(node.clone()).is_ok();
                    assert_eq!(tree.remove(&node), got);
                    got
                })
            })
            .collect();
        let got = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .filter(|got| *got)
            .count();
        assert!(got >= 1);
    }
}
