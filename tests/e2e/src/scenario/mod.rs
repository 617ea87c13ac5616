//! The runs by which Teal is judged, each in a length that is asked for: short in tests, long in benches.

pub mod adopt;
pub mod bad_release;
pub mod calls;
pub mod canary;
pub mod crash;
pub mod data;
pub mod dependency;
pub mod flip;
pub mod identity;
pub mod keepalive;
pub mod networks;
pub mod nginx;
pub mod orders;
pub mod overhead;
pub mod project;
pub mod proxy_crash;
pub mod recreate;
pub mod rollback;
pub mod takeover;
pub mod unchanged;

/// The images of the sample programs; `make images` and `make project-images` build them.
pub const IMAGE: &str = "teal-sample:v1";
pub const STORE_IMAGE: &str = "teal-sample:store";
pub const CALLER_IMAGE: &str = "teal-caller:v1";

/// Environment of the sample app that variables of the deployment make go wrong, after its checks have passed.
pub const TROUBLE: &str = "      FAIL: \"${FAIL:-}\"
      HANG: \"${HANG:-}\"
      LEAK_MB_PER_S: \"${LEAK:-}\"
      EXIT_AFTER_MS: \"${CRASH:-}\"
      DEPENDENCY: \"${DEPENDENCY:-}\"";

/// A `web` service of the sample app that calls itself `$VERSION`, so that every version is another release.
pub fn web(replicas: u32, more: &str, environment: &str) -> String {
    format!(
        "services:
  web:
    image: {IMAGE}
    environment:
      VERSION: \"${{VERSION:-0}}\"
      SIGTERM: drain
{environment}
    ports: [\"PORT:8080\"]
    deploy:
      replicas: {replicas}
    x-teal:
      health: {{ path: /health, interval: 50ms }}
      drain: 30s
{more}
"
    )
}
