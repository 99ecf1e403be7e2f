//! The values that labels can have. Each set is closed, so that the number of series is known.

/// Declares a closed set of label values.
macro_rules! labels {
    ($(#[$set:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)* }) => {
        $(#[$set])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $value,)* }

        impl $name {
            /// Every value.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$value),*];

            /// Its value in the exposition format.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word,)* }
            }
        }
    };
}

labels! {
    /// Why an event is lost.
    DropReason {
        /// There was no room for it.
        Overflow = "overflow",
        /// It is larger than the server takes.
        TooLarge = "too_large",
        /// The daemon ended before there was room for it, or before NATS confirmed it.
        Shutdown = "shutdown",
    }
}

labels! {
    /// Why something may have been missed.
    GapReason {
        /// The link was not connected.
        Disconnected = "disconnected",
        /// There was no room.
        Overflow = "overflow",
        /// An event or a frame was too large.
        TooLarge = "too_large",
        /// The daemon was not running.
        Restarted = "restarted",
        /// The stream lost what it had confirmed.
        StreamReset = "stream_reset",
        /// Events on disk were damaged.
        SpoolDamaged = "spool_damaged",
        /// A fault of the daemon.
        Internal = "internal",
    }
}

labels! {
    /// How an attempt to connect a link ended.
    ConnectOutcome {
        /// It is connected.
        Connected = "connected",
        /// There was no answer, or not a whole one.
        Unreachable = "unreachable",
        /// The service refused our credentials.
        Credentials = "credentials",
        /// What answers is not the service.
        WrongAddress = "wrong_address",
        /// Where it leads is not allowed.
        Forbidden = "forbidden",
    }
}

labels! {
    /// How a command ended: the status of the last reply to its caller.
    Outcome {
        /// Checked and queued.
        Accepted = "accepted",
        /// Written to the socket.
        Sent = "sent",
        /// The service acknowledged it.
        Acked = "acked",
        /// The service answered it.
        Response = "response",
        /// Refused before anything was sent.
        Rejected = "rejected",
        /// Certainly not done.
        Failed = "failed",
        /// Its time ran out, or its caller was gone, before it was sent.
        Expired = "expired",
        /// It was written and no answer came, or none while its caller listened.
        Unknown = "unknown",
        /// Its reply subject is one that may not be written to; nothing was done.
        BadReply = "bad_reply",
    }
}

labels! {
    /// How a reload of the configuration ended.
    ReloadOutcome {
        /// It is in use.
        Applied = "applied",
        /// It was wrong, and nothing has changed.
        Failed = "failed",
    }
}

labels! {
    /// Why a member of a cluster has taken an instance.
    TakeoverReason {
        /// No other member was known to have it.
        Free = "free",
        /// Another member has given it up.
        Released = "released",
        /// Another member has not renewed its lease.
        Expired = "expired",
    }
}
