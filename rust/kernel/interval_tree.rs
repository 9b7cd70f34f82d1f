// SPDX-License-Identifier: GPL-2.0

//! Interval trees.
//!
//! An augmented red-black tree of closed intervals `[start, last]`, which finds all intervals that
//! overlap a given one in `O(log n + hits)`.
//!
//! C header: [`include/linux/interval_tree.h`](srctree/include/linux/interval_tree.h)
//!
//! # Examples
//!
//! ```
//! use kernel::interval_tree::{IntervalNode, IntervalTree};
//! use kernel::sync::Arc;
//!
//! let mut tree = IntervalTree::new();
//! let a = Arc::new(IntervalNode::new(0, 9, 'a'), GFP_KERNEL)?;
//! let b = Arc::new(IntervalNode::new(5, 19, 'b'), GFP_KERNEL)?;
//!
//! assert!(tree.insert(a.clone()).is_ok());
//! assert!(tree.insert(b.clone()).is_ok());
//! // A node is in one tree at most, once.
//! assert!(tree.insert(a.clone()).is_err());
//!
//! assert_eq!(tree.overlapping(7, 7).count(), 2);
//! assert_eq!(tree.overlapping(10, 99).next().map(|n| **n), Some('b'));
//!
//! assert!(tree.remove(&a));
//! assert!(!tree.remove(&a));
//! assert_eq!(tree.overlapping(0, 9).count(), 1);
//! # Ok::<(), Error>(())
//! ```

use crate::{
    bindings,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        ArcBorrow, //
    },
    types::Opaque,
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};

/// Identity of trees; 0 is no tree.
static NEXT_TREE: Atomic<u64> = Atomic::new(1);

/// A value with an interval, which can be put into an [`IntervalTree`].
///
/// The interval never changes.
///
/// # Invariants
///
/// `tree` is the id of the tree that this node is linked into, or 0. A node that is linked is owned
/// by its tree through an [`Arc`], so it does not move.
#[pin_data]
#[repr(C)]
pub struct IntervalNode<T> {
    links: Opaque<bindings::interval_tree_node>,
    start: usize,
    last: usize,
    tree: Atomic<u64>,
    #[pin]
    value: T,
}

// SAFETY: `links` is only accessed by the tree that the node is linked into, under exclusive or
// shared access to that tree; the other fields follow `T`.
unsafe impl<T: Send> Send for IntervalNode<T> {}
// SAFETY: As above.
unsafe impl<T: Sync> Sync for IntervalNode<T> {}

impl<T> IntervalNode<T> {
    /// Creates a node for the closed interval `[start, last]`.
    pub const fn new(start: usize, last: usize, value: T) -> Self {
        // INVARIANT: The node is in no tree.
        Self {
            links: Opaque::uninit(),
            start,
            last,
            tree: Atomic::new(0),
            value,
        }
    }

    /// As [`Self::new`], for a value that is initialised in place.
    pub fn pin_init<E>(
        start: usize,
        last: usize,
        value: impl PinInit<T, E>,
    ) -> impl PinInit<Self, E> {
        // INVARIANT: The node is in no tree.
        try_pin_init!(Self {
            links: Opaque::uninit(),
            start,
            last,
            tree: Atomic::new(0),
            value <- value,
        }? E)
    }

    /// The first point of the interval.
    #[inline]
    pub fn start(&self) -> usize {
        self.start
    }

    /// The last point of the interval, inclusive.
    #[inline]
    pub fn last(&self) -> usize {
        self.last
    }
}

impl<T> Deref for IntervalNode<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A tree of closed intervals, which may overlap and may be equal.
///
/// The tree owns an [`Arc`] of each node in it. Equal intervals are found in the order in which
/// they were inserted.
///
/// Nothing here allocates or sleeps.
///
/// # Invariants
///
/// `root` is the root of a valid C interval tree, each node of which is the `links` field of an
/// `IntervalNode<T>` whose `tree` is `id`, and for each of which the tree owns an [`Arc`].
pub struct IntervalTree<T> {
    root: bindings::rb_root_cached,
    id: u64,
    _nodes: PhantomData<Arc<IntervalNode<T>>>,
}

// SAFETY: The tree owns `Arc`s of its nodes and may be used wherever these may.
unsafe impl<T: Send + Sync> Send for IntervalTree<T> {}
// SAFETY: A shared tree only gives shared references to its nodes.
unsafe impl<T: Send + Sync> Sync for IntervalTree<T> {}

impl<T> IntervalTree<T> {
    /// Creates an empty tree.
    pub fn new() -> Self {
        // INVARIANT: There are no nodes. `NEXT_TREE` does not wrap around in practice.
        Self {
            root: bindings::rb_root_cached::default(),
            id: NEXT_TREE.fetch_add(1, Relaxed),
            _nodes: PhantomData,
        }
    }

