//! Networks: what the file says, else a bridge with a subnet that nothing else on the host uses.

use super::super::{NetworkFacts, NetworkSpec, Result, RuntimeError, label};
use super::DockerRuntime;
use super::connection::{bounded, status};
use super::lifecycle::plain;
use super::subnet::{Subnet, candidates, routes};
use super::version::Speaks;
use bollard::models::{ContainerSummary, Ipam, IpamConfig, Network, NetworkCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListContainersOptions, ListNetworksOptions};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use teal_model::config::IpamPool;

const BRIDGE: &str = "bridge";

impl DockerRuntime {
    pub(super) async fn network_ensure(&self, spec: &NetworkSpec) -> Result<NetworkFacts> {
        // Before API 1.44 Docker makes two networks of one name when asked twice at once.
        let _alone = self.networks.lock().await;
        let there = |found: Vec<Network>| found.into_iter().next().map(|network| facts(spec, network));
        if let Some(facts) = there(self.networks_named(&spec.name).await?) {
            return Ok(facts);
        }
        let gone = || RuntimeError::NotFound { kind: "network", name: spec.name.clone() };
        if spec.settings.external {
            return Err(gone());
        }
        self.network_make(spec).await?;
        there(self.networks_named(&spec.name).await?).ok_or_else(gone)
    }

