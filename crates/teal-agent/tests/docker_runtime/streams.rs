//! Health, logs, events and commands inside.

use super::*;

#[tokio::test]
async fn health_is_told_with_the_last_checks_output() {
    let place = Place::new().await;
    let check = |test: &[&str]| {
        Some(Healthcheck {
            test: Some(words(test)),
            interval_ms: Some(100),
            timeout_ms: None,
            start_period_ms: None,
            retries: Some(1),
            ..Default::default()
        })
    };
    let mut well = place.spec("well", &["serve"]);
    well.settings.healthcheck = check(&["CMD", "/app", "exit", "0"]);
    let mut sick = place.spec("sick", &["serve"]);
    sick.settings.healthcheck = check(&["CMD", "/app", "sick"]);
    let (well, sick) = (place.run(&well).await, place.run(&sick).await);
    place.until(&well.id, |c| c.health == Some(ContainerHealth::Healthy)).await;
    place.until(&sick.id, |c| c.health == Some(ContainerHealth::Unhealthy("not well today".into()))).await;
}

#[tokio::test]
async fn the_tail_of_a_log_tells_streams_times_and_whole_lines() {
    let place = Place::new().await;
    let long = place.run(&place.spec("long", &["long"])).await;
    place.until(&long.id, |c| matches!(c.status, Status::Exited { .. })).await;
    let all = place.runtime.tail(&long.id, 1000).await.unwrap();
    assert_eq!((all.len(), all[0].text.len(), all[100].text.as_str()), (101, 40_000, "line 99"));
    let last = place.runtime.tail(&long.id, 2).await.unwrap();
    assert_eq!(last.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(), ["line 98", "line 99"]);
    assert!(last[0].at.starts_with("20") && last[0].at.ends_with('Z'));
    assert!(matches!(place.runtime.tail("nobody", 1).await, Err(RuntimeError::NotFound { kind: "container", .. })));
}

#[tokio::test]
async fn a_followed_log_ends_with_the_container_or_the_reader() {
    let place = Place::new().await;
    let made = place.run(&place.spec("a", &["serve"])).await;
    let follow = |id: String| {
        let (to, from) = mpsc::channel(8);
        let runtime = place.runtime.clone();
        (tokio::spawn(async move { runtime.logs(&id, 10, true, to).await }), from)
    };
    let (task, mut lines) = follow(made.id.clone());
    let mut texts = Vec::new();
    for _ in 0..2 {
        let line = timeout(PATIENCE, lines.recv()).await.unwrap().unwrap();
        texts.push((line.stderr, line.text));
    }
    texts.sort();
    assert_eq!(texts, [(false, "up".to_owned()), (true, "warned".to_owned())]);
    drop(lines);
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();

    let (task, mut lines) = follow(made.id.clone());
    place.runtime.stop(&made.id, GRACE).await.unwrap();
    while timeout(PATIENCE, lines.recv()).await.unwrap().is_some() {}
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn events_tell_what_happens_after_the_call_and_only_to_these_containers() {
    let place = Place::new().await;
    let mut checked = place.spec("a", &["serve"]);
    checked.settings.healthcheck = Some(Healthcheck {
        test: Some(words(&["CMD", "/app", "exit", "0"])),
        interval_ms: Some(100),
        timeout_ms: None,
        start_period_ms: None,
        retries: None,
        ..Default::default()
    });
    let made = place.runtime.ensure_container(&checked).await.unwrap();
    let stranger = Place::new().await;
    let mut events = place.runtime.events(&[(label::AGENT, &place.id)]).await.unwrap();
    stranger.run(&stranger.spec("s", &["serve"])).await;
    place.runtime.start(&made.id).await.unwrap();
    place.until(&made.id, |c| c.health == Some(ContainerHealth::Healthy)).await;
    place.runtime.stop(&made.id, GRACE).await.unwrap();
    place.runtime.remove(&made.id, false).await.unwrap();
    let mut actions = Vec::new();
    while actions.last().is_none_or(|a| a != "destroy") {
        let event = timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        assert_eq!(event.container, made.id);
        actions.push(event.action);
    }
    assert_eq!(actions, ["start", "health_status: healthy", "kill", "die", "stop", "destroy"]);
}

#[tokio::test]
async fn events_miss_nothing_that_follows_the_call_at_once() {
    let place = Place::new().await;
    for n in 0..10 {
        let mut events = place.runtime.events(&[(label::AGENT, &place.id)]).await.unwrap();
        let made = place.runtime.ensure_container(&place.spec(&format!("n{n}"), &["serve"])).await.unwrap();
        let event = timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        assert_eq!((event.container, event.action.as_str()), (made.id, "create"));
    }
}

async fn exec(place: &Place, id: &str, command: &[&str], tty: bool, input: &[&[u8]]) -> (i64, Vec<u8>) {
    let (feed, input_end) = mpsc::channel(8);
    let (output, mut said) = mpsc::channel(8);
    let command = words(command);
    let run = place.runtime.exec(id, &command, tty, input_end, output);
    let talk = async {
        for piece in input {
            feed.send(piece.to_vec()).await.unwrap();
        }
        drop(feed);
        let mut all = Vec::new();
        while let Some(piece) = said.recv().await {
            all.extend(piece);
        }
        all
    };
    let (code, all) = timeout(PATIENCE, async { tokio::join!(run, talk) }).await.unwrap();
    (code.unwrap(), all)
}

#[tokio::test]
async fn a_command_runs_inside_with_input_output_and_exit_code() {
    let place = Place::new().await;
    let made = place.run(&place.spec("a", &["serve"])).await;
    let big = vec![b'x'; 300_000];
    let (code, said) = exec(&place, &made.id, &["/app", "cat"], false, &[b"hello ", &big, b"!"]).await;
    assert_eq!((code, said.len()), (7, big.len() + 7));
    assert_eq!(exec(&place, &made.id, &["/app", "exit", "3"], false, &[]).await, (3, Vec::new()));
    let (code, said) = exec(&place, &made.id, &["/app", "args"], true, &[]).await;
    assert_eq!((code, String::from_utf8(said).unwrap().as_str()), (0, "[/app][args]\r\n"));
    let (code, said) = exec(&place, &made.id, &["/no-such-program"], false, &[]).await;
    assert!(code == 126 || code == 127, "{code} {}", String::from_utf8_lossy(&said));
    place.runtime.stop(&made.id, GRACE).await.unwrap();
    let (_feed, input) = mpsc::channel(1);
    let (output, _said) = mpsc::channel(1);
    assert!(matches!(
        place.runtime.exec(&made.id, &words(&["/app"]), false, input, output).await,
        Err(RuntimeError::Refused { .. })
    ));
}
