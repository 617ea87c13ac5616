//! New connections to a port that Docker publishes, led to a listener of ours: rules of the kernel's NAT (iptables).
//!
//! ```text
//! new connection to :80 ─▶ nat PREROUTING / OUTPUT: ours, first ─▶ :41234, the proxy
//!                                              │ else
//!                                              └▶ Docker's DNAT, or docker-proxy ─▶ the container
//! open connection ─▶ conntrack ─▶ as it began
//! ```
//!
//! NAT is asked for the first packet of a connection only, so a rule that comes or goes cuts none. Each rule says in its
//! comment whose it is and what it is for: whatever is there is compared with what is meant, so that it can be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use teal_model::fault::{Code, Fault};
use teal_model::wire::ListenerKey;
use tokio::sync::Mutex;

const TOOLS: [&str; 2] = ["iptables", "ip6tables"];
/// Seconds that the tool waits for another one's lock.
const PATIENCE: &str = "10";

pub struct Firewall {
    /// `teal:AGENT:`, with which the comments of this agent's rules begin.
    mark: String,
    changing: Mutex<()>,
}

/// A rule of ours, by where it is and what it says of itself.
type Mine = (&'static str, &'static str, String);

impl Firewall {
    pub fn new(agent: &str) -> Self {
        Self { mark: format!("teal:{agent}:"), changing: Mutex::new(()) }
    }

    /// Docker's own rule must be seen: a host may have two sets of rules, and the first one that is asked decides.
    pub async fn cannot(&self, listeners: &BTreeSet<ListenerKey>) -> Option<String> {
        let docker = match run(TOOLS[0], ["-t", "nat", "-S", "DOCKER"].map(str::to_owned).to_vec()).await {
            Ok(rules) => rules,
            Err(why) => return Some(why),
        };
        for listener in listeners.iter().filter_map(ListenerKey::tcp).filter(SocketAddr::is_ipv4) {
            let port = listener.port().to_string();
            let words = |rule: &str| rule.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            if !docker.lines().any(|rule| words(rule).windows(2).any(|pair| pair[0] == "--dport" && pair[1] == port)) {
                return Some(format!("Docker has no rule for port {port} in `iptables -t nat`"));
            }
        }
        match listeners.iter().filter_map(ListenerKey::tcp).any(|addr| addr.is_ipv6()) && has_ipv6() {
            true => run(TOOLS[1], ["-t", "nat", "-S"].map(str::to_owned).to_vec()).await.err(),
            false => None,
        }
    }

    pub async fn ensure(&self, diversions: &BTreeMap<ListenerKey, ListenerKey>) -> Result<(), Fault> {
        let _changing = self.changing.lock().await;
        let refused = |why: String| Fault::new(Code::PortInUse, format!("a firewall rule cannot be set: {why}"));
        let wanted: Vec<(Mine, Vec<String>)> = diversions
            .iter()
            .filter_map(|(from, to)| Some((from.tcp()?, to.tcp()?)))
            .filter(|(from, _)| from.is_ipv4() || has_ipv6())
            .flat_map(|(from, to)| self.rules(from, to))
            .collect();
        let mut there: BTreeSet<Mine> = BTreeSet::new();
        for tool in TOOLS {
            for table in ["nat", "filter"] {
                let listed = run(tool, ["-t", table, "-S"].map(str::to_owned).to_vec()).await;
                let rules = match listed {
                    Ok(rules) => rules,
                    // Where nothing can be set, nothing of ours is left either.
                    Err(_) if !wanted.iter().any(|((of, ..), _)| *of == tool) => continue,
                    Err(why) => return Err(refused(why)),
                };
                for rule in rules.lines() {
                    let Some((arguments, comment)) = self.of_ours(rule) else { continue };
                    let chain = arguments.get(1).cloned().unwrap_or_default();
                    let found = (tool, table, format!("{chain} {comment}"));
                    let meant = wanted.iter().any(|(mine, _)| *mine == found);
                    // A rule that is there twice (a crash of two agents) stays once.
                    if !meant || !there.insert(found) {
                        let mut delete = vec!["-t".to_owned(), table.to_owned(), "-D".to_owned()];
                        delete.extend(arguments.into_iter().skip(1));
                        run(tool, delete).await.map_err(refused)?;
                    }
                }
            }
        }
        for ((tool, table, place), rule) in wanted {
            if !there.contains(&(tool, table, place.clone())) {
                run(tool, rule).await.map_err(refused)?;
            }
        }
        Ok(())
    }

