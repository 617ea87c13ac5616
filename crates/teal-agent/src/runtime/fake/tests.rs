mod places;

use super::*;
use crate::runtime::{ContainerHealth, Status};
use teal_model::config::ContainerSettings;

fn spec(name: &str, image: &Image) -> ContainerSpec {
    let settings = ContainerSettings { image: "app".into(), restart: Restart::Always, ..ContainerSettings::default() };
    let labels = BTreeMap::from([("teal.service".to_owned(), "web".to_owned())]);
    ContainerSpec {
        name: name.into(),
        image_id: image.id.clone(),
        labels,
        settings,
        networks: vec![Place { network: "net".into(), ..Default::default() }],
        ..Default::default()
    }
}

async fn ready(app: App) -> (FakeRuntime, Container) {
    let fake = FakeRuntime::new();
    let image = fake.add_image("app", app);
    fake.change_image(&image.id, |i| i.has_healthcheck = true);
    fake.ensure_network(&NetworkSpec {
        name: "net".into(),
        labels: BTreeMap::from([("teal.agent".into(), "a".into())]),
        ..Default::default()
    })
    .await
    .unwrap();
    let made = fake.ensure_container(&spec("web-blue-1", &image)).await.unwrap();
    (fake, made)
}

#[tokio::test(start_paused = true)]
async fn a_container_boots_turns_healthy_and_stops_on_virtual_time() {
    let (fake, made) =
        ready(App { boots_in: Duration::from_secs(60), stops_in: Duration::from_secs(3), ..App::default() }).await;
    let mut events = fake.events(&[("teal.service", "web")]).await.unwrap();
    fake.start(&made.id).await.unwrap();
    let seen = fake.inspect(&made.id).await.unwrap().unwrap();
    assert_eq!((seen.status, seen.health), (Status::Running, Some(ContainerHealth::Starting)));
    let address = seen.addresses["net"];
    assert!(fake.answers_at(address).is_none());
    for action in ["start", "health_status: healthy"] {
        assert_eq!(events.recv().await.unwrap().action, action);
    }
    assert!(fake.answers_at(address).is_some());
    let before = tokio::time::Instant::now();
    fake.stop(&made.id, Duration::from_secs(10)).await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 3);
    assert_eq!(
        fake.inspect("web-blue-1").await.unwrap().unwrap().status,
        Status::Exited { code: 0, out_of_memory: false }
    );
    assert_eq!(
        fake.changes(),
        ["EnsureNetwork net", "EnsureContainer web-blue-1", "Start web-blue-1", "Stop web-blue-1"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_repeated_call_changes_nothing() {
    let (fake, made) = ready(App::default()).await;
    for _ in 0..2 {
        fake.start(&made.id).await.unwrap();
    }
    for _ in 0..2 {
        fake.stop(&made.id, Duration::ZERO).await.unwrap();
        fake.remove(&made.id, false).await.unwrap();
    }
    assert!(fake.remove_network("net", "a").await.unwrap());
    assert_eq!(fake.journal().iter().filter(|e| e.op != Op::EnsureNetwork && !e.changed).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_crashed_after_the_effect_hears_nothing_and_the_next_one_finds_it_done() {
    let (fake, made) = ready(App::default()).await;
    let index = fake.journal().len();
    fake.crash_at(index, Moment::After);
    let agent = fake.clone();
    let id = made.id.clone();
    tokio::select! {
        _ = agent.start(&id) => panic!("the crashed agent heard of it"),
        () = fake.crashed() => {}
    }
    assert!(tokio::time::timeout(Duration::from_secs(1), fake.inspect(&id)).await.is_err());
    let next = fake.restarted();
    assert_eq!(next.inspect(&id).await.unwrap().unwrap().status, Status::Running);
    next.start(&id).await.unwrap();
    assert!(!next.journal().last().unwrap().changed);
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_effect_leaves_the_world_as_it_was() {
    let (fake, made) = ready(App::default()).await;
    fake.hook(
        |effect, moment| {
            if effect.op == Op::Start && moment == Moment::Before { Fault::Crash } else { Fault::None }
        },
    );
    tokio::select! {
        _ = fake.start(&made.id) => panic!("the crashed agent heard of it"),
        () = fake.crashed() => {}
    }
    fake.unhook();
    assert_eq!(fake.restarted().inspect(&made.id).await.unwrap().unwrap().status, Status::Created);
}

#[tokio::test(start_paused = true)]
async fn faults_fail_hold_and_delay() {
    let (fake, made) = ready(App::default()).await;
    fake.fail_next(Op::Start, RuntimeError::DiskFull { why: "test".into() });
    assert!(matches!(fake.start(&made.id).await, Err(RuntimeError::DiskFull { .. })));
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    fake.hook(
        move |_, moment| {
            if moment == Moment::Before { Fault::Hold(held.clone()) } else { Fault::Delay(Duration::from_secs(5)) }
        },
    );
    let begin = tokio::time::Instant::now();
    let (started, ()) = tokio::join!(fake.start(&made.id), async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        gate.notify_one();
    });
    started.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 12);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_exits_is_restarted_only_when_its_policy_says_so() {
    let (fake, made) = ready(App { exits: Some((Duration::from_secs(1), 3)), ..App::default() }).await;
    fake.start(&made.id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fake.inspect(&made.id).await.unwrap().unwrap().status, Status::Exited { code: 3, out_of_memory: false });
    fake.set_restart(&made.id, Restart::OnFailure(2)).await.unwrap();
    fake.start(&made.id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fake.inspect(&made.id).await.unwrap().unwrap().restarts, 2);
}

#[tokio::test(start_paused = true)]
async fn addresses_permute_when_the_engine_restarts() {
    let (fake, made) = ready(App::default()).await;
    let image = fake.image("app").await.unwrap().unwrap();
    let other = fake.ensure_container(&spec("web-green-1", &image)).await.unwrap();
    for id in [&made.id, &other.id] {
        fake.set_restart(id, Restart::Always).await.unwrap();
        fake.start(id).await.unwrap();
    }
    let address = |id: &str| fake.containers().into_iter().find(|c| c.id == id).unwrap().addresses["net"];
    let before = (address(&made.id), address(&other.id));
    fake.restart_engine();
    assert_eq!((address(&other.id), address(&made.id)), before);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_is_unreachable_and_ends_its_event_streams() {
    let (fake, made) = ready(App::default()).await;
    let mut events = fake.events(&[]).await.unwrap();
    fake.set_down(true);
    assert!(events.recv().await.is_none());
    assert!(matches!(fake.start(&made.id).await, Err(RuntimeError::Unreachable { .. })));
    fake.set_down(false);
    fake.start(&made.id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn logs_follow_until_the_container_ends() {
    let (fake, made) =
        ready(App { says: vec!["up".into()], exits: Some((Duration::from_secs(5), 0)), ..App::default() }).await;
    fake.start(&made.id).await.unwrap();
    let (to, mut from) = mpsc::channel(8);
    let (done, ()) = tokio::join!(fake.logs(&made.id, 10, true, to), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.say(&made.id, "later");
    });
    done.unwrap();
    let mut texts = Vec::new();
    while let Some(line) = from.recv().await {
        texts.push(line.text);
    }
    assert_eq!(texts, ["up", "later"]);
}
