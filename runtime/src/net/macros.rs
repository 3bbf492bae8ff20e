//! What every socket type has: conversions from and to descriptors.

/// `$type { io: Io<$inner> }`.
macro_rules! descriptor {
    ($type:ty, $inner:ty) => {
        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.io.socket().as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.io.socket().as_raw_fd()
            }
        }

        /// The descriptor stays in non-blocking mode.
        impl From<$type> for std::os::fd::OwnedFd {
            fn from(socket: $type) -> Self {
                socket.io.into_socket().into()
            }
        }

        /// The descriptor stays in non-blocking mode.
        impl std::os::fd::IntoRawFd for $type {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                self.io.into_socket().into_raw_fd()
            }
        }

        /// Sets the descriptor to non-blocking mode. One that is no socket of this kind gives a socket whose
        /// calls fail.
        impl From<std::os::fd::OwnedFd> for $type {
            fn from(fd: std::os::fd::OwnedFd) -> Self {
                let socket = <$inner>::from(fd);
                // It fails only on what no call works on.
                let _ = socket.set_nonblocking(true);
                Self {
                    io: crate::net::io::Io::new(socket),
                }
            }
        }

        impl std::os::fd::FromRawFd for $type {
            unsafe fn from_raw_fd(fd: std::os::fd::RawFd) -> Self {
                // SAFETY: passed on to the caller.
                unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) }.into()
            }
        }
    };
}

pub(super) use descriptor;