    /// First the door for what is led there, then what leads there.
    fn rules(&self, from: SocketAddr, to: SocketAddr) -> Vec<(Mine, Vec<String>)> {
        let tool = if from.is_ipv4() { TOOLS[0] } else { TOOLS[1] };
        let comment = format!("{}{from}>{}", self.mark, to.port());
        let rule = |table: &'static str, chain: &str, words: Vec<String>| {
            let mut arguments: Vec<String> =
                ["-t", table, "-I", chain, "1", "-p", "tcp"].iter().map(|word| (*word).to_owned()).collect();
            arguments.extend(words);
            arguments.extend(["-m".to_owned(), "comment".to_owned(), "--comment".to_owned(), comment.clone()]);
            // The target comes last, whatever it is.
            let target = match table {
                "filter" => vec!["-j".to_owned(), "ACCEPT".to_owned()],
                _ if from.ip().is_unspecified() => {
                    ["-j", "REDIRECT", "--to-ports", &to.port().to_string()].map(str::to_owned).to_vec()
                }
                _ => {
                    let destination = SocketAddr::new(from.ip(), to.port()).to_string();
                    ["-j", "DNAT", "--to-destination", &destination].map(str::to_owned).to_vec()
                }
            };
            arguments.extend(target);
            ((tool, table, format!("{chain} {comment}")), arguments)
        };
        let port = from.port().to_string();
        let address = match from.ip().is_unspecified() {
            true => ["-m", "addrtype", "--dst-type", "LOCAL"].map(str::to_owned).to_vec(),
            false => vec!["-d".to_owned(), from.ip().to_string()],
        };
        let led = |chain| {
            let mut words = vec!["--dport".to_owned(), port.clone()];
            words.extend(address.clone());
            rule("nat", chain, words)
        };
        // Docker's ports go past the host's own filter, so what is led away from one does, too.
        let let_in = ["--dport", &to.port().to_string(), "-m", "conntrack", "--ctstate", "DNAT"].map(str::to_owned);
        vec![rule("filter", "INPUT", let_in.to_vec()), led("PREROUTING"), led("OUTPUT")]
    }

    /// The arguments of a listed rule (`-A CHAIN ...`) and its comment, if it is ours.
    fn of_ours(&self, rule: &str) -> Option<(Vec<String>, String)> {
        // The comment is the only word that may be in quotes, and ours have no blank.
        let words: Vec<String> = rule.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect();
        let at = words.iter().position(|word| word == "--comment")?;
        let comment = words.get(at + 1).filter(|comment| comment.starts_with(&self.mark))?.clone();
        (words.first().map(String::as_str) == Some("-A")).then_some((words, comment))
    }
}

/// The standard output. Err: what went wrong, in one line.
async fn run(tool: &'static str, arguments: Vec<String>) -> Result<String, String> {
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new(tool);
        command.args(["-w", PATIENCE]).args(arguments).stdin(std::process::Stdio::null());
        match command.output() {
            Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
                Err(format!("{tool}: {}", first.trim()))
            }
            Err(error) => Err(format!("{tool} cannot be run: {error}")),
        }
    });
    ran.await.unwrap_or_else(|error| Err(format!("{tool}: {error}")))
}

fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rules(from: &str, to: &str) -> Vec<String> {
        let rules = Firewall::new("a1").rules(from.parse().unwrap(), to.parse().unwrap());
        rules.into_iter().map(|((tool, ..), words)| format!("{tool} {}", words.join(" "))).collect()
    }

    #[test]
    fn a_port_on_every_address_is_led_away_only_where_it_is_this_hosts_own() {
        let rules = rules("0.0.0.0:80", "0.0.0.0:41000");
        assert_eq!(rules.len(), 3);
        assert_eq!(
            rules[1],
            "iptables -t nat -I PREROUTING 1 -p tcp --dport 80 -m addrtype --dst-type LOCAL -m comment --comment \
             teal:a1:0.0.0.0:80>41000 -j REDIRECT --to-ports 41000"
        );
        assert!(rules[0].contains("-I INPUT 1 -p tcp --dport 41000 -m conntrack --ctstate DNAT"), "{}", rules[0]);
    }

    #[test]
    fn a_port_on_one_address_stays_on_it() {
        let rules = rules("[::1]:80", "[::1]:41000");
        assert!(rules[2].starts_with("ip6tables -t nat -I OUTPUT 1 -p tcp --dport 80 -d ::1"), "{}", rules[2]);
        assert!(rules[2].ends_with("-j DNAT --to-destination [::1]:41000"), "{}", rules[2]);
    }

    #[test]
    fn only_rules_of_this_agent_are_its_own() {
        let firewall = Firewall::new("a1");
        let listed = "-A OUTPUT -p tcp -m comment --comment \"teal:a1:0.0.0.0:80>41000\" -j REDIRECT --to-ports 41000";
        let (arguments, comment) = firewall.of_ours(listed).unwrap();
        assert_eq!((arguments[1].as_str(), comment.as_str()), ("OUTPUT", "teal:a1:0.0.0.0:80>41000"));
        assert!(!arguments.iter().any(|word| word.contains('"')));
        assert!(firewall.of_ours(&listed.replace("a1", "b2")).is_none());
        assert!(firewall.of_ours("-P OUTPUT ACCEPT").is_none());
    }
}
