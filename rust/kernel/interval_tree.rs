// SPDX-License-Identifier: GPL-2.0

//! Interval trees.
//!
//! An augmented red-black tree of closed intervals, which finds all that overlap a given one in
//! `O(log n + hits)`. A node may be in several trees, in each of them with an interval of its own.
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
//! let a = Arc::new(IntervalNode::new([0..=9], 'a')?, GFP_KERNEL)?;
//! let b = Arc::new(IntervalNode::new([5..=19], 'b')?, GFP_KERNEL)?;
//!
//! assert!(tree.insert(a.clone()).is_ok());
//! assert!(tree.insert(b.clone()).is_ok());
//! // A node is in one tree at most, once.
//! assert!(tree.insert(a.clone()).is_err());
//!
//! assert_eq!(tree.overlapping(7..=7).count(), 2);
//! assert_eq!(tree.overlapping(10..=99).next().map(|n| **n), Some('b'));
//!
//! assert!(tree.remove(&a));
//! assert!(!tree.remove(&a));
//! assert_eq!(tree.overlapping(0..=9).count(), 1);
//! # Ok::<(), Error>(())
//! ```

use crate::{
    bindings,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        ArcBorrow, //
    },
    types::Opaque,
};
use core::{
    marker::PhantomData,
    ops::{
        Deref,
        RangeInclusive, //
    },
    ptr::NonNull, //
};

/// Identity of trees; 0 is no tree.
static NEXT_TREE: Atomic<u64> = Atomic::new(1);

/// A place in a tree, and the interval there.
///
/// # Invariants
///
/// `tree` is the id of the tree that `node` is linked into, or 0. The bounds in `node` never
/// change.
#[repr(C)]
struct Place {
    node: Opaque<bindings::interval_tree_node>,
    tree: Atomic<u64>,
}

impl Place {
    fn new(interval: &RangeInclusive<usize>) -> Self {
        let node = bindings::interval_tree_node {
            start: *interval.start(),
            last: *interval.end(),
            ..Default::default()
        };
        // INVARIANT: It is in no tree.
        Self {
            node: Opaque::new(node),
            tree: Atomic::new(0),
        }
    }

    fn interval(&self) -> RangeInclusive<usize> {
        let node = self.node.get();
        // SAFETY: The node was initialised by `new`. Its bounds are not written afterwards, so this
        // does not race with a tree that changes the links beside them.
        unsafe { (*node).start..=(*node).last }
    }
}

/// A value with `N` closed intervals, which can be put into `N` trees: with the interval `AT` into
/// an [`IntervalTree<T, N, AT>`].
///
/// The intervals never change.
///
/// # Invariants
///
/// Each tree that a place is linked into owns the node through an [`Arc`], so it does not move.
#[pin_data]
#[repr(C)]
pub struct IntervalNode<T, const N: usize = 1> {
    #[pin]
    places: [Place; N],
    #[pin]
    value: T,
}

// SAFETY: The links in a place are only accessed by the tree that it is in, or that is about to
// take it in: `Place::tree` hands them from one tree to the next. All else follows `T`.
unsafe impl<T: Send, const N: usize> Send for IntervalNode<T, N> {}
// SAFETY: As for `Send`; a shared node only gives its bounds, which never change, and a shared `T`.
unsafe impl<T: Sync, const N: usize> Sync for IntervalNode<T, N> {}

impl<T, const N: usize> IntervalNode<T, N> {
    /// Creates a node for an interval of each tree. [`EINVAL`] if one ends before it starts.
    pub fn new(intervals: [RangeInclusive<usize>; N], value: T) -> Result<Self> {
        Ok(Self {
            places: Self::places(intervals)?,
            value,
        })
    }

    /// As [`Self::new`], for a value that is initialised in place.
    pub fn pin_init(
        intervals: [RangeInclusive<usize>; N],
        value: impl PinInit<T, Error>,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            places: Self::places(intervals)?,
            value <- value,
        }? Error)
    }

    fn places(intervals: [RangeInclusive<usize>; N]) -> Result<[Place; N]> {
        if intervals.iter().any(RangeInclusive::is_empty) {
            return Err(EINVAL);
        }
        Ok(intervals.each_ref().map(Place::new))
    }

    /// The interval in the tree `AT`.
    #[inline]
    pub fn interval<const AT: usize>(&self) -> RangeInclusive<usize> {
        self.place::<AT>().interval()
    }

    #[inline]
    fn place<const AT: usize>(&self) -> &Place {
        const { assert!(AT < N) };
        &self.places[AT]
    }
}

