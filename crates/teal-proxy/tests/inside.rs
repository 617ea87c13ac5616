//! Listeners in other network namespaces: transparent, told apart, and replaced when their container starts again.

mod common;
use common::{App, Client, Stage, ok};
use std::net::TcpListener;
use std::os::fd::AsFd;
use teal_model::wire::{FromAgent, FromProxy, ListenerKey};

/// Answers with the head that arrived.
async fn mirror() -> App {
    App::answering(|request| ok(&request.head)).await
}

fn socket() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("bound")
}

impl Stage {
    /// One more listener for the service. Where the socket really is makes no difference to the proxy, and so the key's
    /// address may be another.
    async fn listen(&mut self, key: &ListenerKey, socket: &TcpListener) {
        let mut route = self.table.routes[0].clone();
        route.listener = key.clone();
        self.table.routes.push(route);
        self.publish().await;
        self.agent.listen(key.clone(), socket).await.expect("sent");
    }

    async fn change(&mut self, add: &[(&ListenerKey, &TcpListener)], remove: &[&ListenerKey]) {
        let descriptors: Vec<_> = add.iter().map(|(_, socket)| socket.as_fd()).collect();
        let add = add.iter().map(|(key, _)| (*key).clone()).collect();
        let remove = remove.iter().map(|key| (*key).clone()).collect();
        self.agent.send(&FromAgent::Listeners { add, remove }, &descriptors).await.expect("sent");
        self.agent.statistics().await.expect("obeyed");
    }
}

async fn get(socket: &TcpListener, fields: &str) -> String {
    let mut client = Client::connect(socket.local_addr().expect("an address")).await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: web\r\n{fields}\r\n")).await;
    client.answer().await.text().to_owned()
}

#[tokio::test]
async fn what_a_container_says_of_earlier_clients_is_passed_on_as_it_is() {
    let mut stage = Stage::with(&mirror().await).await;
    let inside = socket();
    let addr = inside.local_addr().expect("an address");
    stage.listen(&ListenerKey { addr: addr.into(), namespace: Some("shop/web@1".into()) }, &inside).await;

    let said = "X-Forwarded-For: 192.0.2.7, 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n\
                Forwarded: for=192.0.2.7;proto=https\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 192.0.2.7\r\n";
    assert_eq!(get(&inside, said).await, format!("GET / HTTP/1.1\r\nHost: web\r\n{said}"));
    assert_eq!(get(&inside, "").await, "GET / HTTP/1.1\r\nHost: web\r\n", "and nothing is added");
    let hop = "Connection: close, x-mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nX-Forwarded-For: 192.0.2.7\r\n";
    assert_eq!(get(&inside, hop).await, "GET / HTTP/1.1\r\nHost: web\r\nX-Forwarded-For: 192.0.2.7\r\n");

    let host = stage.socket.try_clone().expect("a copy");
    let head = get(&host, said).await;
    assert!(head.contains("X-Forwarded-For: 127.0.0.1\r\n") && !head.contains("192.0.2.7"), "{head}");
}

#[tokio::test]
async fn one_address_in_two_namespaces_is_two_listeners() {
    let mut stage = Stage::with(&mirror().await).await;
    let host = ListenerKey::host(stage.addr);
    let [one, two] =
        ["shop/web@1", "shop/api@1"].map(|name| ListenerKey { namespace: Some(name.into()), ..host.clone() });
    let (first, second) = (socket(), socket());
    stage.listen(&one, &first).await;
    stage.listen(&two, &second).await;
    let of_host = stage.socket.try_clone().expect("a copy");
    assert!(get(&of_host, "").await.contains("X-Forwarded-For"));
    for inside in [&first, &second] {
        assert!(!get(inside, "").await.contains("X-Forwarded-For"));
    }

    let before = std::mem::replace(&mut stage.agent, stage.proxy.connect().await.expect("connected"));
    drop(before);
    let FromProxy::Hello { listeners, .. } = &stage.agent.hello else { panic!("a hello") };
    let addr = |socket: &TcpListener| socket.local_addr().expect("an address");
    let got: Vec<_> = listeners.iter().cloned().zip(stage.agent.sockets.drain(..)).collect();
    assert_eq!(got.len(), 3);
    for (key, socket) in got {
        let expected = [(&host, &of_host), (&one, &first), (&two, &second)];
        let (_, expected) = expected.into_iter().find(|(other, _)| **other == key).expect("known");
        assert_eq!(addr(&TcpListener::from(socket)), addr(expected), "{key}");
    }

    stage.agent.wait_for(|m| matches!(m, FromProxy::Ready).then_some(())).await.expect("in charge");
    stage.change(&[], &[&one]).await;
    get(&of_host, "").await;
    get(&second, "").await;
}

#[tokio::test]
async fn a_failed_listener_is_named_with_its_namespace() {
    let mut stage = Stage::with(&mirror().await).await;
    let key = ListenerKey { addr: stage.addr.into(), namespace: Some("shop/web@1".into()) };
    let file = std::fs::File::open("/dev/null").expect("opened");
    stage.agent.listen(key.clone(), &file).await.expect("sent");
    let failed = |m: &FromProxy| match m {
        FromProxy::ListenerFailed { listener, .. } => Some(listener.clone()),
        _ => None,
    };
    assert_eq!(stage.agent.wait_for(failed).await.expect("told"), key);
    stage.client().await.get("/").await;
}

#[tokio::test]
async fn a_socket_is_replaced_in_one_message_or_two_and_its_connections_stay() {
    let (blue, green) = (App::saying("blue").await, App::saying("green").await);
    let mut stage = Stage::new(2).await;
    stage.flip(1, &[&blue]).await;
    let key = ListenerKey {
        addr: std::net::SocketAddr::from(([10, 1, 2, 3], 8080)).into(),
        namespace: Some("shop/web".into()),
    };
    let sockets = [socket(), socket(), socket()];
    stage.listen(&key, &sockets[0]).await;
    let at = |n: usize| sockets[n].local_addr().expect("an address");
    let mut first = Client::connect(at(0)).await;
    assert_eq!(first.get("/").await.text(), "blue");

    stage.change(&[(&key, &sockets[1])], &[&key]).await;
    let mut second = Client::connect(at(1)).await;
    assert_eq!(second.get("/").await.text(), "blue");
    stage.change(&[], &[&key]).await;
    stage.change(&[(&key, &sockets[2])], &[]).await;
    // A listener that is served already keeps its socket.
    stage.change(&[(&key, &sockets[1])], &[]).await;
    stage.flip(2, &[&green]).await;
    stage.entry().releases.retain(|listed| listed.release.number == 2);
    stage.publish().await;
    let mut third = Client::connect(at(2)).await;
    for client in [&mut first, &mut second, &mut third] {
        assert_eq!(client.get("/").await.text(), "green", "by the current table");
    }
    let before = std::mem::replace(&mut stage.agent, stage.proxy.connect().await.expect("connected"));
    drop(before);
    let FromProxy::Hello { listeners, .. } = &stage.agent.hello else { panic!("a hello") };
    let place = listeners.iter().position(|listed| *listed == key).expect("listed once");
    let socket = TcpListener::from(stage.agent.sockets.remove(place));
    assert_eq!(socket.local_addr().expect("an address"), at(2));
}