    /// Returns whether the tree has no nodes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.root.rb_leftmost.is_null()
    }

    /// Inserts a node in `O(log n)`. Gives it back if it is in a tree already.
    pub fn insert(&mut self, node: Arc<IntervalNode<T>>) -> Result<(), Arc<IntervalNode<T>>> {
        if node.tree.cmpxchg(0, self.id, Relaxed).is_err() {
            return Err(node);
        }
        let (start, last) = (node.start, node.last);
        let links = Arc::into_raw(node);
        // SAFETY: The pointer comes from an `Arc` that we own.
        let links = unsafe { Opaque::cast_into(&raw const (*links).links) };
        // SAFETY: The node was in no tree, so nobody else accesses its links.
        unsafe {
            (*links).start = start;
            (*links).last = last;
        }
        // SAFETY: `links` is valid, in no tree, and stays in place, since we leaked an `Arc`.
        unsafe { bindings::interval_tree_insert(links, &mut self.root) };
        Ok(())
    }

    /// Removes a node in `O(log n)` and returns whether it was in this tree.
    pub fn remove(&mut self, node: &Arc<IntervalNode<T>>) -> bool {
        if node.tree.load(Relaxed) != self.id {
            return false;
        }
        let links = node.links.get();
        // SAFETY: By the type invariant of the node it is in this tree, to which we have exclusive
        // access.
        unsafe { bindings::interval_tree_remove(links, &mut self.root) };
        // INVARIANT: The node is in no tree any more.
        node.tree.store(0, Relaxed);
        // SAFETY: `insert` leaked this `Arc`, and the node is not in the tree any more.
        drop(unsafe { Arc::from_raw(Arc::as_ptr(node)) });
        true
    }

    /// The nodes that overlap `[start, last]`, by ascending start.
    pub fn overlapping(&self, start: usize, last: usize) -> Overlapping<'_, T> {
        let root = (&raw const self.root).cast_mut();
        // SAFETY: The search only reads, and `&self` keeps the tree as it is.
        let next = unsafe { bindings::interval_tree_iter_first(root, start, last) };
        Overlapping {
            next: NonNull::new(next),
            start,
            last,
            _tree: PhantomData,
        }
    }

    /// The first node that overlaps `[start, last]` and fits `wanted`.
    ///
    /// Unlike [`Self::overlapping`] it does not borrow the tree, so that the node can be removed.
    pub fn find(
        &self,
        start: usize,
        last: usize,
        mut wanted: impl FnMut(&IntervalNode<T>) -> bool,
    ) -> Option<Arc<IntervalNode<T>>> {
        self.overlapping(start, last)
            .find(|node| wanted(node))
            .map(Arc::from)
    }

    /// The node that follows `node` among those that overlap `[start, last]`, in `O(log n)`; or
    /// [`None`] if `node` is not in this tree.
    ///
    /// For a walk that changes the tree on its way: find the next node first, then remove the one
    /// at hand.
    pub fn find_next(
        &self,
        node: &Arc<IntervalNode<T>>,
        start: usize,
        last: usize,
    ) -> Option<Arc<IntervalNode<T>>> {
        if node.tree.load(Relaxed) != self.id {
            return None;
        }
        // SAFETY: By the type invariant of the node it is in this tree, which `&self` keeps as it
        // is; the search only reads.
        let next = unsafe { bindings::interval_tree_iter_next(node.links.get(), start, last) };
        // INVARIANT: What the C function returns is in the same tree.
        let mut rest = Overlapping {
            next: NonNull::new(next),
            start,
            last,
            _tree: PhantomData::<&Self>,
        };
        rest.next().map(Arc::from)
    }
}

impl<T> Default for IntervalTree<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for IntervalTree<T> {
    fn drop(&mut self) {
        while let Some(node) = self.find(0, usize::MAX, |_| true) {
            self.remove(&node);
        }
    }
}

/// Iterator over the nodes that overlap an interval, see [`IntervalTree::overlapping`].
///
/// # Invariants
///
/// `next` is a node of the tree that is borrowed.
pub struct Overlapping<'a, T> {
    next: Option<NonNull<bindings::interval_tree_node>>,
    start: usize,
    last: usize,
    _tree: PhantomData<&'a IntervalTree<T>>,
}

impl<'a, T> Iterator for Overlapping<'a, T> {
    type Item = ArcBorrow<'a, IntervalNode<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        let links = self.next?.as_ptr();
        // SAFETY: By the type invariant `links` is in the tree, which is borrowed.
        let next = unsafe { bindings::interval_tree_iter_next(links, self.start, self.last) };
        // INVARIANT: What the C function returns is in the same tree.
        self.next = NonNull::new(next);
        // The links are the first field of the `repr(C)` node.
        let node = links.cast::<IntervalNode<T>>();
        // SAFETY: The tree owns an `Arc` of this node, which came from `Arc::into_raw`, and is
        // borrowed for `'a`.
        Some(unsafe { ArcBorrow::from_raw(node) })
    }
}

