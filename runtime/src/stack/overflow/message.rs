//! Text that is put together in a signal handler.

use libc::STDERR_FILENO;

/// A message of limited length on the stack. What does not fit is cut off.
#[derive(Debug)]
pub(crate) struct MessageBuffer {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl MessageBuffer {
    /// How long a message may be.
    pub(crate) const CAPACITY: usize = 512;

    /// So much room is kept for what follows a description.
    const RESERVE: usize = 160;

    pub(in crate::stack) fn new() -> Self {
        Self {
            bytes: [0; Self::CAPACITY],
            len: 0,
        }
    }

    /// Appends text as it is.
    pub(crate) fn push_str(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            self.push(byte, Self::CAPACITY);
        }
    }

    /// Appends text that may hold anything: control characters become `?`, and a very long one is cut off, so
    /// that the end of the message is still seen.
    pub(crate) fn push_name(&mut self, name: &str) {
        for &byte in name.as_bytes() {
            self.push(
                if byte.is_ascii_control() { b'?' } else { byte },
                Self::CAPACITY - Self::RESERVE,
            );
        }
    }

    /// Appends a number.
    pub(crate) fn push_decimal(&mut self, number: u64) {
        self.push_number(number, 10);
    }

    /// Appends an address.
    pub(crate) fn push_hex(&mut self, number: usize) {
        self.push_str("0x");
        self.push_number(number as u64, 16);
    }

    /// Appends a count of bytes that is a power of two of at least 1 KiB.
    pub(crate) fn push_size(&mut self, bytes: usize) {
        let (number, unit) = if bytes < 1 << 20 {
            (bytes >> 10, " KiB")
        } else {
            (bytes >> 20, " MiB")
        };
        self.push_decimal(number as u64);
        self.push_str(unit);
    }

    /// The text so far.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(in crate::stack) fn len(&self) -> usize {
        self.len
    }

    pub(in crate::stack) fn clear(&mut self) {
        self.len = 0;
    }

    pub(in crate::stack) fn write_to_stderr(&self) {
        let mut rest = self.as_bytes();
        while !rest.is_empty() {
            // SAFETY: `rest` is readable memory.
            let written = unsafe { libc::write(STDERR_FILENO, rest.as_ptr().cast(), rest.len()) };
            match usize::try_from(written) {
                Ok(written) if written > 0 => rest = rest.get(written..).unwrap_or_default(),
                // There is nobody to tell.
                _ => return,
            }
        }
    }

    fn push_number(&mut self, mut number: u64, radix: u64) {
        let mut digits = [0; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b"0123456789abcdef"[(number % radix) as usize];
            number /= radix;
            if number == 0 {
                break;
            }
        }
        for &digit in &digits[start..] {
            self.push(digit, Self::CAPACITY);
        }
    }

    fn push(&mut self, byte: u8, capacity: usize) {
        if self.len < capacity {
            self.bytes[self.len] = byte;
            self.len += 1;
        }
    }
}
