//! Containers that belong to nothing any more.

use crate::shop::{Shop, project, web};
use crate::stage::{good, start, until_ended};
use std::time::Duration;
use teal_agent::runtime::fake::{App, Op};
use teal_agent::runtime::label;
use teal_model::deployment::State;

#[test]
fn nobody_waits_for_what_is_left_over_to_end() {
    let shop = Shop::new();
    shop.image("web:v1", good()).image("web:v2", good());
    let slow = shop.engine.add_image("slow", App { stops_in: Duration::from_secs(60), ..App::default() });
    assert_eq!(shop.deploy(&project(vec![web("web:v1")])), State::Done);
    let engine = shop.engine.restarted();
    shop.life(async {
        let agent = start(shop.dir.path(), &engine, &shop.traffic).await;
        let names = ["left-1", "left-2"];
        for (name, replica) in names.into_iter().zip(["1", "2"]) {
            let container = engine.add_stranger(name, &slow.id, None);
            let labels = [
                (label::AGENT, agent.id.as_str()),
                (label::PROJECT, "shop"),
                (label::SERVICE, "old"),
                (label::RELEASE, "9"),
                (label::REPLICA, replica),
            ];
            engine.relabel(&container.id, &labels);
        }
        let told = || {
            let journal = engine.journal();
            journal.iter().filter(|one| one.op == Op::Stop && names.contains(&one.on.as_str())).count()
        };
        while told() == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let asked = tokio::time::timeout(Duration::from_secs(1), agent.deploy(project(vec![web("web:v2")]))).await;
        let accepted = asked.expect("it is not kept waiting").unwrap();
        assert_eq!((told(), shop.of("old").len()), (2, 2), "both are told at once, and take their time");
        assert_eq!(until_ended(&agent, accepted.deployment).await, State::Done);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!((shop.of("old").len(), told()), (0, 2), "each is told once");
        assert_eq!(agent.alerts(), Vec::<String>::new());
    });
}