impl<T, const N: usize> Deref for IntervalNode<T, N> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A tree of closed intervals, which may overlap and may be equal: the intervals `AT` of nodes that
/// have `N` of them.
///
/// The tree owns an [`Arc`] of each node in it. Equal intervals are found in the order in which
/// they were inserted.
///
/// Nothing here allocates or sleeps.
///
/// # Invariants
///
/// `root` is the root of a valid C interval tree, each node of which is the one in the place `AT`
/// of an `IntervalNode<T, N>`, where `tree` is `id`, and for each of which the tree owns an [`Arc`]
/// that `Arc::into_raw` has leaked.
pub struct IntervalTree<T, const N: usize = 1, const AT: usize = 0> {
    root: bindings::rb_root_cached,
    id: u64,
    _nodes: PhantomData<Arc<IntervalNode<T, N>>>,
}

// SAFETY: The tree owns `Arc`s of its nodes and may be used wherever these may.
unsafe impl<T: Send + Sync, const N: usize, const AT: usize> Send for IntervalTree<T, N, AT> {}
// SAFETY: A shared tree only gives shared references to its nodes.
unsafe impl<T: Send + Sync, const N: usize, const AT: usize> Sync for IntervalTree<T, N, AT> {}

impl<T> IntervalTree<T> {
    /// Creates an empty tree of nodes that are in no other one; see [`Self::default`] for those
    /// that may be.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<T, const N: usize, const AT: usize> IntervalTree<T, N, AT> {
    /// Returns whether the tree has no nodes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.root.rb_leftmost.is_null()
    }

    /// Inserts a node in `O(log n)`. Gives it back if it is in this tree, or in another one with
    /// the same interval.
    pub fn insert(&mut self, node: Arc<IntervalNode<T, N>>) -> Result<(), Arc<IntervalNode<T, N>>> {
        // Acquire: what another tree did to the links, before it let go of the node, is done.
        let tree = &node.place::<AT>().tree;
        if tree.cmpxchg(0, self.id, Acquire).is_err() {
            return Err(node);
        }
        let node = Arc::into_raw(node);
        // SAFETY: The node is valid, since we have leaked an `Arc` of it.
        let links = unsafe { Opaque::cast_into(&raw const (*node).places[AT].node) };
        // SAFETY: The node has its bounds, stays in place, and was in no tree before `id` was
        // written above, so that nobody else accesses its links.
        unsafe { bindings::interval_tree_insert(links, &mut self.root) };
        Ok(())
    }

    /// Removes a node in `O(log n)` and returns whether it was in this tree.
    pub fn remove(&mut self, node: &Arc<IntervalNode<T, N>>) -> bool {
        let place = node.place::<AT>();
        // Our own id is only written with exclusive access to this tree, which we have.
        if place.tree.load(Relaxed) != self.id {
            return false;
        }
        // SAFETY: The place has our id, so its node is in this tree, to which we have exclusive
        // access.
        unsafe { bindings::interval_tree_remove(place.node.get(), &mut self.root) };
        // INVARIANT: It is in no tree any more. Release: we do not touch the links after this.
        place.tree.store(0, Release);
        // SAFETY: `insert` leaked an `Arc` of this node, which was ours until now.
        drop(unsafe { Arc::from_raw(Arc::as_ptr(node)) });
        true
    }

    /// The nodes that overlap an interval, by ascending start.
    pub fn overlapping(&self, interval: RangeInclusive<usize>) -> Overlapping<'_, T, N, AT> {
        let root = (&raw const self.root).cast_mut();
        let (start, last) = interval.into_inner();
        // SAFETY: The search only reads, and `&self` keeps the tree as it is.
        let next = unsafe { bindings::interval_tree_iter_first(root, start, last) };
        // INVARIANT: What the C function returns is in the tree.
        Overlapping {
            next: NonNull::new(next),
            start,
            last,
            _tree: PhantomData,
        }
    }

    /// Starts a walk over the nodes that overlap an interval, on which the tree may be changed.
    pub fn cursor(&self, interval: RangeInclusive<usize>) -> Cursor<T, N, AT> {
        Cursor {
            next: self.overlapping(interval.clone()).next().map(Arc::from),
            interval,
        }
    }
}

impl<T, const N: usize, const AT: usize> Default for IntervalTree<T, N, AT> {
    fn default() -> Self {
        const { assert!(AT < N) };
        // INVARIANT: There are no nodes. 64 bits of ids are not used up.
        Self {
            root: bindings::rb_root_cached::default(),
            id: NEXT_TREE.fetch_add(1, Relaxed),
            _nodes: PhantomData,
        }
    }
}

