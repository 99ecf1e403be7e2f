//! Why a link exists, and what follows from that.

/// Why a link exists: it decides how its connections are made, when it ends, and which gaps are published about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The connector wants it: dialled until it is closed.
    Permanent,
    /// Commands need it: dialled once there is a slot, and for as long as commands need it.
    OnDemand,
    /// A command created it.
    Dynamic {
        /// Whether it is dialled again when its connection ends or cannot be made.
        redial: bool,
    },
    /// The service opened it: one connection, and the link ends with it.
    Accepted,
}

impl Lifetime {
    /// Whether another connection is made once one has ended.
    pub fn redials(self) -> bool {
        !matches!(self, Self::Dynamic { redial: false } | Self::Accepted)
    }

    /// Whether the link ends when no command needs it.
    pub fn is_on_demand(self) -> bool {
        self == Self::OnDemand
    }

    /// Whether a command created the link.
    pub fn is_dynamic(self) -> bool {
        matches!(self, Self::Dynamic { .. })
    }
}
