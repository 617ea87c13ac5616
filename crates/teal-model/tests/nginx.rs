//! Configurations as they are found on servers, and as they are not.

// A test fails where it stands.
#![allow(clippy::unwrap_used)]

use teal_model::nginx::edit::{append, apply, insert_after, replace, replace_word};
use teal_model::nginx::{Address, Body, Configuration, Directive, Node, Protocol, Span, Target, View};

const HOST: &str = include_str!("nginx/host.dump");

fn host() -> Configuration {
    Configuration::of_dump(HOST).unwrap()
}

fn one(text: &str) -> Configuration {
    Configuration::of_files(&[("/etc/nginx/nginx.conf", text)]).unwrap()
}

fn words(configuration: &Configuration) -> Vec<Vec<String>> {
    let all = configuration.directives();
    all.iter().map(|node| node.directive().words.iter().map(|word| word.text.clone()).collect()).collect()
}

fn problem(text: &str) -> String {
    Configuration::of_files(&[("a.conf", text)]).unwrap_err()[0].to_string()
}

#[test]
fn a_dump_is_its_files_as_they_are_on_disk() {
    let host = host();
    let paths: Vec<&str> = host.files().iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/etc/nginx/nginx.conf",
            "/etc/nginx/modules-enabled/50-mod-http-geoip.conf",
            "/etc/nginx/mime.types",
            "/etc/nginx/conf.d/upstreams.conf",
            "/etc/nginx/sites-enabled/default",
            "/etc/nginx/snippets/proxy.conf",
        ]
    );
    let snippet = &host.file("/etc/nginx/snippets/proxy.conf").unwrap().text;
    assert_eq!(snippet, "proxy_http_version 1.1;\nproxy_set_header Connection \"\";\nproxy_set_header Host $host;\n");
    assert!(host.file("/etc/nginx/mime.types").unwrap().text.starts_with("\ntypes"));
    assert!(host.unread().is_empty(), "{:?}", host.unread());
}

#[test]
fn what_nginx_does_as_a_process_is_seen() {
    let host = host();
    let view = View::of(&host);
    assert_eq!(view.user.unwrap().value(), "www-data");
    assert_eq!(view.pid.unwrap().value(), "/run/nginx.pid");
    assert_eq!(view.worker_shutdown_timeout.unwrap().value(), "30s");
    assert_eq!(view.keepalive_timeout.unwrap().value(), "65");
    assert_eq!(view.error_logs[0].place().to_string(), "/etc/nginx/nginx.conf:5");
    assert_eq!(view.access_logs[0].args().collect::<Vec<_>>(), ["/var/log/nginx/access.log", "main"]);
}