#[cfg(CONFIG_LAYOUT_LEASE_KUNIT_TEST)]
#[macros::kunit_tests(rust_kernel_interval_tree)]
mod tests {
    use super::*;

    /// A small generator of repeatable numbers (Numerical Recipes' LCG).
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % n
        }
    }

    #[test]
    fn bounds() -> Result {
        let mut tree = IntervalTree::new();
        let all = Arc::new(IntervalNode::new(0, usize::MAX, ()), GFP_KERNEL)?;
        let end = Arc::new(IntervalNode::new(usize::MAX, usize::MAX, ()), GFP_KERNEL)?;
        assert!(tree.is_empty());
        assert!(tree.insert(all.clone()).is_ok());
        assert!(tree.insert(end.clone()).is_ok());
        assert_eq!(tree.overlapping(0, 0).count(), 1);
        assert_eq!(tree.overlapping(usize::MAX, usize::MAX).count(), 2);
        assert!(tree.remove(&all));
        assert_eq!(tree.overlapping(0, usize::MAX - 1).count(), 0);
        assert!(tree.remove(&end));
        assert!(tree.is_empty());
        Ok(())
    }

    #[test]
    fn one_tree_only() -> Result {
        let mut one = IntervalTree::new();
        let mut other = IntervalTree::new();
        let node = Arc::new(IntervalNode::new(3, 4, ()), GFP_KERNEL)?;
        assert!(one.insert(node.clone()).is_ok());
        assert!(other.insert(node.clone()).is_err());
        assert!(!other.remove(&node));
        assert!(one.remove(&node));
        assert!(other.insert(node).is_ok());
        Ok(())
    }

    #[test]
    fn drop_releases_nodes() -> Result {
        let node = Arc::new(IntervalNode::new(3, 4, ()), GFP_KERNEL)?;
        let mut tree = IntervalTree::new();
        assert!(tree.insert(node.clone()).is_ok());
        drop(tree);
        // The only reference left is ours.
        assert!(Arc::into_unique_or_drop(node).is_some());
        Ok(())
    }

    #[test]
    fn walk_that_removes() -> Result {
        let mut tree = IntervalTree::new();
        for start in 0..10 {
            let node = Arc::new(IntervalNode::new(start, start + 1, start), GFP_KERNEL)?;
            assert!(tree.insert(node).is_ok());
        }
        let mut next = tree.find(2, 6, |_| true);
        let mut met = 0;
        while let Some(node) = next {
            next = tree.find_next(&node, 2, 6);
            assert!(tree.remove(&node));
            assert!(tree.find_next(&node, 2, 6).is_none());
            met += 1;
        }
        // From [1, 2] to [6, 7].
        assert_eq!(met, 6);
        assert_eq!(tree.overlapping(0, 100).count(), 4);
        Ok(())
    }

    #[test]
    fn against_a_list() -> Result {
        const SEED: u64 = 20190823;
        const SPACE: usize = 1000;
        let mut random = Random(SEED);
        let mut tree = IntervalTree::new();
        let mut model: KVec<Arc<IntervalNode<usize>>> = KVec::new();

        pr_info!("interval tree: 5000 operations from seed {}\n", SEED);
        for step in 0..5000 {
            if model.is_empty() || random.below(5) < 3 {
                let start = random.below(SPACE);
                let last = start + random.below(SPACE / 10);
                let node = Arc::new(IntervalNode::new(start, last, step), GFP_KERNEL)?;
                model.push(node.clone(), GFP_KERNEL)?;
                assert!(tree.insert(node).is_ok());
            } else {
                let at = random.below(model.len());
                if let Ok(node) = model.remove(at) {
                    assert!(tree.remove(&node));
                }
            }

            let start = random.below(SPACE);
            let last = start + random.below(SPACE / 10);
            let mut hits = 0;
            let mut sum = 0;
            let mut previous = 0;
            for node in tree.overlapping(start, last) {
                assert!(node.start() <= last && node.last() >= start);
                assert!(node.start() >= previous);
                previous = node.start();
                hits += 1;
                sum += **node;
            }
            let expected = model
                .iter()
                .filter(|node| node.start() <= last && node.last() >= start);
            assert_eq!(hits, expected.clone().count());
            assert_eq!(sum, expected.map(|node| ***node).sum::<usize>());
            assert_eq!(tree.is_empty(), model.is_empty());
        }
        Ok(())
    }
}
