//! A project as a compose file: what is written for containers that had none. What this writes, `parse` reads as the same.

mod emit;
mod mounts;
mod secret;

use super::project::{
    Attachment, ContainerSettings, DEFAULT_NETWORK, DeviceRequest, ExposedPort, Isolation, Limits, Namespace,
    NetworkMode, Port, Project, Protocol, Restart, Service,
};
use emit::{Yaml, strings};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub use secret::may_be_secret;

/// A compose file, and the files beside it that hold what may be secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    pub compose: String,
    /// Text by name; the compose file names each as an `env_file`.
    pub secrets: BTreeMap<String, String>,
}

/// `heading`: comment lines for the top. Of the settings under `x-teal` the defaults alone can be written.
pub fn write(project: &Project, heading: &[&str]) -> Written {
    let mut out = Written::default();
    let services = project.services.iter().map(|(name, service)| {
        let (yaml, secrets) = of_service(service);
        out.secrets.extend(secrets.map(|text| (env_file(name), text)));
        (name.clone(), yaml)
    });
    let services = Yaml::Map(services.collect());
    let mut top = Entries::default();
    top.text("name", Some(&project.name));
    top.push("services", services);
    let external =
        |name: &str| Yaml::Map(vec![("external".into(), Yaml::bool(true)), ("name".into(), Yaml::text(name))]);
    let networks = project.networks.iter().filter(|(_, network)| network.external);
    top.map("networks", networks.map(|(key, network)| (key.clone(), external(&network.name))));
    top.map("volumes", project.volumes.iter().map(|(key, volume)| (key.clone(), external(&volume.name))));
    for line in heading {
        out.compose.push_str(&format!("# {line}\n"));
    }
    out.compose.push_str(&Yaml::Map(top.0).document());
    out
}

/// Where the values of a service go that may be secret.
pub fn env_file(service: &str) -> String {
    format!("{service}.env")
}

/// The entries of a map, in the order of the file; what is empty is not written.
#[derive(Default)]
struct Entries(Vec<(String, Yaml)>);

impl Entries {
    fn push(&mut self, key: &str, value: Yaml) {
        self.0.push((key.to_owned(), value));
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.push(key, Yaml::text(value));
        }
    }

    fn number<T: ToString>(&mut self, key: &str, value: Option<T>) {
        if let Some(value) = value {
            self.push(key, Yaml::plain(value));
        }
    }

    fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.push(key, Yaml::bool(true));
        }
    }

    fn list(&mut self, key: &str, values: impl IntoIterator<Item = Yaml>) {
        let values: Vec<Yaml> = values.into_iter().collect();
        if !values.is_empty() {
            self.push(key, Yaml::List(values));
        }
    }

    fn map(&mut self, key: &str, values: impl IntoIterator<Item = (String, Yaml)>) {
        let values: Vec<(String, Yaml)> = values.into_iter().collect();
        if !values.is_empty() {
            self.push(key, Yaml::Map(values));
        }
    }

    fn texts(&mut self, key: &str, values: &BTreeMap<String, String>) {
        self.map(key, values.iter().map(|(name, value)| (name.clone(), Yaml::text(value))));
    }
}

fn of_service(service: &Service) -> (Yaml, Option<String>) {
    let settings = &service.container;
    let mut map = Entries::default();
    map.text("image", Some(&settings.image));
    for (key, words) in [("entrypoint", &settings.entrypoint), ("command", &settings.command)] {
        if let Some(words) = words {
            map.push(key, strings(words));
        }
    }
    let (secret, open): (BTreeMap<_, _>, BTreeMap<_, _>) =
        settings.environment.clone().into_iter().partition(|(name, value)| secret::goes_apart(name, value));
    if !secret.is_empty() {
        map.list("env_file", [Yaml::text(&env_file(&service.name))]);
    }
    map.texts("environment", &open);
    map.list("ports", service.ports.iter().map(port));
    map.list("expose", service.expose.iter().map(exposed));
    mounts::write(settings, &mut map);
    place(service, &mut map);
    map.text("restart", restart(settings.restart).as_deref());
    health(settings, &mut map);
    map.text("user", settings.user.as_deref());
    map.list("group_add", settings.group_add.iter().map(|group| Yaml::text(group)));
    map.text("working_dir", settings.working_dir.as_deref());
    map.text("stop_signal", settings.stop_signal.as_deref());
    if settings.stop_grace_period_ms != ContainerSettings::STOP_GRACE_PERIOD_MS {
        map.push("stop_grace_period", Yaml::plain(time(settings.stop_grace_period_ms)));
    }
    map.flag("read_only", settings.read_only);
    map.number("init", settings.init);
    map.flag("stdin_open", settings.stdin_open);
    map.flag("tty", settings.tty);
    map.text("platform", settings.platform.as_deref());
    map.text("runtime", settings.runtime.as_deref());
    limits(settings, &mut map);
    isolation(&settings.isolation, &mut map);
    devices(settings, &mut map);
    map.texts("labels", &settings.labels);
    map.texts("annotations", &settings.annotations);
    if let Some(logging) = &settings.logging {
        let mut inner = Entries::default();
        inner.text("driver", logging.driver.as_deref());
        inner.texts("options", &logging.options);
        map.push("logging", Yaml::Map(inner.0));
    }
    (Yaml::Map(map.0), (!secret.is_empty()).then(|| secret::file(&secret)))
}

