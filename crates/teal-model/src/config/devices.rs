//! Devices of the host: by their path, and by a driver (GPUs).

use super::keys;
use super::project::{Device, DeviceRequest, Devices};
use super::read::{Item, MapReader};

pub(super) fn read(map: &MapReader<'_>, reserved: Vec<DeviceRequest>) -> Devices {
    let devices = map.take("devices").and_then(|list| list.list()).unwrap_or_default();
    let mut requests = reserved;
    requests.extend(map.take("gpus").map(|gpus| read_gpus(&gpus)).unwrap_or_default());
    Devices {
        devices: devices.iter().filter_map(read_device).collect(),
        cgroup_rules: map.take("device_cgroup_rules").and_then(|list| read_rules(&list)).unwrap_or_default(),
        requests,
    }
}

fn read_device(item: &Item<'_>) -> Option<Device> {
    let device = if item.is_map() {
        let map = item.map(&keys::DEVICE)?;
        let source = map.take("source");
        let target = map.take("target").and_then(|v| v.word());
        let permissions = map.take("permissions");
        map.finish();
        if source.is_none() {
            item.problem("`source` is missing", "Give the device on the host: `source: /dev/ttyUSB0`.");
        }
        let source = source?.word()?;
        let permissions = match permissions {
            Some(item) => item.parsed(read_permissions, "permissions", "Write some of the letters `rwm`.")?,
            None => "rwm".to_owned(),
        };
        Device { source: source.to_owned(), target: target.unwrap_or(source).to_owned(), permissions }
    } else {
        const SHAPE: &str = "Write `/dev/ttyUSB0`, `/dev/ttyUSB0:/dev/tty1:rw` or `vendor.com/class=name`.";
        let read = |text: &str| {
            let parts: Vec<&str> = text.split(':').collect();
            let source = (*parts.first()?).to_owned();
            let (target, permissions) = match parts[1..] {
                [] => (source.clone(), "rwm".to_owned()),
                [second] => match read_permissions(second) {
                    Some(permissions) => (source.clone(), permissions),
                    None => (second.to_owned(), "rwm".to_owned()),
                },
                [target, permissions] => (target.to_owned(), read_permissions(permissions)?),
                _ => return None,
            };
            Some(Device { source, target, permissions })
        };
        item.word()?;
        item.parsed(read, "a device", SHAPE)?
    };
    let is_cdi = device.source.contains('=') && !device.source.starts_with('/');
    let is_path = device.source.starts_with('/') && device.target.starts_with('/');
    if !is_cdi && !is_path {
        item.problem("the path of a device is absolute", "Start it with `/dev/`.");
        return None;
    }
    Some(device)
}

fn read_permissions(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= 3 && text.chars().all(|c| "rwm".contains(c));
    fits.then(|| text.to_owned())
}

/// `c 1:3 mr`, as the kernel's device cgroup takes them.
fn read_rules(item: &Item<'_>) -> Option<Vec<String>> {
    let fits = |text: &str| {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let number = |text: &str| text == "*" || (!text.is_empty() && text.chars().all(|c| c.is_ascii_digit()));
        let [kind, numbers, permissions] = parts[..] else { return None };
        let (major, minor) = numbers.split_once(':')?;
        let known = matches!(kind, "a" | "b" | "c") && number(major) && number(minor);
        (known && read_permissions(permissions).is_some()).then(|| text.to_owned())
    };
    Some(item.list()?.iter().filter_map(|item| item.parsed(fits, "a device rule", "Write `c 1:3 mr`.")).collect())
}

fn read_gpus(item: &Item<'_>) -> Vec<DeviceRequest> {
    if item.is_list() {
        return read_requests(item, &["gpu"]);
    }
    if item.text().is_some() {
        item.choice(&[("all", ())]);
    }
    vec![DeviceRequest { count: Some(-1), capabilities: vec!["gpu".to_owned()], ..DeviceRequest::default() }]
}

/// `implied` are capabilities that need not be written.
pub(super) fn read_requests(item: &Item<'_>, implied: &[&str]) -> Vec<DeviceRequest> {
    item.list().unwrap_or_default().iter().filter_map(|item| read_request(item, implied)).collect()
}

fn read_request(item: &Item<'_>, implied: &[&str]) -> Option<DeviceRequest> {
    let map = item.map(&keys::DEVICE_REQUEST)?;
    let count = map.take("count");
    let device_ids = map.take("device_ids").and_then(|v| v.words()).unwrap_or_default();
    let mut capabilities = map.take("capabilities").and_then(|v| v.words()).unwrap_or_default();
    let driver = map.take("driver").and_then(|v| v.word()).map(str::to_owned);
    let options = map.take("options").and_then(|v| v.string_map()).unwrap_or_default();
    map.finish();
    for word in implied {
        if !capabilities.iter().any(|known| known == word) {
            capabilities.insert(0, (*word).to_owned());
        }
    }
    if capabilities.is_empty() && driver.is_none() {
        item.problem(
            "neither `capabilities` nor `driver`",
            "Write what the device must be able to do: `capabilities: [gpu]`.",
        );
    }
    let count = match &count {
        Some(count) if !device_ids.is_empty() => {
            count.problem("`count` beside `device_ids`", "Keep one of the two.");
            None
        }
        Some(count) if count.text() == Some("all") => Some(-1),
        Some(count) => count.signed(-1..=1_000),
        None => device_ids.is_empty().then_some(-1),
    };
    Some(DeviceRequest { driver, count, device_ids, capabilities, options })
}
