// SPDX-License-Identifier: GPL-2.0

//! What a lease is, and its life.

use crate::{
    context::Inner, //
    holder::Holder,
};
use kernel::{
    bindings,
    sync::{
        Arc,
        LockedBy, //
    }, //
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
    pub(crate) fn new(exclusive: bool) -> Self {
        match exclusive {
            true => Kind::Exclusive,
            false => Kind::Shared,
        }
    }

    /// As in `fcntl(2)`.
    pub(crate) fn to_type(self) -> u16 {
        match self {
            Kind::Shared => bindings::F_RDLCK as u16,
            Kind::Exclusive => bindings::F_WRLCK as u16,
        }
    }

    /// For `/proc/layout_leases`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Shared => "shared",
            Kind::Exclusive => "exclusive",
        }
    }

    /// Returns whether leases of two processes on one range exclude each other.
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
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Memory may be attached.
    Granted = bindings::LAYOUT_LEASE_GRANTED as u16,
    /// A break is under way: nothing new is attached, and what is attached has a deadline.
    Breaking = bindings::LAYOUT_LEASE_BREAKING as u16,
    /// Taken back. Stays on record so that the holder can see it.
    Revoked = bindings::LAYOUT_LEASE_REVOKED as u16,
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

    /// Returns whether the lease still stands in the way of others.
    pub(crate) fn is_live(self) -> bool {
        self != State::Revoked
    }
}

/// A lease on a range; the range is the one of its node in the context.
pub(crate) struct Lease {
    pub(crate) holder: Arc<Holder>,
    pub(crate) kind: Kind,
    /// Of the grant, which all parts of it have; a later grant has a larger one.
    pub(crate) generation: u64,
    status: LockedBy<Status, Inner>,
}

/// How far the break of a lease has come.
#[derive(Clone, Copy)]
pub(crate) struct Status {
    /// See also `Inner::state_of`.
    pub(crate) state: State,
    /// When what is attached will be revoked; only while breaking.
    pub(crate) deadline: u64,
}

impl Lease {
    /// A new grant.
    pub(crate) fn new(holder: &Arc<Holder>, kind: Kind) -> Self {
        // SAFETY: It counts, which anybody may have it do.
        let generation = unsafe { bindings::layout_lease_new_generation() };
        let status = Status {
            state: State::Granted,
            deadline: 0,
        };
        Self::with_status(holder, kind, generation, status)
    }

    fn with_status(holder: &Arc<Holder>, kind: Kind, generation: u64, status: Status) -> Self {
        Self {
            holder: holder.clone(),
            kind,
            generation,
            status: LockedBy::new(&holder.context.inner, status),
        }
    }

    /// The same lease, for a part of its range.
    pub(crate) fn clone_for_part(&self, inner: &Inner) -> Self {
        Self::with_status(
            &self.holder,
            self.kind,
            self.generation,
            *self.status(inner),
        )
    }

    pub(crate) fn status<'a>(&'a self, inner: &'a Inner) -> &'a Status {
        self.status.access(inner)
    }

    pub(crate) fn status_mut<'a>(&'a self, inner: &'a mut Inner) -> &'a mut Status {
        self.status.access_mut(inner)
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
