//! A range of addresses, as CIDR writes it.

use std::net::IpAddr;

/// `10.0.0.0/8`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    bits: u128,
    length: u32,
    v4: bool,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (addr, length) = match text.split_once('/') {
            Some((addr, length)) => (addr, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().ok()?;
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(longest);
        (length <= longest).then(|| Self { bits: bits(addr), length, v4: addr.is_ipv4() })
    }

    pub(crate) fn contains(self, addr: IpAddr) -> bool {
        let width = if self.v4 { 32 } else { 128 };
        let differing = self.bits ^ bits(addr);
        self.v4 == addr.is_ipv4() && (self.length == 0 || differing >> (width - self.length) == 0)
    }
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_only() {
        let contains = |network: &str, addr: &str| {
            Network::parse(network).expect("a network").contains(addr.parse::<IpAddr>().expect("an address"))
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("::1", "::1") && !contains("::1/128", "::2") && contains("fd00::/8", "fd12::1"));
        assert!(Network::parse("x/8").is_none() && Network::parse("1.1.1.1/x").is_none());
    }
}