fn protocol(protocol: Protocol) -> &'static str {
    if protocol == Protocol::Udp { "/udp" } else { "" }
}

fn port(port: &Port) -> Yaml {
    let address = match port.host_ip {
        Some(IpAddr::V6(ip)) => format!("[{ip}]:"),
        Some(IpAddr::V4(ip)) => format!("{ip}:"),
        None => String::new(),
    };
    // Always in quotes: YAML 1.1 reads `22:22` as a number.
    Yaml::quoted(&format!("{address}{}:{}{}", port.published, port.target, protocol(port.protocol)))
}

fn exposed(port: &ExposedPort) -> Yaml {
    Yaml::quoted(&format!("{}{}", port.port, protocol(port.protocol)))
}

fn place(service: &Service, map: &mut Entries) {
    map.text(
        "network_mode",
        service
            .network_mode
            .as_ref()
            .map(|mode| match mode {
                NetworkMode::Bridge => "bridge".to_owned(),
                NetworkMode::Host => "host".to_owned(),
                NetworkMode::None => "none".to_owned(),
                NetworkMode::Service(name) => format!("service:{name}"),
                NetworkMode::Container(name) => format!("container:{name}"),
            })
            .as_deref(),
    );
    let plain = |(key, at): (&String, &Attachment)| key == DEFAULT_NETWORK && *at == Attachment::default();
    if !service.networks.iter().all(plain) {
        map.map("networks", service.networks.iter().map(|(key, at)| (key.clone(), attachment(at))));
    }
    map.text("mac_address", service.mac_address.as_deref());
    map.list("external_links", service.external_links.iter().map(|link| Yaml::text(link)));
    let resolver = &service.container.resolver;
    map.text("hostname", resolver.hostname.as_deref());
    map.text("domainname", resolver.domainname.as_deref());
    // `=`, since an address of IPv6 has colons of its own.
    let host = |line: &String| Yaml::quoted(&line.replacen(':', "=", 1));
    map.list("extra_hosts", resolver.extra_hosts.iter().map(host));
    for (key, list) in [("dns", &resolver.dns), ("dns_search", &resolver.dns_search), ("dns_opt", &resolver.dns_opt)] {
        map.list(key, list.iter().map(|text| Yaml::text(text)));
    }
}

fn attachment(at: &Attachment) -> Yaml {
    let mut map = Entries::default();
    map.list("aliases", at.aliases.iter().map(|alias| Yaml::text(alias)));
    map.text("ipv4_address", at.ipv4_address.map(|ip| ip.to_string()).as_deref());
    map.text("ipv6_address", at.ipv6_address.map(|ip| ip.to_string()).as_deref());
    map.number("gw_priority", Some(at.gw_priority).filter(|priority| *priority != 0));
    map.texts("driver_opts", &at.driver_opts);
    Yaml::Map(map.0)
}

fn restart(restart: Restart) -> Option<String> {
    Some(match restart {
        Restart::No => return None,
        Restart::Always => "always".to_owned(),
        Restart::UnlessStopped => "unless-stopped".to_owned(),
        Restart::OnFailure(0) => "on-failure".to_owned(),
        Restart::OnFailure(times) => format!("on-failure:{times}"),
    })
}

