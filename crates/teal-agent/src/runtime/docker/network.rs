//! Networks: a bridge with a subnet that nothing else on the host uses.

use super::super::{NetworkSpec, Result, RuntimeError, label};
use super::DockerRuntime;
use super::connection::{bounded, status};
use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest};
use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions};
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subnet {
    base: u32,
    bits: u8,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let bits: u8 = bits.parse().ok().filter(|b| *b <= 32)?;
        Some(Self::new(u32::from(address.parse::<Ipv4Addr>().ok()?), bits))
    }

    fn new(address: u32, bits: u8) -> Self {
        Self { base: address & mask(bits), bits }
    }

    fn overlaps(self, other: Self) -> bool {
        let common = mask(self.bits.min(other.bits));
        self.base & common == other.base & common
    }

    fn text(self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.base), self.bits)
    }

    fn upper_half(self) -> Self {
        Self { base: self.base | 1 << (31 - self.bits), bits: self.bits + 1 }
    }
}

fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

/// In the order in which they are tried: where Docker itself looks first, then where offices and clouds live too.
fn candidates() -> impl Iterator<Item = Subnet> {
    let block = |a: u32, b: u32| (0..=255u32).map(move |c| Subnet::new(a << 24 | b << 16 | c << 8, 24));
    (20..=31).flat_map(move |b| block(172, b)).chain((200..=254).flat_map(move |b| block(10, b))).chain(block(192, 168))
}

/// Destinations of the host's routes, the default route excepted (it overlaps everything).
fn routes(table: &str) -> Vec<Subnet> {
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

impl DockerRuntime {
    pub(super) async fn network_ensure(&self, spec: &NetworkSpec) -> Result<()> {
        // Before API 1.44 Docker makes two networks of one name when asked twice at once.
        let _alone = self.networks.lock().await;
        if !self.networks_named(&spec.name).await?.is_empty() {
            return Ok(());
        }
        let taken = self.subnets_taken().await?;
        let what = || format!("create network `{}`", spec.name);
        for subnet in candidates().filter(|s| !taken.iter().any(|t| t.overlaps(*s))) {
            let client = self.connection.client().await?;
            match bounded(client.create_network(request(spec, subnet))).await {
                Ok(made) => return self.keep_oldest(&spec.name, &made.id).await,
                // Somebody took it since, or it overlaps something that is not a route.
                Err(error) if error.to_string().contains("overlaps") => {}
                Err(error) if status(&error) == Some(409) && error.to_string().contains("already exists") => {
                    return Ok(());
                }
                Err(error) => return Err(self.connection.fault(what(), error)),
            }
        }
        Err(RuntimeError::Refused {
            what: what(),
            why: "no private /24 subnet is free beside the host's routes and Docker's networks".into(),
        })
    }

    pub(super) async fn network_remove(&self, name: &str, agent: &str) -> Result<bool> {
        let _alone = self.networks.lock().await;
        for network in self.networks_named(name).await? {
            let owner = network.labels.as_ref().and_then(|labels| labels.get(label::AGENT));
            if owner.is_none_or(|owner| owner != agent) {
                return Ok(false);
            }
            let Some(id) = network.id else { continue };
            // Docker counts only running containers as users; a stopped one could not be started again.
            if self.network_has_containers(&id).await? {
                return Ok(false);
            }
            let client = self.connection.client().await?;
            match bounded(client.remove_network(&id)).await {
                Ok(()) => {}
                Err(error) if status(&error) == Some(404) => {}
                Err(error) if error.to_string().contains("active endpoints") => return Ok(false),
                Err(error) => {
                    return Err(self.connection.fault(format!("remove network `{name}`"), error));
                }
            }
        }
        Ok(true)
    }

    async fn network_has_containers(&self, id: &str) -> Result<bool> {
        let filters = Some(HashMap::from([("network".to_owned(), vec![id.to_owned()])]));
        let options = ListContainersOptions { all: true, filters, ..Default::default() };
        let client = self.connection.client().await?;
        let users = bounded(client.list_containers(Some(options))).await;
        users.map(|u| !u.is_empty()).map_err(|e| self.connection.fault("list containers", e))
    }

    /// Docker's filter matches parts of names; this does not.
    async fn networks_named(&self, name: &str) -> Result<Vec<Network>> {
        let filters = Some(HashMap::from([("name".to_owned(), vec![name.to_owned()])]));
        let mut found = self.networks_listed(Some(ListNetworksOptions { filters })).await?;
        found.retain(|n| n.name.as_deref() == Some(name));
        Ok(found)
    }

    async fn networks_listed(&self, options: Option<ListNetworksOptions>) -> Result<Vec<Network>> {
        let client = self.connection.client().await?;
        bounded(client.list_networks(options)).await.map_err(|e| self.connection.fault("list networks", e))
    }

    async fn subnets_taken(&self) -> Result<Vec<Subnet>> {
        let networks = self.networks_listed(None).await?;
        let configs = networks.into_iter().filter_map(|n| n.ipam?.config).flatten();
        let mut taken: Vec<Subnet> = configs.filter_map(|c| Subnet::parse(c.subnet.as_deref()?)).collect();
        taken.extend(routes(&tokio::fs::read_to_string("/proc/net/route").await.unwrap_or_default()));
        Ok(taken)
    }

    /// Another process may have made one of the same name in the same moment: the older stays.
    async fn keep_oldest(&self, name: &str, ours: &str) -> Result<()> {
        let mut all = self.networks_named(name).await?;
        all.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
        if all.first().is_some_and(|oldest| oldest.id.as_deref() != Some(ours)) {
            let client = self.connection.client().await?;
            bounded(client.remove_network(ours))
                .await
                .map_err(|e| self.connection.fault(format!("remove the second network `{name}`"), e))?;
        }
        Ok(())
    }
}

fn request(spec: &NetworkSpec, subnet: Subnet) -> NetworkCreateRequest {
    let config = IpamConfig {
        subnet: Some(subnet.text()),
        ip_range: Some(subnet.upper_half().text()),
        gateway: Some(Ipv4Addr::from(subnet.base + 1).to_string()),
        ..Default::default()
    };
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".into()),
        ipam: Some(Ipam { driver: Some("default".into()), config: Some(vec![config]), options: None }),
        labels: Some(spec.labels.clone().into_iter().collect()),
        ..Default::default()
    }
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
