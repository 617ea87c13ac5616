//! Builds the images of services with `build`, with the docker command of this machine, before anything is deployed.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use teal_model::config::{Build, BuildSecretSource, Project};
use teal_model::fault::{Code, Fault};

/// An image that has to be built.
#[derive(Debug)]
pub struct Wanted<'p> {
    pub service: &'p str,
    pub image: &'p str,
    build: &'p Build,
}

/// The images of the chosen services (none chosen: all) that are not here, or that are built every time.
pub fn wanted<'p>(
    project: &'p Project,
    chosen: &[String],
    all: bool,
    is_here: &dyn Fn(&str) -> bool,
) -> Vec<Wanted<'p>> {
    let mut wanted: Vec<Wanted<'p>> = Vec::new();
    for (name, service) in &project.services {
        let Some(build) = &service.build else { continue };
        let image = service.container.image.as_str();
        let is_chosen = chosen.is_empty() || chosen.contains(name);
        // Two services may share an image: one build makes it.
        if is_chosen && !wanted.iter().any(|other| other.image == image) && (all || build.always || !is_here(image)) {
            wanted.push(Wanted { service: name, image, build });
        }
    }
    wanted
}

/// Whether Docker has the image.
pub fn is_here(image: &str) -> bool {
    let mut inspect = Command::new("docker");
    inspect.args(["image", "inspect", "--format", "{{.Id}}", image]);
    inspect.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    inspect.status().is_ok_and(|status| status.success())
}

