//! Firewall rules, without the counters that change by themselves.

use super::{Things, count, output_of};

/// What `iptables-save` prints. Where the tool is missing, a kernel that never loaded its tables has no rules.
pub fn iptables(tool: &str, tables: &str) -> Result<Things, String> {
    match output_of(tool, &[]) {
        Ok(text) => Ok(iptables_rules(&text)),
        Err(_) if std::fs::read_to_string(tables).is_ok_and(|tables| tables.is_empty()) => Ok(Things::new()),
        Err(why) => Err(why),
    }
}

pub fn nft() -> Result<Things, String> {
    // -s leaves counters out, -n keeps numbers what they are.
    output_of("nft", &["-s", "-n", "list", "ruleset"]).map(|text| nft_rules(&text))
}

fn iptables_rules(text: &str) -> Things {
    let mut table = "";
    let mut rules = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_at(1) {
            ("*", name) => table = name,
            // `:CHAIN POLICY [packets:bytes]`
            (":", chain) => rules.push(format!("{table}: chain {}", chain.split(" [").next().unwrap_or(chain))),
            _ if line == "COMMIT" => {}
            _ => rules.push(format!("{table}: {line}")),
        }
    }
    count(rules)
}

/// Each line with the table and chain around it, so that equal rules of two chains stay two.
fn nft_rules(text: &str) -> Things {
    let mut around: Vec<&str> = Vec::new();
    let mut rules = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line == "}" {
            around.pop();
        } else if let Some(name) = line.strip_suffix(" {") {
            around.push(name);
            rules.push(around.join(" "));
        } else {
            rules.push(format!("{}: {line}", around.join(" ")));
        }
    }
    count(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iptables_rules_keep_their_table_and_lose_their_counters() {
        let at = |counter: &str| {
            format!(
                "# Generated at noon\n*nat\n:DOCKER - {counter}\n-A DOCKER -i docker0 -j RETURN\nCOMMIT\n*filter\n:INPUT ACCEPT {counter}\nCOMMIT\n"
            )
        };
        let rules = iptables_rules(&at("[0:0]"));
        assert_eq!(rules, iptables_rules(&at("[17:4711]")));
        let texts: Vec<&String> = rules.keys().collect();
        assert_eq!(texts, ["filter: chain INPUT ACCEPT", "nat: -A DOCKER -i docker0 -j RETURN", "nat: chain DOCKER -"]);
    }

    #[test]
    fn nft_rules_keep_their_chain() {
        let text = "table ip teal {\n\tchain in {\n\t\ttcp dport 80 accept\n\t}\n\tchain out {\n\t\ttcp dport 80 accept\n\t}\n}\n";
        let rules = nft_rules(text);
        assert!(rules.contains_key("table ip teal chain in: tcp dport 80 accept"), "{rules:?}");
        assert_eq!(rules.len(), 5);
    }
}
