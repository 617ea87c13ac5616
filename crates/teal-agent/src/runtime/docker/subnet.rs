//! IPv4 subnets, and which of them are free on this host.

use std::net::Ipv4Addr;

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    base: u32,
    pub bits: u8,
}

impl Subnet {
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let bits: u8 = bits.parse().ok().filter(|b| *b <= 32)?;
        Some(Self::new(u32::from(address.parse::<Ipv4Addr>().ok()?), bits))
    }

    pub fn new(address: u32, bits: u8) -> Self {
        Self { base: address & mask(bits), bits }
    }

    pub fn overlaps(self, other: Self) -> bool {
        let common = mask(self.bits.min(other.bits));
        self.base & common == other.base & common
    }

    pub fn text(self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.base), self.bits)
    }

    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base)
    }

    /// The first that a host can have.
    pub fn first_host(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    pub fn upper_half(self) -> Self {
        Self { base: self.base | 1 << (31 - self.bits), bits: self.bits + 1 }
    }
}

fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

/// In the order in which they are tried: where Docker itself looks first, then where offices and clouds live too.
pub fn candidates() -> impl Iterator<Item = Subnet> {
    let block = |a: u32, b: u32| (0..=255u32).map(move |c| Subnet::new(a << 24 | b << 16 | c << 8, 24));
    (20..=31).flat_map(move |b| block(172, b)).chain((200..=254).flat_map(move |b| block(10, b))).chain(block(192, 168))
}

/// Destinations of the host's routes, the default route excepted (it overlaps everything).
pub fn routes(table: &str) -> Vec<Subnet> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let bits = hex(columns.get(7)?)?.leading_ones() as u8;
            Some(Subnet::new(hex(columns.get(1)?)?, bits))
        })
        .filter(|s| s.bits > 0)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn subnets_overlap_when_one_holds_the_other() {
        let net = |text| Subnet::parse(text).unwrap();
        assert!(net("172.16.0.0/12").overlaps(net("172.20.3.0/24")));
        assert!(net("172.20.3.0/24").overlaps(net("172.20.0.0/16")));
        assert!(!net("172.20.3.0/24").overlaps(net("172.20.4.0/24")));
        assert_eq!(net("172.20.3.7/24").upper_half().text(), "172.20.3.128/25");
        assert_eq!(Subnet::parse("fd00::/64"), None);
    }

    #[test]
    fn routes_of_the_host_are_read_and_the_default_route_left_out() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(routes(table), [Subnet::parse("172.17.0.0/16").unwrap()]);
    }

    #[test]
    fn there_are_thousands_of_candidates_and_none_overlaps_another() {
        let all: Vec<Subnet> = candidates().collect();
        assert!(all.len() > 10_000);
        assert!(all.windows(2).all(|pair| !pair[0].overlaps(pair[1])));
    }
}
