//! What a container shares with the host and with others, and which devices it gets.

use super::super::{ContainerSpec, Result};
use super::container::{list, map};
use super::version::Speaks;
use bollard::models::{DeviceMapping, DeviceRequest as DockerRequest, HostConfig, HostConfigCgroupnsModeEnum};
use std::collections::HashMap;
use teal_model::config::{Device, DeviceRequest, Namespace};

/// Docker's command line makes two lists of it, and the API does not know it.
const NO_SYSTEM_PATHS: [&str; 2] = ["systempaths=unconfined", "systempaths:unconfined"];
const ALL_PERMISSIONS: &str = "rwm";

pub fn set(host: &mut HostConfig, spec: &ContainerSpec, speaks: &Speaks) -> Result<()> {
    let isolation = &spec.settings.isolation;
    host.privileged = isolation.privileged.then_some(true);
    host.cap_add = list(&isolation.cap_add);
    host.cap_drop = list(&isolation.cap_drop);
    let (open, options): (Vec<String>, Vec<String>) =
        isolation.security_opt.iter().cloned().partition(|option| NO_SYSTEM_PATHS.contains(&option.as_str()));
    host.security_opt = list(&options);
    if !open.is_empty() {
        host.masked_paths = Some(Vec::new());
        host.readonly_paths = Some(Vec::new());
    }
    host.sysctls = map(&isolation.sysctls);
    host.cgroup_parent = isolation.cgroup_parent.clone();
    let word = |key: &str, namespace: &Option<Namespace>, knows: &[Namespace]| {
        namespace.as_ref().map(|namespace| namespace_word(key, namespace, knows, spec, speaks)).transpose()
    };
    host.ipc_mode =
        word("ipc", &isolation.ipc, &[Namespace::Host, Namespace::Private, Namespace::Shareable, Namespace::None])?;
    host.pid_mode = word("pid", &isolation.pid, &[Namespace::Host])?;
    host.uts_mode = word("uts", &isolation.uts, &[Namespace::Host])?;
    host.userns_mode = word("userns_mode", &isolation.userns, &[Namespace::Host])?;
    host.cgroupns_mode = match &isolation.cgroup {
        None => None,
        Some(Namespace::Host) => Some(HostConfigCgroupnsModeEnum::HOST),
        Some(Namespace::Private) => Some(HostConfigCgroupnsModeEnum::PRIVATE),
        Some(_) => return Err(speaks.refused("`cgroup` is `host` or `private`")),
    };
    devices(host, spec, speaks)
}

fn namespace_word(
    key: &str,
    namespace: &Namespace,
    knows: &[Namespace],
    spec: &ContainerSpec,
    speaks: &Speaks,
) -> Result<String> {
    let joins = matches!(key, "ipc" | "pid");
    match namespace {
        Namespace::Service(service) if joins => match spec.joins.get(service) {
            Some(id) => Ok(format!("container:{id}")),
            None => Err(speaks.refused(format!("`{key}: service:{service}`: no container of it runs"))),
        },
        Namespace::Container(container) if joins => Ok(format!("container:{container}")),
        known if knows.contains(known) => Ok(match known {
            Namespace::Host => "host",
            Namespace::Private => "private",
            Namespace::Shareable => "shareable",
            _ => "none",
        }
        .to_owned()),
        _ => Err(speaks.refused(format!("`{key}` has a value that Docker does not know"))),
    }
}

fn devices(host: &mut HostConfig, spec: &ContainerSpec, speaks: &Speaks) -> Result<()> {
    let devices = &spec.settings.devices;
    // A CDI name is `vendor.com/class=name`, never a path.
    let (paths, named): (Vec<&Device>, Vec<&Device>) =
        devices.devices.iter().partition(|device| device.source.starts_with('/'));
    if !named.is_empty() {
        speaks.needs("devices (by CDI name)", "25.0", 44)?;
    }
    let mapped = paths.into_iter().map(|device| DeviceMapping {
        path_on_host: Some(device.source.clone()),
        path_in_container: Some(or(&device.target, &device.source)),
        cgroup_permissions: Some(or(&device.permissions, ALL_PERMISSIONS)),
    });
    let mapped: Vec<DeviceMapping> = mapped.collect();
    host.devices = (!mapped.is_empty()).then_some(mapped);
    host.device_cgroup_rules = list(&devices.cgroup_rules);
    let mut requests: Vec<DockerRequest> = devices.requests.iter().map(request).collect();
    if !named.is_empty() {
        requests.push(DockerRequest {
            driver: Some("cdi".into()),
            device_ids: Some(named.into_iter().map(|device| device.source.clone()).collect()),
            ..Default::default()
        });
    }
    host.device_requests = (!requests.is_empty()).then_some(requests);
    Ok(())
}

