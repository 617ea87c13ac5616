//! Lines of containers, each with its replica's name.

use crate::print::Paint;
use std::collections::BTreeMap;
use teal_model::api::Log;

/// Remembers the replicas that spoke, so that their lines keep one color and one width.
#[derive(Debug)]
pub struct Prefixes {
    paint: Paint,
    order: BTreeMap<String, usize>,
    width: usize,
}

impl Prefixes {
    pub fn new(paint: Paint) -> Self {
        Self { paint, order: BTreeMap::new(), width: 0 }
    }

    pub fn line(&mut self, log: &Log) -> String {
        let next = self.order.len();
        let order = *self.order.entry(log.replica.clone()).or_insert(next);
        self.width = self.width.max(log.replica.chars().count());
        let width = self.width;
        let name = format!("{:width$}", log.replica);
        let colors = [Paint::cyan, Paint::yellow, Paint::green, Paint::dim];
        format!("{} | {}", colors[order % colors.len()](self.paint, &name), log.text.trim_end_matches(['\r', '\n']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_names_its_replica() {
        let mut prefixes = Prefixes::new(Paint::NONE);
        let log = |replica: &str, text: &str| Log {
            replica: replica.to_owned(),
            stderr: false,
            at: String::new(),
            text: text.to_owned(),
        };
        let lines = [log("shop-web-green-1", "ready\n"), log("shop-db-blue-1", ""), log("shop-web-green-1", "  GET /")]
            .map(|log| prefixes.line(&log));
        assert_eq!(lines, ["shop-web-green-1 | ready", "shop-db-blue-1   | ", "shop-web-green-1 |   GET /"]);
    }
}
