//! What the operations of a channel answer when they do not succeed: one type each, with the value that was not
//! sent. After crossbeam-channel's `err.rs`.

use crate::sync::error::plain_error;

const CLOSED: &str = "the channel is closed";
const NO_VALUES: &str = "the channel is closed and has no values left";
const CANCELLED: &str = "this fiber was cancelled while it waited for a channel";
const FULL: &str = "the channel is full, or has no receiver waiting";
const EMPTY: &str = "the channel is empty";

macro_rules! send_error {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $text:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum $name<T> {
            $($(#[$doc])* $variant(T),)*
        }

        impl<T> $name<T> {
            /// The value that was not sent.
            pub fn into_inner(self) -> T {
                match self {
                    $($name::$variant(value) => value,)*
                }
            }
        }

        impl<T> std::fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $($name::$variant(_) => concat!(stringify!($variant), "(..)"),)*
                })
            }
        }

        impl<T> std::fmt::Display for $name<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $($name::$variant(_) => $text,)*
                })
            }
        }

        impl<T> std::error::Error for $name<T> {}
    };
}

send_error! {
    /// Why [`Sender::send`](super::Sender::send) did not send; with the value.
    SendError {
        /// The channel is closed, or has no receivers any more.
        Closed => CLOSED,
        /// The calling fiber was cancelled while it waited.
        Cancelled => CANCELLED,
    }
}

send_error! {
    /// Why [`Sender::try_send`](super::Sender::try_send) did not send; with the value.
    TrySendError {
        /// There is no room, or, without a buffer, no receiver that waits.
        Full => FULL,
        /// As [`SendError::Closed`].
        Closed => CLOSED,
    }
}

send_error! {
    /// Why [`Sender::send_timeout`](super::Sender::send_timeout) did not send; with the value.
    SendTimeoutError {
        /// There was no room, or no receiver, in time.
        TimedOut => FULL,
        /// As [`SendError::Closed`].
        Closed => CLOSED,
        /// The calling fiber was cancelled while it waited.
        Cancelled => CANCELLED,
    }
}

plain_error! {
    /// Why [`Receiver::recv`](super::Receiver::recv) received nothing.
    RecvError {
        /// The channel is empty, and closed or without senders.
        Closed => NO_VALUES,
        /// The calling fiber was cancelled while it waited.
        Cancelled => CANCELLED,
    }
}

plain_error! {
    /// Why [`Receiver::try_recv`](super::Receiver::try_recv) received nothing.
    TryRecvError {
        /// There is no value, and no sender that waits.
        Empty => EMPTY,
        /// As [`RecvError::Closed`].
        Closed => NO_VALUES,
    }
}

plain_error! {
    /// Why [`Receiver::recv_timeout`](super::Receiver::recv_timeout) received nothing.
    RecvTimeoutError {
        /// No value came in time.
        TimedOut => EMPTY,
        /// As [`RecvError::Closed`].
        Closed => NO_VALUES,
        /// The calling fiber was cancelled while it waited.
        Cancelled => CANCELLED,
    }
}

const NO_CASES: &str = "there is nothing to select from: the wait would never end";

plain_error! {
    /// Why [`Select::wait`](super::Select::wait) selected nothing.
    SelectError {
        /// There is no operation to select: the wait would never end.
        NoCases => NO_CASES,
        /// The calling fiber was cancelled while it waited.
        Cancelled => CANCELLED,
    }
}

plain_error! {
    /// Why [`Select::try_wait`](super::Select::try_wait) selected nothing.
    TrySelectError {
        /// No operation can be done at present.
        WouldBlock => "no operation of the select can be done at present",
    }
}

plain_error! {
    /// Why [`Select::wait_timeout`](super::Select::wait_timeout) selected nothing.
    SelectTimeoutError {
        /// No operation could be done in time.
        TimedOut => "no operation of the select could be done in time",
        /// The calling fiber was cancelled while it waited.
        Cancelled => CANCELLED,
    }
}