fn or(written: &str, other: &str) -> String {
    if written.is_empty() { other.to_owned() } else { written.to_owned() }
}

fn request(request: &DeviceRequest) -> DockerRequest {
    // As Compose: neither count nor ids is all of them.
    let count = request.count.or(request.device_ids.is_empty().then_some(-1));
    DockerRequest {
        driver: request.driver.clone(),
        count,
        device_ids: list(&request.device_ids),
        capabilities: Some(vec![request.capabilities.clone()]),
        options: Some(request.options.clone().into_iter().collect::<HashMap<_, _>>()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bollard::ClientVersion;

    fn speaks(minor: usize) -> Speaks {
        Speaks::new(ClientVersion { major_version: 1, minor_version: minor }, "create container `a`")
    }

    fn made(spec: &ContainerSpec, minor: usize) -> Result<HostConfig> {
        let mut host = HostConfig::default();
        set(&mut host, spec, &speaks(minor)).map(|()| host)
    }

    #[test]
    fn a_service_s_namespace_is_that_of_its_container() {
        let mut spec = ContainerSpec::default();
        spec.settings.isolation.ipc = Some(Namespace::Service("db".into()));
        spec.settings.isolation.pid = Some(Namespace::Container("agent".into()));
        let text = made(&spec, 41).unwrap_err().to_string();
        assert!(text.contains("ipc: service:db"), "{text}");
        spec.joins.insert("db".into(), "abc".into());
        let host = made(&spec, 41).unwrap();
        assert_eq!(
            (host.ipc_mode.as_deref(), host.pid_mode.as_deref()),
            (Some("container:abc"), Some("container:agent"))
        );
        spec.settings.isolation.uts = Some(Namespace::Private);
        assert!(made(&spec, 41).unwrap_err().to_string().contains("`uts`"));
    }

    #[test]
    fn system_paths_are_opened_by_two_empty_lists() {
        let mut spec = ContainerSpec::default();
        spec.settings.isolation.security_opt = vec!["systempaths=unconfined".into(), "label:disable".into()];
        let host = made(&spec, 41).unwrap();
        assert_eq!(
            (host.security_opt.unwrap(), host.masked_paths, host.readonly_paths),
            (vec!["label:disable".to_owned()], Some(vec![]), Some(vec![]))
        );
    }

    #[test]
    fn a_device_is_a_path_or_a_name_and_gpus_are_requests() {
        let mut spec = ContainerSpec::default();
        let device = |source: &str| Device { source: source.into(), ..Default::default() };
        spec.settings.devices.devices = vec![device("/dev/null"), device("nvidia.com/gpu=0")];
        let gpus = DeviceRequest { capabilities: vec!["gpu".into()], ..Default::default() };
        spec.settings.devices.requests = vec![gpus];
        assert!(made(&spec, 43).unwrap_err().to_string().contains("CDI"));
        let host = made(&spec, 44).unwrap();
        let paths = host.devices.unwrap();
        assert_eq!(
            (paths[0].path_in_container.as_deref(), paths[0].cgroup_permissions.as_deref()),
            (Some("/dev/null"), Some("rwm"))
        );
        let requests = host.device_requests.unwrap();
        assert_eq!(
            (requests[0].count, requests[0].capabilities.clone().unwrap()),
            (Some(-1), vec![vec!["gpu".to_owned()]])
        );
        assert_eq!((requests[1].driver.as_deref(), requests[1].count), (Some("cdi"), None));
    }
}