impl<T, const N: usize, const AT: usize> Drop for IntervalTree<T, N, AT> {
    fn drop(&mut self) {
        let mut all = self.cursor(0..=usize::MAX);
        while all.remove_next(self).is_some() {}
    }
}

/// Iterator over the nodes that overlap an interval, see [`IntervalTree::overlapping`].
///
/// # Invariants
///
/// `next` is a node of the tree that is borrowed.
pub struct Overlapping<'a, T, const N: usize = 1, const AT: usize = 0> {
    next: Option<NonNull<bindings::interval_tree_node>>,
    start: usize,
    last: usize,
    _tree: PhantomData<&'a IntervalTree<T, N, AT>>,
}

impl<'a, T, const N: usize, const AT: usize> Iterator for Overlapping<'a, T, N, AT> {
    type Item = ArcBorrow<'a, IntervalNode<T, N>>;

    fn next(&mut self) -> Option<Self::Item> {
        let links = self.next?.as_ptr();
        // SAFETY: By the type invariant `links` is in the tree, which is borrowed.
        let next = unsafe { bindings::interval_tree_iter_next(links, self.start, self.last) };
        // INVARIANT: What the C function returns is in the same tree.
        self.next = NonNull::new(next);
        // SAFETY: By the type invariant this is in the place `AT` of a node, as the first field of
        // `repr(C)`; the places are the first field of the node, which is `repr(C)`, too.
        let node = unsafe { links.cast::<Place>().sub(AT) }.cast::<IntervalNode<T, N>>();
        // SAFETY: The tree, which is borrowed for `'a`, owns an `Arc` of this node.
        Some(unsafe { ArcBorrow::from_raw(node) })
    }
}

/// A walk over the nodes that overlap an interval, by ascending start, see
/// [`IntervalTree::cursor`].
///
/// It borrows no tree. Between two steps what was returned may be removed and other nodes may be
/// inserted, of which the walk may miss those that start where it is. It ends if the node that
/// would come next is removed.
pub struct Cursor<T, const N: usize = 1, const AT: usize = 0> {
    next: Option<Arc<IntervalNode<T, N>>>,
    interval: RangeInclusive<usize>,
}

impl<T, const N: usize, const AT: usize> Cursor<T, N, AT> {
    /// The next node, in `O(log n)`. `tree` must be the one that the walk began in, or there is
    /// none.
    pub fn next(&mut self, tree: &IntervalTree<T, N, AT>) -> Option<Arc<IntervalNode<T, N>>> {
        let node = self.next.take()?;
        let place = node.place::<AT>();
        // Our own id is only written with exclusive access to the tree, which is borrowed.
        if place.tree.load(Relaxed) != tree.id {
            return None;
        }
        let (start, last) = (*self.interval.start(), *self.interval.end());
        // INVARIANT: The place has the id of the tree, so its node is in it.
        let mut rest = Overlapping {
            next: NonNull::new(place.node.get()),
            start,
            last,
            _tree: PhantomData::<&IntervalTree<T, N, AT>>,
        };
        rest.next();
        self.next = rest.next().map(Arc::from);
        Some(node)
    }

    /// As [`Self::next`], and removes it from the tree.
    pub fn remove_next(
        &mut self,
        tree: &mut IntervalTree<T, N, AT>,
    ) -> Option<Arc<IntervalNode<T, N>>> {
        let node = self.next(tree)?;
        tree.remove(&node);
        Some(node)
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
        let all = Arc::new(IntervalNode::new([0..=usize::MAX], ())?, GFP_KERNEL)?;
        let end = Arc::new(
            IntervalNode::new([usize::MAX..=usize::MAX], ())?,
            GFP_KERNEL,
        )?;
        assert!(tree.is_empty());
        assert!(tree.insert(all.clone()).is_ok());
        assert!(tree.insert(end.clone()).is_ok());
        assert_eq!(tree.overlapping(0..=0).count(), 1);
        assert_eq!(tree.overlapping(usize::MAX..=usize::MAX).count(), 2);
        assert!(tree.remove(&all));
        assert_eq!(tree.overlapping(0..=usize::MAX - 1).count(), 0);
        assert!(tree.remove(&end));
        assert!(tree.is_empty());
        Ok(())
    }