    async fn network_make(&self, spec: &NetworkSpec) -> Result<()> {
        let what = || format!("create network `{}`", spec.name);
        let client = self.connection.client().await?;
        if spec.settings.enable_ipv4 == Some(false) {
            Speaks::new(client.client_version(), what()).needs("enable_ipv4", "28.0", 48)?;
        }
        if !needs_subnet(spec) {
            return match bounded(client.create_network(request(spec, None))).await {
                Ok(made) => self.keep_oldest(&spec.name, &made.id).await,
                Err(error) if already_there(&error) => Ok(()),
                Err(error) => Err(self.connection.fault(what(), error)),
            };
        }
        let taken = self.subnets_taken().await?;
        for subnet in candidates().filter(|s| !taken.iter().any(|t| t.overlaps(*s))) {
            match bounded(client.create_network(request(spec, Some(subnet)))).await {
                Ok(made) => return self.keep_oldest(&spec.name, &made.id).await,
                // Somebody took it since, or it overlaps something that is not a route.
                Err(error) if error.to_string().contains("overlaps") => {}
                Err(error) if already_there(&error) => return Ok(()),
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
            if !self.network_containers(&id).await?.is_empty() {
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

    /// Docker's own list of addresses has only containers that run; a fixed address is taken also while its container does not.
    pub(super) async fn network_taken(&self, name: &str) -> Result<BTreeMap<IpAddr, String>> {
        let gone = || RuntimeError::NotFound { kind: "network", name: name.to_owned() };
        let network = self.networks_named(name).await?.into_iter().next().ok_or_else(gone)?;
        let id = network.id.clone().unwrap_or_default();
        let mut taken = BTreeMap::new();
        for pool in network.ipam.and_then(|ipam| ipam.config).into_iter().flatten() {
            taken.extend(pool.gateway.and_then(|text| Some((address(&text)?, "gateway".to_owned()))));
            let others = pool.auxiliary_addresses.into_iter().flatten();
            taken.extend(others.filter_map(|(what, text)| Some((address(&text)?, what))));
        }
        for container in self.network_containers(&id).await? {
            let who = container.names.iter().flatten().next();
            let who = who.map(|name| name.trim_start_matches('/').to_owned()).unwrap_or_default();
            let endpoints = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
            for (_, endpoint) in endpoints.into_iter().filter(|(called, _)| called == name) {
                let asked = endpoint.ipam_config.unwrap_or_default();
                let has = [endpoint.ip_address, endpoint.global_ipv6_address, asked.ipv4_address, asked.ipv6_address];
                taken.extend(has.iter().flatten().filter_map(|text| Some((address(text)?, who.clone()))));
            }
        }
        // Containers of other hosts, on networks that span hosts.
        let client = self.connection.client().await?;
        match bounded(client.inspect_network(plain(&id)?, None::<InspectNetworkOptions>)).await {
            Ok(seen) => {
                for endpoint in seen.containers.unwrap_or_default().into_values() {
                    let has = [endpoint.ipv4_address, endpoint.ipv6_address];
                    for found in has.iter().flatten().filter_map(|text| address(text)) {
                        taken.entry(found).or_insert_with(|| endpoint.name.clone().unwrap_or_default());
                    }
                }
                Ok(taken)
            }
            Err(error) => Err(self.connection.fault(format!("inspect network `{name}`"), error)),
        }
    }

    /// Running or not.
    async fn network_containers(&self, id: &str) -> Result<Vec<ContainerSummary>> {
        let filters = Some(HashMap::from([("network".to_owned(), vec![id.to_owned()])]));
        let options = ListContainersOptions { all: true, filters, ..Default::default() };
        let client = self.connection.client().await?;
        bounded(client.list_containers(Some(options))).await.map_err(|e| self.connection.fault("list containers", e))
    }

    pub(super) async fn networks_labelled(&self, labels: &[(&str, &str)]) -> Result<Vec<String>> {
        let wanted = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let filters = Some(HashMap::from([("label".to_owned(), wanted)]));
        let found = self.networks_listed(Some(ListNetworksOptions { filters })).await?;
        let mut names: Vec<String> = found.into_iter().filter_map(|network| network.name).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Docker's filter matches parts of names; this does not.
    async fn networks_named(&self, name: &str) -> Result<Vec<Network>> {
        let filters = Some(HashMap::from([("name".to_owned(), vec![name.to_owned()])]));
        let mut found = self.networks_listed(Some(ListNetworksOptions { filters })).await?;
        found.retain(|n| n.name.as_deref() == Some(name));
        found.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
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
        let all = self.networks_named(name).await?;
        if all.first().is_some_and(|oldest| oldest.id.as_deref() != Some(ours)) {
            let client = self.connection.client().await?;
            bounded(client.remove_network(ours))
                .await
                .map_err(|e| self.connection.fault(format!("remove the second network `{name}`"), e))?;
        }
        Ok(())
    }
}

fn already_there(error: &bollard::errors::Error) -> bool {
    status(error) == Some(409) && error.to_string().contains("already exists")
}

/// Docker writes addresses with and without the length of their prefix.
fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

fn driver(spec: &NetworkSpec) -> &str {
    spec.settings.driver.as_deref().unwrap_or(BRIDGE)
}

fn is_ipv4(pool: &IpamPool) -> bool {
    pool.subnet.as_deref().is_some_and(|subnet| !subnet.contains(':'))
}

fn has_subnet(spec: &NetworkSpec) -> bool {
    spec.settings.ipam.as_ref().is_some_and(|ipam| ipam.config.iter().any(is_ipv4))
}

/// A bridge for which no IPv4 subnet is written, and whose addresses Docker's own IPAM hands out.
fn needs_subnet(spec: &NetworkSpec) -> bool {
    let ipam = spec.settings.ipam.as_ref();
    // A pool without a subnet would need one that fits: Docker says what is wrong with it.
    let pools = ipam.is_some_and(|ipam| ipam.config.iter().any(|pool| pool.subnet.is_none()));
    let own_ipam = ipam.and_then(|ipam| ipam.driver.as_deref()).is_none_or(|driver| driver == "default");
    driver(spec) == BRIDGE && own_ipam && !has_subnet(spec) && !pools && spec.settings.enable_ipv4 != Some(false)
}

fn request(spec: &NetworkSpec, chosen: Option<Subnet>) -> NetworkCreateRequest {
    let s = &spec.settings;
    let pool = |pool: &IpamPool| IpamConfig {
        subnet: pool.subnet.clone(),
        ip_range: pool.ip_range.clone(),
        gateway: pool.gateway.map(|gateway| gateway.to_string()),
        auxiliary_addresses: (!pool.aux_addresses.is_empty())
            .then(|| pool.aux_addresses.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect()),
    };
    let own = chosen.map(|subnet| IpamConfig {
        subnet: Some(subnet.text()),
        ip_range: Some(subnet.upper_half().text()),
        gateway: Some(subnet.first_host().to_string()),
        ..Default::default()
    });
    let written = s.ipam.clone().unwrap_or_default();
    let config: Vec<IpamConfig> = own.into_iter().chain(written.config.iter().map(pool)).collect();
    let ipam = Ipam {
        driver: Some(written.driver.unwrap_or_else(|| "default".into())),
        config: (!config.is_empty()).then_some(config),
        options: (!written.options.is_empty()).then(|| written.options.into_iter().collect()),
    };
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some(driver(spec).to_owned()),
        internal: s.internal.then_some(true),
        attachable: s.attachable.then_some(true),
        enable_ipv4: s.enable_ipv4,
        enable_ipv6: s.enable_ipv6,
        ipam: Some(ipam),
        options: (!s.driver_opts.is_empty()).then(|| s.driver_opts.clone().into_iter().collect()),
        labels: Some(s.labels.iter().chain(&spec.labels).map(|(k, v)| (k.clone(), v.clone())).collect()),
        ..Default::default()
    }
}

fn facts(spec: &NetworkSpec, network: Network) -> NetworkFacts {
    let owner = network.labels.as_ref().and_then(|labels| labels.get(label::AGENT));
    let ours = owner.is_some() && owner == spec.labels.get(label::AGENT);
    let pools = network.ipam.as_ref().and_then(|ipam| ipam.config.as_deref()).unwrap_or_default();
    let subnet_of = |pool: &IpamConfig| pool.subnet.as_deref().and_then(Subnet::parse);
    let pool = pools.iter().find(|pool| subnet_of(pool).is_some());
    let range = pool.and_then(|pool| pool.ip_range.as_deref()).and_then(Subnet::parse);
    let gateway = pool.and_then(|pool| pool.gateway.as_deref()).and_then(address);
    let subnet = pool.and_then(subnet_of);
    let of_teal = ours && (network.driver.as_deref() == Some(BRIDGE) || has_subnet(spec));
    NetworkFacts {
        ours,
        subnet: subnet.map(|subnet| (subnet.address(), subnet.bits)),
        ip_range: range.map(|range| (range.address(), range.bits)),
        gateway: gateway.and_then(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }),
        configured_subnet: subnet.is_some() && (of_teal || range.is_some()),
        differs: if spec.settings.external { Vec::new() } else { differs(spec, &network) },
    }
}

/// Only what is written is compared: the rest is the daemon's to choose.
fn differs(spec: &NetworkSpec, network: &Network) -> Vec<String> {
    let s = &spec.settings;
    let options = network.options.clone().unwrap_or_default();
    let pools = network.ipam.as_ref().and_then(|ipam| ipam.config.as_deref()).unwrap_or_default();
    let written = s.ipam.iter().flat_map(|ipam| &ipam.config).filter(|pool| pool.subnet.is_some());
    let has_pool = |pool: &IpamPool| {
        pools.iter().any(|there| {
            let same = |written: &Option<String>, there: &Option<String>| written.is_none() || written == there;
            same(&pool.subnet, &there.subnet)
                && same(&pool.ip_range, &there.ip_range)
                && same(&pool.gateway.map(|ip| ip.to_string()), &there.gateway)
        })
    };
    let checks = [
        ("driver", s.driver.is_some() && s.driver != network.driver),
        ("driver_opts", s.driver_opts.iter().any(|(key, value)| options.get(key) != Some(value))),
        ("internal", s.internal != network.internal.unwrap_or(false)),
        ("attachable", s.attachable && network.attachable == Some(false)),
        ("enable_ipv4", s.enable_ipv4.is_some_and(|wanted| wanted != network.enable_ipv4.unwrap_or(true))),
        ("enable_ipv6", s.enable_ipv6.is_some_and(|wanted| wanted != network.enable_ipv6.unwrap_or(false))),
        ("ipam", !written.into_iter().all(has_pool)),
    ];
    checks.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use teal_model::config::{Ipam as WrittenIpam, Network as Settings};

    fn spec(settings: Settings) -> NetworkSpec {
        NetworkSpec { name: "shop_default".into(), settings, ..Default::default() }
    }

    fn pool(subnet: &str) -> IpamPool {
        IpamPool { subnet: Some(subnet.into()), ..Default::default() }
    }

    #[test]
    fn only_a_bridge_without_a_written_subnet_gets_one() {
        let ipam = |config| Some(WrittenIpam { config, ..Default::default() });
        assert!(needs_subnet(&spec(Settings::default())));
        assert!(needs_subnet(&spec(Settings { ipam: ipam(vec![pool("fd00:1::/64")]), ..Default::default() })));
        assert!(!needs_subnet(&spec(Settings { ipam: ipam(vec![pool("10.1.0.0/24")]), ..Default::default() })));
        assert!(!needs_subnet(&spec(Settings { driver: Some("macvlan".into()), ..Default::default() })));
        assert!(!needs_subnet(&spec(Settings { enable_ipv4: Some(false), ..Default::default() })));
    }

    #[test]
    fn a_chosen_subnet_stands_beside_written_ones() {
        let ipam = WrittenIpam { config: vec![pool("fd00:1::/64")], ..Default::default() };
        let body = request(
            &spec(Settings { ipam: Some(ipam), enable_ipv6: Some(true), ..Default::default() }),
            Subnet::parse("172.20.3.0/24"),
        );
        let pools = body.ipam.unwrap().config.unwrap();
        let subnets: Vec<&str> = pools.iter().filter_map(|pool| pool.subnet.as_deref()).collect();
        assert_eq!((subnets, body.enable_ipv6), (vec!["172.20.3.0/24", "fd00:1::/64"], Some(true)));
        assert_eq!(pools[0].ip_range.as_deref(), Some("172.20.3.128/25"));
        assert_eq!(pools[0].gateway.as_deref(), Some("172.20.3.1"));
    }

    #[test]
    fn addresses_are_read_with_and_without_their_prefix() {
        assert_eq!(address("172.20.3.1/24"), Some(IpAddr::V4(Ipv4Addr::new(172, 20, 3, 1))));
        assert_eq!(address("fd00::1"), Some(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))));
        assert_eq!(address(""), None);
    }

    #[test]
    fn what_an_existing_network_has_otherwise_is_named() {
        let wanted = spec(Settings { internal: true, driver: Some("bridge".into()), ..Default::default() });
        let there = Network { driver: Some("macvlan".into()), ..Default::default() };
        assert_eq!(facts(&wanted, there).differs, ["driver", "internal"]);
    }
}