/// Whole seconds as such: `1500ms`, `10s`.
fn time(ms: u64) -> String {
    if ms > 0 && ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

fn health(settings: &ContainerSettings, map: &mut Entries) {
    let Some(check) = &settings.healthcheck else { return };
    let mut inner = Entries::default();
    if let Some(test) = &check.test {
        inner.push("test", strings(test));
    }
    for (key, ms) in [
        ("interval", check.interval_ms),
        ("timeout", check.timeout_ms),
        ("start_period", check.start_period_ms),
        ("start_interval", check.start_interval_ms),
    ] {
        inner.number(key, ms.map(time));
    }
    inner.number("retries", check.retries);
    map.push("healthcheck", Yaml::Map(inner.0));
}

fn limits(settings: &ContainerSettings, map: &mut Entries) {
    let Limits {
        mem_reservation_bytes,
        memswap_limit_bytes,
        mem_swappiness,
        pids,
        oom_kill_disable,
        oom_score_adj,
        shm_size_bytes,
        ulimits,
        cpu,
        blkio,
        storage_opt,
    } = &settings.limits;
    map.number("mem_limit", settings.mem_limit_bytes);
    map.number("mem_reservation", *mem_reservation_bytes);
    map.number("memswap_limit", *memswap_limit_bytes);
    map.number("mem_swappiness", *mem_swappiness);
    map.number("shm_size", *shm_size_bytes);
    map.number("cpus", settings.cpus_milli.map(|milli| format!("{}.{:03}", milli / 1000, milli % 1000)));
    map.number("cpu_shares", cpu.shares);
    map.number("cpu_period", cpu.period_us);
    map.number("cpu_quota", cpu.quota_us);
    map.number("cpu_rt_period", cpu.rt_period_us);
    map.number("cpu_rt_runtime", cpu.rt_runtime_us);
    map.push_quoted("cpuset", cpu.set.as_deref());
    map.number("pids_limit", *pids);
    map.flag("oom_kill_disable", *oom_kill_disable);
    map.number("oom_score_adj", *oom_score_adj);
    let both = |soft: i64, hard: i64| vec![("soft".into(), Yaml::plain(soft)), ("hard".into(), Yaml::plain(hard))];
    map.map("ulimits", ulimits.iter().map(|(name, limit)| (name.clone(), Yaml::Map(both(limit.soft, limit.hard)))));
    let mut inner = Entries::default();
    inner.number("weight", blkio.weight);
    let by_device = |word: &str, path: &str, value: u64| {
        Yaml::Map(vec![("path".into(), Yaml::text(path)), (word.to_owned(), Yaml::plain(value))])
    };
    let weights = blkio.weight_device.iter();
    inner.list("weight_device", weights.map(|(path, weight)| by_device("weight", path, u64::from(*weight))));
    for (key, rates) in [
        ("device_read_bps", &blkio.read_bps),
        ("device_write_bps", &blkio.write_bps),
        ("device_read_iops", &blkio.read_iops),
        ("device_write_iops", &blkio.write_iops),
    ] {
        inner.list(key, rates.iter().map(|(path, rate)| by_device("rate", path, *rate)));
    }
    map.map("blkio_config", inner.0);
    map.texts("storage_opt", storage_opt);
}

impl Entries {
    /// What YAML might take for a number.
    fn push_quoted(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.push(key, Yaml::quoted(value));
        }
    }
}

fn isolation(isolation: &Isolation, map: &mut Entries) {
    let word = |namespace: &Namespace| match namespace {
        Namespace::Host => "host".to_owned(),
        Namespace::Private => "private".to_owned(),
        Namespace::Shareable => "shareable".to_owned(),
        Namespace::None => "none".to_owned(),
        Namespace::Service(name) => format!("service:{name}"),
        Namespace::Container(name) => format!("container:{name}"),
    };
    map.flag("privileged", isolation.privileged);
    for (key, list) in
        [("cap_add", &isolation.cap_add), ("cap_drop", &isolation.cap_drop), ("security_opt", &isolation.security_opt)]
    {
        map.list(key, list.iter().map(|text| Yaml::text(text)));
    }
    map.texts("sysctls", &isolation.sysctls);
    for (key, namespace) in [
        ("ipc", &isolation.ipc),
        ("pid", &isolation.pid),
        ("uts", &isolation.uts),
        ("userns_mode", &isolation.userns),
        ("cgroup", &isolation.cgroup),
    ] {
        map.text(key, namespace.as_ref().map(word).as_deref());
    }
    map.text("cgroup_parent", isolation.cgroup_parent.as_deref());
}

fn devices(settings: &ContainerSettings, map: &mut Entries) {
    let devices = &settings.devices;
    let shown = devices.devices.iter().map(|device| {
        let is_path = device.source.starts_with('/');
        let text = if is_path {
            format!("{}:{}:{}", device.source, device.target, device.permissions)
        } else {
            device.source.clone()
        };
        Yaml::text(&text)
    });
    map.list("devices", shown);
    map.list("device_cgroup_rules", devices.cgroup_rules.iter().map(|rule| Yaml::text(rule)));
    if !devices.requests.is_empty() {
        let wrap = |key: &str, value: Yaml| Yaml::Map(vec![(key.to_owned(), value)]);
        let list = Yaml::List(devices.requests.iter().map(request).collect());
        map.push("deploy", wrap("resources", wrap("reservations", wrap("devices", list))));
    }
}

fn request(request: &DeviceRequest) -> Yaml {
    let mut map = Entries::default();
    map.text("driver", request.driver.as_deref());
    map.number("count", request.count.filter(|_| request.device_ids.is_empty()));
    for (key, list) in [("device_ids", &request.device_ids), ("capabilities", &request.capabilities)] {
        map.list(key, list.iter().map(|text| Yaml::text(text)));
    }
    map.texts("options", &request.options);
    Yaml::Map(map.0)
}