    #[test]
    fn one_tree_only() -> Result {
        let mut one = IntervalTree::new();
        let mut other = IntervalTree::new();
        let node = Arc::new(IntervalNode::new([3..=4], ())?, GFP_KERNEL)?;
        assert!(one.insert(node.clone()).is_ok());
        assert!(other.insert(node.clone()).is_err());
        assert!(!other.remove(&node));
        assert!(one.remove(&node));
        assert!(other.insert(node).is_ok());
        Ok(())
    }

    #[test]
    fn drop_releases_nodes() -> Result {
        let node = Arc::new(IntervalNode::new([3..=4], ())?, GFP_KERNEL)?;
        let mut tree = IntervalTree::new();
        assert!(tree.insert(node.clone()).is_ok());
        drop(tree);
        // The only reference left is ours.
        assert!(Arc::into_unique_or_drop(node).is_some());
        Ok(())
    }

    #[test]
    fn two_trees() -> Result {
        let mut one = IntervalTree::<usize, 2, 0>::default();
        let mut other = IntervalTree::<usize, 2, 1>::default();
        let mut second = IntervalTree::<usize, 2, 1>::default();
        for i in 0..10 {
            let node = Arc::new(
                IntervalNode::new([i..=i, 10 * i..=10 * i + 9], i)?,
                GFP_KERNEL,
            )?;
            assert!(one.insert(node.clone()).is_ok());
            assert!(other.insert(node.clone()).is_ok());
            assert!(second.insert(node).is_err());
        }
        assert_eq!(one.overlapping(3..=3).next().map(|node| **node), Some(3));
        assert_eq!(other.overlapping(3..=3).next().map(|node| **node), Some(0));
        assert_eq!(
            other.overlapping(35..=61).map(|node| **node).sum::<usize>(),
            18
        );

        // It stays in one when it leaves the other.
        let node: Arc<_> = other.overlapping(70..=70).next().ok_or(ENOENT)?.into();
        assert!(other.remove(&node));
        assert!(!other.remove(&node));
        assert!(second.insert(node.clone()).is_ok());
        assert_eq!(one.overlapping(0..=100).count(), 10);
        assert_eq!(other.overlapping(0..=100).count(), 9);
        drop(one);
        assert_eq!(
            second
                .overlapping(0..=100)
                .map(|node| **node)
                .sum::<usize>(),
            7
        );
        drop(second);
        assert_eq!(node.interval::<1>(), 70..=79);
        assert!(Arc::into_unique_or_drop(node).is_some());
        Ok(())
    }

    #[test]
    fn inverted() -> Result {
        assert!(IntervalNode::new([4..=3], ()).is_err_and(|error| error == EINVAL));
        assert!(IntervalNode::new([3..=4, 1..=0], ()).is_err_and(|error| error == EINVAL));
        Ok(())
    }

    #[test]
    fn walk_that_removes() -> Result {
        let mut tree = IntervalTree::new();
        for start in 0..10 {
            let node = Arc::new(IntervalNode::new([start..=start + 1], start)?, GFP_KERNEL)?;
            assert!(tree.insert(node).is_ok());
        }
        let mut cursor = tree.cursor(2..=6);
        let mut met = 0;
        while let Some(node) = cursor.remove_next(&mut tree) {
            assert!(!tree.remove(&node));
            met += 1;
        }
        // From [1, 2] to [6, 7].
        assert_eq!(met, 6);
        assert_eq!(tree.overlapping(0..=100).count(), 4);

        // Whoever removes the next one ends the walk; another tree has nothing of it.
        let mut cursor = tree.cursor(0..=100);
        assert_eq!(cursor.next(&tree).map(|node| **node), Some(0));
        let next: Arc<_> = tree.overlapping(7..=8).next().ok_or(ENOENT)?.into();
        assert!(tree.remove(&next));
        assert!(cursor.next(&tree).is_none());
        assert!(tree.cursor(0..=100).next(&IntervalTree::new()).is_none());
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
                let node = Arc::new(IntervalNode::new([start..=last], step)?, GFP_KERNEL)?;
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
            for node in tree.overlapping(start..=last) {
                let found = node.interval::<0>();
                assert!(*found.start() <= last && *found.end() >= start);
                assert!(*found.start() >= previous);
                previous = *found.start();
                hits += 1;
                sum += **node;
            }
            let expected = model.iter().filter(|node| {
                let (first, end) = node.interval::<0>().into_inner();
                first <= last && end >= start
            });
            assert_eq!(hits, expected.clone().count());
            assert_eq!(sum, expected.map(|node| ***node).sum::<usize>());
            assert_eq!(tree.is_empty(), model.is_empty());
        }
        Ok(())
    }
}
