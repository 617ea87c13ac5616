//! Addresses and ranges of them: who is believed, and who may ask.

use super::read::Item;
use std::net::IpAddr;

/// What `private` stands for where ranges are written: RFC 1918, RFC 4193, loopback and link-local.
pub const PRIVATE_RANGES: [&str; 8] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// One or a list; `private` is all of these.
pub(super) fn read(item: &Item<'_>, private: &[&str]) -> Vec<String> {
    let mut ranges: Vec<String> = Vec::new();
    for item in item.one_or_list().unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        if text == "private" {
            ranges.extend(private.iter().map(|range| (*range).to_owned()));
        } else if let Some(range) =
            item.parsed(cidr, "an address or a range", "Write `10.0.0.0/8`, `::1` or `private`.")
        {
            ranges.push(range);
        }
    }
    ranges.dedup();
    ranges
}

/// `10.1.2.3/8` -> `10.0.0.0/8`, `::1` -> `::1/128`.
fn cidr(text: &str) -> Option<String> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) if bits.chars().all(|c| c.is_ascii_digit()) => bits.parse().ok().filter(|bits| *bits <= width)?,
        Some(_) => return None,
        None => width,
    };
    let host_bits = width - bits;
    let network = match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
    };
    Some(format!("{network}/{bits}"))
}

/// Whether the peer is in one of the ranges; they are as [`Project::trusted_proxies`] and [`Preview::networks`] have them.
///
/// [`Project::trusted_proxies`]: super::Project::trusted_proxies
/// [`Preview::networks`]: super::Preview::networks
pub fn is_trusted(ranges: &[String], peer: IpAddr) -> bool {
    ranges.iter().any(|range| {
        let bits = range.split_once('/').map_or("", |(_, bits)| bits);
        cidr(&format!("{peer}/{bits}")).as_ref() == Some(range)
    })
}