/// Builds them one by one. Docker's own output goes to stderr: stdout is for the deployment.
///
/// # Errors
/// [`Code::ImageMissing`] with the service whose build failed, and how.
pub fn make(wanted: &[Wanted<'_>], variables: &BTreeMap<String, String>) -> Result<(), Fault> {
    wanted.iter().try_for_each(|wanted| run(wanted, variables))
}

fn run(wanted: &Wanted<'_>, variables: &BTreeMap<String, String>) -> Result<(), Fault> {
    let failed = |why: String| {
        Fault::new(Code::ImageMissing, format!("the image {} of {} was not built: {why}", wanted.image, wanted.service))
            .hint("see docker's words above; nothing was deployed")
    };
    let mut docker = Command::new("docker");
    docker.args(arguments(wanted.image, wanted.build)).stdout(Stdio::from(std::io::stderr()));
    // Arguments are named on the command line and have their values here, where `ps` does not show them.
    docker.envs(&wanted.build.args);
    for secret in &wanted.build.secrets {
        if let BuildSecretSource::Environment(name) = &secret.from
            && let Some(value) = variables.get(name)
        {
            docker.env(name, value);
        }
    }
    docker.stdin(if wanted.build.dockerfile_inline.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = docker.spawn().map_err(|error| failed(format!("docker cannot be run: {error}")))?;
    if let (Some(text), Some(mut stdin)) = (&wanted.build.dockerfile_inline, child.stdin.take()) {
        // A docker that ends early says why itself.
        let _ = stdin.write_all(text.as_bytes());
    }
    let status = child.wait().map_err(|error| failed(format!("docker was lost: {error}")))?;
    if status.success() { Ok(()) } else { Err(failed(format!("docker build ended with {status}"))) }
}

/// The command line of `docker`.
fn arguments(image: &str, build: &Build) -> Vec<String> {
    let mut out = vec!["build".to_owned(), "--tag".to_owned(), image.to_owned()];
    let mut add = |flag: &str, value: &str| out.extend([flag.to_owned(), value.to_owned()]);
    build.tags.iter().for_each(|tag| add("--tag", tag));
    match (&build.dockerfile_inline, &build.dockerfile) {
        (Some(_), _) => add("--file", "-"),
        // Docker looks from its own folder, Compose from the context.
        (None, Some(file)) if build.context.starts_with('/') => {
            add("--file", &Path::new(&build.context).join(file).display().to_string());
        }
        (None, Some(file)) => add("--file", file),
        (None, None) => {}
    }
    build.args.keys().for_each(|name| add("--build-arg", name));
    build.target.iter().for_each(|target| add("--target", target));
    build.labels.iter().for_each(|(name, value)| add("--label", &format!("{name}={value}")));
    build.platforms.iter().for_each(|platform| add("--platform", platform));
    build.cache_from.iter().for_each(|cache| add("--cache-from", cache));
    build.cache_to.iter().for_each(|cache| add("--cache-to", cache));
    build.network.iter().for_each(|network| add("--network", network));
    build.additional_contexts.iter().for_each(|(name, place)| add("--build-context", &format!("{name}={place}")));
    build.extra_hosts.iter().for_each(|host| add("--add-host", host));
    for secret in &build.secrets {
        let from = match &secret.from {
            BuildSecretSource::File(path) => format!("src={path}"),
            BuildSecretSource::Environment(name) => format!("env={name}"),
        };
        add("--secret", &format!("id={},{from}", secret.id));
    }
    build.ssh.iter().for_each(|key| add("--ssh", key));
    build.shm_size_bytes.iter().for_each(|bytes| add("--shm-size", &bytes.to_string()));
    build.ulimits.iter().for_each(|(name, limit)| add("--ulimit", &format!("{name}={}:{}", limit.soft, limit.hard)));
    build.entitlements.iter().for_each(|entitlement| add("--allow", entitlement));
    build.provenance.iter().for_each(|value| add("--provenance", value));
    build.sbom.iter().for_each(|value| add("--sbom", value));
    for (flag, wanted) in [("--no-cache", build.no_cache), ("--pull", build.pull)] {
        out.extend(wanted.then(|| flag.to_owned()));
    }
    out.push(build.context.clone());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::testing;
    use teal_model::config::{BuildSecret, Ulimit};

    fn text(build: &Build) -> String {
        arguments("shop-web", build).join(" ")
    }

    #[test]
    fn a_build_is_dockers_own_command_line() {
        let plain = Build { context: "/srv/shop".into(), ..Build::default() };
        assert_eq!(text(&plain), "build --tag shop-web /srv/shop");
        let full = Build {
            dockerfile: Some("docker/Dockerfile.prod".into()),
            args: BTreeMap::from([("TOKEN".into(), "hunter2".into())]),
            target: Some("final".into()),
            tags: vec!["shop/web:1".into()],
            platforms: vec!["linux/arm64".into()],
            secrets: vec![
                BuildSecret { id: "npm".into(), from: BuildSecretSource::Environment("NPM_TOKEN".into()) },
                BuildSecret { id: "key".into(), from: BuildSecretSource::File("/srv/shop/key".into()) },
            ],
            ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 1, hard: 2 })]),
            no_cache: true,
            ..plain.clone()
        };
        assert_eq!(
            text(&full),
            "build --tag shop-web --tag shop/web:1 --file /srv/shop/docker/Dockerfile.prod --build-arg TOKEN --target final \
             --platform linux/arm64 --secret id=npm,env=NPM_TOKEN --secret id=key,src=/srv/shop/key --ulimit nofile=1:2 \
             --no-cache /srv/shop"
        );
        let inline = Build { dockerfile_inline: Some("FROM scratch".into()), ..plain };
        assert_eq!(text(&inline), "build --tag shop-web --file - /srv/shop");
    }

    #[test]
    fn what_is_here_is_built_again_only_when_that_is_asked_for() {
        let mut project = testing::project(&["api", "db", "web"]);
        for name in ["api", "web"] {
            project.services.get_mut(name).unwrap().build = Some(Build::default());
        }
        let names = |project: &Project, chosen: &[&str], all: bool, here: &[&str]| {
            let chosen: Vec<String> = chosen.iter().map(|name| (*name).to_owned()).collect();
            let wanted = wanted(project, &chosen, all, &|image| here.contains(&image));
            wanted.iter().map(|wanted| wanted.service.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&project, &[], false, &["api:1"]), ["web"]);
        assert_eq!(names(&project, &[], true, &["api:1", "web:1"]), ["api", "web"]);
        assert_eq!(names(&project, &["api"], true, &[]), ["api"]);
        project.services.get_mut("web").unwrap().build.as_mut().unwrap().always = true;
        assert_eq!(names(&project, &[], false, &["api:1", "web:1"]), ["web"]);
        project.services.get_mut("web").unwrap().container.image = "api:1".to_owned();
        assert_eq!(names(&project, &[], true, &[]), ["api"]);
    }
}
