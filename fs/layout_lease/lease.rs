// SPDX-License-Identifier: GPL-2.0

//! Leases and who holds them.

use crate::range::Range;
use kernel::{
    fs::layout_lease::{
        kind,
        Anchor,
        Reason,
        LAYOUT_LEASE_BREAKING,
        LAYOUT_LEASE_GRANTED,
        LAYOUT_LEASE_REVOKED, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            AtomicFlag,
            Relaxed, //
        },
        Arc, //
    },
};

/// What a lease allows to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any number of processes, each of which may write.
    Shared,
    /// No other process.
    Exclusive,
}

impl Kind {
    /// From the type of a system call, which `hooks.c` has checked.
    pub(crate) fn from_type(type_: u16) -> Self {
        if type_ == kind::F_WRLCK {
            Kind::Exclusive
        } else {
            Kind::Shared
        }
    }

    pub(crate) fn to_type(self) -> u16 {
        match self {
            Kind::Shared => kind::F_RDLCK,
            Kind::Exclusive => kind::F_WRLCK,
        }
    }

    /// For `/proc/layout_leases`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Shared => "shared",
            Kind::Exclusive => "exclusive",
        }
    }

    /// Do leases of two processes on one range exclude each other?
    pub(crate) fn conflicts(self, other: Kind) -> bool {
        self == Kind::Exclusive || other == Kind::Exclusive
    }
}

/// The life of a lease. It never goes back; a holder asks anew.
///
/// ```text
/// Granted --break--> Breaking --nothing attached any more--> Revoked --holder, close--> (gone)
///    |                                                          ^
///    +----------------- break, nothing attached ----------------+
/// ```
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Memory may be attached.
    Granted = LAYOUT_LEASE_GRANTED,
    /// A break is under way: nothing new is attached, and what is attached has a deadline.
    Breaking = LAYOUT_LEASE_BREAKING,
    /// Taken back. Stays on record so that the holder can see it.
    Revoked = LAYOUT_LEASE_REVOKED,
}

impl State {
    /// What becomes of a lease when somebody breaks it, with or without attached memory.
    pub(crate) fn broken(self, attached: bool) -> State {
        match (self, attached) {
            (State::Revoked, _) | (_, false) => State::Revoked,
            (_, true) => State::Breaking,
        }
    }

    /// For `/proc/layout_leases`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Granted => "granted",
            State::Breaking => "breaking",
            State::Revoked => "revoked",
        }
    }

    /// Does the lease still stand in the way of others?
    pub(crate) fn is_live(self) -> bool {
        self != State::Revoked
    }
}

/// An open file through which a process holds leases.
///
/// Of all processes that share an open file one is the holder (invariant I4). Attachments, too, own
/// it, so that the holder can be told when they are revoked.
///
/// The atomic fields are written under the index lock only.
pub(crate) struct Owner {
    pub(crate) anchor: Anchor,
    /// Serial of the break of which the holder was told last.
    told: Atomic<u64>,
    /// Is the anchor linked?
    linked: AtomicFlag,
    pub(crate) cover: Cover,
}

/// How far the leases of an open file cover a range, while a walk looks for that.
///
/// Written under the index lock only.
pub(crate) struct Cover {
    /// Of the walk.
    serial: Atomic<u64>,
    /// The first byte that is not covered.
    next: Atomic<u64>,
    spoiled: AtomicFlag,
}

impl Cover {
    /// Meets the next lease, by ascending start. False: there is a gap before it.
    pub(crate) fn extend(&self, serial: u64, range: &Range, part: &Range) -> bool {
        if self.serial.load(Relaxed) != serial {
            self.serial.store(serial, Relaxed);
            self.next.store(range.start, Relaxed);
            self.spoiled.store(false, Relaxed);
        }
        if part.start > self.next.load(Relaxed) {
            return false;
        }
        self.next.store(part.last.saturating_add(1), Relaxed);
        true
    }

    /// What was met last covers, but is being broken.
    pub(crate) fn spoil(&self) {
        self.spoiled.store(true, Relaxed);
    }

    pub(crate) fn is_spoiled(&self) -> bool {
        self.spoiled.load(Relaxed)
    }
}

