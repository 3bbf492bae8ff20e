//! Networks, as `10.0.0.0/8`.

use std::net::IpAddr;

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    /// As wide as an IPv6 address; an IPv4 address stands in its upper bits.
    bits: u128,
    mask: u128,
    is_v6: bool,
}

fn bits(addr: IpAddr) -> (u128, u32, bool) {
    match addr {
        IpAddr::V4(addr) => (u128::from(addr.to_bits()) << 96, 32, false),
        IpAddr::V6(addr) => (addr.to_bits(), 128, true),
    }
}

impl Network {
    /// Reads an address or a network.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (addr, length) = match text.split_once('/') {
            Some((addr, length)) => (addr, Some(length)),
            None => (text, None),
        };
        let wrong = || format!("{text:?} is neither an address, nor a network as 10.0.0.0/8");
        let addr: IpAddr = addr.parse().map_err(|_| wrong())?;
        let (bits, width, is_v6) = bits(addr);
        let length = match length {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
            None => width,
        };
        if length > width {
            return Err(wrong());
        }
        let mask = match length {
            0 => 0,
            length => u128::MAX << (128 - length),
        };
        if bits & !mask != 0 {
            // A slip, most likely: whoever is meant, this would trust others as well.
            return Err(format!(
                "{text:?} is no network: it has bits behind its first {length}"
            ));
        }
        Ok(Self { bits, mask, is_v6 })
    }

    /// Whether an address is one of them; it stands for itself, not for an IPv4 address in IPv6's clothes.
    pub(super) fn contains(&self, addr: IpAddr) -> bool {
        let (bits, _, is_v6) = bits(addr);
        is_v6 == self.is_v6 && bits & self.mask == self.bits
    }
}