#[test]
fn servers_are_seen_with_what_they_listen_on() {
    let host = host();
    let view = View::of(&host);
    let listens = |at: usize| {
        let shown = view.servers[at].listens.iter().map(|one| (one.address.as_ref().unwrap().to_string(), one.tls));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(listens(0), [("*:80".to_owned(), false), ("[::]:80".to_owned(), false)]);
    assert_eq!(
        listens(1),
        [("*:443".to_owned(), true), ("127.0.0.1:8443".to_owned(), true), ("unix:/run/nginx.sock".to_owned(), false)]
    );
    assert_eq!(view.servers[1].names[..2], ["shop.example", "www.shop.example"]);
    assert_eq!(view.servers[1].names[2], "~^(?<who>.{3})\\.example$");
    assert_eq!(view.servers[0].keepalive_timeout.unwrap().value(), "65");
    assert_eq!(view.servers[1].keepalive_timeout.unwrap().value(), "20s");
    assert_eq!(view.servers[1].access_logs[0].value(), "/var/log/nginx/shop.log");
    assert!(view.servers[0].access_logs.is_empty());
}

#[test]
fn upstreams_are_seen_with_their_servers() {
    let host = host();
    let view = View::of(&host);
    let shown: Vec<String> = view
        .upstreams
        .iter()
        .map(|upstream| {
            let servers = upstream.servers.iter().map(|server| {
                let address = server.address.as_ref().unwrap();
                format!(
                    "{address}{}{}",
                    if server.down { " down" } else { "" },
                    if server.backup { " backup" } else { "" }
                )
            });
            format!("{}: {}", upstream.name, servers.collect::<Vec<_>>().join(", "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "app: 127.0.0.1:8080, 127.0.0.1:8081 backup",
            "php: unix:/run/php/php8.2-fpm.sock, [::1]:9000 down",
            "Tenants: tenants.internal:80, 10.0.0.7:80",
        ]
    );
    assert_eq!(view.upstreams[0].keepalive.unwrap().value(), "32");
    assert_eq!(view.upstreams[0].servers[0].node.place().to_string(), "/etc/nginx/conf.d/upstreams.conf:3");
    assert!(view.upstreams[1].keepalive.is_none());
}

#[test]
fn every_pass_is_seen_with_where_it_leads() {
    let host = host();
    let view = View::of(&host);
    let shown: Vec<String> = view
        .passes
        .iter()
        .map(|pass| {
            let target = match &pass.target {
                Target::Upstream(at) => format!("upstream {}", view.upstreams[*at].name),
                Target::Address(address) => format!("{} {address}", pass.scheme),
                other => format!("{other:?}"),
            };
            format!("{}: {target}", pass.location())
        })
        .collect();
    assert_eq!(
        shown,
        [
            "@app: upstream app",
            "/ws/: upstream app",
            "~* \\.(?:php|phtml)$: upstream php",
            "/literal: http 127.0.0.1:9090",
            "/unix: http unix:/run/app.sock",
            "/secure: https [2001:db8::1]:443",
            "/any: Variable",
            "/half: Variable",
            "/known: upstream app",
            "/nested /nested/deep ($arg_debug): upstream app",
        ]
    );
    assert_eq!(view.passes_to(0).count(), 4);
}

#[test]
fn headers_hold_where_a_block_has_none_of_its_own() {
    let host = host();
    let view = View::of(&host);
    let headers = |at: usize| {
        let headers = view.passes[at].in_force("proxy_set_header");
        headers.iter().map(|node| node.args().collect::<Vec<_>>().join("=")).collect::<Vec<_>>()
    };
    assert_eq!(headers(0), ["Connection=", "Host=$host"], "by an include, whose file stands in another one");
    assert_eq!(headers(1), ["Upgrade=$http_upgrade", "Connection=$connection_upgrade"]);
    assert_eq!(headers(9), ["Host=$host"]);
    assert_eq!(headers(3), [""; 0]);
    assert_eq!(view.passes[0].in_force("proxy_http_version")[0].place().file, "/etc/nginx/snippets/proxy.conf");
}

#[test]
fn an_upstream_of_stream_is_not_one_of_http() {
    let text = "stream { upstream app { server 10.0.0.1:5432; } server { listen 5432; proxy_pass app; } \
                server { listen 1; proxy_pass db:5432; } }\nhttp { server { location / { proxy_pass http://app; } } }";
    let configuration = one(text);
    let view = View::of(&configuration);
    let targets: Vec<(Protocol, Target)> =
        view.passes.iter().map(|pass| (pass.protocol, pass.target.clone())).collect();
    let named = |name: &str, port| Target::Address(Address::Host { name: name.to_owned(), port });
    assert_eq!(
        targets,
        [
            (Protocol::Http, named("app", 80)),
            (Protocol::Stream, Target::Upstream(0)),
            (Protocol::Stream, named("db", 5432)),
        ]
    );
    assert_eq!(view.servers.len(), 1, "a `server` of `stream` is none of `http`");
}

#[test]
fn words_are_split_as_nginx_splits_them() {
    for (text, expected) in [
        ("a b;", vec!["a", "b"]),
        ("a\tb\r\n  c;", vec!["a", "b", "c"]),
        (r#"a "b c" 'd "e"';"#, vec!["a", "b c", "d \"e\""]),
        (r#"a "{b}; # no comment";"#, vec!["a", "{b}; # no comment"]),
        (r#"a "b\"c\\d\e\n";"#, vec!["a", "b\"c\\d\\e\n"]),
        (r"a b\ c\;d;", vec!["a", r"b\ c\;d"]),
        ("a b#c;", vec!["a", "b#c"]),
        ("a b'c d'e;", vec!["a", "b'c", "d'e"]),
        ("a ${b}c $d;", vec!["a", "${b}c", "$d"]),
        ("a b}c;", vec!["a", "b}c"]),
        ("a '';", vec!["a", ""]),
        ("a 'ä ö';", vec!["a", "ä ö"]),
        (r#"if ($x ~ "a")"b";"#, vec!["if", "($x", "~", "a", ")\"b\""]),
        ("a\n# b;\nc;", vec!["a", "c"]),
    ] {
        assert_eq!(words(&one(text)), [expected], "{text}");
    }
    assert_eq!(words(&one("")), Vec::<Vec<String>>::new());
    assert_eq!(words(&one("# alone")), Vec::<Vec<String>>::new());
    assert_eq!(words(&one("a{}b;")), [["a"], ["b"]]);
}

#[test]
fn what_nginx_refuses_is_refused_with_its_line() {
    for (text, expected) in [
        ("a;\n}\n", "a.conf:2: unexpected \"}\""),
        ("a {\n b;\n", "a.conf:1: the block `a` is not closed before the end of the file"),
        ("a {\n b\n}\n", "a.conf:3: unexpected \"}\""),
        (";", "a.conf:1: unexpected \";\""),
        ("\n{ }", "a.conf:2: unexpected \"{\""),
        ("a b", "a.conf:1: `a` has no `;` or `{` before the end of the file"),
        ("a\n 'b;", "a.conf:2: the quote ' is not closed"),
        ("a 'b'c;", "a.conf:1: unexpected \"c\" after a closing quote"),
        ("a 'b'ä;", "a.conf:1: unexpected \"ä\" after a closing quote"),
        ("content_by_lua_block {\n { }", "a.conf:1: a block that begins here is not closed"),
    ] {
        assert_eq!(problem(text), expected, "{text}");
    }
    assert!(problem(&"a{".repeat(100_000)).contains("nested deeper than 64 levels"));
    let two = Configuration::of_files(&[("a.conf", "a"), ("b.conf", "}"), ("c.conf", "c;")]).unwrap_err();
    assert_eq!(two.len(), 2, "every file tells its first problem: {two:?}");
    assert!(Configuration::of_dump("user www-data;\n").unwrap_err()[0].what.contains("nginx -T"));
}

#[test]
fn a_lua_block_is_passed_over_whole() {
    let text = "location / {\n content_by_lua_block {\n  local t = { a = \"}\" } -- }\n  if x then y{ } end\n }\n proxy_pass \
                http://app;\n}";
    let configuration = one(text);
    let location = configuration.directives()[0];
    let names: Vec<&str> = location.children().into_iter().map(Node::name).collect();
    assert_eq!(names, ["content_by_lua_block", "proxy_pass"]);
    let Body::Raw(span) = location.children()[0].directive().body else { panic!() };
    assert!(span.of(text).trim().starts_with("local t") && span.of(text).trim().ends_with("end"));
}

#[test]
fn an_include_that_leads_in_a_circle_or_nowhere_ends() {
    let files =
        [("/n/a.conf", "include b.conf; include no.conf; include none/*;"), ("/n/b.conf", "include /n/a.conf; b;")];
    let circle = Configuration::of_files(&files).unwrap();
    let names: Vec<&str> = circle.directives().into_iter().map(Node::name).collect();
    assert_eq!(names, ["include", "include", "b", "include", "include"]);
    let unread: Vec<&str> = circle.unread().into_iter().map(Node::value).collect();
    assert_eq!(unread, ["no.conf", "none/*"]);
    let dump = Configuration::of_dump("# configuration file /n/a.conf:\ninclude none/*;\n").unwrap();
    assert!(dump.unread().is_empty(), "nginx has looked there");
}

/// Spans of siblings in order, each within its parent; what lies between them is space, comments, `;` and braces alone.
fn reproduced(text: &str, directives: &[Directive], within: Span) {
    let mut at = within.start;
    for directive in directives {
        assert!(at <= directive.span.start && directive.span.end <= within.end, "{directive:?}");
        between(&text[at..directive.span.start]);
        assert_eq!(directive.line, 1 + text[..directive.span.start].matches('\n').count(), "{directive:?}");
        let mut word_end = directive.span.start;
        for word in &directive.words {
            between(&text[word_end..word.span.start]);
            let alone = format!("{};", word.span.of(text));
            let again = Configuration::of_files(&[("again", &alone)]).unwrap();
            assert_eq!(again.directives()[0].name(), word.text, "a word is written as its span says");
            word_end = word.span.end;
        }
        match &directive.body {
            Body::None => assert_eq!(text[word_end..directive.span.end].trim_start(), ";"),
            Body::Block { directives, inner } => {
                assert_eq!((&text[inner.start - 1..inner.start], &text[inner.end..directive.span.end]), ("{", "}"));
                reproduced(text, directives, *inner);
            }
            Body::Raw(_) => panic!("{directive:?}"),
        }
        at = directive.span.end;
    }
    between(&text[at..within.end]);
}

fn between(text: &str) {
    let rest: String = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).collect();
    assert_eq!(rest, "", "{text:?} belongs to no directive");
}

#[test]
fn spans_reproduce_the_text() {
    for file in host().files() {
        reproduced(&file.text, &file.directives, Span { start: 0, end: file.text.len() });
    }
}

/// Every text that a cut, a doubling or a strange byte makes of a real one is read or refused, never a panic; and what is
/// read has spans that reproduce it.
#[test]
fn broken_texts_are_refused_or_read_whole() {
    let text = &host().file("/etc/nginx/sites-enabled/default").unwrap().text.clone();
    let (mut read, mut refused) = (0, 0);
    let mut look = |text: &str| match Configuration::of_files(&[("a.conf", text)]) {
        Ok(configuration) => {
            let file = &configuration.files()[0];
            reproduced(text, &file.directives, Span { start: 0, end: text.len() });
            View::of(&configuration);
            read += 1;
        }
        Err(_) => refused += 1,
    };
    for at in (0..text.len()).step_by(2).filter(|at| text.is_char_boundary(*at)) {
        look(&text[..at]);
        for put in ["{", "}", ";", "\"", "\\", "$", "\n", "ä", "' '"] {
            // A comment sign may hide half of a line from `between`, but not from nginx.
            look(&format!("{}{put}{}", &text[..at], &text[at..]));
        }
    }
    assert!(read > 500 && refused > 500, "{read} read, {refused} refused");
}

#[test]
fn an_edit_changes_its_own_bytes_alone() {
    let host = host();
    let view = View::of(&host);
    let upstreams = host.file("/etc/nginx/conf.d/upstreams.conf").unwrap();
    let edits = [
        replace_word(view.upstreams[0].servers[0].node, 1, "127.0.0.1:18080").unwrap(),
        insert_after(view.upstreams[0].servers[0].node, &["keepalive_timeout 50s;"]),
        replace(view.upstreams[0].servers[1].node, "# gone"),
        append(view.upstreams[1].node, "keepalive 8;").unwrap(),
    ];
    let after = apply(&upstreams.path, &upstreams.text, &edits).unwrap();
    let changed = upstreams
        .text
        .replace(
            "8080 max_fails=0; # written by the script",
            "18080 max_fails=0; # written by the script\n    keepalive_timeout 50s;",
        )
        .replace("server 127.0.0.1:8081 backup;", "# gone")
        .replace("down; }", "down; keepalive 8; }");
    assert_eq!(after, changed);
    assert_eq!(apply("/another", "text", &edits).unwrap(), "text");
    let twice = [edits[0].clone(), edits[0].clone()];
    assert_eq!(apply(&upstreams.path, &upstreams.text, &twice), None, "two edits of the same bytes");
}

#[test]
fn a_line_goes_where_it_reads_well() {
    let appended = |text: &str| {
        let configuration = one(text);
        let edit = append(configuration.directives()[0], "x 1;").unwrap();
        apply("/etc/nginx/nginx.conf", text, &[edit]).unwrap()
    };
    assert_eq!(appended("a {}\n"), "a { x 1; }\n");
    assert_eq!(appended("a { b; }"), "a { b; x 1; }");
    assert_eq!(appended("a {\n\tb; # why\n}"), "a {\n\tb; # why\n\tx 1;\n}");
    assert_eq!(appended("a {\n  b {\n    c;\n  }\n}"), "a {\n  b {\n    c;\n  }\n  x 1;\n}");
    let quoted = one("a b;");
    let edit = replace_word(quoted.directives()[0], 1, "c; {d} \"e\"").unwrap();
    assert_eq!(edit.text, r#""c; {d} \"e\"""#);
}

mod behind {
    use super::{Configuration, apply, one};
    use teal_model::ids::ServiceKey;
    use teal_model::nginx::behind::{Move, Said, Served, ServedPort, Standpoint, Ways, ways};

    fn served(name: &str, published: u16, container: &str) -> Served {
        Served {
            service: ServiceKey::new("shop", name),
            ports: vec![ServedPort { host_ip: None, published, target: 8080 }],
            containers: vec![container.parse().unwrap()],
            names: vec![name.to_owned()],
            dockers: false,
        }
    }

    fn host() -> Standpoint {
        Standpoint { on_host: true, addresses: vec!["10.0.0.5".parse().unwrap()] }
    }

    fn after(text: &str, one: &Move) -> String {
        apply("/etc/nginx/nginx.conf", text, &one.edits).unwrap()
    }

    fn of(text: &str) -> Ways {
        ways(&one(text), &[served("app", 8080, "172.17.0.2"), served("api", 9000, "172.17.0.3")], &host())
    }

    fn said(all: &[Said]) -> Vec<String> {
        all.iter().map(|said| format!("{}: {}", said.place.line, said.what)).collect()
    }

    const ORDINARY: &str = "http {
    upstream app {
        server 127.0.0.1:8080; # blue
    }
    upstream api { server 172.17.0.3:8080 max_fails=0; }
    proxy_set_header Host $host;
    server {
        location / {
            proxy_pass http://app;
        }
        location /api { proxy_pass http://api; }
        location /static { proxy_set_header X-A b; proxy_pass http://app; }
    }
}
";

    #[test]
    fn keep_alive_is_added_where_it_is_missing_and_the_port_stays() {
        let ways = of(ORDINARY);
        assert_eq!(ways.left, []);
        let [app, _] = &ways.moves[..] else { panic!("{ways:#?}") };
        assert_eq!(said(&app.uses), ["3: upstream app: 127.0.0.1:8080 leads there, and stays"]);
        let expected = ORDINARY
            .replace("8080; # blue\n", "8080; # blue\n        keepalive 32;\n")
            .replace(
                "proxy_pass http://app;\n",
                "proxy_pass http://app;\n            proxy_http_version 1.1;\n            proxy_set_header Host $host;\n            \
                 proxy_set_header Connection \"\";\n",
            )
            .replace(
                "X-A b; proxy_pass http://app;",
                "X-A b; proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";",
            );
        assert_eq!(after(ORDINARY, app), expected, "of the other service nothing is touched");
        let again = of(&expected);
        assert_eq!(again.moves[0].edits, [], "said again, nothing is to be done");
    }

    #[test]
    fn a_containers_own_address_becomes_the_published_port() {
        let ways = of(ORDINARY);
        let text = after(ORDINARY, &ways.moves[1]);
        assert!(text.contains("upstream api { server 127.0.0.1:9000 max_fails=0; keepalive 32; }"), "{text}");
        assert!(text.contains("proxy_pass http://app;\n        }"), "of the other service nothing is touched: {text}");
        let literal = "http { server { location / { proxy_pass http://172.17.0.2:8080/x; } } }";
        let ways = of(literal);
        assert!(after(literal, &ways.moves[0]).contains("proxy_pass http://127.0.0.1:8080/x;"));
        assert!(said(&ways.moves[0].left)[0].contains("keep-alive needs an `upstream` block"));
    }

    #[test]
    fn addresses_of_this_host_lead_there_and_others_do_not() {
        for (address, leads) in [
            ("127.0.0.1:8080", true),
            ("localhost:8080", true),
            ("[::1]:8080", true),
            ("10.0.0.5:8080", true),
            ("10.0.0.6:8080", false),
            ("127.0.0.1:8081", false),
            ("unix:/run/app.sock", false),
            ("app.internal:8080", false),
        ] {
            let text = format!("http {{ upstream u {{ server {address}; }} }}");
            assert_eq!(of(&text).moves.len(), usize::from(leads), "{address}");
        }
        let mut bound = served("app", 8080, "172.17.0.2");
        bound.ports[0].host_ip = Some("10.0.0.5".parse().unwrap());
        let text = "http { upstream u { server 127.0.0.1:8080; } }";
        assert_eq!(ways(&one(text), &[bound], &host()).moves, [], "that port is open on another address");
    }

    #[test]
    fn inside_of_a_container_loopback_is_its_own_and_names_are_the_services() {
        let inside = Standpoint { on_host: false, addresses: vec!["172.18.0.1".parse().unwrap()] };
        let leads = |address: &str| {
            let text = format!("http {{ upstream u {{ server {address}; }} }}");
            let found = ways(&one(&text), &[served("app", 9000, "172.18.0.3")], &inside);
            found.moves.first().map(|one| after(&text, one))
        };
        let stays = |address: &str| Some(format!("http {{ upstream u {{ server {address}; keepalive 32; }} }}"));
        assert_eq!(leads("127.0.0.1:9000"), None);
        assert_eq!(leads("172.18.0.1:9000"), stays("172.18.0.1:9000"));
        assert_eq!(leads("host.docker.internal:9000"), stays("host.docker.internal:9000"));
        assert_eq!(leads("app:8080"), stays("app:8080"));
        let adopted = Served { dockers: true, ..served("app", 9000, "172.18.0.3") };
        let text = "http { upstream u { server app:8080; } }";
        let found = ways(&one(text), &[adopted], &inside);
        let expected = "http { upstream u { server 172.18.0.1:9000; } }";
        assert_eq!(after(text, &found.moves[0]), expected, "a name is looked up once, and its container goes");
        assert_eq!(leads("app:9000"), None, "by its name it has the container's port");
        assert_eq!(leads("172.18.0.3:8080"), stays("172.18.0.1:9000"));
        let mut bound = served("app", 9000, "172.18.0.3");
        bound.ports[0].host_ip = Some("127.0.0.1".parse().unwrap());
        let text = "http { upstream u { server 172.18.0.3:8080; } }";
        let found = ways(&one(text), &[bound], &inside);
        assert!(said(&found.moves[0].left)[0].contains("cannot reach"), "{found:#?}");
    }

    #[test]
    fn before_the_first_deployment_connections_are_not_kept() {
        let adopted = Served { dockers: true, ..served("app", 8080, "172.17.0.2") };
        let found = ways(&one(ORDINARY), std::slice::from_ref(&adopted), &host());
        assert!(found.moves[0].waits && found.moves[0].edits.is_empty(), "{found:#?}");
        let direct = ORDINARY.replace("127.0.0.1:8080", "172.17.0.2:8080");
        let found = ways(&one(&direct), &[adopted], &host());
        assert_eq!(after(&direct, &found.moves[0]), ORDINARY, "the address alone");
    }

    #[test]
    fn what_is_not_about_one_service_alone_is_left_alone_and_said() {
        let text = r#"stream { upstream raw { server 127.0.0.1:8080; } }
http {
 map $host $to { a app; default "http://app"; }
 upstream app { server 127.0.0.1:8080; server 127.0.0.1:8081; server 127.0.0.1:8082 down; }
 upstream both { server 127.0.0.1:8080; server 127.0.0.1:9000; }
 server {
  location /1 { proxy_pass $to; }
  location /2 { proxy_set_header Connection $connection_upgrade; proxy_pass http://app; }
  location /3 { if ($a) { proxy_pass http://app; } }
  location /4 { proxy_http_version 1.0; proxy_pass http://app; }
  location /5 { proxy_pass https://app; }
  location /6 { grpc_pass 127.0.0.1:8080; }
  location /7 { include nowhere.conf; }
 }
}"#;
        let ways = of(text);
        let expected = [
            "3: a `map` chooses upstream app by the request",
            "7: proxy_pass $to has a variable, so that where it leads is known for each request alone",
            "13: include nowhere.conf: these files are not here",
        ];
        assert_eq!(said(&ways.left), expected);
        let app = &ways.moves[0];
        assert_eq!(
            said(&app.left),
            [
                "4: upstream app has 127.0.0.1:8081, which no service of Teal publishes: take it out when nothing is served there any more",
                "8: the Connection header is set to `$connection_upgrade` there (for WebSockets?)",
                "9: it stands in an `if`, which cannot hold what keep-alive needs",
                "10: proxy_http_version 1.0 is written, so connections are not kept",
                "11: `proxy_pass https://app` does not speak HTTP as Teal does",
                "5: upstream both leads to shop/api too",
                "1: upstream raw is one of `stream`, whose connections Teal does not move",
                "12: `grpc_pass 127.0.0.1:8080` does not speak HTTP as Teal does",
            ]
        );
        let text = after(text, app);
        assert!(
            text.contains("down; keepalive 32; }\n upstream both { server 127.0.0.1:8080; server 127.0.0.1:9000; }"),
            "{text}"
        );
    }

    #[test]
    fn a_snippet_that_several_places_include_is_changed_once_or_not_at_all() {
        let main = "http { upstream app { server 127.0.0.1:8080; keepalive 8; } server { location /a { include pass.conf; } \
                    location /b { include pass.conf; } } }";
        let files = [("/n/nginx.conf", main), ("/n/pass.conf", "proxy_pass http://app;\n")];
        let configuration = Configuration::of_files(&files).unwrap();
        let found = ways(&configuration, &[served("app", 8080, "172.17.0.2")], &host());
        let text = apply("/n/pass.conf", files[1].1, &found.moves[0].edits).unwrap();
        assert_eq!(text, "proxy_pass http://app;\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\n");
        let main = main.replace("/b {", "/b { proxy_set_header X y;");
        let files = [("/n/nginx.conf", main.as_str()), files[1], ("/n/x.conf", "")];
        let configuration = Configuration::of_files(&files).unwrap();
        let found = ways(&configuration, &[served("app", 8080, "172.17.0.2")], &host());
        assert_eq!(
            apply("/n/pass.conf", files[1].1, &found.moves[0].edits).unwrap(),
            text,
            "what both need is the same"
        );
        let main = main.replace("server {", "proxy_set_header Host $host; server {");
        let files = [("/n/nginx.conf", main.as_str()), files[1]];
        let configuration = Configuration::of_files(&files).unwrap();
        let found = ways(&configuration, &[served("app", 8080, "172.17.0.2")], &host());
        assert_eq!(found.moves[0].edits, []);
        assert!(said(&found.moves[0].left)[0].contains("included in several places"), "{found:#?}");
    }
}