impl Owner {
    pub(crate) fn new(anchor: Anchor) -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self {
                anchor,
                told: Atomic::new(0),
                linked: AtomicFlag::new(false),
                cover: Cover {
                    serial: Atomic::new(0),
                    next: Atomic::new(0),
                    spoiled: AtomicFlag::new(false),
                },
            },
            GFP_KERNEL_ACCOUNT,
        )?)
    }

    /// Shows the open file among the lease holders of the system. Under the index lock.
    pub(crate) fn link(&self, kind: Kind) {
        self.anchor.link(kind.to_type());
        self.linked.store(true, Relaxed);
    }

    /// The open file holds no lease any more. Under the index lock.
    pub(crate) fn unlink(&self) {
        if self.linked.load(Relaxed) {
            self.linked.store(false, Relaxed);
            self.anchor.unlink();
        }
    }

    /// Signals the holder once for each `serial`. Under the index lock.
    pub(crate) fn tell(&self, serial: u64, reason: Reason) {
        if self.linked.load(Relaxed) && self.told.load(Relaxed) != serial {
            self.told.store(serial, Relaxed);
            // SAFETY: The anchor is linked, and is unlinked under the index lock, which we hold.
            unsafe { self.anchor.signal(reason) };
        }
    }

    /// Names the holder in the log: a device does not stop. Under the index lock.
    pub(crate) fn warn(&self) {
        if self.linked.load(Relaxed) {
            // SAFETY: As in `tell`.
            unsafe { self.anchor.warn() };
        }
    }

    /// Charges the user for some more leases, or for none of them ([`ENOLCK`]).
    pub(crate) fn charge(&self, more: usize) -> Result {
        for charged in 0..more {
            if let Err(error) = self.anchor.charge() {
                self.uncharge(charged);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Undoes [`Self::charge`].
    pub(crate) fn uncharge(&self, less: usize) {
        for _ in 0..less {
            self.anchor.uncharge();
        }
    }
}

/// A lease on a range; the range is the one of its node in the index.
///
/// The atomic fields are written under the index lock only.
pub(crate) struct Lease {
    pub(crate) owner: Arc<Owner>,
    pub(crate) kind: Kind,
    state: Atomic<u32>,
    deadline: Atomic<u64>,
}

impl Lease {
    pub(crate) fn new(owner: Arc<Owner>, kind: Kind, state: State, deadline: u64) -> Self {
        Self {
            owner,
            kind,
            state: Atomic::new(state as u32),
            deadline: Atomic::new(deadline),
        }
    }

    /// The same lease, for a part of its range.
    pub(crate) fn piece(&self) -> Self {
        Self::new(self.owner.clone(), self.kind, self.state(), self.deadline())
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Relaxed) {
            LAYOUT_LEASE_GRANTED => State::Granted,
            LAYOUT_LEASE_BREAKING => State::Breaking,
            _ => State::Revoked,
        }
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u32, Relaxed);
    }

    /// When what is attached will be revoked; only while breaking.
    pub(crate) fn deadline(&self) -> u64 {
        self.deadline.load(Relaxed)
    }

    pub(crate) fn set_deadline(&self, deadline: u64) {
        self.deadline.store(deadline, Relaxed);
    }
}

#[cfg(CONFIG_LAYOUT_LEASE_KUNIT_TEST)]
#[kernel::macros::kunit_tests(layout_lease_lease)]
mod tests {
    use super::*;

    #[test]
    fn conflicts() {
        use Kind::*;
        assert!(!Shared.conflicts(Shared));
        assert!(Shared.conflicts(Exclusive));
        assert!(Exclusive.conflicts(Shared));
        assert!(Exclusive.conflicts(Exclusive));
        for kind in [Shared, Exclusive] {
            assert_eq!(Kind::from_type(kind.to_type()), kind);
        }
    }

    #[test]
    fn transitions() {
        use State::*;
        assert_eq!(Granted.broken(true), Breaking);
        assert_eq!(Granted.broken(false), Revoked);
        assert_eq!(Breaking.broken(true), Breaking);
        // Nothing comes back.
        for attached in [true, false] {
            assert_eq!(Revoked.broken(attached), Revoked);
        }
        assert!(Granted.is_live() && Breaking.is_live() && !Revoked.is_live());
    }
}
